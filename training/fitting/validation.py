"""Validation figures, and the score by which weights are chosen."""

from __future__ import annotations

import keras
import numpy as np

from training.data.faces import Faces
from training.data.samples import age_error
from training.model import devices
from training.model.prediction import predict

# Years of mean absolute age error that one whole unit of gender error is worth in the score: 1 percentage point of
# gender counts like 0.1 year.
GENDER_IN_YEARS = 10.0
BAND_IN_YEARS = 5.0  # the same for the share of ages outside their band, of faces whose age is known as a band


def validate(network: keras.Model, datasets: list[Faces]) -> dict[str, float]:
    """Figures of each dataset's validation faces, and the score over all (lower is better).

    Returns:
        "val_score", and for each dataset "val_age_mae" (years) or, where ages are bands, "val_band" (share within the
        band), and "val_gender_accuracy". The second dataset's begin with "val2_".
    """
    row, score = {}, 0.0
    for number, faces in enumerate(datasets, 1):
        outputs = predict(network, faces.images, 256 if devices.on_gpu() else 32)
        name = "val" if number == 1 else f"val{number}"
        if faces.samples.binned:
            first, last = faces.samples.age_range.T
            years = np.floor(outputs["age"] + 0.5)
            row[f"{name}_band"] = float(np.mean((first <= years) & (years <= last)))
            score += BAND_IN_YEARS * (1 - row[f"{name}_band"])
        else:
            error = age_error(outputs["age"], faces.samples.age_range)
            row[f"{name}_age_mae"] = float(np.mean(np.abs(error)))
            score += row[f"{name}_age_mae"]
        accuracy = float(np.mean((outputs["p_female"] >= 0.5) == (faces.samples.gender == 1)))
        row[f"{name}_gender_accuracy"] = accuracy
        score += GENDER_IN_YEARS * (1 - accuracy)
    return {**row, "val_score": score}


def describe(row: dict[str, float]) -> str:
    """The figures in words, as the log shows them."""
    words = {"age_mae": "age MAE {:.2f} years", "band": "{:.1%} in their age band", "gender_accuracy": "gender {:.1%}"}
    found = []
    for key, value in row.items():
        what = next((text for end, text in words.items() if key.startswith("val") and key.endswith(end)), None)
        if what:
            found.append(what.format(value))
    return ", ".join(found)
