"""Calibrated uncertainty: an interval for the age and a probability for the gender, from a bundle's tables.

The tables are fitted by `training/evaluation/calibrate.py` on validation faces. Knows nothing of networks or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OLDEST = 116  # years, oldest age that an interval can name


@dataclass(frozen=True)
class Calibration:
    """The tables of one bundle."""

    coverage: float  # share of faces whose age lies in its interval, 0 to 1
    low: np.ndarray  # float64 [OLDEST + 1], for each true age the least error that is usual, in spreads
    high: np.ndarray  # float64 [OLDEST + 1], the largest; an error is true age minus prediction
    temperature: float  # divides the gender's logit

    @classmethod
    def from_dict(cls, values: dict | None) -> Calibration | None:
        """The calibration of a bundle's card, None where there is none; KeyError, TypeError, ValueError if broken."""
        if values is None:
            return None
        age = values["age"]
        start, low, high = (np.asarray(age[key], np.float64) for key in ("from", "low", "high"))
        if start.ndim != 1 or not start.shape == low.shape == high.shape or not len(start) or start[0] != 0:
            raise ValueError("the tables do not fit together")
        band = np.searchsorted(start, np.arange(OLDEST + 1), side="right") - 1
        return cls(float(age["coverage"]), low[band], high[band], float(values["gender"]["temperature"]))

    def interval(
        self, age: np.ndarray, age_probs: np.ndarray | None, wider: np.ndarray | float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, float64 [N] years, for predicted ages [N] and their distributions [N, A] or None.

        `wider`: by what factor errors are larger than on the faces of the tables, [N] or for all.

        An age is in the interval if the error that it implies is usual for faces of that age. The prediction is always
        in the interval.
        """
        years = np.arange(OLDEST + 1)
        error = (years - age[:, None]) / (wider * age_std(age, age_probs))[:, None]
        usual = (self.low <= error) & (error <= self.high)
        some = usual.any(axis=1)
        low = np.where(some, usual.argmax(axis=1), age)
        high = np.where(some, OLDEST - usual[:, ::-1].argmax(axis=1), age)
        return np.minimum(low, age), np.maximum(high, age)

    def p_female(self, p: np.ndarray) -> np.ndarray:
        """The network's probabilities [N], calibrated by temperature (Guo et al. 2017, arXiv 1706.04599)."""
        return 1 / (1 + np.exp(-logit(p) / self.temperature))


def age_std(age: np.ndarray, age_probs: np.ndarray | None) -> np.ndarray:
    """What an interval's width is proportional to, float64 [N] years: how far the predicted distribution reaches.

    A network without a distribution gives 1 for each. A year is put on top (in quadrature): ages are whole numbers.
    """
    if age_probs is None:
        return np.ones(len(age))
    years = np.arange(age_probs.shape[1])
    variance = (age_probs * (years - np.asarray(age, np.float64)[:, None]) ** 2).sum(axis=1)
    return np.sqrt(variance + 1.0)


def logit(p: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), float64, finite for 0 and 1 too."""
    p = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)
