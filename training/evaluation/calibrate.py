"""Fits the tables of `space/calibration.py` on validation faces, which neither trained the network nor test it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from space.calibration import Calibration, age_std, logit
from training.data.samples import AGE_BANDS

COVERAGE = 0.8  # of the intervals
FOLDS = 5
MIN_FACES = 20  # faces of an age band with a table of its own
BINS = 15  # of the expected calibration error


def fit(
    outputs: dict[str, np.ndarray],
    age: np.ndarray,
    female: np.ndarray,
    *,
    source: np.ndarray | None = None,
    coverage: float = COVERAGE,
) -> dict:
    """Calibrate on N validation faces.

    Ages: label-conditional split conformal prediction (Vovk, Gammerman & Shafer 2005, chapter 4.5) on the error over
    the distribution's spread, each tail on its own, for each band of true ages, so that the young and the old do not
    pay for the many in between. An interval reaches over all ages that their bands accept, which holds more than each
    band was asked for: they are asked for just so much that cross-validation gives `coverage` in all.
    Gender: one temperature, by the likelihood (Guo et al. 2017, arXiv 1706.04599).

    Args:
        outputs: "age" [N] years, "p_female" [N] and, from a distribution head, "age_probs" [N, A].
        age: years [N], as labeled.
        female: bool [N], as labeled.
        source: int [N], the collection of each face; None for one.

    Returns:
        Plain values for the card, as `Calibration.from_dict` reads them.
    """
    source = np.zeros(len(age), int) if source is None else source
    y, z = np.asarray(female, bool), logit(outputs["p_female"])

    def nll(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, np.where(y, -z, z) / np.exp(log_temperature))))

    best = minimize_scalar(nll, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    gender = {"temperature": round(float(np.exp(best.x)), 4)}
    folds = np.array_split(np.random.default_rng(0).permutation(len(age)), min(FOLDS, len(age)))

    def cv_coverage(level: float) -> float:
        """The share of faces inside intervals that were fitted without them, in the source that holds least."""
        inside = np.zeros(len(age), bool)
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(age)), fold) if len(folds) > 1 else fold
            tables = {"age": _tables(_take(outputs, rest), age[rest], level, coverage), "gender": gender}
            answers = apply(tables, _take(outputs, fold))
            inside[fold] = (answers["age_low"] <= age[fold]) & (age[fold] <= answers["age_high"])
        return min(float(np.mean(inside[source == s])) for s in np.unique(source))

    levels = np.arange(coverage - 0.15, coverage + 0.1001, 0.01)
    level = min(levels, key=lambda candidate: abs(cv_coverage(candidate) - coverage))
    return {"faces": len(age), "age": _tables(outputs, age, float(level), coverage), "gender": gender}


def _take(outputs: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[index] for name, values in outputs.items()}


def _tables(outputs: dict[str, np.ndarray], age: np.ndarray, level: float, coverage: float) -> dict:
    predicted = np.asarray(outputs["age"], np.float64)
    errors = (age - predicted) / age_std(predicted, outputs.get("age_probs"))
    bands = [errors[(age >= low) & (age <= high)] for low, high in AGE_BANDS]
    # The fewer faces a band has, the further its share may lie from what it was asked for on others: it is asked for
    # one standard error more, at the cost of the large bands, since `level` keeps the whole at `coverage`.
    tails = []
    for band in bands:
        band = band if len(band) >= MIN_FACES else errors
        tails.append(_tails(band, min(0.99, level + float(np.sqrt(level * (1 - level) / len(band))))))
    return {
        "coverage": coverage,
        "level": round(level, 2),  # that each band was asked for, and one standard error more
        "from": [low for low, _ in AGE_BANDS],  # years, where each band of true ages begins
        "low": [round(low, 4) for low, _ in tails],
        "high": [round(high, 4) for _, high in tails],
    }


def _tails(errors: np.ndarray, level: float) -> tuple[float, float]:
    """The conformal bounds: with one more face than these, at most (1 - level) / 2 fall beyond each on average."""
    ordered, n = np.sort(errors), len(errors)
    rank = min(n, int(np.ceil((n + 1) * (1 + level) / 2)))
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
