"""What the analysis of a video yields."""

from __future__ import annotations

import base64
import errno
from dataclasses import dataclass, field

import numpy as np

from ..face import apparent_gender

SIDE = 96  # pixels, of a thumbnail
DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES}


class VideoError(ValueError):
    """The file can't be used as a video; the message is for the person who sent it."""


@dataclass(frozen=True)
class Person:
    """One person in a video: times in seconds from the first frame, estimates as in `Face`, over all frames."""

    id: int
    first: float
    last: float
    on_screen: float  # seconds
    age: float
    age_low: float
    age_high: float
    gender: str
    gender_probability: float
    thumbnail: np.ndarray | None = field(default=None, repr=False, compare=False)  # uint8 [SIDE, SIDE, 3]

    def as_dict(self) -> dict:
        """Plain values, for JSON and CSV, without the thumbnail."""
        digits = {"gender_probability": 4, "age": 1, "age_low": 1, "age_high": 1}
        values = {
            name: round(value, digits.get(name, 2)) if isinstance(value, float) else value
            for name, value in vars(self).items()
            if name != "thumbnail"
        }
        return values | {"gender_label": apparent_gender(self.gender, self.gender_probability, self.age)}


@dataclass(frozen=True)
class Progress:
    """Progress of the analysis."""

    share: float  # 0 to 1
    seconds_left: float | None  # None: not known yet
    # uint8 [H, W, 3], the last written frame, reduced
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)


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

    def to_json(self) -> dict:
        """Plain values, with each thumbnail's bytes in base64."""
        people = [
            vars(person)
            | {"thumbnail": None if (t := person.thumbnail) is None else base64.b64encode(t.tobytes()).decode()}
            for person in self.people
        ]
        return vars(self) | {"people": people}

    @classmethod
    def from_json(cls, values: dict) -> VideoResult:
        """The result of `to_json`'s values. Raises KeyError, TypeError and ValueError for others."""
        return cls(
            people=[_person(person) for person in values["people"]],
            counts=[(float(seconds), int(faces)) for seconds, faces in values["counts"]],
            frames=int(values["frames"]),
            analyzed=int(values["analyzed"]),
            seconds=float(values["seconds"]),
            damaged=bool(values["damaged"]),
            elapsed=float(values["elapsed"]),
        )


def _person(values: dict) -> Person:
    if values["gender"] not in ("female", "male"):
        raise ValueError("no gender")
    numbers = {
        name: float(values[name])
        for name in ("first", "last", "on_screen", "age", "age_low", "age_high", "gender_probability")
    }
    return Person(int(values["id"]), **numbers, gender=values["gender"], thumbnail=_thumbnail(values["thumbnail"]))


def _thumbnail(text: str | None) -> np.ndarray | None:
    return None if text is None else np.frombuffer(base64.b64decode(text), np.uint8).reshape(SIDE, SIDE, 3)
