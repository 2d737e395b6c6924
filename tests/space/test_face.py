"""`Face` as JSON and as people read it."""

from __future__ import annotations

import numpy as np

from space.face import Face, interval_years, whole_years

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
    assert interval_years(25.5, 37.4) == "26 to 37" and interval_years(None, None) == "–"
