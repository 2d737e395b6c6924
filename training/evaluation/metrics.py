"""Figures of one model on one set of faces, with 95% intervals, overall and by group."""

from __future__ import annotations

import csv
import io
import itertools

import numpy as np

from training.data.samples import AGE_BANDS, GENDERS, OLDEST, Samples, age_band, age_error, band_name
from training.evaluation import calibrate

_RESAMPLES = 1000  # of the bootstrap
MINORS = (14, 17)  # years, inclusive: ages that an age check must reject
GATES = (18, 25)  # years; a gate at 25 leaves room for errors ("Challenge 25")
YOUNG_ADULTS = (18, 30)  # years, inclusive
_Z = 1.959964  # 97.5% quantile of the normal distribution


def measure(
    samples: Samples,
    outputs: dict[str, np.ndarray],
    *,
    median_age: float | None = None,
    poses: dict[str, np.ndarray] | None = None,
) -> dict:
    """Every figure of one model on one set of faces.

    Args:
        samples: N labeled faces.
        outputs: "age" float [N] years and "p_female" float [N], in the order of `samples`; with "age_low" and
            "age_high" the intervals are measured too.
        median_age: years; the answer of the constant baseline, from the training split. Not for ages known as ranges.
        poses: more groups, name → bool [N].

    Returns:
        A dict of plain values, for the card: n, age_mae, cs5, gender_accuracy and so on, each a value with the bounds
        of its 95% interval (None for the mean of one face's years); `by` holds the same for each age band, gender and
        race; `age_gates` is what `age_gates` returns. A range such as "70+" has no error inside of it. Where most ages
        are known as ranges, age_band and age_band_or_next (the share whose answer, in whole years, falls into the
        label's range, or into its band or one beside it) stand for the figures of age.
    """
    from sklearn.metrics import roc_auc_score  # imported here: it takes a second that a model card does not need

    female = samples.gender == 1
    values = per_face(samples, outputs)
    right = values["gender_accuracy"]
    recalls = [float(np.mean(right[female == g])) for g in (False, True) if (female == g).any()]
    both = female.any() and (~female).any()
    groups = group_masks(samples) | ({"view": poses} if poses else {})
    commonest: dict = {"gender_accuracy": float(max(np.mean(female), 1 - np.mean(female)))}
    if samples.binned:
        counts = [int(mask.sum()) for mask in groups["age band"].values()]
        commonest |= {
            "age_band": list(groups["age band"])[int(np.argmax(counts))],
            "age_band_share": max(counts) / len(right),
        }
    else:
        constant = range_error(np.full(len(samples), median_age), samples.age_range)
        commonest |= {"median_age": median_age, "age_mae": float(np.mean(constant))}
    gates = {} if samples.binned else {"age_gates": age_gates(samples, outputs["age"])}
    return {
        **_figures(values, np.ones(len(samples), bool)),
        **gates,
        "gender_balanced_accuracy": float(np.mean(recalls)),
        "gender_auc": float(roc_auc_score(female, outputs["p_female"])) if both else None,
        "gender_ece": calibrate.expected_calibration_error(outputs["p_female"], female),
        "baseline": commonest,
        "by": {
            kind: {name: _figures(values, mask) for name, mask in members.items() if mask.any()}
            for kind, members in groups.items()
        },
    }


def age_gates(samples: Samples, age: np.ndarray) -> dict:
    """What reports on age estimation print, after NIST's Face Analysis Technology Evaluation (NIST IR 8525).

    A person whose label is a range counts only if the whole range lies within these ages.

    Returns:
        "mae_18_30": years, the mean of both genders' errors from 18 to 30; "n": people of 14 to 17 years; "over_18" and
        "over_25": the share of these people whose estimated age is at least 18 or 25; "by": the same for each gender
        and race.
    """
    first, last = samples.age_range.T
    young = (first >= YOUNG_ADULTS[0]) & (last <= YOUNG_ADULTS[1])
    errors = [range_error(age, samples.age_range)[young & (samples.gender == g)] for g in (0, 1)]
    minors = (first >= MINORS[0]) & (last < MINORS[1] + 1)
    groups = {kind: found for kind, found in group_masks(samples).items() if kind != "age band"}

    def shares(mask: np.ndarray) -> dict:
        return {"n": int(mask.sum())} | {f"over_{gate}": _share(age[mask] >= gate) for gate in GATES}

    return {
        "mae_18_30": float(np.mean([e.mean() for e in errors])) if all(map(len, errors)) else None,
        **(shares(minors) if minors.any() else {"n": 0}),
        "by": {
            kind: {name: shares(minors & mask) for name, mask in members.items() if (minors & mask).any()}
            for kind, members in groups.items()
        },
    }


