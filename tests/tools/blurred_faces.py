"""What blurred faces do to intervals and genders, for the limits of `space/quality.py`.

python -m tests.tools.blurred_faces [--model compact] [--split validation] [--faces 400]

Blurs the crops of adults (20 and older) by Gaussians. For each level, in percent: faces that are called blurred, labels
in the interval, and genders that are shown and wrong. Columns try values for `space/quality.py`.
"""

from __future__ import annotations

import argparse
import sys

import cv2
import numpy as np

from space import quality
from space.calibration import Calibration
from space.estimator import Estimator
from space.hub.bundle import open_bundle
from tests.support import SHARED
from training.data.cropping import FaceCropper
from training.data.decode import decode
from training.data.load import load_samples
from training.evaluation.calibrate import covered

SIGMAS = (0, 3, 5, 8, 10, 12)  # pixels of a crop of 200
POWERS, LIMITS = (0.0, 0.2, 0.3, 0.4), (0.75, 0.9, 0.95, 0.98)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--faces", type=int, default=400, help="of each dataset")
    options = parser.parse_args()
    bundle = open_bundle(options.model)
    estimator, calibration = Estimator(bundle.model_path), Calibration.from_dict(bundle.card["calibration"])
    names = [f"in interval, power {power}" for power in POWERS] + [f"wrong though ≥ {limit}" for limit in LIMITS]
    print(f"| {' | '.join(['dataset', 'sigma', 'sharpness', 'blurred', 'under 13', *names])} |")
    print("|" + " --- |" * (len(names) + 5))
    for name, cropper in (("UTKFace-Cropped", None), ("FairFace", FaceCropper())):
        samples, images = decode(load_samples(SHARED / "data" / name)[0].split(options.split), cropper)
        adults = np.flatnonzero(samples.age_range[:, 0] >= 20)
        chosen = adults[np.linspace(0, len(adults) - 1, min(options.faces, len(adults))).astype(int)]
        age_range, female = samples.age_range[chosen], samples.gender[chosen] == 1
        for sigma in SIGMAS:
            faces = [cv2.GaussianBlur(images[i], (0, 0), sigma) if sigma else images[i] for i in chosen]
            faces = np.stack(faces)
            outputs, sharp = estimator.predict(faces), quality.sharpness(faces)
            age, p = np.maximum(outputs["age"].astype(float), 0), calibration.p_female(outputs["p_female"])
            blurred = sharp < quality.SOFT
            cells = [f"{np.median(sharp):.2f}", *(f"{100 * share.mean():.1f}" for share in (blurred, age < 13))]
            for power in POWERS:
                spread = np.maximum(1.0, quality.SOFT / np.maximum(sharp, 0.02)) ** power
                probs = calibration.weighted(calibration.age_probs(age, outputs.get("age_probs"), spread))
                cells.append(f"{100 * covered(age_range, *calibration.interval(age, probs), probs).mean():.1f}")
            likelier, wrong = np.maximum(p, 1 - p), (p >= 0.5) != female
            cells += [f"{100 * np.mean(wrong & (likelier >= np.where(blurred, limit, 0.75))):.1f}" for limit in LIMITS]
            print(f"| {name} | {sigma} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
