"""The training command, as a user runs it: a bundle at the end, exact resume, clear errors, both backends."""

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

from space.bundle import EMBEDDED, open_bundle
from space.estimator import Estimator
from training import data, distill, evaluate, losses, networks, quantize, train
from training import fit as fitting
from training.atomic import new_folder
from training.augment import STRENGTHS


def command(made_up, out, *more) -> list:
    """A run of seconds."""
    short = ["--limit", "48", "--batch-size", "16", "--out", out]
    return ["training/train.py", "--network", "compact", "--dataset", made_up, *short, *more]


def test_a_run_ends_with_a_valid_bundle(trained):
    bundle = open_bundle(str(trained / "bundle"))
    card = bundle.card
    assert card["network"] == "compact" and card["genders"] == ["male", "female"] and card["ages"] == [0, 101]
    assert {"model.onnx", "model.keras", "model.weights.h5", "metrics.json", "figures/ages.png"} <= set(card["files"])
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
    assert "The figures recorded in the bundle are the same." in result.stdout
    expected = row_of_all((trained / "output.txt").read_text())
    assert row_of_all(result.stdout) == expected
    keras = python("training/evaluate.py", "--model", trained / "bundle" / "model.keras", "--dataset", made_up)
    assert keras.returncode == 0, keras.stderr
    assert row_of_all(keras.stdout)[5] == "–"  # intervals are the bundle's, not the network's
    assert float(row_of_all(keras.stdout)[2].split()[0]) == pytest.approx(
        float(expected[2].split()[0]), abs=0.2
    )  # int8


def test_int8_is_served_only_where_it_is_as_good_and_faster(trained, made_up, tmp_path, monkeypatch):
    bundle = open_bundle(str(trained / "bundle"))
    record = bundle.card["quantization"]
    assert {"model.onnx", bundle.card["serve"]} <= set(bundle.card["files"])
    assert bundle.card["serve"] == "model.int8.onnx" or "not faster" in record["reason"]
    validation, images = data.decode(data.load_utkface(made_up, split="validation")[0])
    shutil.copy(trained / "bundle" / "model.onnx", tmp_path)

    def attempt(times):
        monkeypatch.setattr(quantize, "median_ms", lambda call: next(times))
        (tmp_path / "model.int8.onnx").unlink(missing_ok=True)
        return quantize.quantize(tmp_path, images[:32], images, validation.age, validation.gender == 1)

    record = attempt(iter([2.0, 1.0]))
    assert record["serve"] == "model.int8.onnx" and record["kept_float"] == []
    plain, small = (Estimator(tmp_path / name).predict(images)["age"] for name in ("model.onnx", "model.int8.onnx"))
    assert 0 < np.abs(plain - small).max() < 3
    assert (tmp_path / "model.int8.onnx").stat().st_size < 0.3 * (tmp_path / "model.onnx").stat().st_size
    slower = attempt(iter([1.0, 2.0]))
    assert slower["serve"] == "model.onnx" and not (tmp_path / "model.int8.onnx").exists()
    some = quantize._layers
    monkeypatch.setattr(quantize, "_layers", lambda path: some(path)[:7])  # each layer takes a second
    monkeypatch.setattr(quantize, "MAE_RISE", -10.0)  # nothing is that good: more and more layers stay float
    worse = attempt(iter([9.0, *[1.0] * len(quantize.KEPT)]))
    assert worse["serve"] == "model.onnx" and "less accurate" in worse["reason"]
    assert len(worse["kept_float"]) == quantize.KEPT[-1] and not (tmp_path / "model.int8.onnx").exists()


def test_training_goes_on_from_an_onnx_file(trained, made_up, tmp_path):
    _, images = data.decode(data.load_utkface(made_up, split="validation")[0])
    network = networks.build("compact", init=str(trained / "bundle" / "model.onnx"), faces=images)
    expected = Estimator(trained / "bundle" / "model.onnx").predict(images)
    age = np.mean([fitting.predict(network, view)["age"] for view in (images, images[:, :, ::-1])], axis=0)
    assert (
        np.abs(age - expected["age"]).max() < 0.01
    )  # the export answers for both views, the network in training for one
    norm = network.get_layer("stage2_1_a_norm")
    assert np.std(norm.moving_variance) > 0  # measured, so that a step of training does not throw the network off
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="No ONNX network"):
        networks.build("compact", init=str(tmp_path / "no.onnx"), faces=images)
    with pytest.raises(ValueError, match="is no export of the network"):
        networks.build("compact", init=str(EMBEDDED / "model.onnx"), age_head="regression", faces=images)


