"""What is chosen on validation faces when a bundle is built."""

from __future__ import annotations

import numpy as np
import pytest

from space.estimator import Estimator
from space.hub.bundle import open_bundle
from tests.support.faces import LOADING
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
