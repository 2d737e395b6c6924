"""The Photo tab's own code: which model answers, what it offers, and why an age is estimated."""

from __future__ import annotations

import types

import numpy as np
import pytest

from space.analyzer import FaceAnalyzer
from space.crop import crop
from space.hub.bundle import embedded
from space.photo import open_photo
from space.web.tabs import photo
from tests.support import EXAMPLES


def loaded(source: str):
    """Stands for an analyzer that tells which model it's asked for."""
    return types.SimpleNamespace(bundle=types.SimpleNamespace(source=source), with_model=lambda model: model)


@pytest.mark.parametrize(
    ("source", "asked", "model"),
    [
        ("embedded", "vgg16", "vgg16"),
        ("embedded", "../../secret", None),
        ("embedded", ["vgg16"], None),
        ("embedded", None, None),
        ("runs/mine/bundle", "vgg16", None),
        ("runs/mine/bundle", "elsewhere", None),
    ],
)
def test_a_visitor_may_choose_an_embedded_model_if_one_serves(source, asked, model):
    assert photo._chosen(loaded(source), asked) == model


def test_embedded_models_are_offered_with_error_speed_and_license():
    choices = photo.model_choices(loaded("embedded"))
    assert [name for _, name in choices] == list(embedded())
    texts = {name: text for text, name in choices}
    assert texts["compact"].startswith("compact: MAE 4.18 years, ") and texts["compact"].endswith(" ms per face")
    assert texts["open"].endswith(", commercial use allowed")
    assert photo.model_choices(loaded("runs/mine/bundle")) == []


@pytest.mark.parametrize(("number", "fits"), [(2, True), ("3", True), (None, False), ("all", False), (1e999, False)])
def test_a_face_is_named_by_its_number(number, fits):
    if fits:
        assert photo._whole(number) == int(number)
    else:
        with pytest.raises(ValueError, match="Specify a face by its number"):
            photo._whole(number)


def test_why_this_age():
    analyzer = FaceAnalyzer.load("compact")
    image = np.asarray(photo.open_photo(EXAMPLES / "age-20-29-male.jpg").rgb)
    picture, text = photo.explain(analyzer, image, 1, 0.7)
    (face,) = analyzer.analyze(image)
    side = analyzer.estimator.size
    assert picture.shape == (side, 2 * side, 3) and text.startswith(f"Face 1, estimated age {round(face.age)}. ")
    for number in (0, 2, -1):
        with pytest.raises(ValueError, match=f"This photo has no face {number}: one face was found"):
            photo.explain(analyzer, image, number, 0.7)
    with pytest.raises(ValueError, match="This photo has no face 1: no faces were found"):
        photo.explain(analyzer, np.zeros((200, 200, 3), np.uint8), 1, 0.7)


def test_the_chosen_face_is_explained(analyzer):
    group = open_photo(EXAMPLES / "group.jpg").rgb
    faces = analyzer.analyze(group)
    for number in (1, 2):
        image, _ = photo.explain(analyzer, group, number, 0.7)
        expected = crop(group, faces[number - 1], analyzer.template)
        np.testing.assert_array_equal(image[:, : expected.shape[1]], expected)
