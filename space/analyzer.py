"""The public API: takes an image, returns faces with age and gender.

analyzer = FaceAnalyzer.load()
faces = analyzer.analyze(rgb)
"""

from __future__ import annotations

import numbers
import os
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from . import quality
from .calibration import Calibration
from .crop import Template, crops
from .detector import SURE, THRESHOLD, YuNet, surest
from .estimator import BATCH, Estimator
from .face import Face
from .hub.bundle import Bundle, open_bundle
from .hub.download import ModelError
from .photo import MAX_SIDE, open_photo, to_pixels
from .tilt import PROPOSED, TURNED, upright
from .turns import FairLock

# An image counts as upright if its best face has the score SURE: turned by 90° or 270°, none of 700 FairFace photos
# does, upside down 9%.
MARGIN = 0.02  # by which a turned image's sum of scores must be larger: fewer upright photos are turned by mistake


@dataclass(frozen=True, eq=False)  # by identity: a key of a cache
class FaceAnalyzer:
    """Detector, crop and estimator in one; safe to share between threads."""

    bundle: Bundle
    template: Template
    estimator: Estimator
    detector: YuNet
    calibration: Calibration
    lock: FairLock | None = None  # with which the networks take turns

    @classmethod
    def load(cls, model: str | None = None) -> FaceAnalyzer:
        """Load a model and the face detector.

        Args:
            model: the name of an embedded bundle ("compact", "open", "vgg16"), a bundle's folder, a Hub id
                `user/name[@revision]`, or None: `$AGE_GENDER_MODEL`, else the default embedded bundle.

        Raises:
            ModelError: the model or detector is unavailable or damaged.
        """
        return cls._open(model or os.environ.get("AGE_GENDER_MODEL") or None, YuNet())

    @classmethod
    def _open(cls, model: str | None, detector: YuNet) -> FaceAnalyzer:
        bundle = open_bundle(model)
        template = Template.from_dict(bundle.card["crop"])
        estimator = Estimator(bundle.model_path)
        if estimator.size != template.size:
            raise ModelError(
                f"The network in {bundle.folder} needs {estimator.size} pixels, but its "
                f"crop template has {template.size}."
            )
        return cls(bundle, template, estimator, detector, Calibration.from_dict(bundle.card["calibration"]))

    def taking_turns(self) -> FaceAnalyzer:
        """A copy of this analyzer for a server: it runs one batch at a time, in the order of arrival.

        Giving all cores to one batch is faster than dividing them among photos. Between the batches of a crowd, other
        photos get their turn.
        """
        lock = FairLock()
        return replace(
            self, detector=self.detector.taking_turns(lock), estimator=self.estimator.taking_turns(lock), lock=lock
        )

    def with_model(self, model: str | None) -> FaceAnalyzer:
        """The same detector with another embedded model, by name; itself for its own and for None."""
        return self if model in (None, self.bundle.card["name"]) else _with_model(self, model)

    def warm_up(self) -> None:
        """Find and estimate once, so that the first visitor does not wait for memory and kernels."""
        self.detect(np.zeros((480, 640, 3), np.uint8))
        self.estimator.predict(np.zeros((1, self.estimator.size, self.estimator.size, 3), np.uint8))

    def analyze(self, rgb: np.ndarray, *, threshold: float = THRESHOLD, most: int | None = None) -> list[Face]:
        """Every face in an image with apparent age and gender, largest first; all predicted in one batch.

        Args:
            rgb: uint8 [H, W, 3] in RGB order, upright or turned by quarters; a Pillow image; or a file's path or bytes.
                Images read by OpenCV are BGR, which can't be detected: convert them first.
            threshold: detector's score from which something counts as a face, 0 to 1.
            most: return only so many faces, the largest ones.

        Raises:
            ValueError: wrong shape or dtype, or invalid `most`.
        """
        if most is not None and not (isinstance(most, numbers.Integral) and most >= 0):
            raise ValueError(f"most must be a whole number (0 or more) or None, not {most!r}.")
        pixels, reduction = _pixels(rgb)
        faces = self.estimate(pixels, self.detect(pixels, threshold=threshold)[:most])
        return [face.scaled(reduction) for face in faces]

    def detect(
        self,
        rgb: np.ndarray,
        *,
        threshold: float = THRESHOLD,
        side: int | None = None,
        quarters: int | None = None,
    ) -> list[Face]:
        """Every face of an image without age and gender, largest first; as `analyze`.

        Args:
            rgb, threshold: as for `analyze`.
            side: as for `YuNet.detect`; None also finds tilted faces, see `tilt.upright`.
            quarters: by how many quarters to turn the image, as `np.rot90`. None: as it is, and if YuNet is sure of no
                face, turned by 90°, 180° and 270° too, see `Face.rotation`.
        """
        rgb, reduction = _pixels(rgb)
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
            raise ValueError(
                f"An image must be uint8 [H, W, 3] RGB, a Pillow image, a path or bytes, not {rgb.dtype} {rgb.shape}."
            )
        if max(rgb.shape) > MAX_SIDE:
            raise ValueError(f"The image is too large: the limit is {MAX_SIDE:,} pixels per side.")
        if not (isinstance(threshold, numbers.Real) and 0 <= threshold <= 1):
            raise ValueError(f"The threshold must be a number from 0 to 1, not {threshold!r}.")
        if quarters not in (None, 0, 1, 2, 3):
            raise ValueError(f"quarters must be 0 to 3 or None, not {quarters!r}.")
        thorough = side is None
        least = min(threshold, PROPOSED) if thorough else None
        found = self._detect_turned(rgb, threshold, side, least, quarters or 0)
        if quarters is None and surest(found) < SURE:
            best = _total(found, threshold) + MARGIN
            for number in (1, 2, 3):
                turned = self._detect_turned(rgb, threshold, side, least, number)
                if surest(turned) >= TURNED and _total(turned, threshold) > best:
                    found, best = turned, _total(turned, threshold)
        if thorough:
            found = upright(self.detector, rgb, found, threshold)
        height, width = rgb.shape[:2]
        found = [replace(face, cut_off=quality.cut_off(face.box, width, height)) for face in found]
        return [face.scaled(reduction) for face in sorted(found, key=lambda face: -face.area)]

    def _detect_turned(
        self, rgb: np.ndarray, threshold: float, side: int | None, least: float | None, quarters: int
    ) -> list[Face]:
        faces = self.detector.detect(np.ascontiguousarray(np.rot90(rgb, quarters)), threshold, side, least)
        return [face.turned_back(quarters, rgb.shape[1], rgb.shape[0]) for face in faces] if quarters else faces

    def estimate(self, rgb: np.ndarray, faces: list[Face]) -> list[Face]:
        """The same faces with age and gender filled in, predicted in batches."""
        parts = [faces[i : i + BATCH] for i in range(0, len(faces), BATCH)]
        return [face for part in parts for face in self.estimate_crops(crops(rgb, part, self.template), part)]

    def estimate_crops(self, images: np.ndarray, faces: list[Face]) -> list[Face]:
        """The same faces with age and gender filled in, from their crops, uint8 [N, size, size, 3], in one batch."""
        answers = self.estimator.predict(images)
        ages = np.maximum(answers["age"].astype(np.float64), 0.0)
        p_female, sharp = self.calibration.p_female(answers["p_female"]), quality.sharpness(images)
        distributions = self.calibration.age_probs(ages, answers.get("age_probs"), quality.wider(sharp))
        lows, highs = self.calibration.interval(ages, self.calibration.weighted(distributions))
        return [
            replace(
                face,
                age=float(age),
                age_low=float(low),
                age_high=float(high),
                p_female=float(p),
                age_probs=probs if "age_probs" in answers else None,
                sharpness=float(seen),
            )
            for face, age, low, high, p, seen, probs in zip(
                faces, ages, lows, highs, p_female, sharp, distributions, strict=True
            )
        ]


def _total(faces: list[Face], threshold: float) -> float:
    return sum(face.score for face in faces if face.score >= threshold)


def _pixels(source) -> tuple[np.ndarray, int]:
    """The pixels of what `FaceAnalyzer.analyze` takes, and how much `open_photo` reduced them. Raises PhotoError."""
    if isinstance(source, (str, os.PathLike, bytes)):
        photo = open_photo(os.fspath(source))
        return photo.rgb, photo.reduction
    return to_pixels(source) if isinstance(source, Image.Image) else np.asarray(source), 1


@lru_cache(maxsize=4)
def _with_model(analyzer: FaceAnalyzer, model: str) -> FaceAnalyzer:
    other = FaceAnalyzer._open(model, analyzer.detector)
    lock = analyzer.lock
    return replace(other, estimator=other.estimator.taking_turns(lock), lock=lock) if lock else other
