"""Crop the faces of photos in UTKFace's framing, and detect turned faces by their landmarks."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import cv2
import numpy as np

from space import quality
from space.crop import TEMPLATE_FILE, Template, crop, load_template, similarity
from space.detector import YuNet
from space.face import Face
from training.data.samples import IMAGE_SIZE
from training.images import Images

MARGIN = IMAGE_SIZE // 2  # pixels of border around a face crop
FRAMED = 40.0  # pixels by which a face crop's corners may differ from the template's: 99.5% of UTKFace's do by less


def method() -> str:
    """Names the detector, the template and the code that crops; crops on the disk are told apart by it."""
    files = (TEMPLATE_FILE, *(Path(inspect.getfile(code)) for code in (YuNet, crop, FaceCropper)))
    return f"{YuNet.name}-{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:8]}"


class FaceCropper:
    """Crops the face nearest to the center of a photo, as the app does with every face; for `data.decode`."""

    def __init__(self):
        self.detector, self.template = YuNet(), load_template()

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] → face crop, uint8 [200, 200, 3]; ValueError where no face is found."""
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


def is_framed(face: Face, template: Template) -> bool:
    """Whether a face in a crop with MARGIN around it is about where the template has it."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64) * template.size
    assert face.landmarks is not None, "YuNet finds landmarks"
    matrix = similarity(face.landmarks - MARGIN, template.landmarks)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return float(np.linalg.norm(moved - corners, axis=1).mean()) <= FRAMED


def _bordered(rgb: np.ndarray, margin: int) -> np.ndarray:
    """The image with a border of `margin` pixels on each side that repeats its edges."""
    return cv2.copyMakeBorder(rgb, margin, margin, margin, margin, cv2.BORDER_REPLICATE)


def largest_faces(detector, images: Images, scale: float) -> list:
    """The largest face of each image (uint8 [N, 200, 200, 3]) in image pixels, None where there is none."""
    faces = []
    for image in images:
        canvas = _bordered(image, MARGIN)
        canvas = cv2.resize(
            canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        found = detector.detect(canvas, 0.6)
        faces.append(max(found, key=lambda face: face.area) if found else None)
    return faces


def pose_masks(images: Images) -> dict[str, np.ndarray]:
    """Which faces (uint8 images [N, 200, 200, 3]) look ahead, and which are turned away, by their landmarks."""
    turned, found = np.zeros((2, len(images)), bool)
    for i, face in enumerate(largest_faces(YuNet(), images, 1.0)):
        if face:
            found[i] = True
            turned[i] = abs(face.yaw) > quality.TURNED
    return {"frontal": found & ~turned, "turned": turned}