def test_a_network_learns_from_the_answers_of_others(trained, made_up, tmp_path):
    """The answers are those of the teachers, and they are kept for a run that is resumed."""
    teachers = [str(trained / "bundle"), str(EMBEDDED)]
    result = python(*command(made_up, tmp_path / "run", "--epochs", "2", "--teacher", *teachers))
    assert result.returncode == 0, result.stderr
    card = open_bundle(str(tmp_path / "run" / "bundle")).card
    assert shlex.join(["--teacher", *teachers]) in card["provenance"]["command"]
    assert card["provenance"]["recipe"]["taught"] == distill.SHARE
    samples = data.load_utkface(made_up, split="train")[0].limit(48)
    _, images = data.decode(samples)
    (kept,) = (tmp_path / "run").glob("teachers-train-*.npz")
    views = [Estimator(open_bundle(t).model_path).predict(v) for t in teachers for v in (images, images[:, :, ::-1])]
    with np.load(kept) as answered:
        expected = np.mean([view["age_probs"] for view in views], axis=0)
        np.testing.assert_allclose(answered["age_probs"], expected, atol=2e-3)
        np.testing.assert_allclose(answered["p_female"], np.mean([v["p_female"] for v in views], axis=0), atol=1e-3)
    resumed = python(*command(made_up, tmp_path / "run", "--resume"))
    assert resumed.returncode == 0 and "Asking" not in resumed.stderr
    refused = python(*command(made_up, tmp_path / "no", "--teacher", *teachers, "--age-head", "regression"))
    assert_clear_error(refused, "--teacher", "--age-head")


def test_nothing_is_learned_from_who_was_trained_on_faces_that_are_kept_apart(made_up, tmp_path):
    """The embedded network is of 80/10/10: it was trained on faces that 60/20/20 validates and tests with."""
    (tmp_path / "settings.json").write_text('{"protocol": "80/10/10"}')  # a run's own checkpoint has it beside it
    (tmp_path / "best-001.weights.h5").touch()
    starts = (EMBEDDED / "model.onnx", tmp_path / "best-001.weights.h5")
    for option in (["--teacher", EMBEDDED], *(["--init", start] for start in starts)):
        result = python(*command(made_up, tmp_path / "run", "--protocol", "60/20/20", *option))
        assert_clear_error(result, option[0], "80/10/10")
    assert not (tmp_path / "run").exists()
    assert not data.saw("60/20/20", "80/10/10", ["validation", "test"])  # trained on buckets 0-5, chosen on 6 and 7
    assert data.saw("60/20/20", "80/10/10", ["train"]) and data.saw("80/10/10", "60/20/20", ["test"])
    assert not data.saw("60/20/20", "60/20/20", ["test"])
    assert data.saw("70/15/15", "80/10/10", ["test"])  # of somebody else: who knows


def test_what_a_model_was_made_from_is_read_from_its_bundle_or_its_run(tmp_path):
    assert evaluate.made_from(str(EMBEDDED)) == evaluate.made_from(str(EMBEDDED / "model.onnx")) == ("80/10/10", None)
    alone = tmp_path / "alone.keras"
    alone.touch()
    assert evaluate.made_from(str(alone)) == (None, None)
    for settings in ("{", "[]", '{"protocol": [1], "fold": {}}'):
        (tmp_path / "settings.json").write_text(settings)
        assert evaluate.made_from(str(alone)) == (None, None)
    bundle = shutil.copytree(EMBEDDED, tmp_path / "bundle")
    card = json.loads((bundle / "age_gender.json").read_text())
    for split in ([], {"protocol": ["80/10/10"]}, None):
        (bundle / "age_gender.json").write_text(json.dumps(card | {"metrics": {"split": split}}))
        assert evaluate.made_from(str(bundle)) == (None, None)


