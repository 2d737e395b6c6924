"""Faces of tilted heads: found, with landmarks that follow the tilt."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from space import tilt
from space.analyzer import FaceAnalyzer
from space.detector import YuNet
from space.face import Face
from space.photo import read_photo
from tests.support import EXAMPLES, shared


def rotated(rgb: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """An image turned counterclockwise, all of it on gray, and the transform [2, 3] of its pixels."""
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    cos, sin = abs(matrix[0, :2])
    size = int(np.ceil(width * cos + height * sin)), int(np.ceil(width * sin + height * cos))
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return cv2.warpAffine(rgb, matrix, size, borderValue=(128, 128, 128)), matrix


def pairs(expected: list[Face], found: list[Face], matrix: np.ndarray) -> list[tuple[Face, Face]]:
    """The faces of an image with those of the same place in the turned one, where there are."""
    result = []
    for face in expected:
        x, y = matrix[:, :2] @ face.landmarks.mean(axis=0) + matrix[:, 2]
        near = [other for other in found if np.hypot(*(other.landmarks.mean(axis=0) - (x, y))) < 0.4 * face.box[2]]
        result += [(face, near[0])] if near else []
    return result


def tilted_by(face: Face, other: Face) -> float:
    """Degrees clockwise by which the second face is tilted against the first, -180 to 180."""
    return (other.roll - face.roll + 180) % 360 - 180


@pytest.mark.parametrize("degrees", [45, -45, 90, -90])  # averaged faces look alike upside down
def test_a_group_beside_its_tilted_copy(degrees):
    analyzer, group = FaceAnalyzer.load("compact"), read_photo(EXAMPLES / "group.jpg")
    copy, matrix = rotated(group, degrees)
    canvas = np.full((max(group.shape[0], copy.shape[0]), group.shape[1] + copy.shape[1], 3), 128, np.uint8)
    canvas[: group.shape[0], : group.shape[1]] = group
    canvas[: copy.shape[0], group.shape[1] :] = copy
    matrix[0, 2] += group.shape[1]
    upright, found = analyzer.analyze(group), analyzer.analyze(canvas)
    tilted = pairs(upright, found, matrix)
    assert len(found) >= 15 and len(tilted) >= 7
    assert sum(abs((tilted_by(*pair) + degrees + 180) % 360 - 180) < 30 for pair in tilted) >= 6
    assert np.median([abs(face.age - other.age) for face, other in tilted]) < 2


@pytest.mark.slow
def test_group_photos_turned_by_any_angle():
    """The figures in training/ROBUSTNESS.md."""
    analyzer, by_angle, right, count, invented = FaceAnalyzer.load("compact"), {}, 0, 0, 0
    for path in sorted(shared("photos").glob("*.jpg")):
        rgb = read_photo(path)
        upright = analyzer.analyze(rgb)
        for degrees in range(15, 360, 30):
            turned, matrix = rotated(rgb, degrees)
            faces = analyzer.analyze(turned)
            same = pairs(upright, faces, matrix)
            by_angle.setdefault(degrees, []).extend(same)
            right += sum(abs((tilted_by(*pair) + degrees + 180) % 360 - 180) < 27 for pair in same)
            count += len(upright)
            invented += len(faces) - len(same)
    for degrees, same in by_angle.items():
        ages = [abs(face.age - other.age) for face, other in same]
        print(f"{degrees}°: {len(same)} found, ages {np.mean(ages):.2f} years")
    found = [pair for same in by_angle.values() for pair in same]
    ages = [abs(face.age - other.age) for face, other in found]
    print(
        f"{len(found)} of {count} found, {right} with the right tilt, {invented} more; ages {np.mean(ages):.2f} years"
    )
    assert len(found) >= 0.93 * count and right >= 0.85 * count and invented <= 0.01 * count
    assert np.mean(ages) < 2


class Tilted:
    """A detector that sees a face in the middle of each crop, with the next of some scores."""

    def __init__(self, *scores: float):
        self.scores, self.seen = list(scores), 0

    def detect(self, crop, threshold, side):
        assert crop.shape == (side, side, 3)
        self.seen += 1
        score = self.scores.pop(0) if self.scores else 0.0
        middle = np.full((5, 2), (side - 1) / 2, np.float32)
        return [Face((side / 2 - 30, side / 2 - 40, 60, 80), score, middle)] if score >= threshold else []


FACE = Face((40, 30, 20, 20), 0.8, np.zeros((5, 2), np.float32))
RGB = np.zeros((100, 100, 3), np.uint8)


@pytest.mark.parametrize(
    ("score", "seen", "kept"),
    [
        (0.95, (), 0.95),  # upright: it isn't searched again
        (0.9, (0.93,), 0.93),
        (0.9, (0.91,), 0.9),  # not clearly higher
        (0.75, (0.72, 0.8), 0.8),  # a face anyway: the turn only has to be better
        (0.5, (0.87,), None),  # no face without a sure one
        (0.5, (0.3, 0.3, 0.89), 0.89),
        (0.5, (), None),
    ],
)
def test_which_face_is_kept(score, seen, kept):
    faces = tilt.upright(Tilted(*seen), RGB, [replace(FACE, score=score)], 0.7)
    assert [face.score for face in faces] == ([] if kept is None else [kept])


def test_boxes_are_in_pixels_of_the_image():
    (face,) = tilt.upright(Tilted(0.99), RGB, [FACE], 0.7)
    scale = tilt.SIZE / (tilt.WIDTH * 20)
    np.testing.assert_allclose(face.box, (50 - 30 / scale, 40 - 40 / scale, 60 / scale, 80 / scale), atol=0.01)
    np.testing.assert_allclose(face.landmarks, np.tile([49.5, 39.5], (5, 1)), atol=0.01)
    (lying,) = tilt.upright(Tilted(0, 0, 0.99), RGB, [FACE], 0.7)  # the third turn is by 90°
    np.testing.assert_allclose(lying.box[2:], (80 / scale, 60 / scale), atol=0.01)


@pytest.mark.parametrize("degrees", [0, 30, 90, -135])
def test_a_turned_crop_has_its_point_exactly_in_the_middle(degrees):
    turn = 0.5 * np.exp(1j * np.radians(degrees))
    matrix = tilt._about(np.array([40.0, 30.0]), 161, turn)
    np.testing.assert_allclose(matrix @ [40, 30, 1], [80, 80])
    np.testing.assert_allclose(matrix @ [50, 30, 1], [80 + 10 * turn.real, 80 + 10 * turn.imag])


def test_an_image_of_unsure_faces_is_bounded():
    detector = Tilted()
    many = [replace(FACE, box=(30.0 * i, 0, 20, 20), score=0.5) for i in range(100)]
    assert tilt.upright(detector, RGB, many, 0.7) == []
    assert detector.seen == 7 * tilt.MOST


def test_the_threshold_also_holds_for_tilted_faces():
    assert tilt.upright(Tilted(0.9), RGB, [replace(FACE, score=0.6)], 0.95) == []
    assert isinstance(YuNet().detect(RGB, 0.7, None, tilt.PROPOSED), list)


def test_a_tilted_face_of_a_photo_on_its_side_is_searched_where_it_stands():
    crops = []

    class Nobody:
        def detect(self, rgb, *_, **__):
            crops.append(rgb)
            return []

    photo = np.zeros((100, 100, 3), np.uint8)
    photo[:, :50] = 255
    face = Face((40.0, 30.0, 20.0, 20.0), 0.5, landmarks=np.zeros((5, 2), np.float32), rotation=90)
    tilt.upright(Nobody(), photo, [face], 0.7)
    back = crops[tilt.ANY.index(-90)]  # with the photo's quarter turn, as the photo is
    assert back[:, :60].mean() == 255 and not back[:, 100:].any()
