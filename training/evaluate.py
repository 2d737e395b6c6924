"""How good a model is on one split: the table of figures, with intervals, by group and beside baselines.

    python training/evaluate.py --model space/models/compact --dataset py97/UTKFace-Cropped
    python training/evaluate.py --model space/models/compact --dataset HuggingFaceM4/FairFace

UTKFace's chips are scored as they are. FairFace's photographs go the way of a user's: a detector finds the face and
it is cut out; their ages are known as ranges of years only. Knows nothing of training; scores what is served, an
`.onnx` or `.keras` file alone, or the mean of several bundles.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from space.bundle import CARD, BundleError, open_bundle, read_card
from space.detector import load_detector
from space.estimator import Estimator
from training import calibrate, data, sources
from training.atomic import write_beside
from training.framing import Cut, seen

_RESAMPLES = 1000  # of the bootstrap
BAND_END = 89  # years, where the open last band of FairFace is taken to end


def predict(model: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Calibrated outputs of a bundle (folder, Hub id or embedded name), or of an .onnx file, for uint8 images
    [N, 200, 200, 3]."""
    if model.endswith(".onnx"):
        return Estimator(model).predict(images)
    bundle = open_bundle(model)
    return calibrate.apply(bundle.card.get("calibration"), Estimator(bundle.model_path).predict(images))


def measure(
    samples: data.Samples,
    outputs: dict[str, np.ndarray],
    *,
    median_age: float | None = None,
    views: dict[str, np.ndarray] | None = None,
) -> dict:
    """Every figure of one model on one set of faces.

    Args:
        samples: N labelled faces.
        outputs: "age" float [N] years and "p_female" float [N], in the order of `samples`; with "age_low" and
            "age_high" the intervals are measured too.
        median_age: years; the answer of the constant baseline, from the training split. Not for ages known as ranges.
        views: more groups, name → bool [N].

    Returns:
        A dict of plain values, as stored in `metrics.json`: n, age_mae, cs5, gender_accuracy and so on, each
        a value with the bounds of its 95 % bootstrap interval; `by` holds the same for each age band,
        gender and race. Where ages are known as ranges, age_band and age_band_or_next (the share whose answer, in
        whole years, falls into the label's band, or that or one beside it) stand for the figures of age.
    """
    from sklearn.metrics import roc_auc_score  # imported here: it takes a second that a model card does not need

    female = samples.gender == 1
    values = per_face(samples, outputs)
    right = values["gender_accuracy"]
    recalls = [float(np.mean(right[female == g])) for g in (False, True) if (female == g).any()]
    both = female.any() and (~female).any()
    groups = group_masks(samples) | ({"view": views} if views else {})
    commonest = {"gender_accuracy": float(max(np.mean(female), 1 - np.mean(female)))}
    if samples.binned:
        counts = [int(mask.sum()) for mask in groups["age band"].values()]
        commonest |= {
            "age_band": list(groups["age band"])[int(np.argmax(counts))],
            "age_band_share": max(counts) / len(right),
        }
    else:
        commonest |= {"median_age": median_age, "age_mae": float(np.mean(np.abs(samples.age - median_age)))}
    return {
        **_figures(values, np.ones(len(samples), bool)),
        "gender_balanced_accuracy": float(np.mean(recalls)),
        "gender_auc": float(roc_auc_score(female, outputs["p_female"])) if both else None,
        "gender_ece": calibrate.expected_calibration_error(outputs["p_female"], female),
        "baseline": commonest,
        "by": {
            kind: {name: _figures(values, mask) for name, mask in members.items() if mask.any()}
            for kind, members in groups.items()
        },
    }


