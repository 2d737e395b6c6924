"""Losses."""

from __future__ import annotations

import numpy as np
import pytest

from training.model import losses


def test_losses_are_right_on_examples_by_hand():
    probabilities = np.zeros((2, 102), np.float32)
    probabilities[:, 30], probabilities[:, 50] = 0.75, 0.25
    ranges = np.array([[30, 39], [50, 59]], np.float32)
    within = np.asarray(losses.LabelDistribution(reduction=None)(ranges, probabilities))
    np.testing.assert_allclose(within, [-np.log(0.75), -np.log(0.25)], atol=1e-4)
    known = losses.LabelDistribution(reduction=None)
    close, far = np.zeros((2, 1, 102), np.float32)
    close[0, 40], far[0, 80] = 1, 1
    label = np.array([[41, 41]], np.float32)
    assert float(known(label, close)[0]) < float(known(label, far)[0])
    years = np.asarray(
        losses.RangeError(reduction=None)(np.array([[30, 39], [30, 39], [5, 5]]), np.array([41.0, 33.0, 2.0]))
    )
    np.testing.assert_allclose(years, [2, 0, 3])


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


def test_jagged_distributions_cost_more():
    even, jagged = np.zeros((2, 1, 102), np.float32)
    even[:, 30:40], jagged[:, 30:40] = 0.1, [0.15, 0.05] * 5

    def loss(probabilities, smoothness):
        band = np.array([[30.0, 39.0]])
        return float(losses.LabelDistribution(smoothness=smoothness)(band, probabilities + 1e-3))

    assert loss(even, 0.0) == pytest.approx(loss(jagged, 0.0), abs=1e-4)
    assert loss(even, 0.1) < loss(jagged, 0.1)


def test_the_distance_to_a_distribution_and_its_smoothness():
    years = np.arange(102)

    def normal(center: float, sigma: float) -> np.ndarray:
        p = np.exp(-0.5 * ((years - center) / sigma) ** 2)
        return (p / p.sum())[None].astype(np.float32)

    wide, anything = normal(50.5, 20), np.array([[0.0, 101.0]])
    assert float(losses.LabelDistribution()(anything, wide)) == pytest.approx(0, abs=1e-4)
    # The second difference of a normal distribution's logarithm is -1 / sigma².
    assert float(losses.LabelDistribution(smoothness=1e5)(anything, wide)) == pytest.approx(1e5 / 400**2, rel=0.02)
    entropy = 0.5 * np.log(2 * np.pi * np.e * 4)
    assert float(losses.LabelDistribution()(np.array([[41.0, 41.0]]), normal(41, 2))) == pytest.approx(
        entropy, abs=1e-3
    )


def test_the_weights_of_the_losses():
    assert losses.losses("regression", 2.0)[1] == {"age": 1.0, "p_female": 2.0}
    assert losses.losses("distribution", 2.0)[1] == {"age_probs": 1.0, "age": 0.1, "p_female": 2.0}
