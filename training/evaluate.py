"""How good a model is on one split: the table of figures, with intervals, by group and beside baselines.

    python training/evaluate.py --model space/models/compact --dataset py97/UTKFace-Cropped

Knows nothing of training; scores what is served (ONNX), or a `.keras` file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from space.bundle import BundleError, open_bundle
from space.estimator import Estimator
from training import calibrate, data

_RESAMPLES = 1000  # of the bootstrap


def predict(model: str | Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a bundle (folder or Hub id), calibrated, or a `.keras` file answers for uint8 images [N, 200, 200, 3]."""
    if str(model).endswith(".keras"):
        import keras

        from training.fit import predict as keras_predict

        try:
            network = keras.models.load_model(model, compile=False)
        except Exception as error:  # zipfile, h5py and Keras raise many kinds
            raise BundleError(f"{model} cannot be loaded by Keras {keras.__version__}: {error}") from error
        return keras_predict(network, images)
    bundle = open_bundle(str(model))
    return calibrate.apply(bundle.card.get("calibration"), Estimator(bundle.model_path).predict(images))


def measure(samples: data.Samples, outputs: dict[str, np.ndarray], *, median_age: float) -> dict:
    """Every figure of one model on one set of faces.

    Args:
        samples: N labelled faces.
        outputs: "age" float [N] years and "p_female" float [N], in the order of `samples`; with "age_low" and
            "age_high" the intervals are measured too.
        median_age: years; the answer of the constant baseline, from the training split.

    Returns:
        A dict of plain values, as stored in `metrics.json`: n, age_mae, cs5, gender_accuracy and so on, each
        a value with the bounds of its 95 % bootstrap interval; `by` holds the same for each age band,
        gender and race.
    """
    from sklearn.metrics import roc_auc_score  # imported here: it takes a second that a model card does not need

    female = samples.gender == 1
    error = outputs["age"].astype(np.float64) - samples.age
    right = (outputs["p_female"] >= 0.5) == female
    width = inside = None
    if "age_low" in outputs:
        width = outputs["age_high"] - outputs["age_low"]
        inside = (outputs["age_low"] <= samples.age) & (samples.age <= outputs["age_high"])
    recalls = [float(np.mean(right[female == g])) for g in (False, True) if (female == g).any()]
    both = female.any() and (~female).any()
    groups = {
        "age band": {data.band_name(a, b): (samples.age >= a) & (samples.age <= b) for a, b in data.AGE_BANDS},
        "gender": {name: samples.gender == i for i, name in enumerate(data.GENDERS)},
        "race": {name: samples.race == i for i, name in enumerate(data.RACES)},
    }
    every = np.ones(len(error), bool)

    def group(mask: np.ndarray) -> dict:
        return _group(*(None if values is None else values[mask] for values in (error, right, width, inside)))

    return {
        **group(every),
        "gender_balanced_accuracy": float(np.mean(recalls)),
        "gender_auc": float(roc_auc_score(female, outputs["p_female"])) if both else None,
        "gender_ece": calibrate.expected_calibration_error(outputs["p_female"], female),
        "baseline": {
            "median_age": median_age,
            "age_mae": float(np.mean(np.abs(samples.age - median_age))),
            "gender_accuracy": float(max(np.mean(female), 1 - np.mean(female))),
        },
        "by": {
            kind: {name: group(mask) for name, mask in members.items() if mask.any()}
            for kind, members in groups.items()
        },
    }


def _group(error: np.ndarray, right: np.ndarray, width: np.ndarray | None, inside: np.ndarray | None) -> dict:
    figures = {
        "n": len(error),
        "age_mae": _interval(np.abs(error)),
        "age_bias": _interval(error),
        "cs5": _interval(np.abs(error) <= 5),
        "gender_accuracy": _interval(right),
    }
    if inside is not None:
        figures |= {"interval_coverage": _interval(inside), "interval_width": _interval(width)}
    return figures


def _interval(values: np.ndarray) -> dict[str, float]:
    """Mean with its 95 % percentile bootstrap interval (Efron & Tibshirani 1993); the seed is fixed."""
    values = np.asarray(values, np.float64)
    generator = np.random.default_rng(0)
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def split_record(options: argparse.Namespace, split: str) -> dict:
    """Which faces figures were measured on; equal records mean equal faces, given the same dataset."""
    return {"name": split, **{name: getattr(options, name) for name in ("protocol", "policy", "limit", "seed")}}


