"""Teachers, and what a run may learn from."""

from __future__ import annotations

import numpy as np
import pytest

from space.hub.bundle import open_bundle
from space.hub.download import ModelError
from tests.support import EMBEDDED
from tests.support.app import python
from tests.support.training import command, refused, run
from training.data.samples import splits_overlap
from training.fitting import loop as fitting
from training.fitting.batches import Faces
from training.model import files, networks
from training.model.augment import STRENGTHS

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_teachers_see_what_the_network_sees_and_stay_as_they_are(trained, made_up, tmp_path, backend):
    pytest.importorskip(backend)
    options = ["--epochs", "2", "--teacher", trained / "bundle", "--augment", "medium", "--balance"]
    if backend == "tensorflow":
        assert run(command(made_up, tmp_path / "run", *options)) == 0
    else:
        result = python(*command(made_up, tmp_path / "run", *options), env={"KERAS_BACKEND": backend})
        assert result.returncode == 0, result.stderr
    card = open_bundle(str(tmp_path / "run" / "bundle")).card
    assert card["provenance"]["recipe"]["teacher_weight"] == 0.5
    assert "--teacher bundle" in card["provenance"]["command"]  # no path of this machine


def test_a_distilled_network_follows_its_teacher(tmp_path):
    """With the whole target from a teacher that says 70 for everybody, labels of 20 are forgotten."""
    import keras

    keras.utils.set_random_seed(0)
    teacher, student = networks.build("compact"), networks.build("compact", dropout=0.0)
    layer = teacher.get_layer("age")
    layer.set_weights([0 * layer.get_weights()[0], 30.0 * (np.arange(102) == 70)])
    images = np.random.default_rng(0).integers(0, 256, (16, 200, 200, 3), np.uint8)
    made = Faces(images, np.full((16, 2), 20, np.float32), np.zeros(16, np.float32))
    recipe = fitting.Recipe(
        age_head="distribution", batch_size=8, augment=STRENGTHS["mild"], optimizer="adamw", weight_decay=0.0,
        schedule="constant", average=False, patience=0, seed=0, teacher_weight=0.999,
    )  # fmt: skip
    before = teacher.get_weights()
    phase = fitting.Phase("all", 20, 1e-2, lambda network: None)
    rows = fitting.fit(
        student, [phase], recipe, fitting.TrainingData(made, made), tmp_path, teachers=[teacher], verbose=0
    )
    assert rows[-1]["age_probs_loss"] < 0.8 * rows[0]["age_probs_loss"]
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_teachers_need_a_distribution_and_keras_weights(made_up, tmp_path, capsys):
    refused(capsys, command(made_up, tmp_path / "a", "--teacher", "x", "--age-head", "regression"), "--teacher")
    with pytest.raises(ModelError, match="no Keras weights"):
        files.load_keras(EMBEDDED)


def test_a_run_does_not_learn_from_models_that_saw_its_test_faces(made_up, tmp_path, capsys):
    """The embedded networks are of 80/10/10: they were trained on faces that 60/20/20 validates and tests with."""
    (tmp_path / "config.json").write_text('{"protocol": "80/10/10"}')  # a run's own checkpoint has it beside it
    (tmp_path / "best-001.weights.h5").touch()
    for option in (["--teacher", EMBEDDED], ["--init", tmp_path / "best-001.weights.h5"]):
        refused(capsys, command(made_up, tmp_path / "run", "--protocol", "60/20/20", *option), option[0], "80/10/10")
    assert not (tmp_path / "run").exists()
    assert not splits_overlap(
        "60/20/20", "80/10/10", ["validation", "test"]
    )  # trained on buckets 0-5, chosen on 6 and 7
    assert splits_overlap("60/20/20", "80/10/10", ["train"]) and splits_overlap("80/10/10", "60/20/20", ["test"])
    assert not splits_overlap("60/20/20", "60/20/20", ["test"])
    assert splits_overlap("70/15/15", "80/10/10", ["test"])  # somebody else's split
