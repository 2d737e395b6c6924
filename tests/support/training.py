"""Short trainings in this process."""

from __future__ import annotations

from training import train


def command(faces, out, *more) -> list:
    """The command of a run of seconds on a folder of faces."""
    short = ["--limit", "48", "--batch-size", "16", "--out", out]
    return ["training/train.py", "--network", "compact", "--dataset", faces, *short, *more]


def run(*words) -> int:
    """Train in this process; returns the exit status."""
    return train.main([str(word) for word in words[0][1:]] if isinstance(words[0], list) else [*map(str, words)])


def refused(capsys, arguments: list, *words: str) -> None:
    """The run ends with one sentence that has these words."""
    assert run(arguments) == 1
    errors = capsys.readouterr().err
    for word in ("error: ", *words):
        assert word in errors, errors
