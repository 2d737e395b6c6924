"""Cuts between scenes, and flashes that look like cuts."""

from __future__ import annotations

import cv2
import numpy as np

FLASH_FRAMES = 3  # within which the old scene may come back after what looked like a cut
CUT = 27.0  # mean change of hue, saturation and value, 0 to 255, that is a cut (as PySceneDetect's ContentDetector)


class SceneCuts:
    """Compares each frame with the one before."""

    def __init__(self):
        self._frame = 0
        self._previous = self._current = None
        self._cut: tuple[int, np.ndarray] | None = None  # frame of the last cut, and the frame before it

    def is_cut(self, rgb: np.ndarray) -> bool:
        """Whether uint8 [H, W, 3] shows another scene than the frame before."""
        small = cv2.cvtColor(cv2.resize(rgb, (48, 27), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV).astype(int)
        self._frame += 1
        self._previous, self._current = self._current, small
        return self._previous is not None and _change(self._previous, small) > CUT

    def is_back(self) -> bool:
        """Whether the cut just found ends a flash: the scene before the last cut is back. Remembers this cut if not."""
        cut = self._cut
        if cut and self._frame - cut[0] <= FLASH_FRAMES and _change(cut[1], self._current) <= CUT:
            self._cut = None
            return True
        self._cut = (self._frame, self._previous)
        return False


def _change(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two small images in HSV, int [H, W, 3]."""
    change = np.abs(one - other)
    change[..., 0] = np.minimum(change[..., 0], 180 - change[..., 0])  # hue is a circle of 180 steps
    return float(change.mean())
