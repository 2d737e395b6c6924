"""`Face` as JSON and as people read it."""

from __future__ import annotations

import numpy as np
import pytest

from space.face import Face, interval_years, percent, whole_years

EXACT = Face(
    (10.123456, 20.987654, 30.55555, 40.44444), 0.912345, age=31.4159, age_low=25.06, age_high=38.94, p_female=0.123456,
    sharpness=0.987654, cut_off=0.012345, age_probs=np.full(102, 0.123456),
)  # fmt: skip


def test_json_has_the_digits_that_mean_something():
    values = EXACT.as_dict()
    assert {key: values[key] for key in values if key not in ("yaw", "roll", "quality")} == {
        "box": [10.1, 21.0, 30.6, 40.4],
        "score": 0.912,
        "age": 31.4,
        "age_low": 25.1,
        "age_high": 38.9,
        "gender": "male",
        "gender_probability": 0.8765,
        "gender_label": "male",
        "sharpness": 0.988,
        "cut_off": 0.012,
    }
    assert EXACT.as_dict(age_probs=True)["age_probs"] == [0.1235] * 102


def test_a_face_comes_back_from_its_json():
    again = Face.from_dict(EXACT.as_dict())
    assert again.as_dict() == EXACT.as_dict() | {"yaw": None, "roll": None, "quality": again.quality}


def test_ages_are_shown_in_whole_years():
    assert [whole_years(age) for age in (0.0, 0.44, 0.5, 18.46, 18.5, 18.54, 101.0)] == [
        "0", "0", "1", "19", "19", "19", "101",
    ]  # fmt: skip
    assert interval_years(25.5, 37.4) == "26 to 37"


def test_an_uncertain_gender_is_not_rounded_up_to_the_limit():
    assert percent("uncertain", 0.7499) == "74%" and percent("uncertain", 0.74) == "74%"
    assert percent("female", 0.7551) == "76%" and percent("male", 0.754) == "75%"
    halves = (0.845, 0.925, 0.945, 0.965, 0.985, 0.995)  # as the pages show them
    assert [percent("male", half) for half in halves] == ["85%", "93%", "95%", "97%", "99%", "100%"]


FOUND = Face((10.0, 20.0, 30.0, 40.0), 0.9, np.array([[12, 25], [30, 25], [21, 35], [14, 45], [28, 45]], np.float32))


def test_a_face_of_a_part_of_an_image():
    moved = FOUND.moved(100, 7)
    assert moved.box == (110.0, 27.0, 30.0, 40.0) and moved.score == 0.9
    np.testing.assert_array_equal(moved.landmarks, FOUND.landmarks + np.array([100, 7], np.float32))
    assert Face(FOUND.box, 0.9).moved(1, 1).landmarks is None


def test_a_face_of_a_resized_image():
    assert FOUND.scaled(1) is FOUND
    large = FOUND.scaled(3)
    assert large.box == (30.0, 60.0, 90.0, 120.0) and large.landmarks.dtype == np.float32
    np.testing.assert_allclose(large.landmarks[0], [37, 76])  # a pixel's center, not its corner
    assert large.center.tolist() == [75.0, 120.0] and large.area == 10800.0


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_face_of_a_turned_image(quarters):
    """A pixel of the image is found again after the image was turned, as `np.rot90` does."""
    image = np.zeros((80, 120), np.uint8)
    image[25, 12] = 1  # the first landmark
    image[20:60, 10:40] += 2  # the box
    turned = np.rot90(image, quarters)
    rows, columns = np.nonzero(turned >= 2)
    box = (float(columns.min()), float(rows.min()), float(np.ptp(columns) + 1), float(np.ptp(rows) + 1))
    point = np.argwhere(turned % 2)[0][::-1].astype(np.float32)
    back = Face(box, 0.9, np.tile(point, (5, 1))).turned_back(quarters, 120, 80)
    assert back.box == FOUND.box and back.landmarks[0].tolist() == [12, 25] and back.rotation == 90 * quarters
    assert Face(box, 0.9).turned_back(quarters, 120, 80).landmarks is None


def test_faces_are_equal_and_hashable_without_their_arrays():
    assert Face(FOUND.box, 0.9, FOUND.landmarks + 1) == FOUND and len({FOUND, FOUND.moved(0, 0)}) == 1
    assert FOUND.moved(1, 0) != FOUND
