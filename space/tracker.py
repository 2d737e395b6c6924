"""Tracks faces over time: keeps identities, steadies boxes and smooths estimates over frames.

Knows nothing of pictures: faces and times go in, faces come out. A person who is seen again after a cut or after MEMORY
is a new one, since nothing here recognizes anybody.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .face import Face

MEMORY = 1.5  # seconds after which a face that is gone is forgotten
SEARCH_GROWTH = 0.7  # face widths per second by which the search radius for a missing person grows
HOLD_SECONDS = 0.4  # seconds for which a face that the detector misses is still shown
CONFIRM = 2  # detections before a face is shown: what is seen once is often none
WINDOW = 60  # answers that a smoothed one rests on
# Answers that contradict a person's for so long, and so many of them, are somebody else's, who took the place unseen.
SWAP_SECONDS, SWAP_ANSWERS = 0.5, 3  # seconds, answers
OTHER_AGE, OTHER_GENDER = 15.0, 0.9  # years off, or confidence in the other gender against the same in this one
CALM_AGE, CALM_GENDER = 0.8, 0.03  # years and probability that an answer must move before the shown one follows
# One Euro filter (Casiez, Roussel & Vogel 2012): a still box is smoothed, a quick one followed at once.
CUTOFF, CUTOFF_SPEED = 1.0, 3.0  # Hz at rest, and more per box width a second


@dataclass
class Track:
    """One person from first to last sight."""

    id: int
    face: Face  # as last detected
    box: np.ndarray  # float64 [4], smoothed: x and y of the middle, width, height; pixels
    first: float  # seconds
    last: float
    answers: deque  # the last ones, in rows: weight, age, age_low, age_high, p_female
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels a second
    seen: int = 1  # detections
    answered: float = -math.inf  # seconds
    shown: tuple | None = None  # age, age_low, age_high, p_female
    seen_as: tuple = (None, None)  # sharpness and cut_off at the last answer
    doubts: list = field(default_factory=list)  # seconds and faces of the last answers, if they all contradict `shown`

    def follow(self, face: Face, seconds: float) -> None:
        """Move on to where the face is now."""
        step = max(seconds - self.last, 1e-3)
        new = _placed(face)
        move = (new - self.box)[:2] / step
        self.speed += _share(step, CUTOFF) * (move - self.speed)
        widths = float(np.linalg.norm(self.speed)) / max(face.box[2], 1.0)
        self.box += _share(step, CUTOFF + CUTOFF_SPEED * widths) * (new - self.box)
        self.face, self.last, self.seen = face, seconds, self.seen + 1

    def learn(self, face: Face) -> None:
        """Take one more answer into account: the weighted median, which no single bad frame can move."""
        age, low, high = face.age, face.age_low, face.age_high
        assert age is not None and low is not None and high is not None, "a face that is estimated"
        self.seen_as = face.sharpness, face.cut_off
        self.answers.append((face.score / (1 + high - low) ** 2, age, low, high, face.p_female))
        rows = np.array(self.answers)
        values = tuple(weighted_median(column, rows[:, 0]) for column in rows[:, 1:].T)
        if (
            self.shown is None
            or abs(values[0] - self.shown[0]) >= CALM_AGE
            or abs(values[3] - self.shown[3]) >= CALM_GENDER
        ):
            self.shown = values

    def is_somebody_else(self, face: Face, seconds: float) -> bool:
        """Whether this answer and those before it are another person's; an answer that fits ends the doubt."""
        self.answered = seconds
        if len(self.answers) > SWAP_ANSWERS:  # before that nothing is sure enough to be contradicted
            new, new_age = face.p_female, face.age
            assert self.shown is not None and new is not None and new_age is not None, "a face that is estimated"
            age, _, _, p = self.shown
            flipped = min(new, 1 - p) >= OTHER_GENDER or min(1 - new, p) >= OTHER_GENDER
            if flipped or abs(new_age - age) > OTHER_AGE:
                self.doubts.append((seconds, face))
                return len(self.doubts) >= SWAP_ANSWERS and seconds - self.doubts[0][0] >= SWAP_SECONDS
        self.doubts.clear()
        return False

    def as_face(self) -> Face:
        """The person as shown, once there is an answer: smoothed box and answers, with `track_id`."""
        assert self.shown is not None
        x, y, width, height = map(float, self.box)
        face = replace(self.face, box=(x - width / 2, y - height / 2, width, height), track_id=self.id)
        age, low, high, p = self.shown
        seen = {"sharpness": self.seen_as[0], "cut_off": self.seen_as[1]}
        return replace(face, age=age, age_low=low, age_high=high, p_female=p, **seen)