def test_files_and_several_models_are_scored(trained, made_up, tmp_path, capsys):
    """float32 beside the int8 that is served, and teachers as a network learns them."""
    samples, images = data.decode(data.load_utkface(made_up, split="test")[0])
    options = ["--dataset", str(made_up)]
    answers = Estimator(EMBEDDED / "model.onnx").predict(images)
    assert evaluate.main(["--model", str(EMBEDDED / "model.onnx"), *options]) == 0
    mae = float(np.mean(np.abs(answers["age"] - samples.age)))
    assert row_of_all(capsys.readouterr().out)[2].split()[0] == f"{mae:.2f}"
    models = [str(EMBEDDED), str(trained / "bundle")]
    assert evaluate.main(["--model", models[0], "--model", models[1], *options]) == 0
    served = [Estimator(open_bundle(model).model_path) for model in models]
    views = [network.predict(view)["age"] for network in served for view in (images, images[:, :, ::-1])]
    mae = float(np.mean(np.abs(np.mean(views, axis=0) - samples.age)))
    printed = row_of_all(capsys.readouterr().out)
    assert float(printed[2].split()[0]) == pytest.approx(mae, abs=0.011) and printed[5] == "–"
    for several in ([models[0], str(EMBEDDED / "model.onnx")], [models[0], str(tmp_path / "gone")]):
        assert evaluate.main(["--model", *several, "--dataset", str(tmp_path / "never read")]) == 1
        assert several[1] in capsys.readouterr().err


@pytest.mark.parametrize("age_head", networks.AGE_HEADS)
def test_mixed_faces_are_learned_by_each_head(age_head, tmp_path):
    """With photographs beside, and where a head can have them with teachers' answers."""
    generator = np.random.default_rng(0)

    def made(count):
        ages = generator.integers(0, 90, count).astype(np.float32)
        taught = generator.dirichlet(np.ones(102), count).astype(np.float16) if age_head == "distribution" else None
        images = generator.integers(0, 256, (count, 200, 200, 3), np.uint8)
        return fitting.Faces(images, np.stack([ages, ages + 9], 1), (ages % 2).astype(np.float32), taught)

    network = networks.build("compact", age_head=age_head)
    recipe = fitting.Recipe(
        age_head=age_head, batch_size=8, augment=STRENGTHS["mild"], optimizer="adamw", weight_decay=0.05,
        schedule="cosine", ema=0.5, patience=0, seed=0, mixup=0.4, taught=0.5 if age_head == "distribution" else 0.0,
    )  # fmt: skip
    phase = fitting.Phase("all", 1, 1e-3, lambda network: None)
    (row,) = fitting.fit(network, [phase], recipe, made(8), made(4), tmp_path, second=made(16), verbose=0)
    assert np.isfinite(row["loss"]) and row["age_loss"] > 1


def test_the_loss_counts_labels_and_teachers_by_their_shares():
    ages = np.full((1, 102), 1 / 102, "float32")
    ages[0, 30] = 0.5
    label, answer = np.array([[30.0, 30.0]]), np.eye(102)[[60]]
    alone = float(losses.LabelDistribution()(label, ages))
    taught = float(losses.LabelDistribution(taught=0.25)(np.hstack([label, answer]), ages))
    assert taught == pytest.approx(0.75 * alone + 0.25 * np.log(102), rel=1e-3)


def test_balanced_epochs_draw_rare_ages_more_often():
    ages = np.array([30.0] * 900 + [1.0] * 9)
    faces = fitting.Faces(np.arange(909)[:, None], np.stack([ages, ages], axis=1), np.zeros(909))
    drawn = {}
    for balance in (False, True):
        batches = fitting.Batches(["age"], faces, None, 1.0, 909, seed=0, epoch=0, balance=balance)
        drawn[balance] = np.mean([np.mean(batches[i][1]["age"][:, 0] == 1.0) for i in range(20)])
    assert drawn[False] == pytest.approx(9 / 909) and drawn[True] == pytest.approx(1 / 11, rel=0.1)


