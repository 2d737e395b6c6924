"""A face in a photo → a 200x200 crop framed like the UTKFace crops that the networks learned from.

The framing comes from `crop_template.json`, which `training/data/template.py` derives from the training face crops;
bundles carry a copy. Knows nothing of the detector beyond its landmarks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .face import Face

TEMPLATE_FILE = Path(__file__).resolve().parent / "models" / "crop_template.json"


@dataclass(frozen=True)
class Template:
    """Where YuNet sees a face in a UTKFace crop; pixels of the crop."""

    size: int  # pixels, height and width of a crop
    landmarks: np.ndarray  # float32 [5, 2], YuNet's five points

    @classmethod
    def from_dict(cls, values: dict) -> Template:
        """The template of a JSON object; KeyError, TypeError or ValueError if it is none."""
        landmarks = np.asarray(values["landmarks"], np.float32).reshape(5, 2)
        return cls(int(values["size"]), landmarks)

    def as_dict(self) -> dict:
        """For JSON."""
        return {
            "size": self.size,
            "landmarks": [[round(float(v), 2) for v in point] for point in self.landmarks],
        }


def load_template() -> Template:
    """The template that new bundles get."""
    return Template.from_dict(json.loads(TEMPLATE_FILE.read_text()))


def crop(rgb: np.ndarray, face: Face, template: Template) -> np.ndarray:
    """Crop one face, upright and in the template's framing.

    The crop is the least-squares similarity transform of the landmarks onto the template's points. Pixels beyond the
    photo repeat its border.

    Args:
        rgb: uint8 [H, W, 3].

    Returns:
        uint8 [size, size, 3] RGB.
    """
    assert face.landmarks is not None, "a detected face has landmarks"
    return warp(rgb, similarity(face.landmarks, template.landmarks), template.size)


def warp(rgb: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Sample a square where `matrix` places it; pixels beyond the image repeat its border.

    Args:
        rgb: uint8 [H, W, 3].
        matrix: float64 [2, 3], a similarity transform from pixels of the image to pixels of the square.
        size: pixels, the square's side.

    Returns:
        uint8 [size, size, 3].
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        # Bilinear sampling skips pixels when it shrinks by more than two: average first.
        x0, y0, x1, y1 = _reach(matrix, size, rgb.shape)
        if x1 > x0 and y1 > y0:
            region = rgb[y0:y1, x0:x1]
            width, height = (max(1, round(2 * scale * side)) for side in (x1 - x0, y1 - y0))
            rgb = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA)
            fx, fy = (x1 - x0) / width, (y1 - y0) / height
            # Pixel centers: resized u is original x0 + (u + 0.5) * fx - 0.5.
            back = np.array([[fx, 0, x0 + 0.5 * fx - 0.5], [0, fy, y0 + 0.5 * fy - 0.5], [0, 0, 1]])
            matrix = matrix @ back
    return cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def crops(rgb: np.ndarray, faces: list[Face], template: Template) -> np.ndarray:
    """uint8 [N, size, size, 3], one crop a face."""
    found = [crop(rgb, face, template) for face in faces]
    return np.array(found, np.uint8).reshape(-1, template.size, template.size, 3)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that bring `source` closest to `target` in the least-squares sense.

    In the plane and without mirroring the solution of Umeyama (1991) is a complex division.
    Points float [N, 2]; returns float64 [2, 3].
    """
    s, t = (np.asarray(p, np.float64) @ [1, 1j] for p in (source, target))
    s0, t0 = s.mean(), t.mean()
    spread = np.sum(np.abs(s - s0) ** 2)
    a = np.sum((t - t0) * np.conj(s - s0)) / spread if spread > 1e-9 else 1.0
    shift = t0 - a * s0
    return np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]])


def _reach(matrix: np.ndarray, size: int, shape: tuple) -> tuple[int, int, int, int]:
    """The photo's rectangle that the crop looks at: x0, y0, x1, y1."""
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) @ inverse[:, :2].T + inverse[:, 2]
    low, high = np.floor(corners.min(0)) - 4, np.ceil(corners.max(0)) + 4
    x0, y0 = (int(max(0, v)) for v in low)
    x1, y1 = (int(min(limit, v)) for v, limit in zip(high, (shape[1], shape[0]), strict=True))
    return x0, y0, x1, y1