class Tracker:
    """Follows all faces of one stream; not to be shared between streams."""

    def __init__(self, *, window: int | None = WINDOW, confirm: int = CONFIRM):
        """`window`: how many of the last answers a smoothed one rests on, None for all; `confirm`: see CONFIRM."""
        self.tracks: list[Track] = []
        self._window, self._confirm = window, confirm
        self.memory = MEMORY  # seconds
        self._count = 0
        self._now = -math.inf

    def update(
        self,
        faces: list[Face],
        seconds: float,
        estimate: Callable[[list[Face]], list[Face]],
        *,
        most: int | None = None,
    ) -> list[Face]:
        """Take the faces of the next frame.

        Args:
            faces: as detected, without answers.
            seconds: the frame's time, on any clock that does not go back.
            estimate: fills in age and gender of some of `faces`; `FaceAnalyzer.estimate` on the frame.
            most: how many faces it is given at most: those whose last answer is oldest. None: all.

        Returns:
            The faces to show, by `track_id`, boxes and answers smoothed. Those not seen often enough yet, or without an
            answer yet, are held back. Those missed by the detector are shown for HOLD_SECONDS seconds more.
        """
        self._now = seconds = max(seconds, self._now)
        self.tracks = [track for track in self.tracks if seconds - track.last <= self.memory]
        present = []
        pairs = assign(self.tracks, faces, seconds)
        for index, face in enumerate(faces):
            if index in pairs:
                pairs[index].follow(face, seconds)
            present.append(pairs[index] if index in pairs else self._begin(face, seconds))
        due = sorted(present, key=lambda track: (track.answered, -track.face.area))[:most]
        if due:
            for track, face in zip(due, estimate([track.face for track in due]), strict=True):
                if track.is_somebody_else(face, seconds):
                    self.tracks.remove(track)
                    other = self._begin(track.face, seconds)
                    other.first, other.seen = track.doubts[0][0], len(track.doubts)
                    track.last = other.first
                    for when, answer in track.doubts:
                        other.learn(answer)
                        other.answered = when
                elif not track.doubts:  # a contradicting answer waits until its person is known
                    track.learn(face)
        return [
            track.as_face()
            for track in self.tracks
            if track.shown and track.seen >= self._confirm and seconds - track.last <= HOLD_SECONDS
        ]

    def _begin(self, face: Face, seconds: float) -> Track:
        self._count += 1
        self.tracks.append(Track(self._count, face, _placed(face), seconds, seconds, deque(maxlen=self._window)))
        return self.tracks[-1]

    def cut(self) -> None:
        """Forget everyone: after a cut in a video the next face at the same place is another person's."""
        self.tracks = []


def assign(tracks: list[Track], faces: list[Face], seconds: float) -> dict[int, Track]:
    """Which face is whose: the pairs of least total cost among those that are near enough (Kuhn 1955).

    The longer someone is gone, the further away they may come back.
    Returns index in `faces` → track.
    """
    if not tracks or not faces:
        return {}
    # Imported here: the photo page needs none of it, and it takes a while.
    from scipy.optimize import linear_sum_assignment

    gap = np.array([seconds - track.last for track in tracks])[:, None]
    then = np.array([track.box for track in tracks])
    then[:, :2] += np.array([track.speed for track in tracks]) * np.minimum(gap, 0.3)
    now = np.array([_placed(face) for face in faces])
    size = (then[:, None, 2:].mean(-1) + now[None, :, 2:].mean(-1)) / 2
    distance = np.linalg.norm(then[:, None, :2] - now[None, :, :2], axis=-1) / size
    growth = np.abs(np.log(then[:, None, 2:].mean(-1) / now[None, :, 2:].mean(-1)))
    cost = distance + growth + (1 - _overlap(then, now))
    near = (distance <= 1 + SEARCH_GROWTH * gap) & (growth <= 0.6 + gap)
    rows, columns = linear_sum_assignment(np.where(near, cost, 1e6))
    return {int(c): tracks[r] for r, c in zip(rows, columns, strict=True) if near[r, c]}


def _placed(face: Face) -> np.ndarray:
    """float64 [4], pixels: x and y of the box's middle, width, height."""
    return np.array([*face.center, *face.box[2:]])


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value, float [N], at which half of the weights, float [N], lies on either side."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _share(step: float, cutoff: float) -> float:
    """How far a low-pass filter of `cutoff` Hz goes towards the new value in `step` seconds."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each of boxes [N, 4] with each of [M, 4] (middle and sides)."""
    low = np.maximum((a[:, :2] - a[:, 2:] / 2)[:, None], (b[:, :2] - b[:, 2:] / 2)[None])
    high = np.minimum((a[:, :2] + a[:, 2:] / 2)[:, None], (b[:, :2] + b[:, 2:] / 2)[None])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    return both / (np.prod(a[:, 2:], axis=1)[:, None] + np.prod(b[:, 2:], axis=1)[None] - both)
