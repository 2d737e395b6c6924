"""Which face of a photo is cropped, and which images are face crops already."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from space.crop import crop, load_template
from space.face import Face
from training.data import cropping, template
from training.data.cropping import MARGIN, FaceCropper, is_framed

TEMPLATE = load_template()


def face(x: float, y: float, size: float = 100.0) -> Face:
    """A face of a size around a point, with landmarks as the template has them."""
    landmarks = (TEMPLATE.landmarks / TEMPLATE.size - 0.5) * size + [x, y]
    return Face((x - size / 2, y - size / 2, size, size), 0.9, landmarks.astype(np.float32))


class Found:
    """A detector that finds these faces, in images of any size; or only in those with a border."""

    name = "found"

    def __init__(self, *faces: Face, least: int = 0):
        self.faces, self.least, self.shapes = faces, least, []

    def detect(self, rgb, *_):
        self.shapes.append(rgb.shape)
        return [face for face in self.faces if max(rgb.shape) > self.least]


def cropper(*faces: Face, least: int = 0) -> FaceCropper:
    made = FaceCropper()
    made.detector = Found(*faces, least=least)
    return made


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_the_face_nearest_to_the_center_is_cropped():
    photo = noise(300, 900)
    near, low, left = face(450, 150), face(450, 290), face(150, 150)
    np.testing.assert_array_equal(cropper(left, low, near)(photo), crop(photo, near, TEMPLATE))
    np.testing.assert_array_equal(cropper(left, low)(photo), crop(photo, low, TEMPLATE))


def test_a_face_that_fills_its_photo_is_found_with_a_border():
    photo = noise(200, 400)
    # The border is a quarter of the longer side: the photo's center is at 300, 200 then.
    made = cropper(face(300, 200, 150), face(80, 80), least=400)
    assert made(photo).shape == (200, 200, 3)
    assert made.detector.shapes == [(200, 400, 3), (400, 600, 3)]
    around = cropping._bordered(photo, 100)
    np.testing.assert_array_equal(made(photo), crop(around, face(300, 200, 150), TEMPLATE))


def test_a_photo_without_a_face_is_an_error():
    with pytest.raises(ValueError, match="no face found"):
        cropper()(noise(300, 300))


@pytest.mark.parametrize(("away", "framed"), [(0, True), (25, True), (60, False), (-60, False)])
def test_a_crop_is_framed_if_its_face_is_where_the_template_has_it(away, framed):
    landmarks = (TEMPLATE.landmarks + np.array([away, 0]) + MARGIN).astype(np.float32)
    assert is_framed(Face((0, 0, 9, 9), 0.9, landmarks), TEMPLATE) is framed


@pytest.mark.parametrize(
    ("shape", "away", "whole"),
    [
        ((200, 200), 0, True),
        ((400, 400), 0, True),
        ((400, 415), 0, True),  # nearly square
        ((400, 430), 0, False),
        ((400, 400), 80, False),
        ((200, 200), None, True),  # no face in a small square image: it is taken as it is
        ((150, 150), None, True),
    ],
)
def test_square_images_that_are_framed_are_taken_whole(monkeypatch, shape, away, whole):
    seen = None if away is None else Face((0, 0, 9, 9), 0.9, TEMPLATE.landmarks + np.float32(MARGIN + away))
    monkeypatch.setattr(cropping, "largest_faces", lambda *_: [seen])
    image, cropped = cropper(face(shape[1] / 2, shape[0] / 2)).crop_unless_framed(noise(*shape))
    assert image.shape == (200, 200, 3) and cropped is not whole


def test_a_larger_square_image_without_a_face_is_an_error(monkeypatch):
    monkeypatch.setattr(cropping, "largest_faces", lambda *_: [None])
    with pytest.raises(ValueError, match="no face found"):
        cropper().crop_unless_framed(noise(400, 400))


def test_faces_are_ahead_or_turned_or_not_found(monkeypatch):
    ahead, turned = face(200, 200), face(200, 200)
    turned.landmarks[2, 0] += 30  # the nose, towards an eye
    looks = iter([[ahead], [], [turned], [face(90, 90, 20), turned]])
    monkeypatch.setattr(cropping, "YuNet", lambda: type("Finds", (), {"detect": lambda *_: next(looks)})())
    masks = cropping.pose_masks(np.zeros((4, 200, 200, 3), np.uint8))
    assert masks["frontal"].tolist() == [True, False, False, False]
    assert masks["turned"].tolist() == [False, False, True, True]


def test_the_template_is_the_median_of_faces_and_their_mirror_images(monkeypatch):
    points = np.array([[60, 80], [130, 80], [100, 120], [70, 150], [130, 150]], float)

    def found(yunet, images, scale):
        return [SimpleNamespace(landmarks=(points + MARGIN) * scale), None]

    monkeypatch.setattr(template, "largest_faces", found)
    made, report = template.derive(np.zeros((2, 200, 200, 3), np.uint8), None)
    expected = [[64.5, 80.0], [134.5, 80.0], [99.5, 120.0], [69.5, 150.0], [129.5, 150.0]]
    assert made == {"size": 200, "landmarks": expected} and "1 of 2 found" in report
