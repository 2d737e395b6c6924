"""What is chosen on validation faces when a bundle is built."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from space.estimator import Estimator
from space.hub.bundle import open_bundle
from space.hub.card import CARD
from tests.support.faces import LOADING, three
from tests.support.training import SHORT
from training.bundle import build
from training.data.faces import Faces, load_faces
from training.data.report import Report
from training.data.samples import Samples
from training.evaluation.metrics import range_error
from training.model import networks
from training.model.prediction import predict
from training.recipe import load

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize("mirror", [True, False])
def test_the_sharpness_is_chosen_by_the_error_of_the_exported_network(mirror, monkeypatch, capsys):
    recipe = load(SHORT).changed(mirror=mirror)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 200, 200, 3), np.uint8)
    ages = generator.uniform(0, 90, 12).astype(np.float32)
    samples = Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages + 5], axis=1), gender=np.zeros(12, np.int8),
        race=np.zeros(12, np.int8), sha256=ages.astype(str), encoded=(b"",) * 12,
    )  # fmt: skip
    network = networks.build(recipe.network, age_head=recipe.age_head, dropout=recipe.dropout, mirror=mirror)
    layer = network.get_layer("age")
    layer.set_weights([5 * weight for weight in layer.get_weights()])  # so that faces differ from their mirror images

    def error() -> float:
        return float(np.mean(range_error(predict(network, images)["age"], samples.age_range)))

    before = error()
    monkeypatch.setattr(build, "SHARPNESS", (1.8,))
    assert build.choose_sharpness(network, recipe, Faces(samples, images, Report("", ""), 30.0)) == 1.8
    assert f"error {before:.3f} → {error():.3f} years" in capsys.readouterr().out


def test_the_calibration_is_of_the_validation_faces(tiny, trained, made_up):
    bundle = open_bundle(str(trained / "bundle"))
    faces = load_faces([str(made_up)], [], **LOADING)
    found = {
        name: build.calibration_tables(Estimator(bundle.model_path), faces[name]) for name in ("validation", "test")
    }
    assert found["validation"] == bundle.card["calibration"] != found["test"]


def test_images_of_people_and_local_folders_are_not_published(trained, made_up):
    assert {path.relative_to(trained).as_posix() for path in trained.rglob("worst.png")} == {"worst.png"}
    for path in (trained / "bundle").glob("*.json"):
        assert str(made_up.parent) not in path.read_text()


def test_unknown_faces_of_parents_may_be_those_of_any_dataset():
    def dataset(collection, learned=True):
        return {"collection": collection, "learned": learned}

    own = {"datasets": [dataset("FairFace"), dataset(None), dataset("UTKFace", learned=False)], "parents": []}
    assert build._learned(own) == {"FairFace"}  # folders of one's own are told apart by their names
    for datasets in ([dataset(None)], None):
        assert build._learned(own | {"parents": [{"datasets": datasets, "parents": []}]}) == {"FairFace", None}


def parts(*samples: Samples, source: str = "") -> list[Faces]:
    """Datasets of black faces, whose first pixels count from 7 on."""
    return [
        Faces(one, np.full((len(one), 2, 2, 3), 7 + 2 * i, np.uint8), Report(source, "clean"), 0.0)
        for i, one in enumerate(samples)
    ]


def test_calibration_gets_each_face_with_its_own_label_and_dataset(monkeypatch):
    asked = {}

    def fit(outputs, age_range, female, source):
        asked.update(age=outputs["age"], first=age_range[:, 0], female=female, source=source)

    monkeypatch.setattr(build.calibrate, "fit", fit)
    estimator = SimpleNamespace(predict=lambda images: {"age": images[:, 0, 0, 0].astype(float)})
    one, two = three([20, 20], [30, 30], [40, 40]), three([1, 1], [2, 2], [3, 3])
    build.calibration_tables(estimator, parts(one, replace(two, gender=np.array([1, 1, 0], np.int8))))
    assert asked["female"].tolist() == [False, True, False, True, True, False]
    assert asked["source"].tolist() == [0, 0, 0, 1, 1, 1] and asked["age"].tolist() == [7] * 3 + [9] * 3
    assert asked["first"].tolist() == [20, 30, 40, 1, 2, 3]


def test_own_faces_are_those_that_were_learned_from(monkeypatch):
    recipe = load("compact").changed(train=("mine",), test=("theirs",))
    outputs = {"age": np.array([21.0, 33, 40]), "p_female": np.array([0.1, 0.9, 0.2])}
    estimator = SimpleNamespace(predict=lambda images: outputs | {"age_probs": np.eye(102)[[21, 33, 40]]})
    labels = three([20, 20], [30, 30], [40, 40])
    (mine,), (theirs,) = parts(labels, source="mine"), parts(labels, source="theirs")
    datasets = [{"collection": None, "learned": True}, {"collection": None, "learned": False}]
    tables = open_bundle().card["calibration"]
    provenance = {"datasets": datasets, "parents": []}
    figures, _, main = build._measure(recipe, [mine, theirs], estimator, tables, provenance)
    assert main is mine and figures["learned"] is True and figures["dataset"] == "mine"
    (other,) = figures["others"]
    assert other["learned"] is False and other["doubt"] is None


def test_the_card_of_a_run_has_all_of_its_faces(trained):
    card = json.loads((trained / "bundle" / CARD).read_text())
    provenance = card["provenance"]
    assert provenance["sharpness"] in build.SHARPNESS
    assert f"Age distribution sharpened by {provenance['sharpness']:g}: error" in (trained / "output.txt").read_text()
    (dataset,) = provenance["datasets"]
    counts = {split: part["n"] for split, part in dataset["faces"].items()}
    assert set(counts) == {"train", "validation", "test"} and sum(counts.values()) == 480 == dataset["report"]["used"]
    assert dataset["learned"] and card["license"]["name"] == "utkface-non-commercial-research"
    assert card["quantization"]["float32"]["gender_accuracy"] > 0.8


def test_a_whole_copy_of_a_hub_dataset_has_the_hub_s_name(tmp_path):
    (tmp_path / "faces").mkdir()
    recipe = load("compact").changed(train=(str(tmp_path / "faces"), "you/faces@v1"))

    def part(rows: int, revision: str | None = None):
        return SimpleNamespace(report=Report("x", "clean", collection="UTKFace", rows=rows, revision=revision))

    for rows, name in ((20_000, "py97/UTKFace-Cropped"), (480, "faces")):
        assert build._published(recipe, [part(rows), part(20_000, "abc")]).train == (name, "you/faces@v1")
