"""Fits the tables of `space/calibration.py` on validation faces, which neither trained the network nor test it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from space.calibration import Calibration, log_probs, logit
from space.face import AGES
from training.data.samples import age_band

COVERAGE = 0.8  # that intervals are expected to have
# More is asked for on the network's own datasets, because other collections are harder: `open`, which learned from
# FairFace alone, then holds 80.0% of UTKFace's validation faces.
MARGIN = 0.05
NODES = (0, 5, 12, 20, 30, 40, 50, 60, 70, 85)  # years, where the tables of ages have a value each
FEW = 50  # faces; smaller age bands count less
FOLDS = 5  # of the cross-validation by which the size of the intervals is chosen
SPREAD = 0.5  # standard deviation of the prior of a node's log temperature
GENDER_SPREAD = (
    0.25  # of the prior of gender's, around 0: keeps a few correct answers from making every probability extreme
)
BINS = 15  # of the expected calibration error


def fit(
    outputs: dict[str, np.ndarray],
    age_range: np.ndarray,
    female: np.ndarray,
    *,
    source: np.ndarray | None = None,
    margin: float = MARGIN,
) -> dict:
    """Calibrate on N validation faces.

    Ages: a temperature by predicted age and a weight by age (temperature and vector scaling, Guo et al. 2017, arXiv
    1706.04599, smooth in the age), by the likelihood of the labels. Age bands count the same, so that the young and the
    old don't pay for the many in between. Then the intervals are chosen so large that, in cross-validation, they hold
    COVERAGE + `margin` in the source where they hold least.
    Gender: one temperature, by penalized likelihood. Temperatures by estimated age were not better.

    Args:
        outputs: "age" [N] years, "p_female" [N] and, from a distribution head, "age_probs" [N, 102].
        age_range: years [N, 2], as labeled: first and last age.
        female: bool [N], as labeled.
        source: int [N], the collection of each face; None for one.

    Returns:
        Plain values for the card, as `Calibration.from_dict` reads them.
    """
    source = np.zeros(len(age_range), int) if source is None else source
    y, z = np.asarray(female, bool), logit(outputs["p_female"])

    def loss(log_temperature: float) -> float:
        likelihood = np.logaddexp(0, np.where(y, -z, z) / np.exp(log_temperature)).sum()
        return float(likelihood + (log_temperature / GENDER_SPREAD) ** 2 / 2)

    best = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    tables: dict = {"faces": len(y), "age": {}, "gender": {"temperature": round(float(np.exp(best.x)), 4)}}

    def fitted(on: np.ndarray) -> dict:
        faces = {name: values[on] for name, values in outputs.items()}
        temperature, log_weight = _distribution(faces["age"].astype(np.float64), faces.get("age_probs"), age_range[on])
        return {
            "coverage": COVERAGE,
            "level": 0.5,
            "at": list(NODES),
            "temperature": [round(float(value), 4) for value in temperature],
            "log_weight": [round(float(value), 4) for value in log_weight],
        }

    every = np.arange(len(y))
    probs = np.empty((len(y), AGES))
    for fold in np.array_split(np.random.default_rng(0).permutation(every), min(FOLDS, len(y))):
        part = {name: values[fold] for name, values in outputs.items()}
        rest = np.setdiff1d(every, fold) if len(fold) < len(y) else every
        probs[fold] = apply(tables | {"age": fitted(rest)}, part)["weighted_probs"]
    age = outputs["age"].astype(np.float64)
    tables["age"] = fitted(every)
    for level in np.arange(0.5, 0.996, 0.005):
        tables["age"]["level"] = round(float(level), 3)
        calibration = Calibration.from_dict(tables)
        assert calibration is not None
        inside = covered(age_range, *calibration.interval(age, probs), probs)
        if min(inside[source == s].mean() for s in np.unique(source)) >= COVERAGE + margin:
            break
    return tables


def _distribution(
    age: np.ndarray, age_probs: np.ndarray | None, age_range: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The temperature at each of `NODES`, and the logarithm of the weight: penalized maximum likelihood."""
    logs, labeled = log_probs(age, age_probs), in_range(age_range)
    by_prediction, by_age = hats(age), hats(np.arange(AGES))
    band = age_band(age_range[:, 0])
    share = 1 / np.maximum(np.bincount(band), FEW)[band]
    share /= share.sum()
    start = np.log(_common_temperature(logs, labeled, share))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        nodes, weights = np.split(parameters, 2)
        temperature = by_prediction @ np.exp(nodes)
        probs, found, log_likelihood = _likelihood(logs / temperature[:, None] + weights @ by_age.T, labeled)
        # The likelihood's gradient by each log probability before they are normalized.
        slope = share[:, None] * (found - probs)
        by_temperature = -(slope * logs).sum(axis=1) / temperature**2
        # Normal priors: of SPREAD for how far nodes are from the common temperature, of 1 for weights.
        penalty = (np.square((nodes - start) / SPREAD).sum() + np.square(weights).sum()) / (2 * len(age))
        gradient = np.concatenate([(by_temperature @ by_prediction) * np.exp(nodes), slope.sum(axis=0) @ by_age])
        prior = np.concatenate([(nodes - start) / SPREAD**2, weights]) / len(age)
        return penalty - float(share @ log_likelihood), prior - gradient

    first = np.concatenate([np.full(len(NODES), start), np.zeros(len(NODES))])
    nodes, weights = np.split(minimize(loss, first, jac=True, method="L-BFGS-B").x, 2)
    return np.exp(nodes), weights


