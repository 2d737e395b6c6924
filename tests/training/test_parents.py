"""What is known of the models that a run starts from or learns from."""

from __future__ import annotations

import hashlib
import inspect
import json
from types import SimpleNamespace

import h5py
import pytest

from space.hub.bundle import MODELS
from space.hub.download import ModelError
from tests.support.training import SHORT
from training import parents
from training.data.sources import DataError
from training.parents import IMAGENET, has_heads, lineage, read, read_model
from training.recipe import load

CARD = json.loads((MODELS / "compact" / "age_gender.json").read_text())


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_bundle_is_its_weights_and_its_record():
    parent = read_model("compact", "teacher")
    assert (parent.role, parent.model) == ("teacher", "compact")
    assert parent.sha256 == sha256(MODELS / "compact" / "model.weights.h5") == read_model("compact").sha256
    assert parent.record == lineage(CARD) and parent.record["protocol"] == "80/10/10"
    assert {dataset["collection"] for dataset in parent.record["datasets"]} == {"UTKFace", "FairFace"}
    assert read_model("vgg16").sha256 == sha256(MODELS / "vgg16" / "model.int8.onnx")  # it has no Keras weights
    file = MODELS / "compact" / CARD["serve"]
    assert read_model(str(file)).record == parent.record and read_model(str(file)).sha256 == sha256(file)


def test_a_checkpoint_has_the_record_of_its_run(tmp_path):
    weights = tmp_path / "best-001.weights.h5"
    weights.write_bytes(b"weights")
    assert read_model(str(weights)).as_dict()["protocol"] is None  # nothing tells what it has seen
    recipe = load(SHORT).changed(train=("py97/UTKFace-Cropped", "FairFace"), init="compact", teacher=("open",))
    recipe.save(tmp_path)
    for damaged in (None, "{", "{}", "[{}]", "[1]", '[{"faces": []}]'):
        if damaged:
            (tmp_path / "datasets.json").write_text(damaged)
        assert read_model(str(weights)).as_dict()["datasets"] is None
    (tmp_path / "datasets.json").write_text(json.dumps(CARD["provenance"]["datasets"]))
    found = read_model(str(weights)).as_dict()
    assert found["datasets"] == lineage(CARD)["datasets"] and all(one["held_out"] for one in found["datasets"])
    recipe.changed(limit=100).save(tmp_path)
    assert not any(one["held_out"] for one in read_model(str(weights)).as_dict()["datasets"])
    recipe.save(tmp_path)
    assert [(parent["role"], parent["model"]) for parent in found["parents"]] == [
        ("init", "compact"),
        ("teacher", "open"),
    ]
    assert found["sha256"] == hashlib.sha256(b"weights").hexdigest() and "/home" not in json.dumps(found)


def test_a_checkpoint_is_read_when_its_initial_weights_are_missing(tmp_path):
    weights = tmp_path / "best-001.weights.h5"
    weights.write_bytes(b"weights")
    load(SHORT).changed(train=("faces",), init="/tmp/gone.weights.h5").save(tmp_path)
    (parent,) = read_model(str(weights)).as_dict()["parents"]
    assert parent["model"] == "gone.weights.h5" and parent["datasets"] is None
    load(SHORT).changed(train=("faces",), init="someone/gone").save(tmp_path)
    with pytest.raises(ModelError):  # the Hub may answer later
        read_model(str(weights))


def test_the_keras_file_of_imagenet_weights_is_recognized(tmp_path, monkeypatch):
    import keras

    file = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.write_bytes(b"weights")
    assert read_model(str(file)).record is None
    monkeypatch.setattr(parents, "IMAGENET_BASE", hashlib.md5(b"weights").hexdigest())
    assert read_model(str(file)).record == IMAGENET
    monkeypatch.undo()
    assert parents.IMAGENET_BASE in inspect.getsource(inspect.unwrap(keras.applications.VGG16))


@pytest.mark.parametrize("name", ["gone.onnx", "gone.h5", "gone.keras"])
def test_a_file_that_is_not_there_is_no_hub_id(tmp_path, name):
    with pytest.raises(ModelError, match="specify an existing file"):
        read_model(str(tmp_path / name))


@pytest.mark.parametrize(
    ("changes", "option", "file", "also"),
    [
        ({"init": "net.onnx"}, "init", "net.onnx", " or a file of Keras weights"),
        ({"teacher": ("compact", "net.weights.h5")}, "teacher", "net.weights.h5", ""),
    ],
)
def test_a_file_that_a_run_can_not_use_is_refused_first(tmp_path, monkeypatch, changes, option, file, also):
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "net.weights.h5"):
        (tmp_path / name).write_bytes(b"weights")
    text = f"--{option} {file} is a file: specify a model's name, a bundle folder, a Hub id{also}"
    with pytest.raises(ModelError, match=text):
        read(load(SHORT).changed(**changes))


def test_the_parents_of_a_recipe():
    recipe = load("vgg16")
    assert [parent.as_dict() for parent in read(recipe)] == [
        {"role": "init", "model": "imagenet", "sha256": None, **IMAGENET}
    ]
    assert read(recipe.changed(init="none", stages=load(SHORT).stages)) == []
    roles = [(parent.role, parent.model) for parent in read(recipe.changed(init="open", teacher=("compact", "open")))]
    assert roles == [("init", "open"), ("teacher", "compact"), ("teacher", "open")]


@pytest.mark.parametrize(
    "broken", [{}, {"provenance": None}, {"provenance": {"datasets": [{}]}}, {**CARD, "metrics": {}}]
)
def test_a_card_without_a_record_has_no_lineage(broken):
    assert lineage(broken) is None


def test_whole_networks_are_told_from_imagenet_s_convolutions(tmp_path):
    assert [has_heads(init) for init in (None, "none", "imagenet", "compact", "you/model")] == [False] * 3 + [True] * 2
    for layer, whole in (("block1_conv1/kernel", False), ("layers/dense_1/vars/0", True)):
        with h5py.File(tmp_path / "weights.h5", "w") as file:
            file[layer] = [0.0]
        assert has_heads(str(tmp_path / "weights.h5")) is whole
    (tmp_path / "damaged.h5").write_bytes(b"damaged")
    assert has_heads(str(tmp_path / "damaged.h5")) and has_heads(str(tmp_path / "gone.h5"))


def test_a_teacher_that_predicts_single_ages_is_refused(monkeypatch):
    network = SimpleNamespace(output={"age": 0, "p_female": 0})
    monkeypatch.setattr(parents, "load_network", lambda model: (network, False))
    with pytest.raises(DataError, match="single age"):
        parents.load_teachers(("x",))


def test_the_held_out_faces_of_a_whole_split_are_recorded():
    for found, own in zip(lineage(CARD)["datasets"], CARD["provenance"]["datasets"], strict=True):
        assert found["held_out"] == {split: own["faces"][split]["sha256"] for split in ("validation", "test")}
        assert found["rows"] == own["report"]["rows"]
    for change in ({"limit": 5}, {"policy": "all"}):
        card = json.loads(json.dumps(CARD))
        card["metrics"]["split"] |= change
        assert [dataset["held_out"] for dataset in lineage(card)["datasets"]] == [{}, {}]


def test_networks_read_from_onnx_have_merged_normalizations():
    network, merged = parents.load_network("vgg16")
    assert merged and network.name == "vgg16"
    assert not parents.load_network("compact")[1]
