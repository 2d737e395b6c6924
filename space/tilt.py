"""Tilted faces: YuNet's landmarks hardly follow a tilted head, so unsure faces are searched again in turned crops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .crop import warp
from .detector import YuNet, suppress
from .face import Face

PROPOSED = 0.2  # score from which something may be a tilted face: of 74 faces tilted by 45°, 61% score 0.7 and 91% this
UPRIGHT = 0.92  # score from which a face counts as upright; tilted by 30°, half score below 0.89
NEARLY = 0.85  # score from which a face is tilted by less than 90°
LEANING = (30, -30)  # degrees by which such a crop is turned
ANY = (45, -45, 90, -90, 135, -135, 180)  # and that of a face with a lower score
TURNED = 0.88  # score that shows a face where YuNet sees none without turning: animals and things score up to 0.88
MARGIN = 0.02  # by which a turned crop's score must be higher
SIZE = 160  # pixels, side of the crop
WIDTH = 2.4  # of the crop, in sides of the face
MOST = 30  # faces of an image that are searched again, the surest first


def upright(detector: YuNet, rgb: np.ndarray, faces: list[Face], threshold: float) -> list[Face]:
    """The same faces, with the landmarks of the turned crop in which YuNet is most sure.

    Args:
        rgb: uint8 [H, W, 3].
        faces: of the image, also less likely ones, with scores from PROPOSED. They are returned only if they score
            TURNED in a turned crop.
        threshold: score that returned faces have at least.
    """
    kept, unsure = [], 0
    for face in sorted(faces, key=lambda face: -face.score):
        if face.score < UPRIGHT and unsure < MOST:
            unsure += 1
            turns = LEANING if face.score >= NEARLY else ANY
            best = max(_turned(detector, rgb, face, turns), key=lambda seen: seen.score, default=face)
            if best.score > face.score + MARGIN and (best.score >= TURNED or face.score >= threshold):
                face = best
        if face.score >= threshold:
            kept.append(face)
    return suppress(kept)


def _turned(detector: YuNet, rgb: np.ndarray, face: Face, turns: Iterable[int]) -> Iterable[Face]:
    """The face as YuNet sees it in crops that are turned by so many degrees counterclockwise."""
    side, wide = max(face.box[2:]), 3 * SIZE // 2  # wide enough for each turn
    scale = SIZE / (WIDTH * side)
    middle = face.center - 0.5  # a pixel's center is half a pixel from its corner
    around = warp(rgb, _about(middle, wide, scale), wide)
    for degrees in turns:
        turn = degrees + face.rotation
        matrix = _about(np.full(2, (wide - 1) / 2), SIZE, np.exp(-1j * np.radians(turn)))
        for seen in detector.detect(warp(around, matrix, SIZE), PROPOSED, SIZE):
            assert seen.landmarks is not None, "a detected face has landmarks"
            points = np.vstack((seen.center - 0.5, seen.landmarks))
            center, *landmarks = (points - (SIZE - 1) / 2) @ matrix[:, :2] / scale + middle
            if np.linalg.norm(center - middle) < 0.4 * side:
                width, height = np.divide(seen.box[2:], scale)
                if turn % 180 == 90:
                    width, height = height, width
                x, y = center + 0.5 - np.array([width, height]) / 2
                box = (float(x), float(y), float(width), float(height))
                yield replace(face, box=box, score=seen.score, landmarks=np.array(landmarks, np.float32))


def _about(center: np.ndarray, size: int, turn: complex) -> np.ndarray:
    """float64 [2, 3]: turns and scales by a complex number, and moves `center` to the middle of a square."""
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([rotation, (size - 1) / 2 - rotation @ center])
