"""How often each face is drawn in balanced stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.data import faces as module
from training.data.faces import Faces
from training.data.report import Report
from training.data.samples import RACES, Samples


def faces_of(*groups: tuple[int, int, int, int]) -> Faces:
    """Faces of groups, each age in years, gender, race and count."""
    rows = [group[:3] for group in groups for _ in range(group[3])]
    age, gender, race = np.array(rows).T
    samples = Samples(
        name=np.array([str(i) for i in range(len(rows))]), age_range=np.stack([age, age], axis=1).astype(np.float32),
        gender=gender.astype(np.int8), race=race.astype(np.int8), sha256=np.array([str(i) for i in range(len(rows))]),
        encoded=(b"",) * len(rows),
    )  # fmt: skip
    return Faces(samples, np.zeros((len(rows), 2, 2, 3), np.uint8), Report("x", "clean"), 30.0)


def test_a_group_of_a_sixteenth_of_the_faces_is_drawn_twice_as_often():
    weight = faces_of((25, 0, 0, 320), (25, 0, 1, 20)).drawing_weight
    assert weight[-1] == pytest.approx(2 * weight[0]) and len(set(weight)) == 2


def test_age_band_gender_and_race_make_a_group():
    """Any two groups of the same size that are taken for one would have a smaller weight."""
    groups = [
        (age, gender, race, 16) for age in (1, 5, 15, 25, 75) for gender in (0, 1) for race in range(-1, len(RACES))
    ]
    np.testing.assert_allclose(faces_of(*groups).drawing_weight, 16.0**-0.25)
    same = faces_of((20, 1, 2, 8), (29, 1, 2, 8)).drawing_weight  # one band
    np.testing.assert_allclose(same, 16.0**-0.25)


def test_the_smallest_groups_count_like_ten_faces():
    np.testing.assert_allclose(faces_of((25, 0, 0, 1), (35, 0, 0, 10)).drawing_weight, 10.0**-0.25)


def test_turned_faces_of_photos_are_drawn_more_often(monkeypatch):
    faces = faces_of((25, 0, 0, 16))
    photos = replace(faces, samples=replace(faces.samples, age_range=np.tile(np.float32([20, 29]), (16, 1))))
    turned = np.arange(16) < 4
    monkeypatch.setattr(module, "pose_masks", lambda _: {"turned": turned, "frontal": ~turned})
    np.testing.assert_allclose(faces.drawing_weight, 0.5)
    np.testing.assert_allclose(photos.drawing_weight, np.where(turned, 0.75, 0.5))


def test_some_faces_are_spread_over_all():
    faces = faces_of((25, 0, 0, 10))
    faces.images[:, 0, 0, 0] = np.arange(10)
    assert faces.spread(3)[:, 0, 0, 0].tolist() == [0, 3, 6]
    assert faces.spread(20)[:, 0, 0, 0].tolist() == list(range(10))
