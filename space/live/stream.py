"""One visitor's live stream: camera frames in, tracked and smoothed faces out."""

from __future__ import annotations

import time

import numpy as np

from ..analyzer import FaceAnalyzer
from ..detector import THRESHOLD
from ..tracker import Tracker

SIDE = 320  # pixels, longer side at which a frame is searched: faces from about 20 pixels of 640
MAX_ESTIMATES_PER_FRAME = 4  # faces a frame that get a new answer; in a crowd they take turns


class LiveStream:
    """What the server knows of one visitor's stream."""

    def __init__(self, analyzer: FaceAnalyzer):
        self._analyzer = analyzer
        self._tracker = Tracker()
        self.threshold = THRESHOLD  # the detector's score from which something counts as a face

    def answer(self, rgb: np.ndarray, seconds: float) -> dict:
        """The people in a frame.

        Args:
            rgb: uint8 [H, W, 3].
            seconds: when it arrived, on any clock.

        Returns:
            For JSON: width, height (pixels of the frame), ms (time it took), faces: each with id, box [x, y, width,
            height] and what `Face.as_dict` has, smoothed over frames; and detected: the boxes
            of all faces in this frame, also of those that have no answer yet.
        """
        started = time.perf_counter()
        analyzer = self._analyzer
        detected = analyzer.detect(rgb, threshold=self.threshold, side=SIDE, quarters=0)
        faces = self._tracker.update(
            detected,
            seconds,
            lambda found: analyzer.estimate(rgb, found),
            most=MAX_ESTIMATES_PER_FRAME,
        )
        return {
            "width": rgb.shape[1],
            "height": rgb.shape[0],
            "ms": round(1000 * (time.perf_counter() - started), 1),
            "faces": [face.as_dict() | {"id": face.track_id} for face in faces],
            "detected": [[round(float(v), 1) for v in face.box] for face in detected],
        }
