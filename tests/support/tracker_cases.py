"""Recorded streams and what the tracker shows of them, for space/tracker.py and browser/tracker.js alike.

python -m tests.support.tracker_cases rewrites tracker_cases.json, after a deliberate change of the tracker.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from space.face import Face
from space.tracker import Tracker

FILE = Path(__file__).with_suffix(".json")
_ESTIMATES = ("age", "age_low", "age_high", "p_female")
MOST = 4  # faces a frame that get a new answer


def record(frames: list[dict]) -> list[list[dict]]:
    """What the tracker shows of each frame: a list of {id, box, age, age_low, age_high, p_female}."""
    tracker = Tracker()
    return [_update(tracker, frame) for frame in frames]


def _update(tracker: Tracker, frame: dict) -> list[dict]:
    faces = [Face(tuple(face["box"]), face["score"]) for face in frame["faces"]]
    answers = {face.box: answer for face, answer in zip(faces, frame["faces"], strict=True)}
    estimate = lambda some: [_answered(face, answers[face.box]) for face in some]  # noqa: E731
    return [_shown(face) for face in tracker.update(faces, frame["seconds"], estimate, most=MOST)]


def _answered(face: Face, answer: dict) -> Face:
    return replace(face, **{key: answer[key] for key in _ESTIMATES})


def _shown(face: Face) -> dict:
    values = {key: getattr(face, key) for key in _ESTIMATES}
    rounded = {key: round(value, 3) for key, value in values.items()}
    return {"id": face.track_id, "box": [round(v, 2) for v in face.box]} | rounded


def assert_alike(shown: list[list[dict]], case: dict) -> None:
    """Check what a tracker shows of a recorded stream: the same people, boxes within 0.02 pixel, values to 0.002."""
    for people, expected in zip(shown, case["shown"], strict=True):
        assert [face["id"] for face in people] == [face["id"] for face in expected], case["name"]
        for a, b in zip(people, expected, strict=True):
            np.testing.assert_allclose(a["box"], b["box"], atol=0.02)
            np.testing.assert_allclose([a[key] for key in _ESTIMATES], [b[key] for key in _ESTIMATES], atol=0.002)


def cases() -> dict[str, list[dict]]:
    """Streams by name: frames of {seconds, faces: [{box, score, age, age_low, age_high, p_female}]}."""
    generator = np.random.default_rng(0)

    def face(x, y=100.0, side=80.0, age=30.0, p=0.9, spread=5.0) -> dict:
        x, y, side, age = (v + s * generator.normal() for v, s in ((x, 1.5), (y, 1.5), (side, 1), (age, 2)))
        p = float(np.clip(p + 0.03 * generator.normal(), 0.01, 0.99))
        box = [round(float(v), 3) for v in (x, y, side, side)]
        age = round(float(age), 3)
        low, high = round(age - spread, 3), round(age + spread, 3)
        score = round(float(generator.uniform(0.7, 0.95)), 3)
        return {"box": box, "score": score, "age": age, "age_low": low, "age_high": high, "p_female": round(p, 4)}

    def frames(count: int, people, rate: float = 15.0) -> list[dict]:
        return [{"seconds": round(i / rate, 4), "faces": people(i)} for i in range(count)]

    def crossing(i):
        pair = [face(50 + 7 * i), face(450 - 7 * i, 160, 100, 55, 0.1)]
        return pair[:: 1 if i % 2 else -1]

    def coming_back(i):
        here = [] if 20 <= i < 32 or 45 <= i < 75 else [face(300)]
        return here + [face(500, 200, 60, 8, 0.5)] * (i > 10)

    def taken_over(i):
        return [face(200, age=25, p=0.95) if i < 30 else face(200, age=62, p=0.05)]

    def crowd(i):
        present = [n for n in range(8) if (i + n) % 11]
        return [face(90 * n + 40 * np.sin(i / 9 + n), 60 + 20 * (n % 3), 60, 10 + 9 * n, n / 9) for n in present]

    def choir(i):  # more new faces at once than get an answer
        return [face(70 * n, 60 + 40 * (n % 2), 50, 20 + n, 0.8) for n in range(16)] if i > 2 else []

    return {
        "crossing": frames(58, crossing),
        "coming back": frames(90, coming_back),
        "taken over": frames(70, taken_over),
        "crowd": frames(60, crowd),
        "choir": frames(12, choir),
        "slow": frames(25, crossing, rate=4.0),
    }


if __name__ == "__main__":
    recorded = [{"name": name, "most": MOST, "frames": part, "shown": record(part)} for name, part in cases().items()]
    FILE.write_text(json.dumps(recorded, separators=(",", ":")) + "\n")
