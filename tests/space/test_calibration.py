"""Intervals and probabilities: promised coverage on faces that were not fitted, in every group of ages."""

from __future__ import annotations

import numpy as np
import pytest

from space.calibration import Calibration, age_std, logit
from training.evaluation import calibrate


def made_up(count: int, seed: int, temperature: float = 2.0):
    """Faces whose error grows with age and whose gender logits are too large by `temperature`."""
    generator = np.random.default_rng(seed)
    age = generator.integers(1, 90, count)
    sigma = 1 + age / 12
    predicted = age + generator.normal(0, sigma)
    years = np.arange(102)
    probs = np.exp(-0.5 * ((years - predicted[:, None]) / sigma[:, None]) ** 2)
    probs /= probs.sum(1, keepdims=True)
    z = generator.normal(0, 2, count)
    female = generator.uniform(size=count) < 1 / (1 + np.exp(-z))
    outputs = {"age": predicted, "p_female": 1 / (1 + np.exp(-z * temperature)), "age_probs": probs}
    return outputs, age, female


@pytest.mark.parametrize("distribution", [True, False])
def test_intervals_hold_what_they_promise_everywhere(distribution):
    outputs, age, female = made_up(4000, 0)
    fresh, fresh_age, _ = made_up(20000, 1)
    if not distribution:
        del outputs["age_probs"], fresh["age_probs"]
    tables = calibrate.fit(outputs, age, female)
    answers = calibrate.apply(tables, fresh)
    inside = (answers["age_low"] <= fresh_age) & (fresh_age <= answers["age_high"])
    assert 0.78 < inside.mean() < 0.82
    assert 0.7 < tables["age"]["level"] <= 0.82
    for low, high in ((5, 20), (20, 40), (40, 60), (60, 85)):
        assert inside[(fresh_age >= low) & (fresh_age < high)].mean() > 0.72
    width = answers["age_high"] - answers["age_low"]
    assert width[fresh_age > 70].mean() > 2 * width[fresh_age < 15].mean()  # adapts


def test_temperature_makes_probabilities_honest():
    outputs, age, female = made_up(4000, 0)
    tables = calibrate.fit(outputs, age, female)
    assert tables["gender"]["temperature"] == pytest.approx(2.0, rel=0.1)
    fresh, _, fresh_female = made_up(20000, 1)
    answers = calibrate.apply(tables, fresh)
    before = calibrate.expected_calibration_error(fresh["p_female"], fresh_female)
    after = calibrate.expected_calibration_error(answers["p_female"], fresh_female)
    assert after < 0.02 < before
    assert ((answers["p_female"] >= 0.5) == (fresh["p_female"] >= 0.5)).all()  # no answer changes


def test_the_calibration_error_by_hand():
    p, female = np.array([0.9, 0.9, 0.9, 0.2]), np.array([True, True, False, False])
    # Three at 0.9 of which two are right, one at 0.8 that is right.
    assert calibrate.expected_calibration_error(p, female) == pytest.approx((abs(2 - 2.7) + abs(1 - 0.8)) / 4)


def test_extreme_and_broken_tables():
    assert Calibration.from_dict(None) is None
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert age_std(np.array([3.0]), np.eye(102)[[3]]) == pytest.approx([1.0])
    tables = {"age": {"coverage": 0.8, "from": [0, 50], "low": [-2, -4], "high": [2]}, "gender": {"temperature": 1}}
    with pytest.raises(ValueError, match="fit together"):
        Calibration.from_dict(tables)
    tables["age"]["high"] = [2, 9]
    low, high = Calibration.from_dict(tables).interval(np.array([0.5, 30.0, 45.0, 99.0, 300.0]), None)
    # From 50 on, predictions may be 9 years too young and 4 too old: 45 may be 43 to 47, or 50 to 54.
    np.testing.assert_allclose(low, [0, 28, 43, 95, 300])
    np.testing.assert_allclose(high, [2, 32, 54, 108, 300])


def test_few_faces_give_wide_tables_not_errors():
    outputs, age, female = made_up(5, 0)
    tables = Calibration.from_dict(calibrate.fit(outputs, age, female))
    assert (tables.low < tables.high).all() and len(set(tables.low)) == 1  # too few for bands of their own
