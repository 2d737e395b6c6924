"""Calibrated uncertainty: an interval for the age and a probability for the gender, from a bundle's tables.

The tables are fitted by `training/evaluation/calibrate.py` on validation faces. Knows nothing of networks or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .face import AGES

LEAST = 1e-12  # minimum probability of an age: a distribution in float32 or int8 has zeros


@dataclass(frozen=True)
class Calibration:
    """The tables of one bundle."""

    level: float  # share of the weighted distribution inside an interval, 0 to 1
    at: np.ndarray  # float64 [K], ages in years between which the next two tables are interpolated
    age_temperature: np.ndarray  # float64 [K], by predicted age, divides the logarithm of the distribution
    log_weight: np.ndarray  # float64 [K], by age, is added to it then
    temperature: float  # divides the gender's logit

    @classmethod
    def from_dict(cls, values: dict) -> Calibration:
        """The calibration of a bundle's card, which `hub.card.read_card` has checked."""
        age = values["age"]
        at, temperature, weight = (np.asarray(age[key], np.float64) for key in ("at", "temperature", "log_weight"))
        return cls(float(age["level"]), at, temperature, weight, float(values["gender"]["temperature"]))

    def age_probs(self, age: np.ndarray, age_probs: np.ndarray | None, wider: np.ndarray | float = 1.0) -> np.ndarray:
        """How likely each age is, float64 [N, 102], for predicted ages [N] and their distributions [N, 102] or None.

        The network's distribution, flattened by a temperature (Guo et al. 2017, arXiv 1706.04599).
        `wider`: by what factor errors are larger than on the faces of the tables, [N] or for all.
        """
        temperature = np.interp(age, self.at, self.age_temperature) * np.square(wider)
        logs = log_probs(age, age_probs) / temperature[:, None]
        values = np.exp(logs - logs.max(axis=1, keepdims=True))
        return values / values.sum(axis=1, keepdims=True)

    def weighted(self, age_probs: np.ndarray) -> np.ndarray:
        """Distributions of `age_probs` [N, 102] as intervals need them, where rare ages count as much as common ones.

        Their most likely age band is correct less often: for 55.0% of FairFace's validation faces instead of 57.3%
        (compact, `tests/tools/age_band_scores.py`).
        """
        values = age_probs * np.exp(np.interp(np.arange(AGES), self.at, self.log_weight))
        return values / values.sum(axis=1, keepdims=True)

    def interval(self, age: np.ndarray, weighted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, float64 [N], for predicted ages [N] and their weighted distributions [N, 102].

        Whole years: equal parts of the distribution lie below and above. The prediction is always in the interval.
        """
        below = np.cumsum(weighted, axis=1)
        tail = (1 - self.level) / 2
        low, high = ((below[:, :-1] < part).sum(axis=1) for part in (tail, 1 - tail))
        return np.minimum(low, age), np.maximum(high, age)

    def p_female(self, p: np.ndarray) -> np.ndarray:
        """The network's probabilities [N], calibrated by temperature (Guo et al. 2017, arXiv 1706.04599)."""
        return 1 / (1 + np.exp(-logit(p) / self.temperature))


def log_probs(age: np.ndarray, age_probs: np.ndarray | None) -> np.ndarray:
    """The logarithm of each age's probability, float64 [N, 102].

    Without a distribution: of a normal one with a standard deviation of one year, not normalized.
    """
    if age_probs is None:
        return -0.5 * (np.arange(AGES) - np.asarray(age, np.float64)[:, None]) ** 2
    return np.log(np.maximum(np.asarray(age_probs, np.float64), LEAST))


def logit(p: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), float64, finite for 0 and 1 too."""
    p = np.clip(np.asarray(p, np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)
