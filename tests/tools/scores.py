"""Held-out FairFace photos and how good answers for them are, for the tools that compare programs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support import SHARED
from training.data.samples import PROTOCOLS


def held_out(count: int, folder: Path) -> list[tuple[Path, str, str]]:
    """FairFace photos of the test buckets, with gender and age band."""
    import pyarrow.parquet as pq

    rows = next(
        pq.ParquetFile(SHARED / "data/FairFace/0.25/train-00000-of-00001.parquet").iter_batches(12 * count)
    ).to_pylist()
    chosen = []
    for row in rows:
        content = row["image"]["bytes"]
        if int(hashlib.sha256(content).hexdigest(), 16) % 10 in PROTOCOLS["80/10/10"]["test"] and len(chosen) < count:
            path = folder / f"face-{len(chosen):04d}.webp"
            path.write_bytes(content)
            chosen.append((path, ("male", "female")[row["gender"]], row["age"]))
    return chosen


def score(answers: list[list[dict]], photos: list[tuple[Path, str, str]]) -> str:
    """Share of photos with the labeled gender and age band, for the largest face of each."""
    bands = [(0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 200)]
    found = genders = ages = 0
    for faces, (_, gender, band) in zip(answers, photos, strict=True):
        if faces:
            face = max(faces, key=lambda one: one["box"][2] * one["box"][3])
            found += 1
            genders += face["gender"] == gender
            ages += bands[band][0] <= int(face["age"] + 0.5) <= bands[band][1]
    return f"{found} photos, gender {100 * genders / found:.1f}%, age band {100 * ages / found:.1f}%"
