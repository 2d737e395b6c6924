"""Validation figures and the score, on a few faces by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from training.fitting import validation
from training.fitting.validation import describe, validate


def faces(ranges: list[tuple[float, float]], genders: list[int], *, binned: bool) -> SimpleNamespace:
    age = np.array(ranges, float)
    samples = SimpleNamespace(age_range=age, age=age.mean(axis=1), gender=np.array(genders), binned=binned)
    return SimpleNamespace(samples=samples, images=np.zeros((len(genders), 1)))


@pytest.fixture
def answers(monkeypatch):
    """What the network answers, a dict for each dataset; `answers.sizes` are the batches that it was asked in."""
    given, sizes = [], []

    def predict(network, images, batch_size):
        sizes.append(batch_size)
        return given.pop(0)

    monkeypatch.setattr(validation, "predict", predict)
    return SimpleNamespace(given=given, sizes=sizes)


EXACT = faces([(30, 30), (40, 40), (50, 60), (58, 120)], [1, 0, 1, 0], binned=False)
BANDS = faces([(20, 29), (20, 29), (30, 39), (0, 2)], [1, 1, 0, 0], binned=True)
OUTPUTS = {"age": np.array([31.0, 40.0, 47.0, 60.0]), "p_female": np.array([0.5, 0.49, 0.2, 0.1])}  # 1 year, 3 of 4


def test_years_and_gender(answers):
    answers.given.append(OUTPUTS)
    row = validate(None, [EXACT])
    assert row == {"val_age_mae": 1.0, "val_gender_accuracy": 0.75, "val_score": 1.0 + 10 * 0.25}
    assert answers.sizes == [32]
    assert describe(row) == "age MAE 1.00 years, gender 75.0%"


def test_bands_hold_whole_years(answers):
    ages = np.array([19.5, 29.49, 39.5, 2.51])  # 20, 29, 40 and 3 years
    answers.given += [OUTPUTS, {"age": ages, "p_female": np.array([0.9, 0.9, 0.1, 0.1])}]
    row = validate(None, [EXACT, BANDS])
    assert row["val2_band"] == 0.5 and row["val2_gender_accuracy"] == 1.0
    assert row["val_score"] == 1.0 + 10 * 0.25 + 5 * 0.5
    assert describe(row) == "age MAE 1.00 years, gender 75.0%, 50.0% in their age band, gender 100.0%"


def test_a_gpu_takes_large_batches(answers, monkeypatch):
    monkeypatch.setattr(validation.devices, "on_gpu", lambda: True)
    answers.given.append(OUTPUTS)
    validate(None, [EXACT])
    assert answers.sizes == [256]
