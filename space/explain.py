"""Explain an age estimate: cover parts of the face and measure how the estimate changes.

Needs only the model's outputs, so it works with the served model.
"""

from __future__ import annotations

import cv2
import numpy as np

from .estimator import Estimator

PATCH, STEP = 40, 20  # pixels of the 200 of a crop: what is covered at once, and how far it moves on


def occlusion_map(estimator: Estimator, crop: np.ndarray) -> tuple[np.ndarray, float, float]:
    """How much the age depends on each place of one face (occlusion sensitivity; Zeiler & Fergus 2014, section 2.1).

    A patch is replaced by a soft copy of the face: it loses its detail and keeps its color, which a gray patch would
    change too.

    Args:
        crop: uint8 [size, size, 3] RGB.

    Returns:
        float32 [size, size], years that each place adds to the age, as a mean over the patches that cover it: positive
        where the face looks younger without it; and the most years that one patch adds, and the most that one takes.
    """
    size = len(crop)
    soft = cv2.GaussianBlur(crop, (0, 0), PATCH / 3)
    starts = np.arange(0, size - PATCH + 1, STEP)
    places = [(y, x) for y in starts for x in starts]
    covered = np.repeat(crop[None], len(places) + 1, axis=0)
    for picture, (y, x) in zip(covered[1:], places, strict=True):
        picture[y : y + PATCH, x : x + PATCH] = soft[y : y + PATCH, x : x + PATCH]
    ages = estimator.predict(covered)["age"]
    total, count = np.zeros((2, size, size), np.float32)
    changes = ages[0] - ages[1:]
    for change, (y, x) in zip(changes, places, strict=True):
        total[y : y + PATCH, x : x + PATCH] += change
        count[y : y + PATCH, x : x + PATCH] += 1
    smooth = cv2.GaussianBlur(total / np.maximum(count, 1), (0, 0), STEP / 3)
    return smooth, max(0.0, float(changes.max())), max(0.0, -float(changes.min()))


def overlay(crop: np.ndarray, years: np.ndarray) -> np.ndarray:
    """A crop, uint8 [H, W, 3], colored by float [H, W]: red where `years` is above 0, blue below, by its strength."""
    strength = np.clip(np.abs(years) / max(float(np.abs(years).max()), 0.5), 0, 1)[..., None]
    color = np.where(years[..., None] > 0, (214, 39, 40), (31, 80, 200))
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None]
    return np.round(gray * (1 - 0.75 * strength) + color * 0.75 * strength).astype(np.uint8)
