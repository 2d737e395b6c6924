"""The app's example pictures: averages of many training faces, so no real person is shown.

    python -m training.example_faces --dataset py97/UTKFace-Cropped

For each age band and gender the most frontal faces are laid over each other by their landmarks. Tests use the
same pictures: a detector finds them, and the predicted age rises with the band.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from space.crop import load_template, similarity
from space.detector import YuNet
from space.face import EXAMPLES
from space.hub.download import ModelError
from training.data.cropping import MARGIN, largest_faces
from training.data.decode import decode
from training.data.load import load_chips
from training.data.samples import GENDERS, IMAGE_SIZE
from training.data.sources import DATASET, DataError

BANDS = ((4, 7), (20, 26), (42, 50), (68, 80))  # years, inclusive
FACES = 80  # averaged into one
SIZE = 320  # pixels, height and width of an example
_FACE = 1.2  # size of a chip in an example, relative to the chip


def average(chips: np.ndarray, detector: YuNet) -> np.ndarray:
    """One face from chips, uint8 [N, 200, 200, 3]: the mean of the FACES most frontal ones, [SIZE, SIZE, 3]."""
    target = load_template().landmarks
    fits = []
    for index, face in enumerate(largest_faces(detector, chips, 1.0)):
        if face is None:
            continue
        points = face.landmarks - MARGIN
        matrix = similarity(points, target)
        residual = float(np.abs(points @ matrix[:, :2].T + matrix[:, 2] - target).mean())
        fits.append((residual, index, matrix))
    fits.sort(key=lambda fit: fit[0])
    shift = (SIZE - _FACE * IMAGE_SIZE) / 2
    total = np.zeros((SIZE, SIZE, 3))
    for _, index, matrix in fits[:FACES]:
        matrix = _FACE * matrix + [[0, 0, shift], [0, 0, shift]]
        total += cv2.warpAffine(
            chips[index], matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
    mean = (total / min(FACES, len(fits))).astype(np.float32)
    # Averaging blurs; unsharp masking brings back contours, not anybody's features.
    sharp = mean + 1.2 * (mean - cv2.GaussianBlur(mean, (0, 0), 4))
    return np.clip(sharp, 0, 255).round().astype(np.uint8)


def group(faces: list[np.ndarray]) -> np.ndarray:
    """Faces of different sizes in two rows on one canvas, uint8 [H, W, 3]."""
    columns = len(faces) // 2
    step = 250
    canvas = np.full((2 * step + 60, columns * step + 60, 3), (196, 203, 208), np.uint8)
    for i, face in enumerate(faces):
        side = (240, 205, 170, 222)[i % 4]
        small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        # A soft oval: no hard edges for a detector to hold on to.
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        alpha = np.clip((1.0 - np.sqrt((x / 0.86) ** 2 + (y / 0.98) ** 2)) * 6, 0, 1)[..., None]
        top = 40 + (i // columns) * step + (240 - side) // 2 + (i % 3) * 8
        left = 30 + (i % columns) * step + (240 - side) // 2
        place = canvas[top : top + side, left : left + side]
        place[:] = (alpha * small + (1 - alpha) * place).round().astype(np.uint8)
    return canvas


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.example_faces", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default=DATASET)
    parser.add_argument("--out", type=Path, default=EXAMPLES)
    options = parser.parse_args()
    try:
        detector = YuNet()
        samples = load_chips(options.dataset, "train")
        options.out.mkdir(parents=True, exist_ok=True)
        faces = []
        for low, high in BANDS:
            for gender, name in enumerate(GENDERS):
                chosen = samples.take((samples.age >= low) & (samples.age <= high) & (samples.gender == gender))
                chosen, chips = decode(chosen.limit(400))
                faces.append(average(chips, detector))
                Image.fromarray(faces[-1]).save(options.out / f"age-{low:02d}-{high:02d}-{name}.jpg", quality=92)
                print(f"ages {low}-{high}, {name}: {FACES} of {len(chips)} faces averaged", flush=True)
        Image.fromarray(group(faces)).save(options.out / "group.jpg", quality=92)
    except (ModelError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