def test_onnx_equals_keras(trained, made_up):
    import keras

    _, images = data.decode(data.load_utkface(made_up, split="validation")[0])
    network = keras.models.load_model(trained / "bundle" / "model.keras", compile=False)
    expected = {name: np.asarray(value) for name, value in network.predict_on_batch(np.asarray(images)).items()}
    answers = Estimator(trained / "bundle" / "model.onnx").predict(images)
    assert set(answers) == {"age", "p_female", "age_probs"}
    assert np.abs(answers["age"] - expected["age"]).max() < 0.01
    assert np.abs(answers["p_female"] - expected["p_female"]).max() < 1e-3
    assert answers["age"].std() > 5  # no constant


def test_the_slim_bundle_leaves_keras_out(trained, tmp_path):
    result = python("-m", "training.export", trained / "bundle", tmp_path / "slim")
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "slim").glob("*.keras")) and not list((tmp_path / "slim").glob("*.h5"))
    bundle = open_bundle(str(tmp_path / "slim"))
    assert bundle.card["metrics"] == open_bundle(str(trained / "bundle")).card["metrics"]
    assert all((tmp_path / "slim" / name).is_file() for name in bundle.card["files"])


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


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


def test_two_trainings_do_not_write_to_one_folder(made_up, tmp_path):
    with FileLock(tmp_path / ".run.lock"):  # as a training holds it while it runs
        assert_clear_error(python(*command(made_up, tmp_path / "run")), "Another training writes to", "--out")
    assert not (tmp_path / "run").exists()


def test_jax_trains_the_same_code(made_up, tmp_path):
    pytest.importorskip("jax")
    result = python(*command(made_up, tmp_path / "jax", "--epochs", "1"), env={"KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    assert "on jax" in result.stdout and "ONNX equals Keras" in result.stdout
    assert open_bundle(str(tmp_path / "jax" / "bundle")).card["network"] == "compact"


def test_vgg16_from_nothing_then_in_two_phases(made_up, tmp_path):
    vgg16 = ["training/train.py", "--network", "vgg16", "--dataset", made_up, "--limit", "4", "--batch-size", "4"]
    first = python(*vgg16, "--init", "none", "--epochs", "1", "--out", tmp_path / "first")
    assert first.returncode == 0, first.stderr
    assert "34," in first.stdout
    weights = tmp_path / "first" / "bundle" / "model.weights.h5"
    second = python(*vgg16, "--init", weights, "--epochs", "2", "--out", tmp_path / "second")
    assert second.returncode == 0, second.stderr
    history = json.loads((tmp_path / "second" / "state.json").read_text())["history"]
    assert [row["phase"] for row in history] == ["heads", "block5"]
    before, after = (Path(tmp_path / run / "bundle") for run in ("first", "second"))
    import keras

    old, new = (keras.models.load_model(folder / "model.keras", compile=False) for folder in (before, after))
    for name, moved in (("block4_conv3", False), ("age_dense1", True)):
        assert np.array_equal(old.get_layer(name).get_weights()[0], new.get_layer(name).get_weights()[0]) != moved


def test_wrong_wishes_are_told_in_a_sentence(made_up, trained, tmp_path):
    missing = python("training/train.py", "--network", "compact", "--dataset", tmp_path / "gone")
    assert_clear_error(missing, "No dataset at", "gone")
    again = python("training/train.py", "--network", "compact", "--dataset", made_up, "--out", trained)
    assert_clear_error(again, "--resume")
    other = python(
        "training/train.py", "--network", "compact", "--dataset", made_up, "--out", trained, "--resume",
        "--batch-size", "7",
    )  # fmt: skip
    assert_clear_error(other, "--batch-size", "leave it out")
    imagenet = python(*command(made_up, tmp_path / "x", "--init", "imagenet"))
    assert_clear_error(imagenet, "no ImageNet weights", "--init none")
    frozen = python("training/train.py", "--init", "none", "--unfreeze", "block5", "--dataset", made_up)
    assert_clear_error(frozen, "--unfreeze block5", "leave it out")
    few = write_folder({p.name: p.read_bytes() for p in list(made_up.iterdir())[:1]}, tmp_path / "one")
    assert_clear_error(python("training/train.py", "--network", "compact", "--dataset", few), "split", "is empty")
    assert not (tmp_path / "x" / "bundle").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--epochs", "0"],
        ["--network", "resnet"],
        ["--learning-rate", "-1"],
        ["--patience", "-1"],
        ["--limit", "x"],
        ["--fold", "3/2"],
    ],
)
def test_wrong_options_show_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(words)
    assert stop.value.code == 2 and words[0] in capsys.readouterr().err