def _common_temperature(logs: np.ndarray, labeled: np.ndarray, share: np.ndarray) -> float:
    def loss(log_temperature: float) -> float:
        return -float(share @ _likelihood(logs / np.exp(log_temperature), labeled)[2])

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.1), np.log(1000.0)), method="bounded").x))


def _likelihood(values: np.ndarray, labeled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distributions of log probabilities that aren't normalized [N, 102], the same given the label, and its log
    likelihood [N]."""
    probs = np.exp(values - values.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    found = np.maximum(probs, 1e-30) * labeled
    total = found.sum(axis=1, keepdims=True)
    return probs, found / total, np.log(total[:, 0])


def hats(age: np.ndarray) -> np.ndarray:
    """The share of each of `NODES` in a value that is interpolated at these ages: float64 [N, K]."""
    return np.stack([np.interp(age, NODES, row) for row in np.eye(len(NODES))], axis=1)


def in_range(age_range: np.ndarray) -> np.ndarray:
    """Which whole years a label stands for: bool [N, 102]; the oldest stands for all above."""
    years, labels = np.arange(AGES), np.floor(np.clip(age_range, 0, AGES - 1))
    return (labels[:, :1] <= years) & (years <= labels[:, 1:])


def covered(age_range: np.ndarray, low: np.ndarray, high: np.ndarray, age_probs: np.ndarray) -> np.ndarray:
    """How likely the true age lies in the interval: float64 [N], 0 or 1 where the age is known.

    Within a band that is the label, ages are as likely as in the weighted distribution. As evenly distributed ones,
    they would seem to lie outside more often than they do: people at the ends of a band look younger or older.
    """
    years = np.arange(AGES)
    inside = (low[:, None] <= years) & (years <= high[:, None])
    found = np.maximum(age_probs, 1e-30) * in_range(age_range)
    return (found * inside).sum(axis=1) / found.sum(axis=1)


def apply(calibration: dict, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs as served: ages of at least 0, "p_female" calibrated, and "age_low", "age_high" and
    "weighted_probs" added."""
    tables = Calibration.from_dict(calibration)
    age = np.maximum(outputs["age"].astype(np.float64), 0)  # a regression head may go below
    probs = tables.weighted(tables.age_probs(age, outputs.get("age_probs")))
    low, high = tables.interval(age, probs)
    p_female = tables.p_female(outputs["p_female"])
    return {**outputs, "age": age, "age_low": low, "age_high": high, "weighted_probs": probs, "p_female": p_female}


def expected_calibration_error(p_female: np.ndarray, female: np.ndarray) -> float:
    """Mean distance between the likelier gender's probability and how often it is right, over BINS equal bins."""
    right = (p_female >= 0.5) == female
    confidence = np.maximum(p_female, 1 - p_female)
    bins = np.clip(((confidence - 0.5) * 2 * BINS).astype(int), 0, BINS - 1)
    gaps = [abs(np.sum(right[bins == b]) - np.sum(confidence[bins == b])) for b in range(BINS)]
    return float(np.sum(gaps) / len(right))