def per_face(samples: Samples, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the figures are means of, each [N]."""
    age = outputs["age"].astype(np.float64)
    values: dict[str, np.ndarray] = {}
    if samples.binned:
        years = np.floor(np.maximum(age, 0) + 0.5)
        answered, first, last = age_band(years), *age_band(samples.age_range.T)
        exact = samples.age_range[:, 0] == samples.age_range[:, 1]  # some among the ranges: their band counts
        within = np.where(exact, answered == first, range_error(years, samples.age_range) == 0)
        values |= {"age_band": within, "age_band_or_next": (answered >= first - 1) & (answered <= last + 1)}
    else:
        error = age_error(age, samples.age_range)
        values |= {"age_mae": np.abs(error), "age_bias": error, "cs5": np.abs(error) <= 5}
    values["gender_accuracy"] = (outputs["p_female"] >= 0.5) == (samples.gender == 1)
    if "age_low" in outputs:
        if samples.binned:
            bounds = outputs["age_low"], outputs["age_high"]
            values["interval_coverage"] = calibrate.covered(samples.age_range, *bounds, outputs["weighted_probs"])
        else:
            first, last = np.minimum(samples.age_range, calibrate.AGES - 1).T  # the oldest age stands for all above
            values["interval_coverage"] = (outputs["age_low"] <= last) & (first <= outputs["age_high"])
        values["interval_width"] = outputs["age_high"] - outputs["age_low"]
    return values


def range_error(age: np.ndarray, age_range: np.ndarray) -> np.ndarray:
    """Years outside of the label's range [N, 2], float64 [N]: the absolute error where the age is known."""
    return np.abs(age_error(np.asarray(age, np.float64), age_range))


def group_masks(samples: Samples) -> dict[str, dict[str, np.ndarray]]:
    """The groups that figures are given for: kind → name → bool [N]."""
    first, last = samples.age_range.T
    band = age_band(np.where(last < OLDEST, samples.age, first))  # the middle of "60+" is meaningless
    return {
        "age band": {band_name(*years): band == i for i, years in enumerate(AGE_BANDS)},
        "gender": {name: samples.gender == i for i, name in enumerate(GENDERS)},
        "race": {name: samples.race == i for i, name in enumerate(samples.races)},
    }


def _figures(values: dict[str, np.ndarray], mask: np.ndarray) -> dict:
    return {"n": int(mask.sum())} | {name: _interval(array[mask]) for name, array in values.items()}


def _interval(values: np.ndarray) -> dict[str, float | None]:
    """Mean with its 95% interval: of answers that are right or wrong, or of years and probabilities."""
    return _share(values) if values.dtype == bool else _mean(values)


def cross_table_csv(samples: Samples, outputs: dict[str, np.ndarray]) -> str:
    """The figures by race × gender × age band and over each of them ("all"), as CSV; 95% bounds beside each value."""
    values, masks = per_face(samples, outputs), group_masks(samples)
    kinds = ("race", "gender", "age band")
    every = np.ones(len(samples), bool)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    bounds = [f"{name}{suffix}" for name in values for suffix in ("", "_low", "_high")]
    writer.writerow([*(kind.replace(" ", "_") for kind in kinds), "n", *bounds])
    for names in itertools.product(*(("all", *masks[kind]) for kind in kinds)):
        mask = every.copy()
        for kind, name in zip(kinds, names, strict=True):
            mask &= masks[kind].get(name, every)
        if mask.any():
            figures = _figures(values, mask)
            cells = ["" if v is None else f"{v:.4f}" for name in values for v in figures[name].values()]
            writer.writerow([*names, figures["n"], *cells])
    return table.getvalue()


def _share(values: np.ndarray) -> dict[str, float | None]:
    """Share with Wilson's 95% score interval (1927), which has a width where few faces are all right or all wrong."""
    count, share = len(values), float(np.mean(values))
    weight = _Z**2 / count
    center, half = share + weight / 2, _Z * np.sqrt((share * (1 - share) + weight / 4) / count)
    low, high = ((center + sign * half) / (1 + weight) for sign in (-1, 1))
    return {"value": share, "low": float(np.clip(low, 0, share)), "high": float(np.clip(high, share, 1))}


def _mean(values: np.ndarray) -> dict[str, float | None]:
    """Mean with its 95% percentile bootstrap interval (Efron & Tibshirani 1993); the seed is fixed."""
    values = np.asarray(values, np.float64)
    generator, count = np.random.default_rng(0), len(values)
    if count < 2:
        return {"value": float(values.mean()), "low": None, "high": None}
    parts = [values[generator.integers(0, count, (50, count))].mean(axis=1) for _ in range(_RESAMPLES // 50)]
    low, high = np.percentile(np.concatenate(parts), (2.5, 97.5))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def split_record(options, split: str) -> dict:
    """Which faces figures were measured on; equal records mean equal faces, given the same dataset."""
    return {"name": split, **{name: getattr(options, name) for name in ("protocol", "policy", "limit", "seed")}}
