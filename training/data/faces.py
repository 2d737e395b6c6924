"""The faces of a run: the datasets that a recipe names, split, decoded and ready to learn from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from space.text import some_of
from training.data.cropping import FaceCropper, pose_masks
from training.data.decode import decode
from training.data.load import load_samples
from training.data.near_duplicates import near_duplicates
from training.data.report import Report
from training.data.samples import SPLITS, Samples, age_band, baseline_age, describe
from training.images import Images, Rows

TURNED = 1.5  # how much more often turned faces of photos are drawn in balanced stages
RARITY = 0.25  # exponent: faces of a group that has a sixteenth of another's faces are drawn twice as often


@dataclass(frozen=True)
class Faces:
    """N faces of one split of one dataset."""

    samples: Samples
    images: Images  # uint8 [N, 200, 200, 3] RGB
    report: Report  # of the dataset
    median_age: float  # years, of the dataset's training split

    def __len__(self) -> int:
        return len(self.samples)

    def spread(self, count: int) -> np.ndarray:
        """uint8 [count or less, 200, 200, 3]: every k-th face, so that it doesn't matter in which order they are."""
        return np.asarray(self.images[:: max(1, len(self) // count)][:count])

    @functools.cached_property
    def drawing_weight(self) -> np.ndarray:
        """float64 [N], relative: the smaller a face's group of age band, gender and race, the more often it's drawn.

        Turned faces of photos are drawn more often too.
        """
        samples = self.samples
        group = (age_band(samples.age_range[:, 0]) * 2 + samples.gender) * (len(samples.races) + 1) + samples.race + 1
        _, member, count = np.unique(group, return_inverse=True, return_counts=True)
        weight = np.maximum(count[member], 10.0) ** -RARITY
        return np.where(pose_masks(self.images)["turned"], TURNED, 1.0) * weight if samples.binned else weight


def load_faces(
    train: Sequence[str],
    test: Sequence[str],
    *,
    policy: str,
    protocol: str,
    limit: int | None,
    seed: int,
    copies: bool = False,
) -> dict[str, list[Faces]]:
    """The faces of each split, a value for each dataset.

    Args:
        train: datasets to learn from, as `load_samples` takes them, with @revision if wanted.
        test: datasets of which only the test split is used.
        policy: as for `load_samples`.
        protocol: of `Samples.split`.
        limit: at most so many faces of each split of each dataset, drawn by `seed`.
        copies: also return training faces that are re-encoded copies of validation or test faces.

    Raises:
        DataError: the data can't be used; the message says why and what to do.
        ModelError: the face detector is missing.
    """
    found: dict[str, list[Faces]] = {name: [] for name in SPLITS}
    for number, source in enumerate((*train, *test)):
        everything, report = load_samples(source, policy=policy)
        print(report)
        cut = FaceCropper() if everything.binned else None
        median = baseline_age(everything, protocol)
        for name in SPLITS if number < len(train) else ("test",):
            chosen = everything.split(name, protocol).limit(limit, seed)
            samples, images = decode(chosen, cut, framed=report.collection == "UTKFace")
            if lost := len(chosen) - len(samples):
                reason = "photos without a detected face, or unreadable"
                report.dropped[reason] = report.dropped.get(reason, 0) + lost
            print(f"  {name}: {describe(samples)}")
            found[name].append(Faces(samples, images, report, median))
    if not copies:
        held_out = [faces.images for name in ("validation", "test") for faces in found[name]]
        found["train"] = [_without_copies(faces, held_out) for faces in found["train"]]
    for what in ("age", "gender"):
        if len(np.unique(np.concatenate([getattr(faces.samples, what) for faces in found["train"]]))) < 2:
            print(f"warning: all training faces have the same {what}: check the labels. The network can't learn it.")
    return found


def _without_copies(faces: Faces, held_out: list[Images]) -> Faces:
    """Training faces without re-encoded copies of held-out ones, which would flatter the results."""
    copies = near_duplicates(faces.images, held_out)
    if not copies.any():
        return faces
    reason = "re-encoded copies of validation or test images"
    faces.report.dropped[reason] = int(copies.sum())
    names = faces.samples.name[copies]
    print(f"  {len(names)} {reason} skipped for training: {some_of(names)}")
    kept = np.flatnonzero(~copies)
    return replace(faces, samples=faces.samples.take(kept), images=Rows(faces.images, kept))
