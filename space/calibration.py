"""How sure an answer is: an interval for the age and an honest probability for the gender, from a bundle's tables.

The tables are fitted by `training/calibrate.py` on validation faces. Knows nothing of networks or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """The tables of one bundle."""

    coverage: float  # share of faces whose age lies in its interval, 0 to 1
    age: np.ndarray  # float64 [K], predicted ages in rising order, years
    low: np.ndarray  # float64 [K], lower bound minus prediction at those ages, in spreads
    high: np.ndarray  # float64 [K], upper bound minus prediction, in spreads
    temperature: float  # divides the gender's logit

    @classmethod
    def from_dict(cls, values: dict | None) -> Calibration | None:
        """The calibration of a bundle's card, None where there is none; KeyError, TypeError, ValueError if broken."""
        if values is None:
            return None
        age, low, high = (np.asarray(values["age"][key], np.float64) for key in ("age", "low", "high"))
        if not (age.ndim == 1 and age.shape == low.shape == high.shape and len(age)):
            raise ValueError("tables of different lengths")
        return cls(float(values["age"]["coverage"]), age, low, high, float(values["gender"]["temperature"]))

    def interval(self, age: np.ndarray, age_probs: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, float64 [N] years, for predicted ages [N] and their distributions [N, A] or None."""
        unit = spread(age, age_probs)
        low = age + unit * np.interp(age, self.age, self.low)
        high = age + unit * np.interp(age, self.age, self.high)
        return np.maximum(low, 0.0), np.maximum(high, 0.0)

    def p_female(self, p: np.ndarray) -> np.ndarray:
        """The network's probabilities [N], calibrated by temperature (Guo et al. 2017, arXiv 1706.04599)."""
        return 1 / (1 + np.exp(-logit(p) / self.temperature))


def spread(age: np.ndarray, age_probs: np.ndarray | None) -> np.ndarray:
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
