"""Teachers, and what a run may learn from."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from space.hub.bundle import open_bundle
from space.hub.card import CARD
from space.hub.download import ModelError
from tests.support import EMBEDDED
from tests.support.app import python
from tests.support.training import SHORT, command, refused, run
from training.data.faces import Faces
from training.data.report import Report
from training.data.samples import Samples
from training.fitting import loop as fitting
from training.fitting.checkpoints import RunState
from training.leakage import generations
from training.model import files, networks
from training.parents import read_model
from training.recipe import Recipe, Stage, load

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_teachers_see_what_the_network_sees_and_stay_as_they_are(trained, made_up, tmp_path, backend):
    pytest.importorskip(backend)
    options = ["--epochs", "2", "--teacher", trained / "bundle"]
    if backend == "tensorflow":
        assert run(command(made_up, tmp_path / "run", *options)) == 0
    else:
        result = python(*command(made_up, tmp_path / "run", *options), env={"KERAS_BACKEND": backend})
        assert result.returncode == 0, result.stderr
    card = open_bundle(str(tmp_path / "run" / "bundle")).card
    (teacher,) = card["provenance"]["parents"]
    assert teacher["role"] == "teacher" and teacher["model"] == "bundle" and teacher["protocol"] == "80/10/10"
    assert card["provenance"]["command"].endswith("--recipe recipe.toml")  # which names the teacher, without its folder
    assert load(tmp_path / "run" / "bundle" / "recipe.toml").teacher == ("bundle",)


def test_a_distilled_network_follows_its_teacher(tmp_path):
    """With the whole target from a teacher that says 70 for everybody, labels of 20 are forgotten."""
    import keras

    keras.utils.set_random_seed(0)
    teacher, student = networks.build("compact"), networks.build("compact", dropout=0.0)
    layer = teacher.get_layer("age")
    layer.set_weights([0 * layer.get_weights()[0], 30.0 * (np.arange(102) == 70)])
    images = np.random.default_rng(0).integers(0, 256, (16, 200, 200, 3), np.uint8)
    ages = np.full(16, 20, np.float32)
    samples = Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages], axis=1), gender=np.zeros(16, np.int8),
        race=np.zeros(16, np.int8), sha256=ages.astype(str), encoded=(b"",) * 16,
    )  # fmt: skip
    made = [Faces(samples, images, Report("", ""), 20.0)]
    stage = Stage("all", 20, 1e-2, teacher_weight=0.999)
    recipe = Recipe(
        network="compact", train=("x",), stages=(stage,), batch_size=8, weight_decay=0.0, schedule="constant",
        average=False, patience=0,
    )  # fmt: skip
    before = teacher.get_weights()
    rows = fitting.fit(student, recipe, made, made, tmp_path, teachers=[teacher], verbose=0)
    assert rows[-1]["age_probs_loss"] < 0.8 * rows[0]["age_probs_loss"]
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_teachers_need_a_distribution(made_up, tmp_path, capsys):
    text = SHORT.read_text().replace("mirror = true", 'age_head = "regression"')
    (tmp_path / "mine.toml").write_text(text)
    refused(capsys, ["", "--recipe", tmp_path / "mine.toml", "--teacher", "x", "--dataset", made_up], "distribution")
    with pytest.raises(ModelError, match="no Keras weights"):
        files.load_keras(tmp_path)


def test_a_run_does_not_learn_from_models_that_saw_its_test_faces(made_up, tmp_path, capsys):
    """The embedded networks are of 80/10/10: they were trained on faces that 60/20/20 validates and tests with."""
    run_folder = tmp_path / "before"
    run_folder.mkdir()
    load(SHORT).save(run_folder)  # a run's own checkpoint has these beside it
    record = {"dataset": "x", "collection": "UTKFace", "learned": True, "faces": {}, "report": {"rows": 480}}
    (run_folder / "datasets.json").write_text(json.dumps([record]))
    (run_folder / "best-001.weights.h5").touch()
    (tmp_path / "other.toml").write_text('protocol = "60/20/20"\n' + SHORT.read_text())
    words = ["", "--recipe", tmp_path / "other.toml", "--dataset", made_up, "--out", tmp_path / "run"]
    for option in (["--teacher", EMBEDDED], ["--init", "compact"], ["--init", run_folder / "best-001.weights.h5"]):
        refused(capsys, [*words, *option], option[0], "80/10/10")
    assert not (tmp_path / "run").exists()


def seen(model: str) -> set[str | None]:
    """The protocols of a model and its ancestors."""
    return {entry["protocol"] for entry in generations(read_model(model).as_dict())} - {""}  # ImageNet has none


def test_faces_of_ancestors_count_as_seen(trained, tmp_path):
    """A model that was exported without training has seen what its parents saw."""
    card = json.loads((trained / "bundle" / CARD).read_text())
    parent = {"role": "init", "model": "x", "sha256": None, "datasets": [], "protocol": "60/20/20", "parents": []}
    card["provenance"] |= {"epochs_run": 0, "parents": [{**parent, "protocol": "80/10/10", "parents": [parent]}]}
    folder = shutil.copytree(trained / "bundle", tmp_path / "bundle")
    (folder / CARD).write_text(json.dumps(card))
    assert seen(str(folder)) == {"60/20/20", "80/10/10"}
    del card["provenance"]["parents"]
    (folder / CARD).write_text(json.dumps(card))
    assert seen(str(folder)) == {None}  # a bundle without that record may have seen all
    assert seen("compact") == seen("vgg16") == {"80/10/10"}


def test_two_teachers_teach_their_mean(tiny, tmp_path):
    teachers = []
    for years in (30, 70):
        teacher = networks.build("compact")
        layer = teacher.get_layer("age")
        layer.set_weights([0 * layer.get_weights()[0], 30.0 * (np.arange(102) == years)])
        teacher.name = f"teacher{years}"
        teachers.append(teacher)
    recipe = Recipe(network="compact", train=("x",), stages=())
    run_ = fitting._Run(networks.build("compact"), recipe, [], [], tmp_path, RunState(), tuple(teachers), False, 0)
    trainer = run_._trainer(0, 0, Stage("all", 1, 1e-3, teacher_weight=0.5))
    probs = np.asarray(trainer(np.zeros((2, 200, 200, 3), np.uint8))["age_probs"])[:, 102:]
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(probs[:, [30, 70]], 0.5, atol=1e-3)
