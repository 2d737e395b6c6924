"""Scores predictions for labeled photos, for the tools that compare programs."""

from __future__ import annotations

from pathlib import Path

from training.data.samples import AGE_BANDS


def score(answers: list[list[dict]], photos: list[tuple[Path, str, str]]) -> str:
    """Share of photos with the labeled gender and age band, for the largest face of each."""
    found = genders = ages = 0
    for faces, (_, gender, band) in zip(answers, photos, strict=True):
        if faces:
            face = max(faces, key=lambda one: one["box"][2] * one["box"][3])
            found += 1
            genders += face["gender"] == gender
            ages += AGE_BANDS[band][0] <= int(face["age"] + 0.5) <= AGE_BANDS[band][1]
    return f"{found} photos, gender {100 * genders / found:.1f}%, age band {100 * ages / found:.1f}%"
