"""Many images → one row each, faces of several images in one batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from ..analyzer import FaceAnalyzer
from ..crop import crops
from ..detector import THRESHOLD
from ..estimator import BATCH
from ..face import Face
from ..photo import PhotoError
from .pictures import Picture

AHEAD = 8  # pictures that are read while others are predicted


def analyze_pictures(
    analyzer: FaceAnalyzer,
    pictures: Iterable[Picture],
    *,
    threshold: float = THRESHOLD,
    workers: int = 2,
    thumbnails: bool = False,
) -> Iterator[dict]:
    """Analyze images, faces of several in one batch; memory holds a few images at a time.

    Yields:
        In order, for JSON: file, width, height (None if it can't be read), incomplete (the file is damaged and
        parts of the image are missing), faces (as `Face.as_dict`, largest first),
        error (None, or a sentence). With `thumbnails` also a list of uint8 [80, 80, 3], of a crowd only the largest.
    """
    running: deque = deque()
    seen: list[tuple] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for picture in pictures:
                running.append(pool.submit(_look, analyzer, picture, threshold, thumbnails))
                if len(running) < AHEAD:
                    continue
                seen.append(running.popleft().result())
                if len(seen) >= BATCH or sum(len(faces) for _, faces, _ in seen) >= BATCH:
                    yield from _estimated(analyzer, seen, thumbnails)
                    seen = []
            seen += [future.result() for future in running]
            if seen:
                yield from _estimated(analyzer, seen, thumbnails)
        finally:
            for future in running:
                future.cancel()


def _look(
    analyzer: FaceAnalyzer, picture: Picture, threshold: float, thumbnails: bool
) -> tuple[dict, list[Face], np.ndarray]:
    """An image's row, and the faces that wait for their estimates with their crops."""
    row: dict = {"file": picture.name, "width": None, "height": None, "incomplete": False, "faces": [], "error": None}
    try:
        photo = picture.open()
    except PhotoError as error:
        row["error"] = str(error)
    except OSError as error:
        row["error"] = f"The file can't be read ({error.strerror or error})."
    except MemoryError:
        row["error"] = "The image needs more memory than is available."
    else:
        rgb = photo.rgb
        row |= {"width": photo.size[0], "height": photo.size[1], "incomplete": photo.incomplete}
        faces = analyzer.detect(rgb, threshold=threshold)
        if len(faces) <= BATCH:
            return row, [face.scaled(photo.reduction) for face in faces], crops(rgb, faces, analyzer.template)
        # Crops of crowds would fill the memory while they wait.
        row["faces"] = [face.scaled(photo.reduction).as_dict() for face in analyzer.estimate(rgb, faces)]
        if thumbnails:
            row["thumbnails"] = [_thumbnail(image) for image in crops(rgb, faces[:BATCH], analyzer.template)]
    return row, [], np.empty((0, analyzer.template.size, analyzer.template.size, 3), np.uint8)


def _estimated(analyzer: FaceAnalyzer, seen: list[tuple], thumbnails: bool) -> Iterator[dict]:
    """The finished rows of what `_look` returned for some images, predicted in one batch."""
    images = np.concatenate([images for *_, images in seen])
    faces = analyzer.estimate_crops(images, [face for _, found, _ in seen for face in found])
    for row, found, _ in seen:
        if found and thumbnails:
            row["thumbnails"] = [_thumbnail(image) for image in images[: len(found)]]
        if found:
            images = images[len(found) :]
            row["faces"], faces = [face.as_dict() for face in faces[: len(found)]], faces[len(found) :]
        yield row


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (80, 80), interpolation=cv2.INTER_AREA)
