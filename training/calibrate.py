"""Fits the tables of `space/calibration.py` on validation faces, which neither trained the network nor test it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from space.calibration import Calibration, logit, spread

COVERAGE = 0.8  # of the intervals
GROUP = 180  # validation faces a group of similar predicted ages has at least
BINS = 15  # of the expected calibration error


def fit(outputs: dict[str, np.ndarray], age: np.ndarray, female: np.ndarray, *, coverage: float = COVERAGE) -> dict:
    """Calibrate on N validation faces.

    Ages: split-conformal quantiles of the error over the distribution's spread (Papadopoulos et al. 2002; Lei et al.
    2018, arXiv 1604.04173), each tail on its own and for groups of similar predicted age, so that children and old
    people get intervals of their own. Gender: one temperature, by the likelihood (Guo et al. 2017, arXiv 1706.04599).

    Args:
        outputs: "age" [N] years, "p_female" [N] and, from a distribution head, "age_probs" [N, A].
        age: years [N], as labelled.
        female: bool [N], as labelled.

    Returns:
        Plain values for the card, as `Calibration.from_dict` reads them.
    """
    predicted = np.asarray(outputs["age"], np.float64)
    errors = (age - predicted) / spread(predicted, outputs.get("age_probs"))
    groups = np.array_split(np.argsort(predicted, kind="stable"), max(1, len(predicted) // GROUP))
    bounds = [_tails(errors[group], coverage) for group in groups]
    y, z = np.asarray(female, bool), logit(outputs["p_female"])

    def surprise(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, np.where(y, -z, z) / np.exp(log_temperature))))

    best = minimize_scalar(surprise, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    return {
        "faces": len(predicted),
        "age": {
            "coverage": coverage,
            "age": [round(float(np.median(predicted[group])), 2) for group in groups],
            "low": [round(low, 4) for low, _ in bounds],
            "high": [round(high, 4) for _, high in bounds],
        },
        "gender": {"temperature": round(float(np.exp(best.x)), 4)},
    }


def _tails(errors: np.ndarray, coverage: float) -> tuple[float, float]:
    """The conformal bounds: with one more face than these, at most (1 - coverage) / 2 fall beyond each on average."""
    ordered, n = np.sort(errors), len(errors)
    rank = min(n, int(np.ceil((n + 1) * (1 + coverage) / 2)))
    return float(ordered[n - rank]), float(ordered[rank - 1])


def apply(calibration: dict | None, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs with "age_low" and "age_high" added and "p_female" calibrated; as they are without calibration."""
    tables = Calibration.from_dict(calibration)
    if tables is None:
        return outputs
    low, high = tables.interval(outputs["age"].astype(np.float64), outputs.get("age_probs"))
    return {**outputs, "age_low": low, "age_high": high, "p_female": tables.p_female(outputs["p_female"])}


def expected_calibration_error(p_female: np.ndarray, female: np.ndarray) -> float:
    """Mean distance between the likelier gender's probability and how often it is right, over BINS equal bins."""
    right = (p_female >= 0.5) == female
    confidence = np.maximum(p_female, 1 - p_female)
    bins = np.clip(((confidence - 0.5) * 2 * BINS).astype(int), 0, BINS - 1)
    gaps = [abs(np.sum(right[bins == b]) - np.sum(confidence[bins == b])) for b in range(BINS)]
    return float(np.sum(gaps) / len(right))
