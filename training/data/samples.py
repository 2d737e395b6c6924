"""Labeled faces and their splits."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from space.text import counted
from training.data.sources import DataError

IMAGE_SIZE = 200  # pixels, height and width after decoding
GENDERS = ("male", "female")  # UTKFace's label order
RACES = ("White", "Black", "Asian", "Indian", "Other")  # UTKFace's label order
FAIRFACE_RACES = ("East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino Hispanic", "Southeast Asian")
POLICIES = ("clean", "all")
SPLITS = ("train", "validation", "test")
# Buckets of each split; a bucket is the SHA-256 of the file modulo 10.
PROTOCOLS = {
    "80/10/10": {"train": (0, 1, 2, 3, 4, 5, 6, 7), "validation": (8,), "test": (9,)},
    "60/20/20": {"train": (0, 1, 2, 3, 4, 5), "validation": (6, 7), "test": (8, 9)},
}
OLDEST = 120  # years; UTKFace ends at 116
AGE_BANDS = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, OLDEST))  # inclusive


@dataclass(frozen=True)
class Samples:
    """Labeled faces, pictures still encoded. All arrays have length N."""

    name: np.ndarray  # str, file name without extension
    age_range: np.ndarray  # float32 [N, 2], first and last year that the label allows; equal where the age is known
    gender: np.ndarray  # int8, 0 male, 1 female
    race: np.ndarray  # int8, index into `races`, -1 unknown
    sha256: np.ndarray  # str, of the encoded picture
    encoded: tuple = field(repr=False)  # bytes, or the path of a file, each
    races: tuple[str, ...] = RACES

    def __len__(self) -> int:
        return len(self.name)

    @property
    def age(self) -> np.ndarray:
        """float32 [N], years; the middle of its range where only that is known."""
        return self.age_range.mean(axis=1)

    @property
    def binned(self) -> bool:
        """Whether ages, or most of them, are known as ranges of years only."""
        return bool((self.age_range[:, 0] < self.age_range[:, 1]).mean() > 0.5) if len(self) else False

    @property
    def bucket(self) -> np.ndarray:
        """int8 [N], the SHA-256 modulo 10."""
        return np.array([int(digest, 16) % 10 for digest in self.sha256], np.int8)

    def take(self, index) -> Samples:
        """The samples at `index` (integers or a boolean mask)."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        arrays = {k: getattr(self, k)[index] for k in ("name", "age_range", "gender", "race", "sha256")}
        return replace(self, encoded=tuple(self.encoded[i] for i in index), **arrays)

    def split(self, split: str, protocol: str = "80/10/10") -> Samples:
        """One split of `protocol`, by bucket. Raises DataError if it is empty."""
        chosen = self.take(np.isin(self.bucket, PROTOCOLS[protocol][split]))
        if not len(chosen):
            raise DataError(
                f"The {split} split ({protocol}) is empty: none of {counted(len(self), 'usable image')} is in it. Add "
                "images, or measure on all of them with evaluate.py --split all."
            )
        return chosen

    def limit(self, count: int | None, seed: int = 0) -> Samples:
        """At most `count` samples, drawn without replacement in an order that `seed` decides."""
        if count is None or count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))


def baseline_age(samples: Samples, protocol: str | None) -> float:
    """The median age of a dataset's training faces, years; of all its faces without a protocol or training faces."""
    train = np.isin(samples.bucket, PROTOCOLS[protocol]["train"]) if protocol else np.zeros(len(samples), bool)
    return float(np.median(samples.age[train] if train.any() else samples.age))


def age_error(age: np.ndarray, age_range: np.ndarray) -> np.ndarray:
    """Years by which estimates [N] lie above (or, negative, below) their labels' ranges [N, 2]; 0 inside of them."""
    return age - np.clip(age, *age_range.T)


def age_band(years: np.ndarray) -> np.ndarray:
    """The index in AGE_BANDS of each age."""
    return np.searchsorted([low for low, _ in AGE_BANDS], years, side="right") - 1


def band_name(low: int, high: int) -> str:
    """`20-29`, `70+`."""
    return f"{low}-{high}" if high < OLDEST else f"{low}+"


def positive_int(text: str) -> int:
    """An option's value that must be a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def dataset_hash(samples: Samples) -> str:
    """Names a set of faces, in whatever layout it came: SHA-256 over the images' own, sorted."""
    return _hash(samples.sha256)


def label_hash(samples: Samples) -> str:
    """As `dataset_hash`, of the images with their ages and genders."""
    return _hash(zip(samples.sha256, samples.age_range.tolist(), samples.gender.tolist(), strict=True))


def _hash(rows: Iterable) -> str:
    return hashlib.sha256("".join(sorted(map(str, rows))).encode()).hexdigest()


def describe(samples: Samples) -> str:
    """One line: how many, of which ages and genders."""
    if not len(samples):
        return "0 faces"
    low, median, high = np.percentile(samples.age, (0, 50, 100))
    if samples.binned:
        low, high = samples.age_range.min(), samples.age_range.max()
    return (
        f"{len(samples)} faces, ages {low:.0f} to {high:.0f} (median {median:.0f}), "
        f"{100 * np.mean(samples.gender):.0f}% female"
    )
