"""`training.example_faces` makes the app's example images."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from tests.support import EXAMPLES, shared
from training import example_faces


@pytest.mark.slow
def test_the_command_makes_the_example_images_that_are_in_the_app(tmp_path, monkeypatch):
    monkeypatch.setattr(example_faces, "GROUPS", example_faces.GROUPS[2:4])
    fairface = shared("data/FairFace")
    monkeypatch.setattr(sys, "argv", ["example_faces", "--dataset", str(fairface), "--out", str(tmp_path)])
    assert example_faces.main() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "age-20-29-female.jpg", "age-20-29-male.jpg", "group.jpg",
    ]  # fmt: skip
    for path in tmp_path.glob("age-*.jpg"):
        made, there = (np.asarray(Image.open(file), np.float32) for file in (path, EXAMPLES / path.name))
        assert np.abs(made - there).mean() < 3, path.name


def test_too_few_faces_to_hide_a_person_are_refused(photographs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["example_faces", "--dataset", str(photographs), "--out", str(out)])
    assert example_faces.main() == 1
    assert "20 are needed" in capsys.readouterr().err and not out.exists()
    faces, seen = example_faces.candidates([], None)
    assert faces.shape == (0, 400, 400, 3) and seen.shape == (0, 400, 400)


def test_a_missing_dataset_is_an_error_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["example_faces", "--dataset", str(tmp_path / "nowhere"), "--out", str(tmp_path)])
    assert example_faces.main() == 1
    assert "nowhere" in capsys.readouterr().err and not list(tmp_path.iterdir())
