"""A stream's answers say what is in the frame."""

from __future__ import annotations

import itertools

import numpy as np

from space.live import stream
from space.photo import read_photo
from tests.support import EXAMPLES


def test_an_answer_describes_its_frame(analyzer, monkeypatch):
    clock = itertools.count(10.0, 0.01234)
    monkeypatch.setattr(stream.time, "perf_counter", lambda: next(clock))
    frame = read_photo(EXAMPLES / "group.jpg")
    live = stream.LiveStream(analyzer)
    answer = [live.answer(frame, seconds / 10) for seconds in range(5)][-1]
    assert (answer["height"], answer["width"]) == frame.shape[:2] and answer["width"] != answer["height"]
    assert answer["ms"] == 12.3
    found = analyzer.detect(frame, side=stream.SIDE, quarters=0)
    assert answer["detected"] == [[round(v, 1) for v in face.box] for face in found]
    assert sorted(face["id"] for face in answer["faces"]) == [*range(1, 9)]
    assert len(answer["detected"]) == 8
    boxes = [sorted(face["box"] for face in answer["faces"]), sorted(answer["detected"])]
    np.testing.assert_allclose(*boxes, atol=0.1)
