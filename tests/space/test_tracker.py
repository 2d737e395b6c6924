"""Who is who from frame to frame: identity, calm boxes, answers that no single frame can spoil."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from space.face import Face
from space.tracker import HOLD_SECONDS, MEMORY, Tracker, weighted_median
from tests.support import tracker_cases


def at(x, y=100.0, side=80.0, score=0.9) -> Face:
    return Face((x, y, side, side), score)


def answers(age=30.0, gender="female", p=0.95):
    return lambda faces: [
        replace(f, age=age, age_low=age - 5, age_high=age + 5, p_female=p if gender == "female" else 1 - p)
        for f in faces
    ]


def play(tracker, frames, rate=15, start=0.0, estimate=None):
    """Ids shown in each of `frames`, lists of faces, at `rate` frames a second."""
    return [
        [face.track_id for face in tracker.update(faces, start + i / rate, estimate or answers())]
        for i, faces in enumerate(frames)
    ]


def test_people_keep_their_identity_while_they_move_and_pass_each_other():
    tracker = Tracker()
    left, right = np.linspace(50, 450, 60), np.linspace(450, 50, 60)
    # The order in which a detector lists them changes, and one walks in front, so larger and a little lower.
    frames = [[at(a, 100), at(b, 160, 100)][:: 1 if i % 2 else -1] for i, (a, b) in enumerate(zip(left, right))]  # noqa: B905
    shown = [tracker.update(faces, i / 15, answers()) for i, faces in enumerate(frames)]
    assert all(len(faces) == 2 for faces in shown[2:])
    first = {face.track_id: face.box[0] for face in shown[2]}
    last = {face.track_id: face.box[0] for face in shown[-1]}
    assert set(first) == set(last) == {1, 2}
    for identity in first:
        assert (first[identity] < 250) != (last[identity] < 250)  # each went to the other side


def test_a_face_is_shown_from_its_second_frame_and_over_a_gap():
    tracker = Tracker()
    seen, nobody = [at(100)], []
    assert play(tracker, [seen, seen, seen]) == [[], [1], [1]]
    assert play(tracker, [nobody], start=2 / 15 + HOLD_SECONDS - 0.05) == [[1]]  # a blink of the detector's
    assert play(tracker, [nobody], start=2 / 15 + HOLD_SECONDS + 0.05) == [[]]
    assert play(Tracker(confirm=1), [seen]) == [[1]]


def test_who_returns_within_a_second_is_the_same_and_later_is_not():
    tracker = Tracker()
    play(tracker, [[at(500)]] * 10)
    assert play(tracker, [[at(540)]], start=9 / 15 + 1.0) == [[1]]
    assert play(tracker, [[at(540)]] * 2, start=9 / 15 + 1.0 + MEMORY + 0.1)[-1] == [2]


def test_a_distant_face_is_another_person():
    tracker = Tracker()
    play(tracker, [[at(50)]] * 5)
    assert play(tracker, [[at(500)]] * 2, start=6 / 15)[-1] == [1, 2]  # 1 is still shown for a moment
    assert play(tracker, [[at(500)]] * 8, start=8 / 15)[-1] == [2]


def test_one_bad_frame_changes_no_label():
    tracker = Tracker()
    for i in range(30):
        bad = answers(70, "male", 0.99) if i == 20 else answers(30 + (i % 3) * 0.2)
        (face,) = tracker.update([at(100)], i / 15, bad) or [None]
        if i >= 3:
            assert face.gender == "female" and 29 < face.age < 31 and face.age_low < face.age < face.age_high


def test_a_lasting_change_comes_through():
    tracker = Tracker()
    for i in range(150):
        shown = tracker.update([at(100)], i / 15, answers(30) if i < 60 else answers(40, "female", 0.7))
    assert abs(shown[0].age - 40) < 1 and abs(shown[0].gender_probability - 0.7) < 0.01 and shown[0].track_id == 1


@pytest.mark.parametrize("window", [60, None])
@pytest.mark.parametrize("other", [answers(40, "male", 0.95), answers(62, "female", 0.6)])
def test_who_takes_a_place_unseen_is_somebody_else(window, other):
    tracker = Tracker(window=window)
    people = [tracker.update([at(100)], i / 15, answers(24) if i < 60 else other) for i in range(120)]
    ids = [[face.track_id for face in faces] for faces in people]
    assert ids[59] == [1] and ids[70:] == [[2]] * 50
    (face,) = people[-1]
    assert (round(face.age), face.gender) in ((40, "male"), (62, "female"))
    assert ids.index([2]) - 60 <= 9  # within half a second and a frame
    (track,) = tracker.tracks
    assert track.first == 60 / 15  # the time of the first answer that was theirs
    assert track.seen == 60  # frames, those of the doubts too


def test_boxes_are_calm_at_rest_and_follow_when_they_move():
    generator = np.random.default_rng(0)
    raw, shown = [], []
    tracker = Tracker()
    for i in range(120):
        face = at(200 + generator.normal(0, 3), 100 + generator.normal(0, 3))
        found = tracker.update([face], i / 30, answers())
        if i > 30:
            raw.append(face.box[0])
            shown.append(found[0].box[0])
    assert np.abs(np.diff(shown)).mean() < 0.5 * np.abs(np.diff(raw)).mean()
    tracker, behind = Tracker(), []
    for i in range(60):  # three box widths a second
        found = tracker.update([at(50 + 240 * i / 30)], i / 30, answers())
        if i > 20:
            behind.append(50 + 240 * i / 30 - found[0].box[0])
    assert np.mean(behind) < 0.15 * 80


def test_in_a_crowd_answers_take_turns():
    tracker, asked = Tracker(), []

    def estimate(faces):
        asked.append([face.box[0] for face in faces])
        return answers()(faces)

    crowd = [at(100 * i) for i in range(10)]
    shown = [tracker.update(crowd, i / 15, estimate, most=4) for i in range(6)]
    assert all(len(faces) == 4 for faces in asked)
    assert {x for faces in asked[:3] for x in faces} == {100 * i for i in range(10)}
    assert all(face.age is not None for face in shown[-1])


def test_nobody_is_shown_before_there_is_an_answer():
    tracker, counts = Tracker(), []
    for i in range(8):
        faces = tracker.update([at(100 * n) for n in range(16)], i / 15, answers(), most=4)
        assert all(face.age is not None and face.p_female is not None for face in faces)
        counts.append(len(faces))
    assert counts == [0, 8, 12, 16, 16, 16, 16, 16]


def test_after_a_cut_everyone_is_new():
    tracker = Tracker()
    play(tracker, [[at(100)]] * 5)
    tracker.cut()
    assert play(tracker, [[at(100)]] * 2, start=1.0)[-1] == [2]


def test_the_weighted_median_is_numpy_s_of_repeated_values():
    generator = np.random.default_rng(1)
    for _ in range(50):
        values, weights = generator.normal(size=9), generator.integers(1, 6, 9)
        if weights.sum() % 2:
            assert weighted_median(values, weights) == np.median(np.repeat(values, weights))


def test_recorded_streams_are_shown_as_before():
    """The same file of inputs and answers as for browser/tracker.js."""
    for case in json.loads(tracker_cases.FILE.read_text()):
        tracker_cases.assert_alike(tracker_cases.record(case["frames"]), case)


def test_what_is_shown_has_the_sharpness_of_the_last_answer():
    def estimate(faces):
        seen = {"sharpness": 0.1, "cut_off": 0.2}
        return [replace(face, age=30.0, age_low=25.0, age_high=35.0, p_female=0.8, **seen) for face in faces]

    tracker = Tracker()
    for number in range(3):
        shown = tracker.update([at(100)], number / 15, estimate)
    (shown,) = shown
    assert shown.sharpness == 0.1 and shown.cut_off == 0.2 and shown.gender_label == "uncertain"


def test_sure_answers_outweigh_unsure_ones():
    tracker = Tracker(confirm=1)
    for i, (age, spread) in enumerate([(30.0, 2.0)] * 2 + [(40.0, 20.0)] * 3):
        shown = tracker.update(
            [at(100)],
            i / 15,
            lambda faces, age=age, spread=spread: [
                replace(f, age=age, age_low=age - spread, age_high=age + spread, p_female=0.9) for f in faces
            ],
        )
    assert shown[0].age == 30.0
