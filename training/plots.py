"""Pictures of a training run and of a model's errors, as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
import numpy as np

from training.data import AGE_BANDS, band_name


def training_curves(history: list[dict], path: Path) -> None:
    """Loss, age error and gender accuracy by epoch; `history` as returned by `fit.fit`."""
    epochs = np.arange(1, len(history) + 1)
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    panels = (
        ("loss", "training loss", "loss"),
        ("val_age_mae", "age error, validation", "mean absolute error, years"),
        ("val_gender_accuracy", "gender accuracy, validation", "share right"),
    )
    for axis, (key, title, label) in zip(axes, panels, strict=True):
        axis.plot(epochs, [row[key] for row in history], marker=".")
        axis.set(title=title, xlabel="epoch", ylabel=label)
        axis.grid(alpha=0.3)
        for i in range(1, len(history)):
            if history[i]["phase"] != history[i - 1]["phase"]:
                axis.axvline(i + 0.5, color="grey", linestyle=":")
                axis.annotate(history[i]["phase"], (i + 0.6, axis.get_ylim()[1]), va="top", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def age_errors(samples, outputs: dict[str, np.ndarray], path: Path) -> None:
    """Predicted against true age, and the error by age band; `outputs["age"]` in years, [N]."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    counts = left.hist2d(
        samples.age, np.clip(outputs["age"], 0, 116), bins=58, range=[[0, 116]] * 2, cmap="viridis", cmin=1
    )
    figure.colorbar(counts[3], ax=left, label="faces")
    left.plot([0, 116], [0, 116], color="red", linewidth=1, label="right")
    left.set(xlabel="age in the label, years", ylabel="predicted age, years", title=f"{len(samples)} test faces")
    left.legend()
    error = outputs["age"] - samples.age
    groups = {band_name(a, b): error[(samples.age >= a) & (samples.age <= b)] for a, b in AGE_BANDS}
    groups = {f"{name}\nn={len(values)}": values for name, values in groups.items() if len(values)}
    right.boxplot(list(groups.values()), tick_labels=list(groups), showfliers=False, whis=(5, 95))
    right.axhline(0, color="red", linewidth=1)
    right.set(title="predicted minus true age (box 25-75 %, whiskers 5-95 %)", ylabel="years", xlabel="age band")
    right.tick_params(axis="x", labelsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
