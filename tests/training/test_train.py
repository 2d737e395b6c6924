"""The training command: a bundle at the end, exact resume, clear errors, every backend."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from space.hub.bundle import open_bundle
from tests.support import ROOT
from tests.support.app import assert_clear_error, python
from tests.support.training import SHORT, command, refused, run
from tests.tiny import make_narrow, make_tiny
from training import options, parents, train
from training.fitting import checkpoints, loop
from training.model import files

Usage = namedtuple("Usage", "free")


def test_a_run_ends_with_a_valid_bundle(trained):
    bundle = open_bundle(str(trained / "bundle"))
    card = bundle.card
    assert card["network"] == "compact" and card["genders"] == ["male", "female"] and card["ages"] == [0, 101]
    assert {"model.onnx", *files.KERAS_FILES, "predict.py", "figures/ages.png"} <= set(card["files"])
    assert card["provenance"]["epochs_run"] == 6 and "--limit" not in card["provenance"]["command"]
    assert card["calibration"]["age"]["coverage"] == 0.8 and card["metrics"]["interval_coverage"]["value"] > 0.5
    for name in ("curves", "ages"):
        with Image.open(trained / "bundle" / "figures" / f"{name}.png") as figure:
            assert figure.width > 800 and np.asarray(figure.convert("L")).std() > 10
    with open(trained / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and float(rows[0]["val_age_mae"]) > 0
    assert not [p for p in trained.iterdir() if p.name.startswith(".bundle")]  # nothing half made is left
    # A checkpoint of the run tells what it has seen, as the bundle does.
    assert json.loads((trained / "datasets.json").read_text()) == card["provenance"]["datasets"]
    weights = next(trained.glob("best-*.weights.h5"))
    assert parents.read_model(str(weights)).record["datasets"] == parents.lineage(card)["datasets"]


def test_training_learns(trained):
    metrics = open_bundle(str(trained / "bundle")).card["metrics"]
    assert metrics["age_mae"]["value"] < 0.7 * metrics["baseline"]["age_mae"]
    assert metrics["gender_accuracy"]["value"] > 0.8 > metrics["baseline"]["gender_accuracy"] + 0.1


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


def test_two_trainings_do_not_write_to_one_folder(made_up, tmp_path, capsys):
    with FileLock(tmp_path / ".run.lock"):  # as a training holds it while it runs
        refused(capsys, command(made_up, tmp_path / "run"), "Another training run is writing to", "--out")
    assert not (tmp_path / "run").exists()


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


def test_a_disk_without_room_for_a_checkpoint_ends_the_run_before_anything_is_written(
    made_up, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: Usage(free=1_000_000))
    words = command(made_up, tmp_path / "run", "--epochs", "1")
    refused(capsys, words, "1 MB of free space", "--resume")
    assert not list((tmp_path / "run").glob("*.h5"))
    monkeypatch.undo()
    make_tiny(monkeypatch.setattr)
    monkeypatch.setattr("training.bundle.build.build_bundle", lambda *_, **__: tmp_path)
    assert run([*words, "--resume"]) == 0 and (tmp_path / "run" / "state.json").exists()


THREE_STAGES = """
network = "compact"
train = ["replaced"]
batch_size = 16

[[stages]]
name = "small faces"
epochs = 1
learning_rate = 1e-3
size = 128
others = inf

[[stages]]
name = "full size"
epochs = 2
learning_rate = 1e-3