@pytest.mark.parametrize("what", ["state-003.weights.h5", "state.json", "settings.json"])
def test_a_broken_checkpoint_is_told(made_up, tmp_path, what):
    out = tmp_path / "run"
    out.mkdir()
    options = train.settle([str(a) for a in command(made_up, out)[1:]])
    settings = {k: v for k, v in vars(options).items() if k not in train._FREE}
    (out / "settings.json").write_text(json.dumps(settings))
    row = {"phase": "all", "epoch": 3, "loss": 1.0}
    state = {"history": [row] * 3, "best": None, "phase": 0, "checkpoint": "state-003.weights.h5", "finished": False}
    (out / "state.json").write_text(json.dumps(state))
    (out / what).write_text("{broken")
    result = python(*command(made_up, out, "--resume"))
    assert_clear_error(result, what, "--out")
    assert not (out / "bundle").exists()


def test_a_run_without_its_settings_is_told(tmp_path, made_up):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{}")
    assert_clear_error(python(*command(made_up, tmp_path / "run", "--resume")), "lacks settings.json")


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


def test_a_full_disk_is_told_and_leaves_no_half_bundle(made_up, tmp_path):
    def small_files():  # writing past the limit fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    result = python(*command(made_up, tmp_path / "run", "--epochs", "1"), preexec_fn=small_files)
    assert_clear_error(result)
    assert not (tmp_path / "run" / "bundle").exists()
    assert not (tmp_path / "run" / "state.json").exists()


def test_measures_are_right_on_an_example_by_hand():
    samples = data.Samples(
        name=np.array(["a", "b", "c", "d"]), age_range=np.array([[a, a] for a in (10, 20, 30, 40)], np.float32),
        gender=np.array([0, 0, 1, 1], np.int8), race=np.array([0, 1, 2, -1], np.int8),
        sha256=np.array(["0", "1", "2", "3"]), encoded=(b"",) * 4,
    )  # fmt: skip
    outputs = {"age": np.array([12.0, 14.0, 30.0, 46.0]), "p_female": np.array([0.2, 0.6, 0.9, 0.5])}
    metrics = evaluate.measure(samples, outputs, median_age=25.0)
    assert metrics["age_mae"]["value"] == pytest.approx((2 + 6 + 0 + 6) / 4)
    assert metrics["age_bias"]["value"] == pytest.approx((2 - 6 + 0 + 6) / 4)
    assert metrics["cs5"]["value"] == 0.5
    assert metrics["gender_accuracy"]["value"] == metrics["gender_balanced_accuracy"] == 0.75
    assert metrics["gender_auc"] == 0.75
    assert metrics["baseline"] == {"median_age": 25.0, "age_mae": 10.0, "gender_accuracy": 0.5}
    assert "interval_coverage" not in metrics
    bounds = {"age_low": np.array([9.0, 10, 31, 40]), "age_high": np.array([14.0, 19, 33, 50])}
    both = evaluate.measure(samples, outputs | bounds, median_age=25.0)
    assert both["interval_coverage"]["value"] == 0.5 and both["interval_width"]["value"] == pytest.approx(6.5)
    assert metrics["by"]["gender"]["male"]["gender_accuracy"]["value"] == 0.5
    assert metrics["by"]["age band"]["10-19"]["n"] == 1 and set(metrics["by"]["race"]) == {"White", "Black", "Asian"}
    assert metrics["age_mae"]["low"] <= metrics["age_mae"]["value"] <= metrics["age_mae"]["high"]
    assert "baseline" in evaluate.table(metrics)


def test_help_is_quick_and_names_the_options():
    started = time.monotonic()
    result = python("training/train.py", "--help")
    assert result.returncode == 0 and time.monotonic() - started < 20
    for option in "network dataset init age-head epochs batch-size unfreeze preset limit seed out resume push".split():
        assert f"--{option}" in result.stdout


