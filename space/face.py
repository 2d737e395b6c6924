"""The one value that flows through serving."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import quality

EXAMPLES = Path(__file__).resolve().parent / "examples"  # averages of FairFace photos: training/example_faces.py
# The probability of the likelier gender below which people are shown "uncertain", by estimated age: (below this age,
# probability). Children's gender is hard to see: with these limits, what is shown is right for about 95% in each band,
# on validation faces of UTKFace and of FairFace (`python -m tests.tools.shown_genders`).
UNCERTAIN = ((3.0, 0.97), (10.0, 0.93), (20.0, 0.90), (200.0, 0.75))
AGES = 102  # of a network's age distribution: 0 to 101 years


@dataclass(frozen=True)
class Face:
    """One face in one picture; each stage returns new faces with more filled in.

    Lengths in pixels of the upright picture, origin at its upper left corner; ages in years.
    """

    box: tuple[float, float, float, float]  # x, y, width, height; may reach over the picture's edge
    score: float  # of the detector, 0 to 1
    # float32 [5, 2]: right eye, left eye, nose, right and left mouth corner. Faces are compared without their arrays.
    landmarks: np.ndarray | None = field(default=None, compare=False)
    age: float | None = None
    age_low: float | None = None  # ends of the interval of likely ages
    age_high: float | None = None
    p_female: float | None = None  # probability that the apparent gender is female
    rotation: int = 0  # degrees counterclockwise by which the image was turned to find the face: 0, 90, 180 or 270
    track_id: int | None = None  # of a person in a stream
    # float64 [AGES], calibrated probability of each age, from networks that predict distributions
    age_probs: np.ndarray | None = field(default=None, compare=False)
    sharpness: float | None = None  # of the crop, 0 to 1, see `quality.sharpness`
    cut_off: float | None = None  # share of the box beyond the image's edge, 0 to 1

    @property
    def center(self) -> np.ndarray:
        """float64 [2], pixels, x and y of the box's middle."""
        return np.array(self.box[:2]) + np.array(self.box[2:]) / 2

    @property
    def gender(self) -> str | None:
        """The likelier apparent gender, "female" or "male"; None without an estimate."""
        return None if self.p_female is None else "female" if self.p_female >= 0.5 else "male"

    @property
    def gender_probability(self) -> float | None:
        """Of that gender, 0.5 to 1."""
        return None if self.p_female is None else max(self.p_female, 1 - self.p_female)

    @property
    def gender_label(self) -> str:
        """What people are shown: "female", "male" or "uncertain"."""
        if self.gender is None or self.gender_probability is None or self.age is None:
            return "uncertain"
        return apparent_gender(self.gender, self.gender_probability, self.age, self.sharpness)

    @property
    def yaw(self) -> float | None:
        """How far the face is turned to a side, see `quality.yaw`; None without landmarks."""
        return None if self.landmarks is None else quality.yaw(self.landmarks)

    @property
    def roll(self) -> float | None:
        """Degrees by which the face is tilted, see `quality.roll`; None without landmarks."""
        return None if self.landmarks is None else quality.roll(self.landmarks)

    @property
    def quality(self) -> str | None:
        """How well the face is visible, see `quality.word`; None without an estimate."""
        if self.sharpness is None:
            return None
        return quality.word(
            score=self.score,
            width=self.box[2],
            sharp=self.sharpness,
            turned=self.yaw or 0.0,
            cut=self.cut_off or 0.0,
        )

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.box[2] * self.box[3]

    def moved(self, x: float, y: float) -> Face:
        """The face of a part of an image whose corner is at x, y, in pixels of the image."""
        points = None if self.landmarks is None else self.landmarks + np.array([x, y], np.float32)
        return replace(self, box=(self.box[0] + x, self.box[1] + y, *self.box[2:]), landmarks=points)

    def scaled(self, factor: float) -> Face:
        """The same face in an image that is resized by `factor`."""
        if factor == 1:
            return self
        # Landmarks refer to pixel centers, box corners to pixel edges.
        points = None if self.landmarks is None else ((self.landmarks + 0.5) * factor - 0.5).astype(np.float32)
        x, y, width, height = (value * factor for value in self.box)
        return replace(self, box=(x, y, width, height), landmarks=points)

    def turned_back(self, quarters: int, width: int, height: int) -> Face:
        """The face of an image that was turned by `quarters` of 90° (as `np.rot90`), in pixels of the image of
        `width` x `height` before that."""

        def back(points: np.ndarray, w: float, h: float) -> np.ndarray:
            x, y = points[..., 0], points[..., 1]
            return np.stack({1: (w - y, x), 2: (w - x, h - y), 3: (y, h - x)}[quarters], axis=-1)

        corners = back(np.array([self.box[:2], np.add(self.box[:2], self.box[2:])], np.float64), width, height)
        low, high = corners.min(axis=0), corners.max(axis=0)
        # A landmark is the center of a pixel, a corner of a box is not.
        points = None if self.landmarks is None else back(self.landmarks, width - 1, height - 1).astype(np.float32)
        box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
        return replace(self, box=box, landmarks=points, rotation=90 * quarters)

    @classmethod
    def from_dict(cls, values: dict) -> Face:
        """The face that `as_dict` returned, as far as it is there."""
        p = values["gender_probability"]
        named: dict[str, Any] = {
            key: values.get(key) for key in ("score", "age", "age_low", "age_high", "sharpness", "cut_off")
        }
        return cls(tuple(values["box"]), **named, p_female=p if values["gender"] == "female" else 1 - p)

    def as_dict(self, *, age_probs: bool = False) -> dict:
        """The face as plain values, for JSON, without landmarks, rotation and track; with `age_probs` on request."""

        def rounded(value, digits):
            return None if value is None else round(float(value), digits)

        values = {
            "box": [round(float(v), 1) for v in self.box],
            "score": rounded(self.score, 3),
            "age": rounded(self.age, 1),
            "age_low": rounded(self.age_low, 1),
            "age_high": rounded(self.age_high, 1),
            "gender": self.gender,
            "gender_probability": rounded(self.gender_probability, 4),
            "gender_label": None if self.age is None else self.gender_label,
            "sharpness": rounded(self.sharpness, 3),
            "yaw": rounded(self.yaw, 3),
            "roll": rounded(self.roll, 1),
            "cut_off": rounded(self.cut_off, 3),
            "quality": self.quality,
        }
        if age_probs and self.age_probs is not None:
            values["age_probs"] = [round(float(p), 4) for p in self.age_probs]
        return values


