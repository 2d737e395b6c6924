"""How often the genders that people are shown are right, by estimated age; for the limits of `space.face.UNCERTAIN`.

python -m tests.tools.shown_genders [--split validation] [--model compact]
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from space.face import UNCERTAIN
from tests.support import SHARED
from training.data.cropping import FaceCropper
from training.data.decode import decode
from training.data.load import load_samples
from training.evaluation.predict import predict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--model", default="compact")
    options = parser.parse_args()
    print("| dataset | estimated age | limit | faces | right | shown | right of those |\n|" + " --- |" * 7)
    for name, cut in (("UTKFace-Cropped", None), ("FairFace", FaceCropper())):
        samples, images = decode(load_samples(SHARED / "data" / name)[0].split(options.split), cut)
        outputs = predict(options.model, images)
        age, p = outputs["age"], outputs["p_female"]
        right, likelier = (p >= 0.5) == (samples.gender == 1), np.maximum(p, 1 - p)
        lowest = 0.0
        for below, limit in UNCERTAIN:
            band = (age >= lowest) & (age < below)
            shown = band & (likelier >= limit)
            cells = [100 * right[band].mean(), 100 * shown.sum() / band.sum(), 100 * right[shown].mean()]
            figures = " | ".join(f"{cell:.1f}%" for cell in cells)
            print(f"| {name} | {lowest:.0f} to {below:.0f} | {limit} | {band.sum()} | {figures} |")
            lowest = below
    return 0


if __name__ == "__main__":
    sys.exit(main())