def faces(count: int, first: int = 0) -> fitting.Faces:
    """Faces whose every pixel is their number."""
    images = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    ages = np.arange(first, first + count, dtype=np.float32)
    return fitting.Faces(images, np.stack([ages, ages], 1), (ages % 2).astype(np.float32))


def test_an_epoch_has_every_face_once_and_its_share_of_the_second_set():
    batches = fitting.Batches(["age", "p_female"], faces(20), faces(100, 100), 1.0, batch_size=8, seed=1, epoch=0)
    assert batches.steps == 5
    epochs = []
    for epoch in range(2):
        seen = []
        for step in range(5):
            images, labels = batches[5 * epoch + step]
            numbers = images[:, 0, 0, 0].astype(np.float32)
            np.testing.assert_array_equal(labels["age"], np.stack([numbers, numbers], 1))  # each picture has its labels
            np.testing.assert_array_equal(labels["p_female"], numbers % 2)
            seen += numbers.tolist()
        assert sorted(n for n in seen if n < 100) == list(range(20))
        assert len({n for n in seen if n >= 100}) == 20
        epochs.append(seen)
    assert set(epochs[0]) != set(epochs[1])  # the second set is drawn anew
    again = fitting.Batches(["age", "p_female"], faces(20), faces(100, 100), 1.0, batch_size=8, seed=1, epoch=1)
    np.testing.assert_array_equal(again[0][0], batches[5][0])
    everything = fitting.Batches(["age"], faces(20), faces(100, 100), float("inf"), batch_size=8, seed=1, epoch=0)
    assert everything.steps == 15


def test_faces_laid_over_each_other_have_both_labels():
    made = faces(40)
    taught = fitting.Faces(made.images, made.age_range, made.gender, made.gender[:, None])
    for given, width in ((made, 2), (taught, 3)):
        batches = fitting.Batches(
            ["age_probs", "age", "p_female"], given, None, 1.0, batch_size=40, seed=1, epoch=0, mixup=0.4
        )
        images, labels = batches[0]
        one, other, share = np.split(labels["age"], [2, 4], axis=1)
        np.testing.assert_allclose(
            images[:, 0, 0, 0], share[:, 0] * one[:, 0] + (1 - share[:, 0]) * other[:, 0], atol=0.51
        )
        np.testing.assert_allclose(
            labels["p_female"], share[:, 0] * (one[:, 0] % 2) + (1 - share[:, 0]) * (other[:, 0] % 2), atol=1e-6
        )
        assert labels["age_probs"].shape == (40, 2 * width + 1)
        assert sorted(one[:, 0]) == sorted(other[:, 0]) == list(range(40)) and 0.2 < share.std() < 0.5
        again = batches[0]
        np.testing.assert_array_equal(again[0], images)


def test_the_loss_of_faces_laid_over_each_other():
    from training.losses import LabelDistribution, Mixed, RangeError

    labels = np.array([[30, 30, 50, 50, 0.25], [20, 29, 40, 49, 0.5]], np.float32)
    years = np.asarray(Mixed(RangeError(), reduction=None)(labels, np.array([40.0, 31.0])))
    np.testing.assert_allclose(years, [0.25 * 10 + 0.75 * 10, 0.5 * 2 + 0.5 * 9])
    generator = np.random.default_rng(0)
    probabilities, answers, others = generator.dirichlet(np.ones(102), (3, 2)).astype(np.float32)
    one, other, share = labels[:, :2], labels[:, 2:4], labels[:, 4:]
    for taught, labelled in ((0.0, (one, other)), (0.5, (np.hstack([one, answers]), np.hstack([other, others])))):
        loss = LabelDistribution(taught=taught, reduction=None)
        apart = [np.asarray(loss(part, probabilities)) for part in labelled]
        mixed = Mixed(LabelDistribution(taught=taught), reduction=None)(np.hstack([*labelled, share]), probabilities)
        expected = share[:, 0] * apart[0] + (1 - share[:, 0]) * apart[1]
        np.testing.assert_allclose(np.asarray(mixed), expected, rtol=1e-5)


