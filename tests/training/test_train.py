"""The training command: a bundle at the end, exact resume, clear errors, every backend."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from space.estimator import Estimator
from space.hub.bundle import open_bundle
from tests.support import ROOT
from tests.support.app import assert_clear_error, python
from tests.support.training import command, refused, run
from training import config as configs
from training.model import files


def test_a_run_ends_with_a_valid_bundle(trained):
    bundle = open_bundle(str(trained / "bundle"))
    card = bundle.card
    assert card["network"] == "compact" and card["genders"] == ["male", "female"] and card["ages"] == [0, 101]
    assert {"model.onnx", *files.KERAS_FILES, "predict.py", "figures/ages.png"} <= set(card["files"])
    assert card["provenance"]["epochs_run"] == 6 and "--epochs 6" in card["provenance"]["command"]
    assert card["calibration"]["age"]["coverage"] == 0.8 and card["metrics"]["interval_coverage"]["value"] > 0.5
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


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_resumes_exactly(made_up, tmp_path):
    def tiny(out, *more):
        return ["-m", "tests.tiny", *command(made_up, out, "--epochs", "5", *more)[1:]]

    whole = python(*tiny(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *map(str, tiny(out))],
        cwd=ROOT, env=os.environ | {"TQDM_DISABLE": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for((out / "state.json").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(json.loads((out / "state.json").read_text())["history"])
    assert 1 <= done < 5 and not (out / "bundle").exists()
    resumed = python(*tiny(out, "--resume"))
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
    again = python(*tiny(out, "--resume"))
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
    assert_clear_error(result, "ImageNet weights cannot be downloaded", "--init FILE")


@pytest.mark.slow
def test_a_full_disk_is_told_and_leaves_no_half_bundle(made_up, tmp_path):
    def small_files():  # writing past the limit fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))

    result = python(*command(made_up, tmp_path / "run", "--epochs", "1"), preexec_fn=small_files)
    assert_clear_error(result)
    assert not (tmp_path / "run" / "bundle").exists()
    assert not (tmp_path / "run" / "state.json").exists()


@pytest.mark.slow
def test_pretraining_on_photographs(made_up, photographs, tmp_path):
    more = ("--pretrain", photographs, "--epochs", "3")
    result = python(*command(made_up, tmp_path, *more))
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


def test_photos_are_no_face_crops_and_face_crops_no_photos(made_up, photographs, tmp_path, capsys, monkeypatch):
    refused(capsys, command(photographs, tmp_path / "a"), "--pretrain")
    refused(capsys, command(made_up, tmp_path / "b", "--pretrain", made_up), "--dataset")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


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


@pytest.mark.parametrize("what", ["state-003.weights.h5", "state.json", "config.json"])
def test_a_broken_checkpoint_is_told(made_up, tmp_path, what, capsys):
    out = tmp_path / "run"
    out.mkdir()
    config, _ = configs.parse([str(a) for a in command(made_up, out)[1:]])
    config.save(out)
    row = {"phase": "all", "epoch": 3, "loss": 1.0}
    state = {"history": [row] * 3, "best": None, "phase": 0, "checkpoint": "state-003.weights.h5"}
    (out / "state.json").write_text(json.dumps(state))
    (out / what).write_text("{broken")
    refused(capsys, ["", "--network", "compact", "--out", out, "--resume"], what, "--out")
    assert not (out / "bundle").exists()
