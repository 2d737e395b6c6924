"""`predict.py` of a bundle stands alone; each of its parts agrees with the kit's own."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from space import quality
from space.analyzer import FaceAnalyzer
from space.calibration import Calibration
from space.crop import crop
from space.detector import YuNet, yunet_file
from space.hub.bundle import MODELS
from tests.support import EXAMPLES
from tests.support.app import python
from training.programs import predict

CARD = json.loads((MODELS / "compact" / "age_gender.json").read_text())
CALIBRATION = Calibration.from_dict(CARD["calibration"])


@pytest.fixture(scope="module")
def predictor():
    return predict.Predictor(MODELS / "compact", yunet_file())


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    return np.asarray(Image.open(EXAMPLES / "group.jpg").convert("RGB"))


@pytest.mark.parametrize("distribution", [True, False])
def test_intervals_and_probabilities_are_calibrated_alike(distribution):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1, (40, 102)).cumsum(axis=1)
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32) if distribution else None
    age, wider = generator.uniform(0, 101, 40), generator.uniform(1, 2, 40)
    table, ours = CARD["calibration"]["age"], CALIBRATION.age_probs(age, probs, wider)
    theirs = predict._distribution(age, probs, table, wider)
    np.testing.assert_allclose(theirs, ours, atol=1e-12)
    bounds = CALIBRATION.interval(age, CALIBRATION.weighted(ours))
    np.testing.assert_array_equal(bounds, predict._interval(age, theirs, table))
    p = np.array([0, 1e-9, 0.2, 0.5, 0.9, 1])
    np.testing.assert_allclose(predict._temperature(p, CALIBRATION.temperature), CALIBRATION.p_female(p))


def test_blurred_faces_get_equally_wide_intervals():
    generator = np.random.default_rng(0)
    crops = [generator.integers(0, 256, (side, side, 3), np.uint8) for side in (200, 50, 25, 10, 4, 1)]
    crops = np.stack([np.asarray(Image.fromarray(crop).resize((200, 200), Image.Resampling.BICUBIC)) for crop in crops])
    ours = quality.wider(quality.sharpness(crops))
    assert ours[0] == 1 < ours[-1]
    np.testing.assert_allclose(predict._wider(crops), ours)


@pytest.mark.parametrize("reduction", [1, 2, 5])
def test_crops_are_the_same(predictor, group, reduction):
    photo = np.asarray(Image.fromarray(group).reduce(reduction))
    template = FaceAnalyzer.load("compact").template
    for face in YuNet().detect(photo):
        ours, theirs = crop(photo, face, template), predictor._crop(photo, face.landmarks)
        assert theirs.shape == (200, 200, 3)
        # Large faces are averaged before they are sampled; the kit averages only the part around the face.
        assert np.abs(ours.astype(int) - theirs).mean() < 2


def test_faces_of_a_large_photo_are_in_its_pixels(predictor, group):
    large = np.asarray(Image.fromarray(group).resize((group.shape[1] * 2, group.shape[0] * 2)))
    assert max(large.shape) > 1024
    boxes = {name: np.array([row for row, _ in predictor.faces(rgb)]) for name, rgb in (("1", group), ("2", large))}
    assert boxes["1"].shape == boxes["2"].shape == (8, 5)
    areas = boxes["1"][:, 2] * boxes["1"][:, 3]
    assert (np.diff(areas) <= 0).all()  # largest first
    for box in boxes["2"]:
        assert np.abs(boxes["1"][:, :4] - box[:4] / 2).sum(axis=1).min() < 12


def test_answers_have_all_fields_and_no_face_is_an_empty_list(predictor, group):
    assert predictor.predict(np.zeros((64, 64, 3), np.uint8)) == []
    people = predictor.predict(group)
    assert len(people) == 8
    for person, (row, _) in zip(people, predictor.faces(group), strict=True):
        assert [*person["box"], person["score"]] == row.tolist()
    fields = ["box", "score", "age", "age_low", "age_high", "gender", "gender_probability"]
    for person in people:
        assert list(person) == fields and person["age_low"] <= person["age"] <= person["age_high"]
        assert 0.5 <= person["gender_probability"] <= 1 and 0.7 <= person["score"] <= 1
    json.dumps(people)
    assert {person["gender"] for person in people} == {"female", "male"}


def test_a_predictor_of_files_estimates_crops(predictor, group):
    of_files = predict.Predictor.of_files(MODELS / "compact" / "age_gender.json", MODELS / "compact" / CARD["serve"])
    crops = np.stack([crop for _, crop in predictor.faces(group)])
    ours, theirs = predictor.estimate(crops), of_files.estimate(crops)
    for name in ("age", "age_low", "age_high", "p_female", "age_probs"):
        np.testing.assert_allclose(ours[name], theirs[name])
    finder = predict.Predictor.of(CARD["crop"], yunet_file())
    assert len(finder.faces(group)) == 8 and finder.network is None


def test_the_command_line_stands_alone(tmp_path):
    program = shutil.copy(predict.__file__, tmp_path)
    for name in ("age_gender.json", CARD["serve"]):
        shutil.copy(MODELS / "compact" / name, tmp_path)
    (tmp_path / "text.jpg").write_text("no image")
    assert "usage: python predict.py PHOTO" in python("-I", program).stderr  # -I: nothing of the kit is importable
    assert "text.jpg isn't a readable image" in python("-I", program, tmp_path / "text.jpg").stderr


def test_an_unreadable_photo_stops_no_other_and_nothing_is_reported(hub, reader, tmp_path):
    hub.add("opencv/face_detection_yunet", {yunet_file().name: yunet_file().read_bytes()})
    program = shutil.copy(predict.__file__, tmp_path)
    for name in ("age_gender.json", CARD["serve"]):
        shutil.copy(MODELS / "compact" / name, tmp_path)
    (tmp_path / "text.jpg").write_text("no image")
    photo, home = EXAMPLES / "age-20-29-male.jpg", tmp_path / "own"
    code = (
        "import os, runpy, sys; os.environ.pop('ORT_DISABLE_TELEMETRY', None); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = ("-I", "-c", code, program, tmp_path / "text.jpg", photo)
    result = python(*words, env={**reader, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")})
    assert result.returncode == 1 and "text.jpg isn't a readable image" in result.stderr, result.stderr
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["photo"] == str(photo) and json.loads(line)["gender"] == "male"
    assert not list(home.rglob("*onnxruntime*"))


def test_everyone_is_estimated_as_by_the_kit(predictor, group):
    kit = FaceAnalyzer.load("compact").analyze(group)
    for person in predictor.predict(group):
        x, y, _, _ = person["box"]
        face = min(kit, key=lambda face: abs(face.box[0] - x) + abs(face.box[1] - y))
        assert person["gender"] == face.gender and person["age"] == pytest.approx(face.age, abs=2)
        assert person["gender_probability"] == pytest.approx(face.gender_probability, abs=0.1)
