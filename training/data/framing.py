"""Derive the crop template `space/models/crop_template.json` from UTKFace's face crops, and crop photos with it.

    python -m training.data.framing --dataset py97/UTKFace-Cropped

Uses training chips only. They are padded and resized to several sizes, as faces appear in photos.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from space.crop import TEMPLATE_FILE, Template, crop, load_template, similarity
from space.detector import YuNet
from space.face import Face
from space.hub.download import ModelError
from training.data.decode import decode
from training.data.load import load_chips
from training.data.samples import IMAGE_SIZE
from training.data.sources import DATASET, DataError

MARGIN = IMAGE_SIZE // 2  # pixels of border around a chip
SCALES = (0.5, 1.0, 2.0)
FRAMED = 40.0  # pixels by which a face crop's corners may differ from the template's: 99.5% of UTKFace's do by less
_MIRROR = (1, 0, 2, 4, 3)  # landmarks after a flip: eyes and mouth corners change places


class FaceCropper:
    """Crops the face nearest to the center of a photo, as the app does with every face; for `data.decode`."""

    def __init__(self):
        self.detector, self.template = YuNet(), load_template()
        self.name = f"{self.detector.name}-{hashlib.sha256(TEMPLATE_FILE.read_bytes()).hexdigest()[:8]}"

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] → chip, uint8 [200, 200, 3]; ValueError where no face is found."""
        try:
            return self._cut(rgb)
        except cv2.error as error:  # of a picture of a few pixels
            raise ValueError(f"no face found: {error}") from error

    def crop_unless_framed(self, rgb: np.ndarray) -> tuple[np.ndarray, bool]:
        """uint8 [H, W, 3] → face crop, uint8 [200, 200, 3], and whether it was cropped, not taken whole.

        A square image whose face stands as in UTKFace's crops is taken whole. So is a small one in which no face is
        found. Raises ValueError where no face is found in a larger or an oblong one.
        """
        height, width = rgb.shape[:2]
        if abs(width / height - 1) <= 0.05:
            size = self.template.size
            whole = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA if width > size else cv2.INTER_CUBIC)
            face = largest_faces(self.detector, whole[None], 1.0)[0]
            if is_framed(face, self.template) if face else width <= size:
                return whole, False
        return self(rgb), True

    def _cut(self, rgb: np.ndarray) -> np.ndarray:
        middle = np.array(rgb.shape[1::-1]) / 2
        faces = self.detector.detect(rgb)
        if not faces:
            # A face that fills its photograph is found with room around it.
            margin = max(rgb.shape[:2]) // 4
            rgb, middle = _bordered(rgb, margin), middle + margin
            faces = self.detector.detect(rgb)
            if not faces:
                raise ValueError("no face found")
        nearest = min(faces, key=lambda face: float(np.linalg.norm(face.center - middle)))
        return crop(rgb, nearest, self.template)


def is_framed(face: Face, template: Template) -> bool:
    """Whether a face in a crop with MARGIN around it is about where the template has it."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64) * template.size
    matrix = similarity(face.landmarks - MARGIN, template.landmarks)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return float(np.linalg.norm(moved - corners, axis=1).mean()) <= FRAMED


def _bordered(rgb: np.ndarray, margin: int) -> np.ndarray:
    """The image with a border of `margin` pixels on each side that repeats its edges."""
    return cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_REPLICATE)


def largest_faces(detector, chips: np.ndarray, scale: float) -> list:
    """The largest face of each chip (uint8 [N, 200, 200, 3]) in chip pixels, None where there is none."""
    faces = []
    for chip in chips:
        canvas = _bordered(chip, MARGIN)
        canvas = cv2.resize(
            canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        found = detector.detect(canvas, 0.6)
        faces.append(max(found, key=lambda face: face.area) if found else None)
    return faces


def derive(chips: np.ndarray, yunet: YuNet) -> tuple[dict, str]:
    """The template (as in the JSON) and a report, from uint8 chips [N, 200, 200, 3]."""
    width = IMAGE_SIZE
    points, lines = [], []
    for scale in SCALES:
        faces = [face for face in largest_faces(yunet, chips, scale) if face]
        here = np.array([face.landmarks for face in faces]) / scale - MARGIN
        # Faces look left as often as right: with each its mirror image.
        flipped = here[:, _MIRROR] * [-1, 1] + [width - 1, 0]
        points.append(np.concatenate([here, flipped]))
        spread = np.percentile(points[-1], 75, axis=0) - np.percentile(points[-1], 25, axis=0)
        lines.append(
            f"yunet at {scale:g}: {len(faces)} of {len(chips)} found, spread of a point {spread.mean():.1f} px (25-75%)"
        )
    landmarks = np.median(np.concatenate(points), axis=0)
    template = {
        "size": width,
        "landmarks": [[round(float(v), 2) for v in point] for point in landmarks],
    }
    return template, "\n".join(lines)


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data.framing", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default=DATASET)
    parser.add_argument("--chips", type=int, default=4000, help="number of training face crops to use")
    parser.add_argument("--out", type=Path, default=TEMPLATE_FILE)
    options = parser.parse_args()
    try:
        yunet = YuNet()
        _, chips = decode(load_chips(options.dataset, "train").limit(options.chips))
    except (ModelError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    template, report = derive(chips, yunet)
    print(report, json.dumps(template), sep="\n")
    options.out.write_text(json.dumps(template, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
