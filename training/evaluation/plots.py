"""Pictures of a training run and of a model's errors, as PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from training.data.samples import GENDERS, age_error
from training.evaluation.calibrate import BINS, COVERAGE
from training.evaluation.metrics import group_masks, per_face
from training.images import Images

WORST = 24  # faces in the picture of the largest errors
_FEWEST = 5  # faces of a group below which its cell stays empty


def training_curves(history: list[dict], path: Path) -> None:
    """Loss, score and gender accuracy by epoch; `history` as returned by `loop.fit`."""
    epochs = np.arange(1, len(history) + 1)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    ages = ("val_age_mae", "age error, validation", "mean absolute error, years")
    bands = ("val_band", "age bands, validation", "share right")
    panels = (
        ("loss", "training loss", "loss"),
        ages if "val_age_mae" in history[0] else bands,
        ("val_gender_accuracy", "gender accuracy, validation", "share right"),
    )
    for axis, (key, title, label) in zip(axes, panels, strict=True):
        axis.plot(epochs, [row[key] for row in history], marker=".")
        axis.set(title=title, xlabel="epoch", ylabel=label)
        axis.grid(alpha=0.3)
        for i, row in enumerate(history):
            if i == 0 or (row["stage"], row["branch"]) != (history[i - 1]["stage"], history[i - 1]["branch"]):
                axis.axvline(i + 0.5, color="gray", linestyle=":")
                axis.annotate(row["name"], (i + 0.6, axis.get_ylim()[1]), va="top", fontsize=8)
    _save(figure, path)


def age_errors(samples, outputs: dict[str, np.ndarray], path: Path) -> None:
    """Predicted against true age, and the error by age band; `outputs["age"]` in years, [N]."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    counts = left.hist2d(
        samples.age, np.clip(outputs["age"], 0, 116), bins=58, range=[[0, 116]] * 2, cmap="viridis", cmin=1
    )
    figure.colorbar(counts[3], ax=left, label="faces")
    left.plot([0, 116], [0, 116], color="red", linewidth=1, label="right")
    left.set(xlabel="age in the label, years", ylabel="predicted age, years", title=f"{len(samples)} test faces")
    left.legend(loc="upper left")
    error = age_error(outputs["age"], samples.age_range)
    masks = group_masks(samples)["age band"]
    groups = {f"{name}\nn={mask.sum()}": error[mask] for name, mask in masks.items() if mask.any()}
    right.boxplot(list(groups.values()), tick_labels=list(groups), showfliers=False, whis=(5, 95))
    right.axhline(0, color="red", linewidth=1)
    right.set(title="predicted minus true age (box 25–75%, whiskers 5–95%)", ylabel="years", xlabel="age band")
    right.tick_params(axis="x", labelsize=8)
    _save(figure, path)