[[stages]]
name = "branches"
epochs = 1
learning_rate = 1e-4
branches = [{ augment = "mild" }, { augment = "medium", balance = true }]
"""
RAN = [("small faces", 1, 1), ("full size", 1, 1), ("full size", 2, 1), ("branches", 1, 1), ("branches", 1, 2)]
TWO_STAGES, FIRST = THREE_STAGES[: THREE_STAGES.rindex("[[stages]]")], RAN[:3]


@pytest.mark.slow
def test_stages_branches_and_two_datasets_and_a_card_of_what_ran(tiny, made_up, photographs, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(THREE_STAGES)
    words = ["--recipe", tmp_path / "mine.toml", "--dataset", made_up, photographs, "--limit", 48]
    assert run(*words, "--out", tmp_path / "run") == 0
    with open(tmp_path / "run" / "log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert [(row["name"], int(row["epoch"]), int(row["branch"])) for row in log] == RAN
    assert "mean of the weights of" in capsys.readouterr().out
    bundle = open_bundle(str(tmp_path / "run" / "bundle"))
    provenance, metrics = bundle.card["provenance"], bundle.card["metrics"]
    # The card's stages are those of the log, and nothing else.
    text = (bundle.folder / "README.md").read_text()
    for stage in provenance["stages"]:
        rows = [row for row in log if (int(row["stage"]), int(row["branch"])) == (stage["stage"], stage["branch"])]
        assert len(rows) == stage["epochs"] and rows[0]["name"] == stage["name"]
        assert f'{stage["epochs"]} epoch{"s" * (stage["epochs"] > 1)} of "{stage["name"]}"' in text
    assert sum(stage["epochs"] for stage in provenance["stages"]) == len(log) == provenance["epochs_run"]
    assert "recipe.toml" in bundle.card["files"] and str(tmp_path) not in (bundle.folder / "recipe.toml").read_text()
    assert [d["collection"] for d in provenance["datasets"]] == ["UTKFace", "FairFace"]
    assert provenance["datasets"][1]["faces"]["train"]["n"] > 20
    (photos,) = metrics["others"]
    assert metrics["collection"] == "UTKFace" and photos["collection"] == "FairFace" and photos["n"] > 0
    assert "frontal" in photos["by"]["view"] and "### FairFace" in text and "### UTKFace" in text
    assert bundle.card["license"]["id"] == "other" and "non-commercial" in text
    assert (tmp_path / "run" / "worst.png").exists() and "figures/worst.png" not in bundle.card["files"]
    groups = (bundle.folder / "groups.csv").read_text().splitlines()
    assert groups[0].startswith("race,gender,age_band,n,age_mae,") and groups[1].startswith("all,all,all,48,")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "recipe", "kills", "ran"),
    [("tensorflow", THREE_STAGES, (1, 4), RAN), ("jax", TWO_STAGES, (2,), FIRST)],
    ids=["tensorflow", "jax"],
)
def test_a_run_killed_in_different_stages_resumes(made_up, tmp_path, backend, recipe, kills, ran):
    """That it then learns the same is tested with `loop.fit`."""
    pytest.importorskip(backend)
    (tmp_path / "mine.toml").write_text(recipe)
    words = ["-m", "tests.tiny", *command(made_up, tmp_path / "run")[1:]]
    words[words.index(SHORT)] = tmp_path / "mine.toml"
    # XLA compiles each stage in half of the time if it optimizes nothing.
    flags = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    env = os.environ | {"TQDM_DISABLE": "1"} | flags
    out = tmp_path / "run"
    state = out / "state.json"

    def done():
        return len(json.loads(state.read_text())["history"]) if state.exists() else 0

    for epochs in kills:
        process = subprocess.Popen(
            [sys.executable, *map(str, words), *(["--resume"] if done() else [])],
            cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda epochs=epochs: done() >= epochs, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "bundle").exists()
    last = python(*words, "--resume", env=flags)
    assert last.returncode == 0, last.stderr
    rows = json.loads(state.read_text())["history"]
    assert [(row["name"], row["epoch"], row["branch"]) for row in rows] == ran  # each epoch once
    assert (out / "bundle" / "model.onnx").exists()


def test_a_complete_run_writes_its_bundle_again(tiny, trained, tmp_path, capsys):
    out = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(out / "bundle")
    (out / ".bundle-killed").mkdir()  # what a kill left of an older one
    assert run("--out", out, "--resume") == 0
    printed = capsys.readouterr().out
    assert "Training is complete: only the bundle is written again." in printed and "Epoch" not in printed
    assert not list(out.glob(".bundle*")) and open_bundle(str(out / "bundle")).card["provenance"]["epochs_run"] == 6


@pytest.mark.slow
def test_a_network_learns_from_photos_alone_and_is_tested_on_others(tiny, made_up, photographs, tmp_path):
    words = ["--recipe", SHORT, "--dataset", photographs, "--test-dataset", made_up, "--epochs", 1]
    assert run(*words, "--out", tmp_path / "run") == 0
    bundle = open_bundle(str(tmp_path / "run" / "bundle"))
    assert not bundle.card["metrics"]["learned"] and bundle.card["metrics"]["others"][0]["learned"]
    assert bundle.card["license"]["id"] == "cc-by-4.0" and "example.jpg" in bundle.card["files"]
    text = (bundle.folder / "README.md").read_text()
    assert "never learned from" in text and "non-commercial" not in text and "license: cc-by-4.0" in text
    # What starts from it and sees UTKFace has UTKFace's license.
    words = ["--recipe", SHORT, "--init", bundle.folder, "--dataset", made_up, "--epochs", 1]
    assert run(*words, "--out", tmp_path / "later") == 0
    card = open_bundle(str(tmp_path / "later" / "bundle")).card
    assert card["license"]["name"] == "utkface-non-commercial-research"
    (parent,) = card["provenance"]["parents"]
    assert parent["datasets"][0]["collection"] == "FairFace" and parent["sha256"]


@pytest.mark.slow
def test_vgg16_trains_from_a_base_file_at_both_sizes(made_up, tmp_path, monkeypatch):
    import keras

    make_narrow(monkeypatch.setattr)
    base = keras.applications.VGG16(include_top=False, weights=None)
    base.save_weights(tmp_path / "base.weights.h5")
    result = run(
        "--recipe", "vgg16", "--dataset", made_up, "--limit", 8, "--batch-size", 4, "--epochs", 1,
        "--init", tmp_path / "base.weights.h5", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result == 0
    history = json.loads((tmp_path / "run" / "state.json").read_text())["history"]
    assert [row["name"] for row in history] == ["heads", "small faces", "full size"]
    trained = files.load_keras(tmp_path / "run" / "bundle")
    for name in ("block1_conv1", "block5_conv3"):
        before, after = (model.get_layer(name).get_weights()[0] for model in (base, trained))
        assert 0 < np.abs(before - after).max() < 0.05


def test_fine_tuning_that_is_no_better_leaves_the_model_as_it_was(tiny, trained, made_up, tmp_path, capsys):
    """A learning rate that ruins the network, on few faces: weights and calibration stay those of the initial model."""
    faces, out = shutil.copytree(made_up, tmp_path / "faces"), tmp_path / "run"
    recipe = tmp_path / "ruin.toml"
    recipe.write_text(SHORT.read_text().replace("1.5e-3", "10.0").replace("epochs = 6", "epochs = 1"))
    words = ["", "--recipe", recipe, "--dataset", faces, "--init", trained / "bundle", "--out", out]
    assert run(words) == 0
    printed = capsys.readouterr().out
    before, after = (open_bundle(str(folder / "bundle")).card for folder in (trained, out))
    kept = trained / "bundle"
    assert f"the calibration of {kept} is kept" in printed and after["calibration"] == before["calibration"]
    assert after["provenance"]["calibrated_by"] == "bundle" and after["provenance"]["weights"]["initial"]
    assert after["metrics"]["doubt"] is None is before["provenance"]["calibrated_by"]
    assert before["provenance"]["weights"] == {"initial": False, "mean_of": []}
    assert "Initial weights: age MAE" in printed and "the initial weights are kept" in printed
    assert "warning: only 387 training faces" in printed
    weights = [files.load_keras(folder / "bundle").get_weights() for folder in (trained, out)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    # Resumed, it takes no other faces.
    again = ["", "--out", out, "--resume"]
    next(faces.glob("*.jpg")).unlink()
    bundle = (out / "bundle" / "age_gender.json").read_bytes()
    refused(capsys, again, "training or validation faces have changed", "another --out")
    assert (out / "bundle" / "age_gender.json").read_bytes() == bundle


@pytest.mark.parametrize(("begun", "advice"), [(False, "run the same command again"), (True, "add --resume")])
def test_a_stopped_run_says_how_to_continue(made_up, tmp_path, monkeypatch, capsys, begun, advice):
    out = tmp_path / "run"

    def stop(*_):
        if begun:
            out.mkdir()
            (out / "state.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", stop)
    assert train.main(list(map(str, command(made_up, out)[1:]))) == 130
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize("what", ["state-003.weights.h5", "state.json", "recipe.toml"])
def test_a_broken_checkpoint_is_told(made_up, tmp_path, what, capsys, monkeypatch):
    out = tmp_path / "run"
    out.mkdir()
    recipe, _ = options.parse([str(a) for a in command(made_up, out)[1:]])
    recipe.save(out)
    row = {"stage": 1, "branch": 1, "name": "all", "epoch": 3, "loss": 1.0}
    monkeypatch.setattr(loop, "label_hash", lambda _: "same")
    state = {"history": [row] * 3, "checkpoint": "state-003.weights.h5", "best": None, "start": None, "done": []}
    state["faces"] = ["same", "same"]
    (out / "state.json").write_text(json.dumps(state))
    (out / what).write_text("{broken")
    refused(capsys, ["", "--out", out, "--resume"], what)
    assert not (out / "bundle").exists()
