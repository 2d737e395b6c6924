"""Sharpness, pose and what is cut off: by hand, and what follows for intervals and genders."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from space import quality
from space.analyzer import FaceAnalyzer
from space.face import Face, apparent_gender
from tests.support import EXAMPLES
from tests.support.faces import held_out

STRAIGHT = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)


def test_sharpness_falls_with_blur_and_ignores_noise(tmp_path):
    """On real faces. A face that lost 8 of 200 pixels is blurred, whatever the camera's noise adds to it."""
    faces = [np.asarray(Image.open(path).convert("RGB").resize((200, 200))) for path, *_ in held_out(40, tmp_path)]
    noise = np.random.default_rng(0).normal(0, 4, (200, 200, 3))
    before = quality.sharpness(np.stack(faces))
    for sigma in (3, 8, 12):
        blurred = [cv2.GaussianBlur(face, (0, 0), sigma) for face in faces]
        now = quality.sharpness(np.stack(blurred))
        assert (now < before).mean() > 0.9
        before = now
    assert (before < quality.SOFT).all()
    noisy = [np.clip(cv2.GaussianBlur(face, (0, 0), 12) + noise, 0, 255).astype(np.uint8) for face in faces]
    assert (quality.sharpness(np.stack(noisy)) < quality.SOFT + 0.1).mean() > 0.9


def test_sharpness_of_nothing():
    assert quality.sharpness(np.zeros((0, 200, 200, 3), np.uint8)).shape == (0,)
    assert quality.sharpness(np.full((2, 200, 200, 3), 90, np.uint8)).tolist() == [0, 0]
    board = np.indices((200, 200)).sum(0)[..., None] // 8 % 2 * np.full(3, 255)
    assert quality.sharpness(board[None].astype(np.uint8))[0] > 0.5


def test_pose_by_hand():
    assert quality.yaw(STRAIGHT) == pytest.approx(0) and quality.roll(STRAIGHT) == pytest.approx(0)
    turned = STRAIGHT.copy()
    turned[2, 0] = 70  # the nose under the left eye
    assert quality.yaw(turned) == pytest.approx(0.5)
    for degrees in (-90, -30, 45, 120):
        angle = np.radians(degrees)
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        assert quality.roll(STRAIGHT @ matrix) == pytest.approx(degrees, abs=1e-3)
        assert quality.yaw(turned @ matrix) == pytest.approx(0.5, abs=1e-4)  # whatever the tilt


@pytest.mark.parametrize(
    ("box", "share"),
    [((10, 10, 20, 20), 0), ((-10, 0, 20, 20), 0.5), ((90, 90, 20, 20), 0.75), ((200, 0, 10, 10), 1)],
)
def test_what_is_cut_off(box, share):
    assert quality.cut_off(box, 100, 100) == pytest.approx(share)


def test_one_word():
    good = {"score": 0.9, "width": 100, "sharp": 0.5, "turned": 0.0, "cut": 0.0}
    assert quality.word(**good) == "good"
    for change, word in (
        ({"score": 0.8, "width": 20}, "maybe not a face"),
        ({"width": 20, "sharp": 0.1, "cut": 0.5}, "small"), ({"cut": 0.3, "sharp": 0.1}, "cut off"),
        ({"sharp": 0.1, "turned": 0.4}, "blurred"), ({"turned": -0.3}, "turned"),
    ):  # fmt: skip
        assert quality.word(**good | change) == word


def test_a_blurred_face_gets_a_wider_interval_and_an_uncertain_gender():
    assert quality.wider(np.array([0.6, quality.SOFT])).tolist() == [1, 1] and quality.wider(np.array([0.0]))[0] > 2
    assert apparent_gender("female", 0.85, 40, 0.5) == "female"
    assert (
        apparent_gender("female", 0.85, 40, 0.1) == "uncertain" and apparent_gender("female", 0.95, 40, 0.1) == "female"
    )
    assert apparent_gender("female", 0.95, 2, 0.1) == "uncertain"  # a higher limit stays
    analyzer = FaceAnalyzer.load("compact")
    face = analyzer.analyze(EXAMPLES / "age-40-49-male.jpg")[0]
    assert face.quality == "good" and face.cut_off == 0
    (crop,) = (np.asarray(Image.open(EXAMPLES / "age-40-49-male.jpg").convert("RGB").resize((200, 200))),)
    bare = replace(face, age=None, sharpness=None)
    soft = cv2.GaussianBlur(crop, (0, 0), 12)
    (blurred,) = analyzer.estimate_crops(soft[None], [bare])
    age, calibration = np.array([blurred.age]), analyzer.calibration
    sharp = calibration.age_probs(age, analyzer.estimator.predict(soft[None])["age_probs"])
    assert blurred.age_probs.max() < sharp.max()
    spread = calibration.interval(age, calibration.weighted(sharp))
    assert blurred.quality == "blurred" and blurred.age_high - blurred.age_low > spread[1][0] - spread[0][0]
    assert Face((0, 0, 9, 9), 0.9).quality is None
