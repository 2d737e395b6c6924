"""Optimizers: rates by layer, weight decay and averaged weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training.fitting.optimizers import build_optimizer


def network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, name="deep_1", bias_initializer="ones"),
            keras.layers.BatchNormalization(name="deep_norm"),
            keras.layers.Dense(1, name="top", bias_initializer="ones"),
        ]
    )


def steps(model, optimizer, gradient: float, count: int = 1) -> dict[str, np.ndarray]:
    """What is left of each variable after steps with the same gradient, as a share, and the step."""
    optimizer.build(model.trainable_variables)
    before = [np.asarray(variable.numpy()) for variable in model.trainable_variables]
    for _ in range(count):
        optimizer.apply([np.full(v.shape, gradient, "float32") for v in model.trainable_variables])
    after = [np.asarray(variable.numpy()) for variable in model.trainable_variables]
    return {v.path: a - b for v, a, b in zip(model.trainable_variables, after, before, strict=True)}


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_layers_take_steps_of_their_own_size(name):
    rates = {"deep_n": 0.5, "deep": 0.01}
    moved = steps(network(), build_optimizer(name, 0.1, rates=rates), 3.0)
    for path, step in moved.items():
        layer = path.split("/")[-2]
        share = 0.5 if layer == "deep_norm" else 0.01 if layer == "deep_1" else 1.0
        np.testing.assert_allclose(step, -0.1 * share, rtol=1e-4, err_msg=path)


@pytest.mark.parametrize("rates", [None, {"deep": 0.5}])
def test_weight_decay_shrinks_kernels_alone_by_the_layer_s_rate(rates):
    model = network()
    before = {variable.path: np.asarray(variable.numpy()) for variable in model.trainable_variables}
    moved = steps(model, build_optimizer("adamw", 0.1, weight_decay=0.2, rates=rates), 0.0)
    for path, step in moved.items():
        layer, kind = path.split("/")[-2:]
        share = rates["deep"] if rates and layer.startswith("deep") else 1.0
        lost = 0.1 * 0.2 * share if kind == "kernel" else 0.0
        np.testing.assert_allclose(step, -lost * before[path], rtol=1e-4, atol=1e-7, err_msg=path)


def test_weight_decay_is_off_by_default_and_in_adam():
    for optimizer in (build_optimizer("adamw", 0.1), build_optimizer("adam", 0.1, weight_decay=0.5)):
        assert all(np.abs(step).max() == 0 for step in steps(network(), optimizer, 0.0).values())


@pytest.mark.parametrize("rates", [None, {"deep": 0.5}])
def test_weights_are_averaged_with_the_momentum_that_is_asked_for(rates):
    model, optimizer = network(), build_optimizer("adam", 0.1, ema=0.75, rates=rates)
    start = [np.asarray(variable.numpy()) for variable in model.trainable_variables]
    steps(model, optimizer, 1.0, count=2)
    values = [np.asarray(variable.numpy()) for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    for first, last, variable in zip(start, values, model.trainable_variables, strict=True):
        middle = (first + last) / 2  # Adam's steps with the same gradient are the same
        expected = 0.75 * middle + 0.25 * last  # the average begins with the first step
        np.testing.assert_allclose(variable.numpy(), expected, atol=1e-4, err_msg=variable.path)
    assert not build_optimizer("adam", 0.1).use_ema
