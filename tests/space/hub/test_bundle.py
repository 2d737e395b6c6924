"""Bundles and their faults."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from space.analyzer import FaceAnalyzer
from space.detector import yunet_file
from space.estimator import Estimator
from space.hub import bundle as bundle_module
from space.hub.bundle import MODELS, embedded, open_bundle
from space.hub.card import CARD, learned, read_card
from space.hub.download import ModelError, sha256_of
from space.photo import read_photo
from tests.support import EMBEDDED, EXAMPLES, ROOT, SHARED, shared


def test_serving_imports_no_tensorflow_and_nothing_of_training():
    code = (
        "import sys; import space.web.page; from space.analyzer import FaceAnalyzer; import numpy as np; "
        "FaceAnalyzer.load().analyze(np.zeros((90, 90, 3), np.uint8)); "
        "print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras', 'training', 'jax', 'torch')])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stderr


def test_the_embedded_bundle_is_whole_and_small():
    bundle = open_bundle()
    assert bundle.source == "embedded"
    assert sum(p.stat().st_size for p in EMBEDDED.rglob("*") if p.is_file()) <= 12_000_000
    assert all(path.stat().st_size <= 8_500_000 for path in EMBEDDED.rglob("*.onnx"))
    assert bundle.model_path.name == "model.int8.onnx" and bundle.model_path.stat().st_size < 2_500_000
    assert set(bundle.card["files"]) == {
        p.relative_to(EMBEDDED).as_posix() for p in EMBEDDED.rglob("*") if p.is_file() and p.name != CARD
    }
    assert Estimator(bundle.model_path).size == bundle.card["input"]["size"][0] == 200


def test_the_default_is_the_first_of_the_embedded_bundles():
    assert embedded() == ["compact", "open", "vgg16"]
    assert open_bundle().card["name"] == open_bundle("compact").card["name"] == "compact"


def edit(folder, **changes) -> None:
    card = json.loads((folder / CARD).read_text())
    card.update(changes)
    (folder / CARD).write_text(json.dumps(card))


def tables(**age) -> dict:
    """A calibration with these values for the age."""
    usable = {"coverage": 0.8, "level": 0.8, "at": [0, 50], "temperature": [1, 2], "log_weight": [0, 0]}
    return {"age": usable | age, "gender": {"temperature": 1}}


def figures(**changed) -> dict:
    """Metrics with these values."""
    return {
        "n": 3,
        **{key: {"value": 1} for key in ("gender_accuracy", "interval_coverage", "interval_width")},
    } | changed


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda f: (f / "model.weights.h5").write_bytes(b"x" * 1000), "model.weights.h5 is damaged"),
        (lambda f: (f / "model.int8.onnx").unlink(), "model.int8.onnx is missing"),
        (lambda f: (f / "groups.csv").write_text("{}"), "groups.csv is damaged"),
        (lambda f: (f / CARD).unlink(), "a model bundle"),
        (lambda f: (f / CARD).write_text("{"), "cannot be read"),
        (lambda f: (f / CARD).write_text("[]"), "not the card"),
        (lambda f: edit(f, format=99), "update the app"),
        (lambda f: edit(f, serve="other.onnx"), "doesn't list it"),
        (lambda f: edit(f, files={"../../etc/passwd": {"sha256": "0"}}, serve="../../etc/passwd"), "outside"),
        (lambda f: edit(f, network="../../x"), "letters, digits"),
        (lambda f: edit(f, files={"a/../../b": {"sha256": "0" * 64, "role": "document"}}), "outside"),
        (lambda f: edit(f, files={"/etc/passwd": {"sha256": "0" * 64, "role": "document"}}), "outside"),
        (lambda f: edit(f, files={"a.txt": {"sha256": "0" * 64, "role": "program"}}), "role of a.txt is unknown"),
        (lambda f: edit(f, serve="README.md"), "isn't an ONNX network"),
        (lambda f: edit(f, format=True), "not the card"),
        (lambda f: edit(f, metrics={"n": 3, "age_mae": {"value": float("nan")}}), "NaN"),
        (lambda f: edit(f, metrics=figures(age_mae={"value": "4"})), "finite"),
        (lambda f: edit(f, crop={"size": 200, "landmarks": [[1e999, 0]] * 5}), "Infinity"),
        (lambda f: edit(f, crop={"size": 200, "landmarks": [[1e300, 0]] * 5}), "far outside"),
        (lambda f: edit(f, crop={"size": 10**9, "landmarks": [[0, 0]] * 5}), "16 to 1024"),
        (lambda f: edit(f, calibration=None), "is not the card"),
        (lambda f: edit(f, calibration={"age": {}}), "missing 'at'"),
        (lambda f: edit(f, calibration=tables(at=[0, 0])), "ages must increase"),
        (lambda f: edit(f, calibration=tables(level=1)), "between 0 and 1"),
        (lambda f: edit(f, calibration=tables(log_weight=[0])), "different lengths"),
        (lambda f: edit(f, calibration=tables(log_weight=[0, "0"])), "finite number"),
        (lambda f: edit(f, calibration=tables(temperature=[1, 0])), "0.001 to 1,000,000"),
        (lambda f: edit(f, calibration=tables(log_weight=[0, -101])), "-100 to 100"),
        (lambda f: edit(f, metrics={"n": 5}), "missing 'gender_accuracy'"),
        (lambda f: edit(f, metrics=figures(n=None)), "number of test faces"),
        (lambda f: edit(f, metrics=figures(gender_accuracy=None)), "not the card"),
        (lambda f: edit(f, name="../x"), "plain name"),
        (lambda f: edit(f, license={"name": "a b"}), "plain name"),
        (lambda f: edit(f, crop={"size": 200, "landmarks": [[10**400, 0]] * 5}), "not the card"),
        (lambda f: edit(f, files={"a/" * 90 + "b": {"sha256": "0" * 64, "role": "document"}}), "not a plain name"),
        (lambda f: (f / CARD).write_text("[" * 100_000), "cannot be read"),
        (lambda f: (f / CARD).write_text('{"format": 1e999}'), "not the card"),
        (lambda f: (f / CARD).write_text(" " * 6_000_000), "too large"),
        (lambda f: edit(f, serve=["a"]), "wrong type"),
        (lambda f: edit(f, files={"a\0b": {"sha256": "0"}}), "not a plain name"),
        (lambda f: edit(f, crop={"size": 200}), "missing 'landmarks'"),
        (lambda f: edit(f, crop={"size": 200, "landmarks": [[1, 2]] * 4}), "five landmarks"),
    ],
)
def test_broken_bundles_are_named(bundle, breaks, words):
    breaks(bundle)
    with pytest.raises(ModelError, match=words):
        FaceAnalyzer.load(str(bundle))


def test_a_file_that_is_not_a_network_is_reported(bundle):
    (bundle / "model.int8.onnx").write_bytes(b"garbage")
    card = json.loads((bundle / CARD).read_text())
    card["files"]["model.int8.onnx"]["sha256"] = sha256_of(bundle / "model.int8.onnx")
    edit(bundle, files=card["files"])
    with pytest.raises(ModelError, match="cannot be opened"):
        FaceAnalyzer.load(str(bundle))


def test_what_is_neither_folder_nor_hub_id():
    for wrong in ("no/such/folder", "nowhere", "a b/c", str(ROOT / "README.md")):
        with pytest.raises(ModelError, match="No model at"):
            open_bundle(wrong)


def test_shared_is_not_needed_and_not_in_the_repository():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no git checkout")
    assert not [name for name in tracked if "yunet" in name.lower() and name.endswith(".onnx")]
    if SHARED.exists():
        ours = {sha256_of(ROOT / n) for n in tracked if n.endswith((".jpg", ".png")) and (ROOT / n).exists()}
        assert not ours & {sha256_of(p) for p in (SHARED / "photos").glob("*.jpg")}


@pytest.mark.parametrize("name", embedded())
def test_the_bundle_s_own_predict_answers_as_the_app(name, tmp_path):
    """`predict.py` stands alone: its answers are those of FaceAnalyzer."""
    specification = importlib.util.spec_from_file_location("predict", ROOT / "training" / "programs" / "predict.py")
    alone = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(alone)
    predictor, analyzer = alone.Predictor(MODELS / name, yunet_file()), FaceAnalyzer.load(name)
    with Image.open(EXAMPLES / "group.jpg") as group:
        group.reduce(2).save(tmp_path / "group.png")  # faces of a size for which the app looks once, as `predict.py`
    for path in (tmp_path / "group.png", shared("photos/18.jpg")):
        rgb = read_photo(path)
        ours, theirs = analyzer.analyze(rgb), predictor.predict(rgb)
        assert len(ours) == len(theirs)
        for face in ours:  # the order of faces of nearly the same size may differ
            other = min(theirs, key=lambda one: np.abs(np.subtract(one["box"], face.box)).sum())
            # The app also looks for large faces in a smaller image, whose landmarks differ by a pixel.
            assert abs(face.age - other["age"]) < 1.5 and face.gender == other["gender"]
            assert abs(face.age_low - other["age_low"]) <= 3 and abs(face.age_high - other["age_high"]) <= 3
            assert face.gender_probability == pytest.approx(other["gender_probability"], abs=0.06)


def test_the_source_of_a_folder_is_its_name_alone(bundle):
    assert open_bundle(str(bundle)).source == bundle.name  # visitors see it, and nothing of the server's paths


@pytest.mark.parametrize("model", ["~nobody/x", "a/b/c", "./a/b", "a b"])
def test_invalid_model_names_are_refused(model):
    with pytest.raises(ModelError, match="No model at"):
        open_bundle(model)


@pytest.mark.parametrize("keras", [False, True])
def test_serving_downloads_no_keras_weights(monkeypatch, keras):
    asked = []

    def hub_file(repo, name, revision, **_):
        asked.append(name)
        return "a" * 40, EMBEDDED / name

    monkeypatch.setattr(bundle_module, "hub_file", hub_file)
    bundle_module.download("me/model", None, keras=keras)
    weights = {"metadata.json", "model.weights.h5"}
    assert {"age_gender.json", "config.json", "model.int8.onnx"} <= set(asked)
    assert (weights <= set(asked)) if keras else not weights & set(asked)


def _deep(levels: int) -> dict:
    return {"parents": [_deep(levels - 1)]} if levels else {}


@pytest.mark.parametrize(
    "record",
    [
        "x", {"datasets": "x"}, {"datasets": ["x"]}, {"datasets": [{"dataset": 1}]}, {"datasets": [{"report": "x"}]},
        {"parents": "x"}, {"parents": [1]}, {"datasets": [{"copies": {"test": "many"}}]}, _deep(60),
    ],
)  # fmt: skip
def test_a_training_record_of_another_form_is_told(bundle, record):
    card = json.loads((bundle / CARD).read_text())
    for provenance in (record, {"parents": [record]}):
        (bundle / CARD).write_text(json.dumps(card | {"provenance": provenance}))
        with pytest.raises(ModelError, match="is not the card of a model bundle"):
            read_card(bundle)


def test_a_training_record_may_lack_anything(bundle):
    card = json.loads((bundle / CARD).read_text())
    for provenance in (None, {}, {"datasets": None, "parents": [{"datasets": [{}]}]}, _deep(20)):
        (bundle / CARD).write_text(json.dumps(card | {"provenance": provenance}))
        assert learned(read_card(bundle)["provenance"] or {}) == []


def test_a_card_s_figures_are_finite(bundle):
    text = (bundle / CARD).read_text()
    value = json.loads(text)["metrics"]["age_mae"]["value"]
    (bundle / CARD).write_text(text.replace(f'"value": {value}', '"value": 1e999', 1))
    with pytest.raises(ModelError, match="finite"):
        read_card(bundle)