def per_face(samples: data.Samples, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the figures are means of, each [N]."""
    age, values = outputs["age"].astype(np.float64), {}
    if samples.binned:
        starts = np.array([low for low, _ in data.AGE_BANDS])
        answered = np.searchsorted(starts, np.floor(np.maximum(age, 0) + 0.5), side="right") - 1
        labelled = np.searchsorted(starts, samples.age_range[:, 0], side="right") - 1
        values |= {"age_band": answered == labelled, "age_band_or_next": np.abs(answered - labelled) <= 1}
    else:
        error = age - samples.age
        values |= {"age_mae": np.abs(error), "age_bias": error, "cs5": np.abs(error) <= 5}
    values["gender_accuracy"] = (outputs["p_female"] >= 0.5) == (samples.gender == 1)
    if "age_low" in outputs:
        if samples.binned:
            values["interval_coverage"] = _band_coverage(samples.age_range, outputs["age_low"], outputs["age_high"])
        else:
            values["interval_coverage"] = (outputs["age_low"] <= samples.age) & (samples.age <= outputs["age_high"])
        values["interval_width"] = outputs["age_high"] - outputs["age_low"]
    return values


def spread_ages(age_range: np.ndarray) -> np.ndarray:
    """One age for each band [N, 2], spread evenly over it: float64 [N] years. A known age stays as it is."""
    first, last = age_range[:, 0].astype(np.float64), np.minimum(age_range[:, 1], BAND_END)
    return np.floor(first + np.random.default_rng(0).random(len(first)) * (last - first + 1))


def _band_coverage(age_range: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The share of each band's years that lie in an interval: float64 [N]."""
    first, last = age_range[:, 0], np.minimum(age_range[:, 1], BAND_END)
    inside = np.floor(np.minimum(high, last)) - np.ceil(np.maximum(low, first)) + 1
    return np.clip(inside, 0, None) / (last - first + 1)


def group_masks(samples: data.Samples) -> dict[str, dict[str, np.ndarray]]:
    """The groups that figures are given for: kind → name → bool [N]."""
    first = samples.age_range[:, 0]
    return {
        "age band": {data.band_name(a, b): (first >= a) & (first <= b) for a, b in data.AGE_BANDS},
        "gender": {name: samples.gender == i for i, name in enumerate(data.GENDERS)},
        "race": {name: samples.race == i for i, name in enumerate(samples.races)},
    }


def _figures(values: dict[str, np.ndarray], mask: np.ndarray) -> dict:
    return {"n": int(mask.sum())} | {name: _interval(array[mask]) for name, array in values.items()}


def crossed(samples: data.Samples, outputs: dict[str, np.ndarray]) -> str:
    """The figures by race × gender × age band and over each of them ("all"), as CSV; 95 % bounds beside each value."""
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
            cells = [f"{v:.4f}" for name in values for v in figures[name].values()]
            writer.writerow([*names, figures["n"], *cells])
    return table.getvalue()


def _interval(values: np.ndarray) -> dict[str, float]:
    """Mean with its 95 % percentile bootstrap interval (Efron & Tibshirani 1993); the seed is fixed."""
    values = np.asarray(values, np.float64)
    generator, count = np.random.default_rng(0), len(values)
    parts = [values[generator.integers(0, count, (50, count))].mean(axis=1) for _ in range(_RESAMPLES // 50)]
    low, high = np.percentile(np.concatenate(parts), (2.5, 97.5))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def split_record(options, split: str) -> dict:
    """Which faces figures were measured on; equal records mean equal faces, given the same dataset."""
    return {"name": split, **{name: getattr(options, name) for name in ("protocol", "policy", "limit", "seed")}}


def rows(metrics: dict) -> list[tuple[str, ...]]:
    """The figures as rows of text, the header first, an empty row between groups; 95 % intervals in brackets."""
    binned = "age_band" in metrics

    def cell(figure: dict, factor: float = 1.0, digits: int = 1) -> str:
        value, low, high = (factor * figure[k] for k in ("value", "low", "high"))
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    def row(name: str, group: dict) -> tuple[str, ...]:
        gender = cell(group["gender_accuracy"], 100)
        inside, width = group.get("interval_coverage"), group.get("interval_width")
        held = f"{100 * inside['value']:.1f} in ± {width['value'] / 2:.1f}" if inside else "–"
        if binned:
            bands = (cell(group["age_band"], 100), cell(group["age_band_or_next"], 100))
            return (name, str(group["n"]), *bands, held, gender)
        return (
            name,
            str(group["n"]),
            cell(group["age_mae"], digits=2),
            cell(group["cs5"], 100),
            f"{group['age_bias']['value']:+.2f}",
            held,
            gender,
        )

    base = metrics["baseline"]
    commoner = f"{100 * base['gender_accuracy']:.1f}"
    if binned:
        header = ("", "n", "age in its band, %", "or the next, %", "% in interval", "gender, %")
        constant = f"{100 * base['age_band_share']:.1f} (always {base['age_band']})"
        baseline = ("baseline", "", constant, "", "", commoner)
    else:
        header = ("", "n", "age MAE, years", "CS@5, %", "bias, years", "% in interval", "gender, %")
        constant = f"{base['age_mae']:.2f} (always {base['median_age']:.0f})"
        baseline = ("baseline", "", constant, "", "", "", commoner)
    empty = ("",) * len(header)
    lines = [header, row("all", metrics)]
    for members in metrics["by"].values():
        lines += [empty] + [row(name, group) for name, group in members.items()]
    return [*lines, empty, baseline]


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


def same_faces(one: dict | None, other: dict) -> bool:
    """Whether two metrics' `split` name the same faces; the seed matters only to a limit."""
    ignored = () if other["limit"] else ("seed",)
    return one is not None and all(one.get(name) == value for name, value in other.items() if name not in ignored)


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


def views(chips: np.ndarray, detector) -> dict[str, np.ndarray]:
    """Which faces (uint8 chips [N, 200, 200, 3]) look ahead, and which are turned away, by their landmarks."""
    turned, found = np.zeros((2, len(chips)), bool)
    for i, face in enumerate(seen(detector, chips, 1.0)):
        if face:
            found[i] = True
            right_eye, left_eye, nose = face.landmarks[:3]
            between = left_eye - right_eye
            # Along the line between the eyes the nose of a face that looks ahead is halfway.
            turned[i] = abs(np.dot(nose - right_eye, between) / max(np.dot(between, between), 1e-6) - 0.5) > 0.25
    return {"frontal": found & ~turned, "turned": turned}


def trained_under(model: str) -> str | None:
    """The protocol that a model was trained under, as its bundle or run records it; None without a record.

    Raises:
        BundleError: there is no such model, or its bundle's card is damaged.
    """
    path = Path(model)
    if model.endswith((".onnx", ".h5", ".keras")) and not path.is_file():
        raise BundleError(f"No model at {model}: give a file that exists, a bundle's folder, or a Hub id.")
    if path.is_file() and not (path.parent / CARD).is_file():
        try:
            return str(json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["protocol"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    card = read_card(path.parent) if path.is_file() else open_bundle(model).card
    try:
        return str(card["metrics"]["split"]["protocol"])
    except (KeyError, TypeError):
        return None


def _is_held_out(options: argparse.Namespace, trained: str | None) -> bool:
    """Whether the model's record shows that it was trained without the faces that are scored."""
    return (
        options.split != "train"
        and trained is not None
        and not data.splits_overlap(trained, options.protocol, [options.split])
    )


def score(options: argparse.Namespace) -> tuple[data.Samples, dict[str, np.ndarray], dict, data.Report]:
    """Load faces, predict and measure: samples, outputs, metrics and the report of the data."""
    everything, report = data.load_utkface(
        options.dataset, policy=options.policy, protocol=options.protocol, revision=options.dataset_revision
    )
    samples = everything.split(options.split, options.protocol).limit(options.limit, options.seed)
    if everything.binned:
        detector, note = load_detector(options.detector)
        samples, images = data.decode(samples, Cut(detector))
        outputs = predict(options.model, images)
        views_ = views(images, detector) if detector.name == "yunet" else None
        metrics = measure(samples, outputs, views=views_) | {"detector": detector.name}
        print(note or f"Faces found by {detector.name}.")
    else:
        median = float(np.median(everything.split("train", options.protocol).age))
        samples, images = data.decode(samples)
        metrics = measure(samples, outputs := predict(options.model, images), median_age=median)
    return samples, outputs, metrics | {"split": split_record(options, options.split)}, report


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python training/evaluate.py", description="Score a model on UTKFace or FairFace."
    )
    parser.add_argument(
        "--model",
        required=True,
        help="a bundle's folder, a Hub id with optional @revision, vgg16, compact, or an .onnx file",
    )
    parser.add_argument(
        "--dataset",
        default=sources.DATASET,
        help=f"as for train.py, or {sources.FAIRFACE} or a folder of it (default {sources.DATASET})",
    )
    parser.add_argument("--dataset-revision")
    parser.add_argument("--split", choices=data.SPLITS, default="test")
    parser.add_argument("--policy", choices=data.POLICIES, default="clean")
    parser.add_argument("--protocol", choices=tuple(data.PROTOCOLS), default="80/10/10")
    parser.add_argument("--limit", type=data.positive, help="at most so many faces")
    parser.add_argument("--seed", type=int, default=0, help="which faces --limit draws")
    parser.add_argument(
        "--detector",
        help="what finds the faces of photographs: YuNet's ONNX file or haar (default: YuNet from the Hub)",
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--csv", type=Path, help="write the figures by race, gender and age band here")
    options = parser.parse_args(arguments)
    try:
        trained = trained_under(options.model)
        samples, outputs, metrics, report = score(options)
        print(
            report,
            f"{options.model} on {options.split} of {options.protocol} ({options.policy})",
            table(metrics),
            sep="\n",
        )
        if not _is_held_out(options, trained):
            print(
                "Nothing shows that this model was trained without these faces (no record, or another --protocol): its "
                "figures may be too good."
            )
        if options.json:
            write_beside(options.json, json.dumps(metrics, indent=1))
        if options.csv:
            write_beside(options.csv, crossed(samples, outputs))
        if not samples.binned and not options.model.endswith(".onnx"):
            recorded = open_bundle(options.model).card.get("metrics") or {}
            if same_faces(recorded.get("split"), metrics["split"]):
                print(compare(metrics, recorded))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
