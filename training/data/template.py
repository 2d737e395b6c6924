"""Derive the crop template `space/models/crop_template.json` from UTKFace's face crops.

    python -m training.data.template --dataset py97/UTKFace-Cropped

Uses training faces only. They are padded and resized to several sizes, as faces appear in photos.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from space.console import command
from space.crop import TEMPLATE_FILE
from space.detector import YuNet
from space.hub.download import ModelError
from training.data.cropping import MARGIN, largest_faces
from training.data.decode import decode
from training.data.load import load_crops
from training.data.samples import IMAGE_SIZE
from training.data.sources import DATASET, DataError

SCALES = (0.5, 1.0, 2.0)
_MIRROR = (1, 0, 2, 4, 3)  # landmarks after a flip: eyes and mouth corners change places


def derive(images: np.ndarray, yunet: YuNet) -> tuple[dict, str]:
    """The template (as in the JSON) and a report, from uint8 images [N, 200, 200, 3]."""
    width = IMAGE_SIZE
    points, lines = [], []
    for scale in SCALES:
        faces = [face for face in largest_faces(yunet, images, scale) if face]
        here = np.array([face.landmarks for face in faces]) / scale - MARGIN
        # Faces look left as often as right: with each its mirror image.
        flipped = here[:, _MIRROR] * [-1, 1] + [width - 1, 0]
        points.append(np.concatenate([here, flipped]))
        spread = np.percentile(points[-1], 75, axis=0) - np.percentile(points[-1], 25, axis=0)
        lines.append(
            f"yunet at {scale:g}: {len(faces)} of {len(images)} found, spread of a point {spread.mean():.1f} px "
            "(25-75%)"
        )
    landmarks = np.median(np.concatenate(points), axis=0)
    template = {
        "size": width,
        "landmarks": [[round(float(v), 2) for v in point] for point in landmarks],
    }
    return template, "\n".join(lines)


@command(ModelError, DataError)
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.data.template", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default=DATASET)
    parser.add_argument("--faces", type=int, default=4000, help="number of training face crops to use")
    parser.add_argument("--out", type=Path, default=TEMPLATE_FILE)
    options = parser.parse_args()
    yunet = YuNet()
    _, images = decode(load_crops(options.dataset, "train").limit(options.faces))
    template, report = derive(images, yunet)
    print(report, json.dumps(template), sep="\n")
    options.out.write_text(json.dumps(template, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
