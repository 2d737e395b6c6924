"""The training command: a bundle at the end, exact resume, clear errors, every backend."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_clear_error, python, write_folder
from filelock import FileLock
from PIL import Image

from space.bundle import DEFAULT, MODELS, open_bundle
from space.download import BundleError
from space.estimator import Estimator
from training import config as configs
from training import train
from training.atomic import new_folder
from training.bundle import quantize
from training.data.decode import decode
from training.data.load import load_utkface
from training.data.samples import Samples, splits_overlap
from training.evaluation.metrics import measure
from training.evaluation.provenance import trained_under
from training.evaluation.tables import table
from training.fitting import loop as fitting
from training.fitting import plan
from training.fitting.batches import Batches, Faces
from training.fitting.optimizers import build_optimizer
from training.model import files, losses, networks
from training.model.augment import STRENGTHS


def command(made_up, out, *more) -> list:
    """A run of seconds."""
    short = ["--limit", "48", "--batch-size", "16", "--out", out]
    return ["training/train.py", "--network", "compact", "--dataset", made_up, *short, *more]


EMBEDDED = MODELS / DEFAULT


def run(*words) -> int:
    """Train in this process; returns the exit status."""
    return train.main([str(word) for word in words[0][1:]] if isinstance(words[0], list) else [*map(str, words)])


def refused(capsys, arguments: list, *words: str) -> None:
    """The run ends with one sentence that has these words."""
    assert run(arguments) == 1
    errors = capsys.readouterr().err
    for word in ("error: ", *words):
        assert word in errors, errors


def test_a_run_ends_with_a_valid_bundle(trained):
    bundle = open_bundle(str(trained / "bundle"))
    card = bundle.card
    assert card["network"] == "compact" and card["genders"] == ["male", "female"] and card["ages"] == [0, 101]
    assert {"model.onnx", *files.KERAS_FILES, "metrics.json", "figures/ages.png"} <= set(card["files"])
    assert card["provenance"]["epochs_run"] == 6 and "--epochs 6" in card["provenance"]["command"]
    assert card["calibration"]["age"]["coverage"] == 0.8 and card["metrics"]["interval_coverage"]["value"] > 0.5
    assert json.loads((trained / "bundle" / "metrics.json").read_text()) == card["metrics"]
    for name in ("curves", "ages"):
        with Image.open(trained / "bundle" / "figures" / f"{name}.png") as figure:
            assert figure.width > 800 and np.asarray(figure.convert("L")).std() > 10
    with open(trained / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and float(rows[0]["val_age_mae"]) > 0
    assert not [p for p in trained.iterdir() if p.name.startswith(".bundle")]  # nothing half made is left


def test_training_learns(trained):
    metrics = open_bundle(str(trained / "bundle")).card["metrics"]
    assert metrics["age_mae"]["value"] < 0.7 * metrics["baseline"]["age_mae"]
    assert metrics["gender_accuracy"]["value"] > 0.8 > metrics["baseline"]["gender_accuracy"] + 0.1


def row_of_all(table: str) -> list[str]:
    return re.split(r" {2,}", next(line for line in table.splitlines() if line.startswith("all ")))


def test_evaluate_reprints_what_the_bundle_records(trained, made_up):
    result = python("training/evaluate.py", "--model", trained / "bundle", "--dataset", made_up)
    assert result.returncode == 0, result.stderr
    assert "match those recorded in the bu" in result.stdout
    expected = row_of_all((trained / "output.txt").read_text())
    assert row_of_all(result.stdout) == expected
    plain = python("training/evaluate.py", "--model", trained / "bundle" / "model.onnx", "--dataset", made_up)
    assert plain.returncode == 0, plain.stderr
    assert row_of_all(plain.stdout)[5] == "–"  # intervals are the bundle's, not the network's
    assert float(row_of_all(plain.stdout)[2].split()[0]) == pytest.approx(
        float(expected[2].split()[0]), abs=0.2
    )  # int8


def test_int8_is_served_only_where_it_is_as_good_and_faster(trained, made_up, tmp_path, monkeypatch):
    bundle = open_bundle(str(trained / "bundle"))
    record = bundle.card["quantization"]
    assert {"model.onnx", bundle.card["serve"]} <= set(bundle.card["files"])
    assert bundle.card["serve"] == "model.int8.onnx" or "not faster" in record["reason"]
    validation, images = decode(load_utkface(made_up, split="validation")[0])
    shutil.copy(trained / "bundle" / "model.onnx", tmp_path)

    def attempt(times):
        monkeypatch.setattr(quantize, "median_ms", lambda call: next(times))
        (tmp_path / "model.int8.onnx").unlink(missing_ok=True)
        return quantize.quantize(tmp_path, images[:32], images, validation.age, validation.gender == 1)

    monkeypatch.setattr(quantize, "MAE_RISE", 5.0)  # a network of 48 faces has little to lose
    monkeypatch.setattr(quantize, "GENDER_FALL", 1.0)
    record = attempt(iter([2.0, 1.0]))
    assert record["serve"] == "model.int8.onnx" and len(record["kept_float"]) == quantize.FLOAT_LAYER_COUNTS[0]
    plain, small = (Estimator(tmp_path / name).predict(images)["age"] for name in ("model.onnx", "model.int8.onnx"))
    assert 0 < np.abs(plain - small).max() < 3
    assert (tmp_path / "model.int8.onnx").stat().st_size < 0.3 * (tmp_path / "model.onnx").stat().st_size
    slower = attempt(iter([1.0, 2.0]))
    assert slower["serve"] == "model.onnx" and not (tmp_path / "model.int8.onnx").exists()
    some = quantize._layers
    monkeypatch.setattr(quantize, "_layers", lambda path: some(path)[:7])  # each layer takes a second
    monkeypatch.setattr(quantize, "MAE_RISE", -10.0)  # nothing is that good: more and more layers stay float
    worse = attempt(iter([9.0, *[1.0] * len(quantize.FLOAT_LAYER_COUNTS)]))
    assert worse["serve"] == "model.onnx" and "less accurate" in worse["reason"]
    assert len(worse["kept_float"]) == quantize.FLOAT_LAYER_COUNTS[-1] and not (tmp_path / "model.int8.onnx").exists()


def test_onnx_equals_keras(trained, made_up):
    _, images = decode(load_utkface(made_up, split="validation")[0])
    network = files.load_keras(trained / "bundle")
    expected = {name: np.asarray(value) for name, value in network.predict_on_batch(np.asarray(images)).items()}
    answers = Estimator(trained / "bundle" / "model.onnx").predict(images)
    assert set(answers) == {"age", "p_female", "age_probs"}
    assert np.abs(answers["age"] - expected["age"]).max() < 0.01
    assert np.abs(answers["p_female"] - expected["p_female"]).max() < 1e-3
    assert answers["age"].std() > 5  # no constant


def test_the_slim_bundle_leaves_keras_out(trained, tmp_path):
    result = python("-m", "training.bundle.export", trained / "bundle", tmp_path / "slim")
    assert result.returncode == 0, result.stderr
    assert not any((tmp_path / "slim" / name).exists() for name in files.KERAS_FILES)
    bundle = open_bundle(str(tmp_path / "slim"))
    assert bundle.card["metrics"] == open_bundle(str(trained / "bundle")).card["metrics"]
    assert all((tmp_path / "slim" / name).is_file() for name in bundle.card["files"])


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_resumes_exactly(made_up, tmp_path):
    arguments = ["--epochs", "3"]
    whole = python(*command(made_up, tmp_path / "whole", *arguments))
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *map(str, command(made_up, out, *arguments))],
        cwd=ROOT, env=os.environ | {"TQDM_DISABLE": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for((out / "state.json").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(json.loads((out / "state.json").read_text())["history"])
    assert 1 <= done < 3 and not (out / "bundle").exists()
    resumed = python(*command(made_up, out, *arguments, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    rows = [json.loads((folder / "state.json").read_text())["history"] for folder in (tmp_path / "whole", out)]
    for expected, found in zip(*rows, strict=True):
        for name in ("loss", "val_age_mae", "val_gender_accuracy"):
            assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-3), (name, rows)
    images = np.random.default_rng(0).integers(0, 256, (8, 200, 200, 3), np.uint8)
    ages = [Estimator(f / "bundle" / "model.onnx").predict(images)["age"] for f in (tmp_path / "whole", out)]
    np.testing.assert_allclose(*ages, atol=0.1)
    # Once more: nothing left to do, the same bundle again; what a kill left of an older one goes.
    (out / ".bundle-killed").mkdir()
    again = python(*command(made_up, out, *arguments, "--resume"))
    assert again.returncode == 0 and "Epoch" not in again.stdout
    assert not list(out.glob(".bundle*")) and (out / "bundle" / "model.onnx").exists()


def test_two_trainings_do_not_write_to_one_folder(made_up, tmp_path, capsys):
    with FileLock(tmp_path / ".run.lock"):  # as a training holds it while it runs
        refused(capsys, command(made_up, tmp_path / "run"), "Another training run is writing to", "--out")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_jax_trains_the_same_code(made_up, tmp_path):
    pytest.importorskip("jax")
    result = python(*command(made_up, tmp_path / "jax", "--epochs", "1"), env={"KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    assert "backend: jax" in result.stdout and "ONNX matches Keras" in result.stdout
    assert open_bundle(str(tmp_path / "jax" / "bundle")).card["network"] == "compact"


@pytest.mark.slow
def test_imagenet_weights_out_of_reach_are_told(made_up, tmp_path):
    env = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"KERAS_HOME": str(tmp_path)}
    result = python("training/train.py", "--dataset", made_up, "--limit", "4", "--out", tmp_path / "run", env=env)
    assert_clear_error(result, "ImageNet weights cannot be downloaded", "--init none")


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    rename, calls = Path.rename, []

    def refuse(self, to):
        calls.append(to)
        if len(calls) == 2:
            raise PermissionError("in use")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), new_folder(target) as folder:
        (folder / "new").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["bundle", "old"]


@pytest.mark.slow
def test_a_full_disk_is_told_and_leaves_no_half_bundle(made_up, tmp_path):
    def small_files():  # writing past the limit fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    result = python(*command(made_up, tmp_path / "run", "--epochs", "1"), preexec_fn=small_files)
    assert_clear_error(result)
    assert not (tmp_path / "run" / "bundle").exists()
    assert not (tmp_path / "run" / "state.json").exists()


def test_measures_are_right_on_an_example_by_hand():
    samples = Samples(
        name=np.array(["a", "b", "c", "d"]), age_range=np.array([[a, a] for a in (10, 20, 30, 40)], np.float32),
        gender=np.array([0, 0, 1, 1], np.int8), race=np.array([0, 1, 2, -1], np.int8),
        sha256=np.array(["0", "1", "2", "3"]), encoded=(b"",) * 4,
    )  # fmt: skip
    outputs = {"age": np.array([12.0, 14.0, 30.0, 46.0]), "p_female": np.array([0.2, 0.6, 0.9, 0.5])}
    metrics = measure(samples, outputs, median_age=25.0)
    assert metrics["age_mae"]["value"] == pytest.approx((2 + 6 + 0 + 6) / 4)
    assert metrics["age_bias"]["value"] == pytest.approx((2 - 6 + 0 + 6) / 4)
    assert metrics["cs5"]["value"] == 0.5
    assert metrics["gender_accuracy"]["value"] == metrics["gender_balanced_accuracy"] == 0.75
    assert metrics["gender_auc"] == 0.75
    assert metrics["baseline"] == {"median_age": 25.0, "age_mae": 10.0, "gender_accuracy": 0.5}
    assert "interval_coverage" not in metrics
    bounds = {"age_low": np.array([9.0, 10, 31, 40]), "age_high": np.array([14.0, 19, 33, 50])}
    both = measure(samples, outputs | bounds, median_age=25.0)
    assert both["interval_coverage"]["value"] == 0.5 and both["interval_width"]["value"] == pytest.approx(6.5)
    assert metrics["by"]["gender"]["male"]["gender_accuracy"]["value"] == 0.5
    assert metrics["by"]["age band"]["10-19"]["n"] == 1 and set(metrics["by"]["race"]) == {"White", "Black", "Asian"}
    assert metrics["age_mae"]["low"] <= metrics["age_mae"]["value"] <= metrics["age_mae"]["high"]
    assert "baseline" in table(metrics)


@pytest.mark.slow
def test_help_is_quick_and_names_the_options():
    started = time.monotonic()
    result = python("training/train.py", "--help")
    assert result.returncode == 0 and time.monotonic() - started < 20
    for option in "network dataset init age-head epochs batch-size unfreeze preset limit seed out resume push".split():
        assert f"--{option}" in result.stdout


def faces(count: int, first: int = 0) -> Faces:
    """Faces whose every pixel is their number."""
    images = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    ages = np.arange(first, first + count, dtype=np.float32)
    return Faces(images, np.stack([ages, ages], 1), (ages % 2).astype(np.float32))


def test_losses_are_right_on_examples_by_hand():
    from training.model.losses import LabelDistribution, RangeError

    probabilities = np.zeros((2, 102), np.float32)
    probabilities[:, 30], probabilities[:, 50] = 0.75, 0.25
    ranges = np.array([[30, 39], [50, 59]], np.float32)
    within = np.asarray(LabelDistribution(reduction=None)(ranges, probabilities))
    np.testing.assert_allclose(within, [-np.log(0.75), -np.log(0.25)], atol=1e-4)
    known = LabelDistribution(reduction=None)
    close, far = np.zeros((2, 1, 102), np.float32)
    close[0, 40], far[0, 80] = 1, 1
    label = np.array([[41, 41]], np.float32)
    assert float(known(label, close)[0]) < float(known(label, far)[0])
    years = np.asarray(RangeError(reduction=None)(np.array([[30, 39], [30, 39], [5, 5]]), np.array([41.0, 33.0, 2.0])))
    np.testing.assert_allclose(years, [2, 0, 3])


def test_augmentation_varies_faces_and_leaves_them_alone_outside_of_training():
    from training.model.augment import Augment, _compressed

    chip = np.linspace(0, 255, 200 * 200 * 3).reshape(1, 200, 200, 3).astype(np.uint8).repeat(24, 0)
    layer = Augment(STRENGTHS["strong"], seed=3)
    np.testing.assert_array_equal(np.asarray(layer(chip)), chip)
    varied = np.asarray(layer(chip, training=True))
    assert varied.dtype == np.uint8 and varied.shape == chip.shape
    assert len({picture.tobytes() for picture in varied}) == 24
    noise = np.random.default_rng(0).uniform(0, 255, (1, 200, 200, 3)).astype(np.float32)
    lost = [
        float(np.abs(np.asarray(_compressed(noise, np.full((1, 1, 1, 1), s, np.float32))) - noise).mean())
        for s in (0, 1, 3)
    ]
    assert lost[0] < 0.1 < 3 < lost[1] < lost[2]


def test_layers_take_steps_of_their_own_size():
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="deep"), keras.layers.Dense(1, name="top")])
    before = {layer.name: layer.get_weights()[0] for layer in model.layers}
    optimizer = build_optimizer("adam", 0.1, rates={"deep": 0.01, "": 1.0})
    model.compile(optimizer, loss="mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)) * 9, epochs=1, verbose=0)
    step = {layer.name: np.abs(layer.get_weights()[0] - before[layer.name]).max() for layer in model.layers}
    assert step["top"] == pytest.approx(0.1, rel=0.01) and step["deep"] == pytest.approx(0.001, rel=0.01)


@pytest.mark.slow
def test_pretraining_on_photographs(made_up, photographs, yunet, tmp_path):
    more = ("--pretrain", photographs, "--epochs", "3")
    result = python(*command(made_up, tmp_path, *more), env={"AGE_GENDER_DETECTOR": str(yunet)})
    assert result.returncode == 0, result.stdout + result.stderr
    state = json.loads((tmp_path / "state.json").read_text())
    assert [row["phase"] for row in state["history"]] == ["pretrain", "all", "all"]
    card = open_bundle(str(tmp_path / "bundle")).card
    assert card["provenance"]["pretrain"]["train"]["n"] > 20
    assert card["metrics"]["fairface"]["n"] > 0 and "frontal" in card["metrics"]["fairface"]["by"]["view"]
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert "### FairFace" in text
    assert (tmp_path / "worst.png").exists() and "figures/worst.png" not in card["files"]
    groups = (tmp_path / "bundle" / "groups.csv").read_text().splitlines()
    assert groups[0].startswith("race,gender,age_band,n,age_mae,") and groups[1].startswith("all,all,all,48,")


def test_photos_are_no_face_crops_and_face_crops_no_photos(made_up, photographs, yunet, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AGE_GENDER_DETECTOR", str(yunet))
    refused(capsys, command(photographs, tmp_path / "a"), "--pretrain")
    refused(capsys, command(made_up, tmp_path / "b", "--pretrain", made_up), "--dataset")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_pretraining_needs_yunet(made_up, photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(capsys, command(made_up, tmp_path / "run", "--pretrain", photographs), "YuNet")
    assert not (tmp_path / "run" / "state.json").exists()


@pytest.mark.slow
def test_photographs_are_scored_through_the_detector(photographs, tmp_path):
    result = python(
        "training/evaluate.py", "--model", ROOT / "space/models/compact", "--dataset", photographs, "--split", "train",
        "--detector", "haar", "--json", tmp_path / "figures.json", "--csv", tmp_path / "groups.csv",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["detector"] == "haar" and figures["n"] > 30
    assert figures["age_band"]["value"] > 0.4 and figures["age_band_or_next"]["value"] > 0.8
    assert "age in its band" in result.stdout and "Southeast Asian" in result.stdout
    assert (tmp_path / "groups.csv").read_text().count("\n") > 20


@pytest.mark.slow
def test_the_robustness_table(utkface, yunet):
    result = python(
        "training/robustness.py", "--model", ROOT / "space/models/compact", "--dataset", utkface, "--detector", yunet,
        "--split", "validation", "--limit", "24",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in result.stdout.splitlines() if line[:1] == "|"}
    assert float(rows["200 pixels"][0]) > 90 and float(rows["turned by 30°"][0]) > 90
    assert float(rows["200 pixels"][1].split()[0]) < 8


def test_an_epoch_has_every_face_once_and_its_share_of_the_second_set():
    def batches(extra=1.0, epoch=0, outputs=("age", "p_female")):
        return Batches([*outputs], [faces(20), faces(100, 100)], extra=extra, batch_size=8, seed=1, epoch=epoch)

    both = batches()
    assert both.steps == 5
    epochs = []
    for epoch in range(2):
        seen = []
        for step in range(5):
            images, labels = both[5 * epoch + step]
            numbers = images[:, 0, 0, 0].astype(np.float32)
            np.testing.assert_array_equal(labels["age"], np.stack([numbers, numbers], 1))  # each image has its labels
            np.testing.assert_array_equal(labels["p_female"], numbers % 2)
            seen += numbers.tolist()
        assert sorted(n for n in seen if n < 100) == list(range(20))
        assert len({n for n in seen if n >= 100}) == 20
        epochs.append(seen)
    assert set(epochs[0]) != set(epochs[1])  # the second set is drawn anew
    np.testing.assert_array_equal(batches(epoch=1)[0][0], both[5][0])
    assert batches(extra=float("inf")).steps == 15


def test_rare_groups_are_sampled_more_often():
    from training.faces import sampling_weights

    ages = np.array([30.0] * 1600 + [1.0] * 100)
    samples = Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages], axis=1), gender=np.zeros(1700, np.int8),
        race=np.zeros(1700, np.int8), sha256=ages.astype(str), encoded=(b"",) * 1700,
    )  # fmt: skip
    weights = sampling_weights(samples)
    assert weights[-1] / weights[0] == pytest.approx(2.0)
    drawn = Batches(
        ["age"], [Faces(np.arange(1700), samples.age_range, samples.gender, weights)], extra=0, batch_size=1700, seed=0
    )
    share = np.mean([np.mean(drawn[i][1]["age"][:, 0] == 1.0) for i in range(20)])
    assert share == pytest.approx(200 / 1800, rel=0.1)


def test_the_losses_count_labels_and_teachers_by_their_weights():
    uniform = np.full((1, 102), 1 / 102, "float32")
    uniform[0, 30] = 0.5
    label, teacher = np.array([[30.0, 30.0]]), np.eye(102, dtype="float32")[[60]]
    alone = float(losses.LabelDistribution()(label, uniform))
    both = float(losses.LabelDistribution(teacher_weight=0.25)(label, np.hstack([uniform, teacher])))
    assert both == pytest.approx(0.75 * alone + 0.25 * np.log(102), rel=1e-3)
    female = np.array([[0.9, 0.5]], "float32")
    loss = float(losses.GenderCrossEntropy(teacher_weight=0.5)(np.array([1.0]), female))
    assert loss == pytest.approx(-(0.75 * np.log(0.9) + 0.25 * np.log(0.1)), rel=1e-4)


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
    phase = fitting.Phase("all", 6, 1e-2, lambda network: None)
    rows = fitting.fit(student, [phase], recipe, fitting.FaceSets(made, made), tmp_path, teachers=[teacher], verbose=0)
    assert rows[-1]["age_probs_loss"] < 0.8 * rows[0]["age_probs_loss"]
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_teachers_need_a_distribution_and_keras_weights(made_up, tmp_path, capsys):
    refused(capsys, command(made_up, tmp_path / "a", "--teacher", "x", "--age-head", "regression"), "--teacher")
    with pytest.raises(BundleError, match="no Keras weights"):
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


def test_the_protocol_of_a_model_is_read_from_its_bundle_or_its_run(tmp_path):
    assert trained_under(str(EMBEDDED)) == "80/10/10"
    assert trained_under(DEFAULT) == "80/10/10"
    alone = tmp_path / "alone.weights.h5"
    alone.touch()
    assert trained_under(str(alone)) is None
    for broken in ("{", "[]", '{"network": 1}'):
        (tmp_path / "config.json").write_text(broken)
        assert trained_under(str(alone)) is None


def vgg16_phases(*arguments: str, **options) -> list:
    return plan.phases(configs.parse([*arguments, "--out", "nowhere"])[0], **options)


def test_phases_of_vgg16():
    ours = vgg16_phases()
    assert [(p.name, p.epochs, p.half_size) for p in ours] == [
        ("heads", 1, True),
        ("all at half size", 5, True),
        ("all", 18, False),
    ]
    assert [p.name for p in vgg16_phases(fresh_heads=False)] == ["all at half size", "all"]
    assert [(p.name, p.epochs) for p in vgg16_phases("--preset", "published")] == [("heads", 1), ("block5", 199)]
    assert [p.name for p in vgg16_phases("--epochs", "0")] == []
    assert [p.name for p in vgg16_phases("--unfreeze", "none")] == ["heads"]
    assert [p.name for p in vgg16_phases("--init", "none", "--pretrain", "x/y")] == ["pretrain", "all"]


@pytest.mark.slow
def test_vgg16_trains_from_a_base_file_at_both_sizes(made_up, tmp_path):
    import keras

    base = keras.applications.VGG16(include_top=False, weights=None)
    base.save_weights(tmp_path / "base.weights.h5")
    result = run(
        "--dataset", made_up, "--limit", 8, "--batch-size", 4, "--epochs", 3, "--half-size-epochs", 2,
        "--init", tmp_path / "base.weights.h5", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result == 0
    history = json.loads((tmp_path / "run" / "state.json").read_text())["history"]
    assert [row["phase"] for row in history] == ["heads", "all at half size", "all"]
    trained = files.load_keras(tmp_path / "run" / "bundle")
    for name in ("block1_conv1", "block5_conv3"):
        before, after = (model.get_layer(name).get_weights()[0] for model in (base, trained))
        assert 0 < np.abs(before - after).max() < 0.05


def test_settings_that_do_not_fit_are_explained(made_up, trained, tmp_path, capsys):
    refused(capsys, ["", "--network", "compact", "--dataset", tmp_path / "gone"], "No dataset at", "gone")
    refused(capsys, ["", "--network", "compact", "--dataset", made_up, "--out", trained], "--resume")
    other = ["", "--network", "compact", "--out", trained, "--resume", "--batch-size", "7"]
    refused(capsys, other, "--batch-size", "Omit")
    refused(capsys, command(made_up, tmp_path / "x", "--init", "imagenet"), "no ImageNet weights", "--init none")
    refused(capsys, command(made_up, tmp_path / "x", "--half-size-epochs", "2"), "vgg16")
    frozen = ["", "--init", "none", "--unfreeze", "block5", "--dataset", made_up]
    refused(capsys, frozen, "--unfreeze block5", "Omit")
    few = write_folder({p.name: p.read_bytes() for p in list(made_up.iterdir())[:1]}, tmp_path / "one")
    refused(capsys, ["", "--network", "compact", "--dataset", few, "--out", tmp_path / "y"], "split", "is empty")
    assert not (tmp_path / "x" / "bundle").exists()


@pytest.mark.parametrize(
    "words",
    [["--epochs", "-1"], ["--network", "resnet"], ["--learning-rate", "-1"], ["--patience", "-1"], ["--limit", "x"]],
)
def test_wrong_options_show_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    assert stop.value.code == 2 and words[0] in capsys.readouterr().err


@pytest.mark.parametrize("what", ["state-003.weights.h5", "state.json", "config.json"])
def test_a_broken_checkpoint_is_told(made_up, tmp_path, what, capsys):
    out = tmp_path / "run"
    out.mkdir()
    config, _ = configs.parse([str(a) for a in command(made_up, out)[1:]])
    config.save(out)
    row = {"phase": "all", "epoch": 3, "loss": 1.0}
    state = {"history": [row] * 3, "best": None, "phase": 0, "checkpoint": "state-003.weights.h5", "finished": False}
    (out / "state.json").write_text(json.dumps(state))
    (out / what).write_text("{broken")
    refused(capsys, ["", "--network", "compact", "--out", out, "--resume"], what, "--out")
    assert not (out / "bundle").exists()


def test_a_run_without_its_config_is_told(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{}")
    refused(capsys, ["", "--network", "compact", "--out", tmp_path / "run", "--resume"], "has no config.json")


def test_a_config_is_saved_read_back_and_printed_as_a_command(tmp_path):
    words = ["--network", "compact", "--epochs", "3", "--no-mirror", "--teacher", "a/b", "c/d", "--pretrain", "x/y"]
    config, to = configs.parse([*words, "--out", str(tmp_path)])
    config.save(tmp_path)
    assert configs.TrainConfig.load(tmp_path) == config and to.push is None
    command_ = shlex.split(config.to_command())
    assert configs.parse([*command_[2:], "--out", str(tmp_path / "again")])[0] == config
    local = configs.TrainConfig(dataset=str(tmp_path)).to_command()
    assert str(tmp_path.parent) not in local and tmp_path.name in local
