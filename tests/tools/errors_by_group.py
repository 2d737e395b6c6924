"""Validation errors by group, as Markdown.

    python -m tests.tools.errors_by_group MODEL.onnx [MODEL.onnx …]

Columns: on UTKFace, age MAE, CS@5, gender, mean error for women of 30 to 69 and for people of 13 to 19; on FairFace,
age band, gender, gender of the race with the lowest accuracy, of people under 20 and of turned adults. The last column
is the mean change of UTKFace ages, in years, when the crops are blurred with a sigma of 2 pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from space.estimator import Estimator
from tests.support import SHARED
from training.data.cropping import FaceCropper, pose_masks
from training.data.decode import decode
from training.data.load import load_samples
from training.evaluation.metrics import per_face

BLURRED = 3  # every third face


def figures(estimator: Estimator, utkface: tuple, photos: tuple, turned: np.ndarray) -> list[float]:
    """The columns for one network; `utkface` and `photos`: samples and uint8 [N, 200, 200, 3]."""
    (samples, images), (people, crops) = utkface, photos
    found = estimator.predict(images)
    faces, there = per_face(samples, found), per_face(people, estimator.predict(crops))
    women = (samples.gender == 1) & (samples.age >= 30) & (samples.age < 70)
    teenagers = (samples.age >= 13) & (samples.age < 20)
    right, youngest = there["gender_accuracy"], people.age_range[:, 0]
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in images[::BLURRED]])
    moved = np.abs(estimator.predict(blurred)["age"] - found["age"][::BLURRED])
    return [
        faces["age_mae"].mean(), 100 * faces["cs5"].mean(), 100 * faces["gender_accuracy"].mean(),
        faces["age_bias"][women].mean(), faces["age_bias"][teenagers].mean(),
        100 * there["age_band"].mean(), 100 * right.mean(),
        100 * min(right[people.race == race].mean() for race in np.unique(people.race)),
        100 * right[youngest < 20].mean(), 100 * right[turned & (youngest >= 20)].mean(), moved.mean(),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--dataset", default=str(SHARED / "data" / "UTKFace-Cropped"))
    parser.add_argument("--photos", default=str(SHARED / "data" / "FairFace"))
    options = parser.parse_args()
    samples, images = decode(load_samples(options.dataset)[0].split("validation"))
    people, crops = decode(load_samples(options.photos)[0].split("validation"), FaceCropper())
    images, crops = np.asarray(images), np.asarray(crops)
    turned = pose_masks(crops)["turned"]
    heads = "MAE|CS@5|gender|women 30-69|13-19|band|gender|lowest race|under 20|turned|blur".split("|")
    print(f"| network | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
    digits = (3, 1, 1, 2, 2, 1, 1, 1, 1, 1, 2)
    for path in options.models:
        values = figures(Estimator(path), (samples, images), (people, crops), turned)
        cells = [f"{value:.{n}f}" for value, n in zip(values, digits, strict=True)]
        print(f"| {path} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
