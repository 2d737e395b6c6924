"""Several devices, and what is computed on a GPU."""

from __future__ import annotations

import csv

import pytest

from tests.support.app import python
from tests.support.training import command
from training.model import devices


@pytest.mark.slow
def test_several_devices_give_the_losses_of_one(made_up, tmp_path):
    pytest.importorskip("jax")

    def run(name: str, count: int, *more):
        words = ["-m", "tests.tiny", *command(made_up, tmp_path / name, *more)[1:]]
        flags = f"--xla_force_host_platform_device_count={count} --xla_backend_optimization_level=0"  # compiles faster
        env = {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
        result = python(*words, env=env)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def losses(name: str) -> list[float]:
        with open(tmp_path / name / "log.csv", newline="") as file:
            return [float(row["loss"]) for row in csv.DictReader(file)]

    run("one", 1, "--epochs", "1")
    assert "Using 8 devices" in run("some", 8, "--epochs", "1")
    assert losses("some") == pytest.approx(losses("one")[:1], rel=2e-2)


@pytest.mark.parametrize(
    ("backend", "gpus", "is_compiled", "auto"),
    [
        ("tensorflow", 0, False, "float32"),
        ("tensorflow", 1, True, "mixed_bfloat16"),
        ("torch", 0, False, "float32"),
        ("jax", 0, True, "float32"),
    ],
)
def test_what_a_backend_does_with_and_without_a_gpu(monkeypatch, backend, gpus, is_compiled, auto):
    import tensorflow as tf

    monkeypatch.setattr(devices.keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(devices, "_gpus", lambda: gpus)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * gpus)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: {"compute_capability": (8, 0)})
    assert devices.compiled() is is_compiled and devices.on_gpu() is (gpus > 0)
    assert devices.precision("auto") == auto
    assert devices.precision("mixed_float16") == "mixed_float16"


@pytest.mark.parametrize(
    ("details", "policy"),
    [
        ({"compute_capability": (7, 5)}, "mixed_float16"),
        ({"compute_capability": (9, 0)}, "mixed_bfloat16"),
        ({}, "mixed_float16"),
    ],
)
def test_older_gpus_get_float16(monkeypatch, details, policy):
    import tensorflow as tf

    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setattr(devices, "_gpus", lambda: 1)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert devices.precision("auto") == policy


def test_gpus_are_counted_and_unused_ones_named(monkeypatch, capsys):
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "tensorflow")
    for names, said in ((["cpu:0"], ""), (["cpu:0", "gpu:0"], ""), (["gpu:0", "gpu:1", "cpu:0"], "Using 1 of 2 GPUs")):
        monkeypatch.setattr(devices.keras.distribution, "list_devices", lambda names=names: names)
        assert devices._gpus() == len(names) - 1
        devices.set_up()
        assert capsys.readouterr().out.startswith(said)
        assert bool(said) or not capsys.readouterr().out
    assert devices.count() == 1


@pytest.mark.parametrize(("names", "used"), [(["gpu:0"], []), (["gpu:0", "gpu:1"], [{"auto_shard_dataset": False}])])
def test_several_gpus_are_used_and_one_needs_no_distribution(monkeypatch, names, used):
    chosen, distribution = [], devices.keras.distribution
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(distribution, "set_distribution", chosen.append)
    monkeypatch.setattr(distribution, "DataParallel", lambda **options: options)
    monkeypatch.setattr(distribution, "list_devices", lambda: names)
    devices.set_up()
    assert chosen == used
