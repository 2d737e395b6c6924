"""What a run says of its duration."""

from __future__ import annotations

import pytest

from training.fitting import progress
from training.fitting.progress import EVERY, FIRST, MEASURED, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (5399, "90 minutes"),
        (5400, "1.5 hours"),
        (36000, "10.0 hours"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def lines(
    monkeypatch, capsys, *, bar: bool, steps: int, epochs: int, step: float, first: int = 0, branch=(1, 1)
) -> list[str]:
    """What a stage prints whose steps take `step` seconds, the first ones ten times as long."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    told = Progress("full size", branch, steps, epochs, bar)
    done = 0
    for epoch in range(first, epochs):
        told.on_epoch_begin(epoch)
        for batch in range(steps):
            done += 1
            now[0] += step * (10 if done <= FIRST else 1)
            told.on_train_batch_end(batch)
        told.on_epoch_end(epoch)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("gpu", "advice"), [(False, " No GPU is used."), (True, "")])
def test_the_duration_is_told_after_a_few_steps_and_once(monkeypatch, capsys, gpu, advice):
    monkeypatch.setattr(progress.devices, "on_gpu", lambda: gpu)
    (line,) = lines(monkeypatch, capsys, bar=True, steps=100, epochs=6, step=2.0)
    assert line.startswith("Stage 'full size': 2000 ms per step, about 20 minutes." + advice)
    assert line.endswith("minutes.") == gpu
    (line,) = lines(monkeypatch, capsys, bar=True, steps=100, epochs=6, step=2.0, first=3)  # resumed
    assert "about 10 minutes." in line


def test_a_log_gets_a_line_each_minute(monkeypatch, capsys):
    _, *later = lines(monkeypatch, capsys, bar=False, steps=100, epochs=2, step=1.0)
    assert len(later) == (200 - FIRST - MEASURED) // (EVERY + 1)
    assert later[0] == "  epoch 1 of 2, step 84 of 100: about 2 minutes left in this stage"
    assert later[1] == "  epoch 2 of 2, step 45 of 100: about 55 seconds left in this stage"


def test_short_stages_say_nothing(monkeypatch, capsys):
    assert lines(monkeypatch, capsys, bar=False, steps=FIRST + MEASURED - 1, epochs=1, step=1.0) == []


def test_stages_of_a_few_steps_are_told_after_their_first_epoch(monkeypatch, capsys):
    """Its five steps take 32 seconds, and three more epochs follow."""
    told = lines(monkeypatch, capsys, bar=True, steps=5, epochs=4, step=1.0)
    assert told == ["Stage 'full size': about 2 minutes left."]


def test_a_branch_tells_its_own_duration(monkeypatch, capsys):
    first, line, *_ = lines(monkeypatch, capsys, bar=False, steps=100, epochs=2, step=1.0, branch=(2, 3))
    assert first.startswith("Stage 'full size', branch 2 of 3: 1000 ms per step, about 3 minutes.")
    assert line.endswith("left in this branch")
