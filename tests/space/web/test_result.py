"""A photo's result, as programs and the page get it."""

from __future__ import annotations

import base64
import io
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from space.crop import load_template
from space.detector import MAX_FACES
from space.face import Face
from space.photo import Photo, open_photo
from space.web import result
from tests.support import EXAMPLES

LANDMARKS = np.array([[14, 18], [26, 18], [20, 24], [15, 30], [25, 30]], np.float32)
FACE = Face(
    (10.0, 12.0, 20.0, 24.0), 0.9, LANDMARKS, age=31.26, p_female=0.2, rotation=90,
    age_probs=np.full(102, 1 / 102, np.float32), sharpness=0.5, cut_off=0.0,
)  # fmt: skip


class Analyzer:
    """Finds `count` copies of FACE, at most as many as it's asked for."""

    template = load_template()
    bundle = SimpleNamespace(as_dict=lambda: {"name": "made up"})
    detector = SimpleNamespace(name="yunet")

    def __init__(self, count: int, size: int = 1000):
        self.count, self.estimator = count, SimpleNamespace(bytes=size)

    def analyze(self, rgb, *, threshold, most):
        self.asked = threshold, most
        return [FACE] * min(self.count, most)


def photo(reduction: int = 1) -> Photo:
    rgb = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    return Photo(rgb, (80 * reduction - 1, 60 * reduction), incomplete=True)


def image(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_an_answer_is_in_pixels_of_the_file(monkeypatch):
    clock = itertools.count(5.0, 0.01234)
    monkeypatch.setattr(result.time, "perf_counter", lambda: next(clock))
    analyzer = Analyzer(2)
    faces, values = result.answer(analyzer, photo(reduction=2), 0.6)
    assert faces == [FACE, FACE] and analyzer.asked == (0.6, MAX_FACES)
    assert [face["box"] for face in values["faces"]] == [[20.0, 24.0, 40.0, 48.0]] * 2
    assert values["rotation"] == 90 and values["incomplete"] is True and values["elapsed_ms"] == 12.3
    assert (values["model"], values["detector"]) == ({"name": "made up"}, "yunet")
    assert [result.answer(Analyzer(count), photo(), 0.6)[1]["rotation"] for count in (0, 1)] == [0, 90]
    assert "age_probs" not in values["faces"][0]
    assert len(result.answer(analyzer, photo(), 0.6, age_probs=True)[1]["faces"][0]["age_probs"]) == 102
    assert result.answer(Analyzer(0), photo(), 0.6)[1]["rotation"] == 0


def test_large_networks_estimate_fewer_faces():
    assert result.most_faces(Analyzer(1, result.LARGE_NETWORK)) == MAX_FACES
    assert result.most_faces(Analyzer(1, result.LARGE_NETWORK + 1)) == result.MAX_FACES_LARGE < MAX_FACES


@pytest.mark.parametrize(("count", "cards"), [(0, 0), (3, 3), (result.MAX_CARDS + 1, result.MAX_CARDS)])
def test_the_page_gets_an_image_and_as_many_cards_as_it_shows(count, cards):
    page = result.page_result(Analyzer(count), "a.jpg", photo(reduction=2), 0.7)
    assert (page["name"], page["width"], page["height"]) == ("a.jpg", 159, 120)
    assert image(page["image"]).size == (80, 60)
    assert len(page["answer"]["faces"]) == count
    assert len(page["probabilities"]) == len(page["thumbnails"]) == cards
    if cards:
        assert len(page["probabilities"][0]) == 102 and image(page["thumbnails"][0]).size == (112, 112)


def test_images_are_reduced_to_the_longer_side():
    rgb = np.zeros((300, 900, 3), np.uint8)
    for side, size in ((None, (900, 300)), (900, (900, 300)), (899, (899, 300)), (90, (90, 30))):
        assert image(result.data_url(rgb, side=side)).size == size
    assert image(result.data_url(rgb.transpose(1, 0, 2), side=90)).size == (30, 90)


def test_the_group_is_the_first_example():
    names = [path.name for path in result.example_photos()]
    assert names[0] == "group.jpg" and names[1:] == sorted(names[1:]) and len(names) == 9


def test_the_page_is_told_how_many_faces_the_model_that_answered_estimates(analyzer, monkeypatch):
    monkeypatch.setattr(result, "most_faces", lambda analyzer: 3)
    found = result.page_result(analyzer, "group", open_photo(EXAMPLES / "group.jpg"), 0.7)
    assert found["most"] == len(found["answer"]["faces"]) == 3
