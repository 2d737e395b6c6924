"""How well calibrated the scores of age bands are: the network's own, calibrated, and weighted as for intervals.

python -m tests.tools.age_band_scores [--split validation] [--model compact]

A band's score is the sum of its ages' probabilities. "right" is how often the most likely band is correct, "gap" the
expected calibration error of its score (15 bins), "log loss" the mean of minus the logarithm of the labeled band's
score.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from space.calibration import Calibration
from space.hub.bundle import open_bundle
from tests.support import SHARED
from training.data.cropping import FaceCropper
from training.data.decode import decode
from training.data.load import load_samples
from training.data.samples import AGE_BANDS, age_band
from training.evaluation.predict import predict

BINS = 15


def scores(age_probs: np.ndarray, band: np.ndarray) -> str:
    """Cells of the table; `age_probs` [N, 102] and the labeled bands [N]."""
    ends = [min(last + 1, age_probs.shape[1]) for _, last in AGE_BANDS]
    of_bands = np.stack(
        [age_probs[:, first:end].sum(axis=1) for (first, _), end in zip(AGE_BANDS, ends, strict=True)], 1
    )
    of_bands /= of_bands.sum(axis=1, keepdims=True)
    likeliest, right = of_bands.max(axis=1), of_bands.argmax(axis=1) == band
    bins = np.minimum((BINS * likeliest).astype(int), BINS - 1)
    gap = sum(abs(right[bins == b].sum() - likeliest[bins == b].sum()) for b in range(BINS)) / len(band)
    loss = -np.log(np.maximum(of_bands[np.arange(len(band)), band], 1e-6)).mean()
    return f"{100 * right.mean():.1f}% | {100 * gap:.1f}% | {loss:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--model", default="compact")
    options = parser.parse_args()
    calibration = Calibration.from_dict(open_bundle(options.model).card["calibration"])
    print("| dataset | probabilities | right | gap | log loss |\n|" + " --- |" * 5)
    for name, cut in (("UTKFace-Cropped", None), ("FairFace", FaceCropper())):
        samples, images = decode(load_samples(SHARED / "data" / name)[0].split(options.split), cut)
        outputs = predict(options.model, images)
        calibrated = calibration.age_probs(outputs["age"], outputs["age_probs"])
        kinds = {
            "network": outputs["age_probs"],
            "calibrated": calibrated,
            "weighted": calibration.weighted(calibrated),
        }
        for kind, probs in kinds.items():
            print(f"| {name} | {kind} | {scores(probs.astype(float), age_band(samples.age_range[:, 0]))} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