def calibration(samples, outputs: dict[str, np.ndarray], path: Path) -> None:
    """How far stated confidence can be believed: gender's reliability and confusion, intervals by age band."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    female, p = samples.gender == 1, outputs["p_female"]
    hit, confidence = (p >= 0.5) == female, np.maximum(p, 1 - p)
    bins = np.clip(((confidence - 0.5) * 2 * BINS).astype(int), 0, BINS - 1)
    filled = [b for b in range(BINS) if (bins == b).sum() >= _FEWEST]
    counts = np.array([(bins == b).sum() for b in filled])
    means = np.array([(confidence[bins == b].mean(), hit[bins == b].mean()) for b in filled]).reshape(-1, 2)
    left.plot([0.5, 1], [0.5, 1], color="red", linewidth=1, label="as stated")
    left.scatter(*means.T, s=8 + 150 * counts / counts.max(initial=1), label="faces, by area")
    left.set(title="gender: how often it is right", xlabel="stated confidence", ylabel="share right")
    left.legend(loc="lower right")

    masks = group_masks(samples)
    values = per_face(samples, outputs)
    if "interval_coverage" in values:
        bands = {name: values["interval_coverage"][mask] for name, mask in masks["age band"].items() if mask.any()}
        middle.bar(list(bands), [100 * held.mean() for held in bands.values()], color="tab:blue")
        middle.axhline(100 * COVERAGE, color="red", linewidth=1)
        middle.set(title="interval coverage", ylabel="%", xlabel="age band", ylim=(0, 100))
        middle.tick_params(axis="x", labelsize=8)
    table = np.array([[np.sum((female == t) & ((p >= 0.5) == g)) for g in (False, True)] for t in (False, True)])
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    _cells(right, shares, table, GENDERS, GENDERS, colors="Blues", text="{:.0f}", low=0, high=1)
    right.set(title="gender: faces", xlabel="answer", ylabel="label")
    _save(figure, path)


def groups(samples, outputs: dict[str, np.ndarray], path: Path) -> None:
    """Heat maps by race and gender (rows) and age band (columns): error of age, and gender accuracy."""
    masks, values = group_masks(samples), per_face(samples, outputs)
    figure, axes = plt.subplots(1, 2, figsize=(15, 5), layout="constrained")
    names = [f"{race} {gender}" for race in masks["race"] for gender in masks["gender"]]
    cells = [
        [r & g & a for a in masks["age band"].values()]
        for r in masks["race"].values()
        for g in masks["gender"].values()
    ]
    ages = ("age_mae", 1, "age: years off on average", "RdYlGn_r", (0, 12))
    bands = ("age_band", 100, "age in the right band, %", "RdYlGn", (20, 90))
    for axis, key, factor, title, colors, limits in (
        (axes[0], *(ages if "age_mae" in values else bands)),
        (axes[1], "gender_accuracy", 100, "gender accuracy, %", "RdYlGn", (60, 100)),
    ):
        table = np.array(
            [[factor * values[key][m].mean() if m.sum() >= _FEWEST else np.nan for m in row] for row in cells]
        )
        text, (low, high) = "{:.1f}" if factor == 1 else "{:.0f}", limits
        _cells(axis, table, table, names, list(masks["age band"]), colors=colors, text=text, low=low, high=high)
        axis.set(title=f"{title} (groups of {_FEWEST} faces and more)", xlabel="age band")
    _save(figure, path)


def worst_faces(samples, images: Images, outputs: dict[str, np.ndarray], path: Path) -> None:
    """The WORST crops with the largest errors of age, for the developer's eyes: real people, not to be published."""
    error = np.abs(outputs["age"] - samples.age)
    figure, axes = plt.subplots(WORST // 8, 8, figsize=(16, 2.3 * WORST // 8), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, np.argsort(-error)[:WORST], strict=False):
        axis.imshow(images[i])
        axis.set_title(
            f"{samples.age[i]:.0f} → {outputs['age'][i]:.0f}, {GENDERS[samples.gender[i]][0]} → "
            f"{GENDERS[int(outputs['p_female'][i] >= 0.5)][0]}\n{samples.name[i][:24]}",
            fontsize=8,
        )
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _cells(axis, color: np.ndarray, table: np.ndarray, rows, columns, *, colors: str, text: str, low, high) -> None:
    """A table whose cells are colored by `color` between `low` and `high`; NaN cells stay empty."""
    shown = axis.imshow(color, cmap=colors, vmin=low, vmax=high, aspect="auto")
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xticks(range(len(columns)), columns)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = np.dot(shown.to_rgba(np.array([color[i, j]]))[0, :3], (0.3, 0.59, 0.11)) < 0.5
            ink = "white" if dark else "black"
            axis.text(j, i, text.format(value), ha="center", va="center", fontsize=9, color=ink)


def _save(figure, path: Path) -> None:
    """As a PNG of 64 colors: bundles travel, and a plot needs no more."""
    file = io.BytesIO()
    figure.savefig(file, dpi=80)
    plt.close(figure)
    Image.open(file).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
