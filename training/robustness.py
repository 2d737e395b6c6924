"""Measure a model's accuracy on degraded images, with faces detected and cropped as in the app.

    python training/robustness.py --model space/models/compact

Test faces are pasted into larger scenes, where the detector must find them. Prints the results as a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2
import numpy as np

from space.analyzer import FaceAnalyzer
from space.console import command
from space.crop import crop, load_template
from space.hub.download import ModelError
from training.data.decode import decode
from training.data.load import load_crops
from training.data.samples import SPLITS, Samples, positive_int
from training.data.sources import DATASET
from training.evaluation.metrics import per_face
from training.evaluation.predict import predict

SCENE = 480  # pixels, height and width; larger faces get twice their size


@dataclass(frozen=True)
class Condition:
    """How a face stands in its scene."""

    side: int = 200  # pixels of the face there
    degrees: float = 0.0  # turned by, to either side
    blur: float = 0.0  # pixels, sigma of a Gaussian over the scene
    jpeg: int = 0  # quality of compression, 0 for none
    light: float = 1.0  # share of the brightness that is left
    gray: bool = False
    cover: str = ""  # "mouth" or "eyes": a dark bar


CONDITIONS = {
    "400 pixels": Condition(400),
    "200 pixels": Condition(),
    "100 pixels": Condition(100),
    "64 pixels": Condition(64),
    "turned by 15°": Condition(degrees=15),
    "turned by 30°": Condition(degrees=30),
    "turned by 45°": Condition(degrees=45),
    "turned by 60°": Condition(degrees=60),
    "turned by 90°": Condition(degrees=90),
    "blur, sigma 2": Condition(blur=2),
    "blur, sigma 4": Condition(blur=4),
    "JPEG quality 30": Condition(jpeg=30),
    "JPEG quality 10": Condition(jpeg=10),
    "brightness reduced to a third": Condition(light=0.33),
    "grayscale": Condition(gray=True),
    "mouth covered": Condition(cover="mouth"),
    "eyes covered": Condition(cover="eyes"),
}


def scene(face: np.ndarray, condition: Condition, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A face, uint8 [200, 200, 3], in a scene of soft colors.

    Returns:
        uint8 [S, S, 3], and where the face's middle is, pixels [2].
    """
    size = max(SCENE, 2 * condition.side)
    face = face.copy()
    if condition.cover:
        top, bottom = (0.62, 0.98) if condition.cover == "mouth" else (0.28, 0.48)
        face[int(top * len(face)) : int(bottom * len(face))] = 40
    ground = cv2.resize(generator.integers(40, 216, (5, 5, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    low, high = 0.75 * condition.side, size - 0.75 * condition.side
    middle = generator.uniform(low, high, 2)
    angle = condition.degrees * generator.choice([-1, 1])
    scale = condition.side / len(face)
    if scale < 1:
        face = cv2.resize(face, (condition.side, condition.side), interpolation=cv2.INTER_AREA)
        scale = 1.0
    center = ((face.shape[1] - 1) / 2, (face.shape[0] - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, angle, scale)
    matrix[:, 2] += middle - center
    mask = cv2.warpAffine(np.full(face.shape[:2], 255, np.uint8), matrix, (size, size))[..., None] / 255
    rgb = cv2.warpAffine(face, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rgb = np.round(rgb * mask + ground * (1 - mask))
    rgb = (rgb * condition.light).astype(np.uint8)
    if condition.gray:
        rgb = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if condition.blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), condition.blur)
    if condition.jpeg:
        encoded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, condition.jpeg])[1]
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        rgb = decoded
    return rgb, middle


def crops_from_scenes(analyzer, faces: np.ndarray, condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    """The crops that the app makes of faces in their scenes, uint8 [M, 200, 200, 3], and which were found, bool [N]."""
    generator, template = np.random.default_rng(0), load_template()
    cut, found = [], np.zeros(len(faces), bool)
    for i, face in enumerate(faces):
        rgb, middle = scene(face, condition, generator)
        # A detection is this face's if the middle of the face lies within it.
        detected = [f for f in analyzer.detect(rgb) if (np.abs(f.center - middle) < np.array(f.box[2:]) / 2).all()]
        if detected:
            cut.append(crop(rgb, max(detected, key=lambda one: one.area), template))
            found[i] = True
    return np.array(cut, np.uint8).reshape(-1, *faces.shape[1:]), found


@command(ModelError, ValueError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python training/robustness.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", required=True, help="a bundle folder, a Hub id with optional @revision, compact, open or vgg16"
    )
    parser.add_argument("--dataset", default=DATASET, help=f"as for train.py (default: {DATASET})")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--limit", type=positive_int, default=500, help="use at most this many faces (default: 500)")
    options = parser.parse_args(arguments)
    analyzer = FaceAnalyzer.load(options.model)
    samples, images = decode(load_crops(options.dataset, options.split).limit(options.limit))
    faces = np.asarray(images)
    age, right = _answers(options.model, faces, samples)
    print(
        f"{options.model}, {len(samples)} faces from the {options.split} split. "
        "In parentheses: the same faces as original crops",
        "",
        "| condition | found, % | MAE, years | gender, % |",
        "| --- | --- | --- | --- |",
        f"| original crops | – | {age.mean():.2f} | {100 * right.mean():.1f} |",
        sep="\n",
    )
    for name, condition in CONDITIONS.items():
        cut, found = crops_from_scenes(analyzer, faces, condition)
        cells = [f"{100 * found.mean():.1f}", "–", "–"]
        if found.any():
            here_age, here_right = _answers(options.model, cut, samples.take(found))
            cells[1] = f"{here_age.mean():.2f} ({age[found].mean():.2f})"
            cells[2] = f"{100 * here_right.mean():.1f} ({100 * right[found].mean():.1f})"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _answers(model: str, faces: np.ndarray, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Years off, and whether the gender is as labeled, each [N]."""
    values = per_face(samples, predict(model, faces))
    return values["age_mae"], values["gender_accuracy"]


if __name__ == "__main__":
    sys.exit(main())
