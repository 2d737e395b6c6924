"""The app's example pictures: averages of FairFace faces that are warped onto each other, so no real person is shown.

    python -m training.example_faces --dataset HuggingFaceM4/FairFace

Faces of one age band, gender and race are aligned by their landmarks, then by optical flow to their mean, which gets
sharper with every round; the least similar faces are left out. What averaging still takes from fine contrast is put
back: each band of frequencies of the mean gets the energy that it has in a typical single face.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from space.console import command
from space.crop import similarity
from space.detector import YuNet
from space.face import EXAMPLES
from space.hub.download import ModelError
from space.text import counted
from training.data.decode import decode_picture
from training.data.load import load_samples
from training.data.samples import FAIRFACE_RACES, GENDERS
from training.data.sources import DataError

# First and last year, gender and races of each example; 99 stands for all that are older.
GROUPS = (
    (3, 9, "female", "East Asian"), (3, 9, "male", "Black"),
    (20, 29, "female", "Indian"), (20, 29, "male", "Middle Eastern"),
    (40, 49, "female", "Latino Hispanic"), (40, 49, "male", "Southeast Asian"),
    (60, 99, "female", "White", "Latino Hispanic"), (60, 99, "male", "White"),
)  # fmt: skip
SIZE = 400  # pixels, side of an example
FEWEST = 20  # faces in an average: with fewer, a person might be recognized
PHOTO = 224  # pixels, side of a FairFace photo
SCALE = 1.62  # of a photo in an example
# YuNet's points of a frontal face in the middle of a photo
POINTS = np.array([[72, 68], [152, 68], [112, 115], [80, 155], [144, 155]], np.float64)
TARGET = (POINTS - PHOTO / 2) * SCALE + [SIZE / 2, SIZE / 2 - 6]
# Rounds of alignment: how many faces are kept, and by how much their warps are smoothed, in pixels
ROUNDS = ((60, 14), (50, 10), (40, 8), (30, 6), (24, 5), (FEWEST, 4), (FEWEST, 3))
LIMITS = (3.5, 3.5, 3.0, 2.0, 1.5, 1.3, 1.2)  # largest gain of each band of frequencies, finest first
HUE = (15, 17)  # of skin: a and b in CIE Lab

Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)
DIS = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def oval(x: float, y: float, width: float, height: float) -> np.ndarray:
    """Weights: 1 within an oval, 0 without, soft between; all as shares of SIZE."""
    return np.exp(-((((X / SIZE - x) / width) ** 2 + ((Y / SIZE - y) / height) ** 2) ** 2))


FACE, EYES = oval(0.5, 0.49, 0.31, 0.39), oval(0.5, 0.32, 0.3, 0.1)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur."""
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def even(rgb: np.ndarray) -> np.ndarray:
    """Brightness, uint8, of everywhere the same mean and contrast: light doesn't matter to the flow."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) if rgb.ndim == 3 else rgb
    detail = gray - blur(gray, 40)
    return np.clip(128 + 45 * detail / (np.sqrt(blur(detail**2, 40)) + 6), 0, 255).astype(np.uint8)


def alike(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    """Correlation."""
    a, b = (v - np.average(v, weights=weights) for v in (a.astype(np.float32), b.astype(np.float32)))
    return float((weights * a * b).sum() / np.sqrt((weights * a * a).sum() * (weights * b * b).sum()))


def measure(photo: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Where a face goes in an example, and how turned, hidden, blurred, likely to wear glasses and tinted it is."""
    matrix, standard = similarity(points, TARGET), similarity(points, POINTS)
    places = points @ matrix[:, :2].T + matrix[:, 2]
    middle = places[[0, 1, 3, 4], 0].reshape(2, 2).mean(1)  # between the eyes, between the corners of the mouth
    turned = np.abs(places - TARGET).mean() + np.abs(places[2, 0] - middle).mean()
    hidden = 1 - cv2.warpAffine(np.ones(photo.shape[:2], np.float32), matrix, (SIZE, SIZE)).mean()
    upright = cv2.warpAffine(photo, standard, (PHOTO, PHOTO), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    lab = cv2.cvtColor(upright / 255, cv2.COLOR_RGB2LAB)[40:180, 50:174]
    light, contrast = lab[..., 0], lab[..., 0].std() + 3
    edges = np.abs(cv2.Sobel(blur(light, 1), cv2.CV_32F, 0, 1)) / contrast
    bridge, under_eyes = edges[16:46, 55:69].max(0).mean(), edges[42:64, [*range(2, 40), *range(84, 122)]]
    blurred = -np.abs(light - blur(light, 1.2)).mean() / contrast
    return matrix, [turned, hidden, blurred, bridge + np.percentile(under_eyes, 95), *lab.mean((0, 1))]


def candidates(photos: list[np.ndarray], detector: YuNet, count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """The most frontal, sharp and well lit faces: uint8 [N, SIZE, SIZE, 3], and where each is within its photo."""
    found = [(photo, detector.detect(photo, 0.85, side=320)) for photo in photos]
    photos = [photo for photo, faces in found if faces]
    none = np.zeros((0, SIZE, SIZE, 3), np.uint8), np.zeros((0, SIZE, SIZE), np.float32)
    if not photos:
        return none
    points: list[Any] = [max(faces, key=lambda face: face.area).landmarks for _, faces in found if faces]
    matrices, values = zip(*map(measure, photos, points), strict=True)
    turned, hidden, blurred, glasses, light, *color = np.array(values).T
    tint = np.hypot(*(c - np.median(c) for c in color))
    good = (blurred < np.quantile(blurred, 0.6)) & (tint < np.quantile(tint, 0.75)) & (light > np.quantile(light, 0.15))
    if not good.any():
        return none
    good &= glasses < np.quantile(glasses[good], 0.6)
    rank = np.where(good, turned / np.median(turned) + 6 * hidden, np.inf)
    size, mode, faces, seen = (SIZE, SIZE), cv2.BORDER_REFLECT, [], []
    for i in np.argsort(rank)[: min(count, good.sum())]:
        faces.append(cv2.warpAffine(photos[i], matrices[i], size, flags=cv2.INTER_CUBIC, borderMode=mode))
        seen.append(cv2.warpAffine(np.ones(photos[i].shape[:2], np.float32), matrices[i], size))
    return np.array(faces), np.array(seen)


def moved(image: np.ndarray, flow: np.ndarray, mode: int = cv2.INTER_CUBIC) -> np.ndarray:
    """The image with each pixel taken from where the flow points."""
    return cv2.remap(image, X + flow[..., 0], Y + flow[..., 1], mode, borderMode=cv2.BORDER_REFLECT)


def align(faces: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The faces that fit their mean best, warped to its shape, and where each is within its photo."""
    gray = np.array([even(face) for face in faces])
    for _ in range(2):  # mirrored where they fit better: light then comes from one side
        mean = blur(gray.mean(0, dtype=np.float32), 4)
        for i in range(len(faces)):
            soft = blur(gray[i].astype(np.float32), 4)
            if alike(soft[:, ::-1], mean, FACE) > alike(soft, mean, FACE) + 0.01:
                faces[i], gray[i], seen[i] = faces[i][:, ::-1].copy(), gray[i][:, ::-1].copy(), seen[i][:, ::-1].copy()
    no_flow: Any = None  # OpenCV's types don't say that it's optional
    kept, mean = np.arange(len(faces)), gray.mean(0, dtype=np.float32)
    for count, smooth in ROUNDS:
        flows = np.array([blur(DIS.calc(even(mean), gray[i], no_flow), smooth) for i in kept])
        flows -= flows.mean(0)  # keeps the mean's shape
        warped = [
            blur(moved(gray[i], flow, cv2.INTER_LINEAR).astype(np.float32), 1)
            for i, flow in zip(kept, flows, strict=True)
        ]
        mean = np.mean(warped, axis=0)
        fit = [alike(face, mean, FACE + 0.1) + alike(face, mean, EYES) for face in warped]
        best = np.argsort(fit)[::-1][:count]
        kept, flows, mean = kept[best], flows[best], np.mean([warped[i] for i in best], axis=0)
    faces = np.array([moved(faces[i], flow) for i, flow in zip(kept, flows, strict=True)])
    return faces, np.array([moved(seen[i], flow, cv2.INTER_LINEAR) for i, flow in zip(kept, flows, strict=True)])


def bands(image: np.ndarray) -> list[np.ndarray]:
    """Bands of frequencies, finest first, and the rest; they sum to the image."""
    levels = [image, *(blur(image, 0.8 * 2**k) for k in range(len(LIMITS)))]
    return [fine - coarse for fine, coarse in itertools.pairwise(levels)] + levels[-1:]


def blend(faces: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """One face from aligned ones, uint8 [SIZE, SIZE, 3]."""
    lab = np.array([cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for face in faces])
    tones = np.array([(FACE[..., None] * face).sum((0, 1)) / FACE.sum() for face in lab])
    # Skin has much the same hue everywhere; what differs is the light's.
    common = np.median(tones, axis=0)
    lab += ((common + np.array([common[0], *HUE])) / 2 - tones)[:, None, None]
    weights = seen[..., None] + 1e-3
    mean = np.average(lab, axis=0, weights=np.broadcast_to(weights, lab.shape))
    for _ in range(3):  # less of what is far from the mean: glasses, hands
        off = np.array([blur(face[..., 0] - mean[..., 0], 2) for face in lab])[..., None]
        spread = np.sqrt(np.average(off**2, axis=0, weights=weights)) + 1
        trusted = weights / (1 + (off / (1.2 * spread)) ** 4)
        mean = (trusted * lab).sum(0) / trusted.sum(0)
    *fine, result = bands(mean)
    single = [bands(face[..., 0]) for face in lab]
    for k, (band, limit) in enumerate(zip(fine, LIMITS, strict=True)):
        area = min(max(6, 3 * 2**k), 48)
        energy, typical = blur(band[..., 0] ** 2, area), np.array([blur(face[k] ** 2, area) for face in single])
        # Chance leaves a mean of N faces 1/N of their energy: up to there nothing is amplified.
        sure = np.clip((energy / (typical.mean(0) + 1e-3) * len(lab) - 0.7) / 1.5, 0, 1)
        gain = np.clip(np.sqrt(np.median(typical, axis=0) / (energy + 1e-4)), 1, limit) - 1
        gain = (gain * blur(sure, area) * oval(0.5, 0.46, 0.38, 0.45))[..., None]
        result = result + band * (1 + gain * [1, 0.5, 0.5])
    # Behind the heads are other things in every photo.
    soft = np.array([blur(face, 3) for face in lab])
    spread = blur(np.median(np.linalg.norm(soft - np.median(soft, axis=0), axis=-1), axis=0), 3)
    head = np.clip(3.6 - 1.25 * spread / np.median(spread[FACE > 0.5]), 0, 1)
    result = backdrop(result.astype(np.float32), seen.mean(0), np.maximum(head, np.clip(3 * FACE - 0.3, 0, 1)))
    return (255 * cv2.cvtColor(result, cv2.COLOR_LAB2RGB)).clip(0, 255).round().astype(np.uint8)


def backdrop(image: np.ndarray, seen: np.ndarray, head: np.ndarray) -> np.ndarray:
    """The image with a plain background; what few photos show is filled from its surroundings."""
    seen = cv2.erode(np.clip(2.5 * seen - 0.6, 0, 1), np.ones((7, 7)))
    image = spread_out(image, seen * blur(seen, 3), (6, 12, 25, 50, 100))
    head = blur(head.astype(np.float32), 8)[..., None]
    near = oval(0.5, 0.47, 0.53, 0.6)[..., None]
    image = near * image + (1 - near) * blur(image, 5)
    return (head * image + (1 - head) * blur(image, 15)).astype(np.float32)


def spread_out(image: np.ndarray, weights: np.ndarray, sigmas: tuple) -> np.ndarray:
    """The image where the weights are 1; elsewhere filled with what is near and has weight."""
    weights = weights.astype(np.float32)
    total, weight = np.zeros_like(image), np.full_like(weights, 1e-6)
    for sigma in sigmas:
        total = total + blur(image * weights[..., None], sigma) / sigma**3.3
        weight = weight + blur(weights, sigma) / sigma**3.3
    return weights[..., None] * image + (1 - weights[..., None]) * total / weight[..., None]


def group(faces: list[np.ndarray]) -> np.ndarray:
    """Faces in two rows, as in a video call: uint8 [H, W, 3]."""
    side, gap = 256, 8  # pixels
    step, columns = side + gap, len(faces) // 2
    canvas = np.full((2 * step + gap, columns * step + gap, 3), (38, 43, 51), np.uint8)
    for i, face in enumerate(faces):
        top, left = (gap + at * step for at in divmod(i, columns))
        canvas[top : top + side, left : left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return canvas


@command(ModelError, DataError, OSError)
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.example_faces", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="HuggingFaceM4/FairFace")
    parser.add_argument("--out", type=Path, default=EXAMPLES)
    options = parser.parse_args()
    samples, detector = load_samples(options.dataset)[0], YuNet()
    examples = {}
    for low, high, gender, *races in GROUPS:
        member = (samples.age_range[:, 0] >= low) & ((samples.age_range[:, 1] <= high) | (high == 99))
        member &= np.isin(samples.race, [FAIRFACE_RACES.index(race) for race in races])
        chosen = samples.take(member & (samples.gender == GENDERS.index(gender))).limit(900)
        name = f"{low}-{high}, {gender}"
        found = candidates([decode_picture(encoded) for encoded in chosen.encoded], detector)
        if len(found[0]) < FEWEST:
            raise DataError(
                f"{name}: {counted(len(found[0]), 'usable face')} among {counted(len(chosen), 'image')}, {FEWEST} are "
                "needed. Use a dataset with more faces."
            )
        faces, seen = align(*found)
        example = examples[f"age-{low:02d}-{high:02d}-{gender}"] = blend(faces, seen)
        fit = [alike(blur(even(example), 1), blur(even(face), 1), FACE) for face in faces]
        print(
            f"{name}: {len(faces)} of {len(found[0])} of {len(chosen)} faces; correlation with "
            f"each {np.median(fit):.2f}, at most {max(fit):.2f}",
            flush=True,
        )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, example in {**examples, "group": group(list(examples.values()))}.items():
        Image.fromarray(example).save(options.out / f"{name}.jpg", quality=92)


if __name__ == "__main__":
    sys.exit(main())
