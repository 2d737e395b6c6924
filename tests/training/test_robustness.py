"""Faces in scenes: where they stand, and how they're degraded."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from space.face import Face
from training import robustness
from training.data.samples import Samples
from training.robustness import CONDITIONS, SCENE, Condition, scene

WHITE = np.full((200, 200, 3), 255, np.uint8)


def placed(condition: Condition, seed: int = 0, face: np.ndarray = WHITE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scene, the face's middle, and the points that are its own, bool [S, S]: white on a ground that isn't."""
    rgb, middle = scene(face, condition, np.random.default_rng(seed))
    return rgb, middle, rgb.min(axis=2) > 245


@pytest.mark.parametrize("side", [64, 100, 200, 400])
def test_a_face_has_its_size_and_lies_whole_around_its_middle(side):
    for seed in range(5):
        rgb, middle, face = placed(Condition(side), seed)
        assert rgb.shape == (max(SCENE, 2 * side),) * 2 + (3,) and rgb.dtype == np.uint8
        rows, columns = np.nonzero(face)
        assert face.sum() == pytest.approx(side**2, rel=0.05)
        assert (columns.mean(), rows.mean()) == pytest.approx(tuple(middle), abs=1)


def test_faces_are_turned_to_either_side_by_the_angle():
    ends = {"left": 0, "right": 0}
    for seed in range(8):
        _, middle, face = placed(Condition(200, degrees=30), seed)
        (_, (width, height), _) = cv2.minAreaRect(np.argwhere(face)[:, ::-1].astype(np.float32))
        assert (width, height) == pytest.approx((200, 200), abs=4)
        top = np.nonzero(face)[1][0]  # the highest corner is to the right of the middle, or to its left
        ends["right" if top > middle[0] else "left"] += 1
        assert np.ptp(np.nonzero(face)[0]) == pytest.approx(200 * (np.cos(np.pi / 6) + 0.5), abs=4)
    assert min(ends.values()) > 0


def test_light_gray_blur_and_compression():
    colors = np.zeros((200, 200, 3), np.uint8)
    colors[:, ::2] = (255, 128, 0)
    plain = placed(Condition(), face=colors)[0].astype(float)
    dark = placed(Condition(light=0.33), face=colors)[0]
    np.testing.assert_allclose(dark, plain * 0.33, atol=1)
    gray = placed(Condition(gray=True), face=colors)[0]
    assert (gray == gray[..., :1]).all() and gray.std() > 10
    soft = [placed(Condition(blur=sigma), face=colors)[0].astype(float).std() for sigma in (0, 2, 4)]
    assert soft[0] > soft[1] > soft[2]
    coarse = [np.abs(placed(Condition(jpeg=quality), face=colors)[0] - plain).mean() for quality in (0, 95, 30, 10)]
    assert coarse == sorted(coarse) and coarse[0] == 0 < coarse[1]


@pytest.mark.parametrize(("cover", "rows"), [("mouth", (124, 196)), ("eyes", (56, 96))])
def test_a_dark_bar_covers_the_mouth_or_the_eyes(cover, rows):
    _, middle, face = placed(Condition(cover=cover))
    x, top = round(middle[0]), round(middle[1] - 100)
    column = face[top : top + 200, x]
    assert (
        not column[rows[0] + 2 : rows[1] - 2].any()
        and column[2 : rows[0] - 2].all()
        and column[rows[1] + 2 : 198].all()
    )


def test_each_condition_does_what_its_name_says():
    assert CONDITIONS["turned by 45°"].degrees == 45 and CONDITIONS["JPEG quality 10"].jpeg == 10
    for name, condition in CONDITIONS.items():
        words = name.replace("°", "").split()
        number = next((int(word) for word in words if word.isdigit()), None)
        assert number in (None, condition.side, condition.degrees, condition.blur, condition.jpeg), name
        assert (condition == Condition()) == (name == "200 pixels")


def test_figures_are_of_the_found_faces_beside_the_same_faces_as_crops(monkeypatch, capsys):
    """The first of four faces isn't found; the network says each face's brightness for its age, in every condition."""
    ages = np.array([10, 20, 30, 40], np.float32)
    samples = Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages], axis=1), gender=np.array([0, 1, 0, 1], np.int8),
        race=np.zeros(4, np.int8), sha256=ages.astype(str), encoded=(b"",) * 4,
    )  # fmt: skip
    faces = np.full((4, 200, 200, 3), (np.array([18, 21, 32, 43]))[:, None, None, None], np.uint8)
    found = np.array([False, True, True, True])

    def predict(model, crops):
        years = crops[:, 0, 0, 0].astype(np.float32)
        return {"age": years, "p_female": np.full(len(crops), 0.9, np.float32)}

    monkeypatch.setattr(robustness.FaceAnalyzer, "load", lambda model: None)
    monkeypatch.setattr(robustness, "load_crops", lambda dataset, split: samples)
    monkeypatch.setattr(robustness, "decode", lambda chosen: (chosen, faces))
    monkeypatch.setattr(robustness, "predict", predict)
    monkeypatch.setattr(robustness, "CONDITIONS", {"all darker": Condition(), "none found": Condition(light=0)})
    monkeypatch.setattr(
        robustness,
        "crops_from_scenes",
        lambda analyzer, faces, condition: (
            (faces[found] + 3, found) if condition.light else (faces[:0], np.zeros(4, bool))
        ),
    )
    assert robustness.main(["--model", "compact"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| original crops | – | 3.50 | 50.0 |",
        "| all darker | 75.0 | 5.00 (2.00) | 66.7 (66.7) |",
        "| none found | 0.0 | – | – |",
    ]


def test_only_a_detection_around_the_face_counts(monkeypatch):
    """The detector finds a face 30 pixels wide, `away` from the middle of each scene, and a smaller one."""
    faces, landmarks = np.zeros((3, 200, 200, 3), np.uint8), robustness.load_template().landmarks
    middle = np.array([240.0, 200.0])
    monkeypatch.setattr(robustness, "scene", lambda *_: (np.zeros((SCENE, SCENE, 3), np.uint8), middle))
    for away, found in (((0, 0), True), ((14, 0), True), ((0, -14), True), ((16, 0), False), ((0, 16), False)):
        x, y = 240 + away[0] - 15, 200 + away[1] - 15
        around = Face((x, y, 30, 30), 0.9, landmarks + np.array([x, y], np.float32))
        analyzer = SimpleNamespace(detect=lambda rgb, face=around: [face])
        crops, which = robustness.crops_from_scenes(analyzer, faces, Condition())
        assert which.tolist() == [found] * 3 and crops.shape == (3 if found else 0, 200, 200, 3)