def test_a_fold_is_judged_by_a_network_that_never_saw_it(made_up, tmp_path, capsys):
    everything = data.load_utkface(made_up, split="train")[0]
    folds = [everything.fold(f"{k}/3") for k in (1, 2, 3)]
    assert sorted(np.concatenate([fold.sha256 for fold in folds])) == sorted(everything.sha256)
    rest = everything.fold("1/3", without=True)
    assert not set(rest.sha256) & set(folds[0].sha256) and len(rest) + len(folds[0]) == len(everything)
    out, found = tmp_path / "run", tmp_path / "suspects.csv"
    result = python(
        "training/train.py", "--network", "compact", "--dataset", made_up, "--epochs", "1", "--batch-size", "64",
        "--mixup", "0.2", "--no-mirror", "--schedule", "constant", "--no-average", "--fold", "1/3", "--out", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    card = open_bundle(str(out / "bundle")).card
    assert card["provenance"]["faces"]["train"] == {"n": len(rest), "sha256": data.fingerprint(rest)}
    assert card["provenance"]["fold"] == "1/3" and "fold 1/3" in (out / "bundle" / "README.md").read_text()
    recipe = card["provenance"]["recipe"]
    assert (recipe["schedule"], recipe["ema"], recipe["mixup"]) == ("constant", 0.0, 0.2)
    for words in ("--fold 1/3", "--mixup 0.2", "--schedule constant", "--no-average", "--no-mirror"):
        assert words in card["provenance"]["command"]
    scored = ["--model", str(out / "bundle"), "--dataset", str(made_up), "--split", "train"]
    assert evaluate.main([*scored, "--fold", "1/3", "--suspects", str(found)]) == 0
    printed = capsys.readouterr().out
    assert row_of_all(printed)[1] == str(len(folds[0])) and f"of {len(folds[0])} labels look wrong" in printed
    assert "Nothing shows" not in printed and data.listed([str(found)]) <= set(folds[0].sha256)
    for other in (
        [*scored, "--fold", "2/3"],
        [*scored[:4], "--protocol", "60/20/20"],
        ["--model", str(shutil.copy(out / "bundle" / "model.keras", tmp_path)), *scored[2:], "--fold", "1/3"],
    ):  # the last, alone, has no record
        assert evaluate.main(other) == 0
        assert "Nothing shows" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        evaluate.main([*scored[:4], "--fold", "1/3"])
    assert "--split train" in capsys.readouterr().err
    for seen in (["--init", "a.onnx"], ["--teacher", "a/b"]):
        with pytest.raises(data.DataError, match="--fold"):
            train.settle(["--network", "compact", "--fold", "1/3", "--out", str(tmp_path / "other"), *seen])


def test_listed_faces_are_left_out(made_up, tmp_path, capsys):
    samples, other = (data.load_utkface(made_up, split=split)[0] for split in ("train", "test"))
    lists = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, digests in zip(lists, (samples.sha256[:5], [samples.sha256[7], *other.sha256[:2]]), strict=True):
        path.write_text("name,sha256\n" + "".join(f"x,{digest}\n" for digest in digests))
    options, report = (
        train.parse(["--exclude", str(lists[0]), "--exclude", str(lists[1])]),
        data.Report("made up", "clean"),
    )
    kept = train._kept(samples, options, report)
    np.testing.assert_array_equal(kept.sha256, np.delete(samples.sha256, [0, 1, 2, 3, 4, 7]))
    assert "6 of 8 listed faces" in capsys.readouterr().out
    assert report.dropped == {"training faces listed by --exclude": 6}
    with pytest.raises(data.DataError, match="nothing is left"):
        train._kept(samples.take(range(5)), options, report)
    lists[1].write_text("a,b\n")
    for words, path in (("no column sha256", lists[1]), ("gone", tmp_path / "gone")):
        result = python(*command(made_up, tmp_path / "run", "--exclude", lists[0], path))
        assert_clear_error(result, words)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_faces_and_its_mirror(tmp_path):
    listed, run = tmp_path / "listed.csv", tmp_path / "run"
    listed.write_text("sha256\naa\nbb\n")
    words = ["--network", "compact", "--out", str(run)]
    options = train.settle([*words, "--no-mirror", "--exclude", str(listed)])
    run.mkdir()
    (run / "settings.json").write_text(json.dumps(train.recorded(options)))
    resumed = train.settle([*words, "--resume"])
    assert resumed.exclude == [str(listed)] and resumed.mirror is False
    assert train.settle([*words, "--resume", "--mirror"]).mirror is True
    listed.write_text("sha256\naa\n")
    with pytest.raises(data.DataError, match="other faces than when"):
        train.settle([*words, "--resume"])


def test_losses_are_right_on_examples_by_hand():
    from training.losses import LabelDistribution, RangeError

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
    from training.augment import Augment, _compressed

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
    optimizer = fitting._layerwise(keras.optimizers.Adam, {"deep": 0.01, "": 1.0})(0.1)
    model.compile(optimizer, loss="mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)) * 9, epochs=1, verbose=0)
    step = {layer.name: np.abs(layer.get_weights()[0] - before[layer.name]).max() for layer in model.layers}
    assert step["top"] == pytest.approx(0.1, rel=0.01) and step["deep"] == pytest.approx(0.001, rel=0.01)


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
    assert "Beyond UTKFace" in text and "FairFace" in text
    assert (tmp_path / "worst.png").exists() and "figures/worst.png" not in card["files"]
    groups = (tmp_path / "bundle" / "groups.csv").read_text().splitlines()
    assert groups[0].startswith("race,gender,age_band,n,age_mae,") and groups[1].startswith("all,all,all,48,")


def test_labels_that_look_wrong_are_listed_and_left_alone():
    samples = data.Samples(
        name=np.array(["fine", "old", "other", "band"]), sha256=np.array(["0", "1", "2", "3"]), encoded=(b"",) * 4,
        age_range=np.array([[30, 30], [80, 80], [20, 20], [70, 120]], np.float32),
        gender=np.array([0, 0, 1, 1], np.int8), race=np.zeros(4, np.int8),
    )  # fmt: skip
    outputs = {"age": np.array([40.0, 20, 22, 95]), "p_female": np.array([0.1, 0.1, 0.001, 0.9])}
    lines = evaluate.suspects(samples, outputs).splitlines()[1:]
    assert [(line.split(",")[0], line.split(",")[-1]) for line in lines] == [("other", "gender"), ("old", "age")]


def test_photographs_are_no_chips_and_chips_no_photographs(made_up, photographs, yunet, tmp_path):
    assert_clear_error(python(*command(photographs, tmp_path / "a")), "--pretrain")
    swapped = python(*command(made_up, tmp_path / "b", "--pretrain", made_up), env={"AGE_GENDER_DETECTOR": str(yunet)})
    assert_clear_error(swapped, "--dataset")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_runs_of_older_versions(made_up, tmp_path):
    """Their settings lack what there was no choice of yet."""
    (tmp_path / "settings.json").write_text('{"network": "compact", "preset": "default", "epochs": 2}')
    old = ["--network", "compact", "--resume", "--out", str(tmp_path)]
    settled = train.settle(old)
    assert (settled.augment, settled.pretrain, settled.average) == ("mild", None, True)
    (tmp_path / "settings.json").write_text('{"network": "compact", "preset": "published", "epochs": 2}')
    assert train.settle(old).average is False
    for wish in (["--pretrain", "a/b"], ["--augment", "strong"]):
        with pytest.raises(data.DataError, match="was started with"):
            train.settle([*old, *wish])
    (tmp_path / "settings.json").write_text('{"network": "vgg16", "preset": "default", "epochs": 2}')
    with pytest.raises(data.DataError, match="older version"):
        train.settle(["--network", "vgg16", "--resume", "--out", str(tmp_path)])


def test_pretraining_needs_yunet(made_up, photographs, tmp_path):
    result = python(*command(made_up, tmp_path, "--pretrain", photographs))
    assert_clear_error(result, "YuNet")
    assert not (tmp_path / "state.json").exists()


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


def test_the_robustness_table(utkface, yunet):
    result = python(
        "training/robustness.py", "--model", ROOT / "space/models/compact", "--dataset", utkface, "--detector", yunet,
        "--split", "validation", "--limit", "24",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in result.stdout.splitlines() if line[:1] == "|"}
    assert float(rows["200 pixels"][0]) > 90 and float(rows["turned by 30°"][0]) > 90
    assert float(rows["200 pixels"][1].split()[0]) < 8
