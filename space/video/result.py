"""What the analysis of a video yields."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import numpy as np

DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES}


class VideoError(ValueError):
    """The file can't be used as a video; the message is for the person who sent it."""


@dataclass(frozen=True)
class Person:
    """One person of a video; times in seconds from its start, estimates as in `Face`, over all of their frames."""

    id: int
    first: float
    last: float
    on_screen: float  # seconds
    age: float
    age_low: float | None
    age_high: float | None
    gender: str
    gender_probability: float
    thumbnail: np.ndarray | None = field(default=None, repr=False, compare=False)  # uint8 [96, 96, 3], the surest face

    def as_dict(self) -> dict:
        """Plain values, for JSON and CSV, without the thumbnail."""
        digits = {"gender_probability": 4, "age": 1, "age_low": 1, "age_high": 1}
        return {
            name: round(value, digits.get(name, 2)) if isinstance(value, float) else value
            for name, value in vars(self).items()
            if name != "thumbnail"
        }


@dataclass(frozen=True)
class Progress:
    """Progress of the analysis."""

    share: float  # 0 to 1
    seconds_left: float | None  # None: not known yet


@dataclass(frozen=True)
class VideoResult:
    """The people of a video, and how it was analyzed."""

    people: list[Person]  # longest on screen first
    counts: list[tuple[float, int]]  # seconds from the start, faces shown: one entry per analyzed frame
    frames: int
    analyzed: int
    seconds: float  # length, as far as the video could be read
    damaged: bool  # whether some of it could not be read
    elapsed: float  # seconds that the analysis took