def rows(metrics: dict) -> list[tuple[str, ...]]:
    """The figures as rows of text, the header first, an empty row between groups; 95 % intervals in brackets."""

    def cell(figure: dict, factor: float = 1.0, digits: int = 1) -> str:
        value, low, high = (factor * figure[k] for k in ("value", "low", "high"))
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    def row(name: str, group: dict) -> tuple[str, ...]:
        inside, width = group.get("interval_coverage"), group.get("interval_width")
        return (
            name,
            str(group["n"]),
            cell(group["age_mae"], digits=2),
            cell(group["cs5"], 100),
            f"{group['age_bias']['value']:+.2f}",
            f"{100 * inside['value']:.1f} in ± {width['value'] / 2:.1f}" if inside else "–",
            cell(group["gender_accuracy"], 100),
        )

    header = ("", "n", "age MAE, years", "CS@5, %", "bias, years", "% in interval", "gender, %")
    lines = [header, row("all", metrics)]
    for members in metrics["by"].values():
        lines += [("",) * len(header)] + [row(name, group) for name, group in members.items()]
    base = metrics["baseline"]
    constant = f"{base['age_mae']:.2f} (always {base['median_age']:.0f})"
    return [
        *lines,
        ("",) * len(header),
        ("baseline", "", constant, "", "", "", f"{100 * base['gender_accuracy']:.1f}"),
    ]


def gender_line(metrics: dict) -> str:
    """The figures of gender that have no groups."""
    auc = metrics["gender_auc"]
    return (
        f"gender: balanced accuracy {100 * metrics['gender_balanced_accuracy']:.1f} %"
        + (f", AUC {auc:.4f}" if auc is not None else "")
        + f", expected calibration error {100 * metrics['gender_ece']:.1f} %"
    )


def table(metrics: dict) -> str:
    """The figures as a text table."""
    lines = rows(metrics)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(c.ljust(width) for c, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, gender_line(metrics)])


def compare(metrics: dict, recorded: dict) -> str:
    """One line that says whether a bundle's recorded figures are those just measured."""
    names = {"age_mae": 0.01, "cs5": 0.001, "gender_accuracy": 0.001}
    same = metrics["n"] == recorded["n"] and all(
        abs(metrics[name]["value"] - recorded[name]["value"]) <= tolerance for name, tolerance in names.items()
    )
    if same:
        return "The figures recorded in the bundle are the same."
    return (
        f"The bundle records other figures: n {recorded['n']}, age MAE {recorded['age_mae']['value']:.3f}, "
        f"CS@5 {100 * recorded['cs5']['value']:.1f} %, gender {100 * recorded['gender_accuracy']['value']:.1f} %."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python training/evaluate.py", description="Score a bundle or a .keras file on UTKFace."
    )
    parser.add_argument(
        "--model", required=True, help="a bundle's folder, a Hub id with optional @revision, or a .keras file"
    )
    parser.add_argument("--dataset", default=data.DATASET, help=f"as for train.py (default {data.DATASET})")
    parser.add_argument("--dataset-revision")
    parser.add_argument("--split", choices=data.SPLITS, default="test")
    parser.add_argument("--policy", choices=data.POLICIES, default="clean")
    parser.add_argument("--protocol", choices=tuple(data.PROTOCOLS), default="80/10/10")
    parser.add_argument("--limit", type=data.positive, help="at most so many faces")
    parser.add_argument("--seed", type=int, default=0, help="which faces --limit draws")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    try:
        everything, report = data.load_utkface(
            options.dataset, policy=options.policy, protocol=options.protocol, revision=options.dataset_revision
        )
        median = float(np.median(everything.split("train", options.protocol).age))
        samples, images = data.decode(
            everything.split(options.split, options.protocol).limit(options.limit, options.seed)
        )
        metrics = measure(samples, predict(options.model, images), median_age=median)
        metrics["split"] = split_record(options, options.split)
        print(
            report,
            f"{options.model} on {options.split} of {options.protocol} ({options.policy})",
            table(metrics),
            sep="\n",
        )
        if options.json:
            options.json.write_text(json.dumps(metrics, indent=1))
        if not str(options.model).endswith(".keras"):
            recorded = open_bundle(options.model).card.get("metrics") or {}
            if recorded.get("split") == metrics["split"]:
                print(compare(metrics, recorded))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
