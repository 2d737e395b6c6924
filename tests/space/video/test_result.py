"""What the analysis of a video yields, as JSON and as rows of a table."""

from __future__ import annotations

import numpy as np

from space.video.result import Person, VideoResult


def test_a_result_survives_json():
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    values = {"first": 0.0, "last": 1.23456, "on_screen": 1.005, "age": 30.04, "age_low": 20.04, "age_high": 40.06}
    person = Person(id=3, gender="male", gender_probability=0.98765, thumbnail=picture, **values)
    result = VideoResult([person], [(0.0, 1)], frames=9, analyzed=4, seconds=1.25, damaged=True, elapsed=0.5)
    back = VideoResult.from_json(result.to_json())
    assert back == result
    np.testing.assert_array_equal(back.people[0].thumbnail, picture)
    assert person.as_dict() == {
        "id": 3, "first": 0.0, "last": 1.23, "on_screen": 1.0, "age": 30.0, "age_low": 20.0, "age_high": 40.1,
        "gender": "male", "gender_probability": 0.9877, "gender_label": "male",
    }  # fmt: skip
