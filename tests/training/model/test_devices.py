"""Several devices, XLA, and what a run says about its duration."""

from __future__ import annotations

import csv

import pytest

from tests.support.app import python
from tests.support.training import command
from training.fitting import progress


@pytest.mark.slow
def test_several_devices_give_the_losses_of_one(made_up, tmp_path):
    pytest.importorskip("jax")

    def run(name: str, devices: int, *more):
        words = ["-m", "tests.tiny", *command(made_up, tmp_path / name, *more)[1:]]
        env = {"KERAS_BACKEND": "jax", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        result = python(*words, env=env)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def losses(name: str) -> list[float]:
        with open(tmp_path / name / "log.csv", newline="") as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]

    run("one", 1, "--epochs", "1")
    assert "Using 8 devices" in run("some", 8, "--epochs", "1")
    assert losses("some") == pytest.approx(losses("one")[:1], rel=2e-2)


@pytest.mark.slow
def test_xla_compiles_the_whole_step(made_up, tmp_path):
    program = (
        "import sys; from training.model import devices; devices.compiled = lambda: True; "
        "from tests.tiny import make_tiny; make_tiny(); from training import train; sys.exit(train.main(sys.argv[1:]))"
    )
    result = python("-c", program, *command(made_up, tmp_path / "run", "--epochs", "1")[1:])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 seconds"), (600, "10 minutes"), (9000, "2.5 hours")])
def test_durations_are_words(seconds, text):
    assert progress.duration(seconds) == text


def test_progress_prints_duration_and_position(monkeypatch, capsys):
    clock = iter(range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))  # a second a step
    told = progress.Progress("full size", steps=100, epochs=2, bar=False)
    for epoch in range(2):
        told.on_epoch_begin(epoch)
        for step in range(100):
            told.on_train_batch_end(step)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Stage 'full size': 1000 ms per step, about 3 minutes.")
    assert "compact" in lines[0]  # no GPU here
    assert lines[1].startswith("  epoch 1 of 2, step 84 of 100: about 2 minutes left")
    assert lines[-1].startswith("  epoch 2 of 2, step 45 of 100: about 55 seconds left") and len(lines) == 3
