"""How well a face is visible. A network can't recover missing detail, so blurred faces get wider intervals.

Limits are measured: `python -m tests.tools.blurred_faces`.
"""

from __future__ import annotations

import cv2
import numpy as np

SOFT = 0.25  # sharpness of a blurred face: 1% of photos have less than 0.29, nearly all crops blurred by 8 pixels do
WIDER = 0.3  # exponent with which the spread of a blurred face's age grows as its sharpness falls
BLURRED_GENDER = 0.9  # probability below which a blurred face's gender is "uncertain", if no higher limit applies
TURNED = 0.25  # of the eyes' distance, how far the nose of a turned face is from halfway between them
SMALL = 32.0  # pixels, width of a face that is small
CUT_OFF = 0.15  # share of a face's box beyond the edge of the image
# The detector's score below which people are told that it may be no face: 1.6% of 1,000 FairFace photos have less, and
# nearly all things in which YuNet sees a face.
DOUBTFUL = 0.85
_WINDOW = 11  # pixels at half the crop's size, of the blur that faces are compared with


def sharpness(crops: np.ndarray) -> np.ndarray:
    """0 for faces that a further blur hardly changes, to 1; sharp photos have 0.3 to 0.6.

    The complement of the blur effect of Crété et al. 2007 ("The blur effect: perception and estimation with a new
    no-reference perceptual blur metric").

    Args:
        crops: uint8 [N, size, size, 3].

    Returns:
        float64 [N].
    """
    return np.array([1 - _blur_effect(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)) for crop in crops])


def _blur_effect(gray: np.ndarray) -> float:
    """How much of the differences between neighbors a blur leaves, in the direction where it leaves more."""
    # Half the size and a small blur: rounding and a sensor's noise would look like detail.
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32)
    values = cv2.blur(half, (3, 3), borderType=cv2.BORDER_REPLICATE)
    worst = 0.0
    for axis, window in ((0, (1, _WINDOW)), (1, (_WINDOW, 1))):
        before = np.abs(np.diff(values, axis=axis))
        after = np.abs(np.diff(cv2.blur(values, window, borderType=cv2.BORDER_REPLICATE), axis=axis))
        total = float(before.sum())
        worst = max(worst, 1 - float(np.maximum(0, before - after).sum()) / total if total > 0 else 1.0)
    return worst


def wider(sharp: np.ndarray) -> np.ndarray:
    """By what factor errors grow for faces of this sharpness: float64, 1 for those that aren't blurred."""
    return np.maximum(1.0, SOFT / np.maximum(sharp, 0.02)) ** WIDER


def yaw(landmarks: np.ndarray) -> float:
    """How far a face is turned to a side: where the nose is on the line from eye to eye, 0 halfway, ±0.5 at an eye."""
    right_eye, left_eye, nose = np.asarray(landmarks, np.float64)[:3]
    between = left_eye - right_eye
    return float(np.dot(nose - right_eye, between) / max(np.dot(between, between), 1e-6) - 0.5)


def roll(landmarks: np.ndarray) -> float:
    """Degrees clockwise by which the line from eye to eye is turned, -180 to 180."""
    right_eye, left_eye = np.asarray(landmarks, np.float64)[:2]
    return float(np.degrees(np.arctan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])))


def cut_off(box: tuple[float, float, float, float], width: int, height: int) -> float:
    """The share of a face's box beyond the edges of an image, 0 to 1."""
    x, y, w, h = box
    inside = max(0.0, min(x + w, width) - max(x, 0.0)) * max(0.0, min(y + h, height) - max(y, 0.0))
    return 1 - inside / max(w * h, 1e-6)


def word(*, score: float, width: float, sharp: float, turned: float, cut: float) -> str:
    """Why a face is hard to see, for users: "maybe not a face", "small", "cut off", "blurred", "turned", or "good"."""
    if score < DOUBTFUL:
        return "maybe not a face"
    if width < SMALL:
        return "small"
    if cut > CUT_OFF:
        return "cut off"
    if sharp < SOFT:
        return "blurred"
    return "turned" if abs(turned) > TURNED else "good"