def whole_years(age: float) -> str:
    """An age as people are shown it; the same for the exact age and for the JSON's, which has one decimal."""
    return str(int(round(age, 1) + 0.5))  # halves go up; Python's own rounding would send 18.5 to 18


def interval_years(low: float, high: float) -> str:
    """An interval as people are shown it, "26 to 37"."""
    return f"{whole_years(low)} to {whole_years(high)}"


def apparent_gender(gender: str, probability: float, age: float, sharpness: float | None = None) -> str:
    """What a person is shown: "female", "male", or "uncertain" where neither is likely enough at this estimated age and
    sharpness."""
    limit = next(limit for below, limit in UNCERTAIN if age < below or below == UNCERTAIN[-1][0])
    if sharpness is not None and sharpness < quality.SOFT:
        limit = max(limit, quality.BLURRED_GENDER)
    return gender if probability >= limit else "uncertain"


def percent(label: str, probability: float) -> str:
    """The probability of a gender beside its label. Rounding up an uncertain one could show the limit itself."""
    share = 100 * probability + 1e-9
    return f"{math.floor(share if label == 'uncertain' else share + 0.5)}%"  # halves up, as browsers do


def confidence(label: str, gender: str, probability: float) -> str:
    """A gender label with its probability, as people are shown it: `female · 97%`, or `uncertain (62% female)`."""
    share = percent(label, probability)
    return f"uncertain ({share} {gender})" if label == "uncertain" else f"{label} · {share}"
