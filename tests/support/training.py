"""Short trainings in this process."""

from __future__ import annotations

from tests.support import ROOT
from training import train

SHORT = ROOT / "tests" / "support" / "short.toml"


def command(faces, out, *more) -> list:
    """The command of a run of seconds on a folder of faces."""
    return ["training/train.py", "--recipe", SHORT, "--dataset", faces, "--limit", "48", "--out", out, *more]


def run(*words) -> int:
    """Train in this process; returns the exit status."""
    return train.main([str(word) for word in words[0][1:]] if isinstance(words[0], list) else [*map(str, words)])


def refused(capsys, arguments: list, *words: str) -> None:
    """The run ends with one sentence that has these words."""
    assert run(arguments) == 1
    errors = capsys.readouterr().err
    for word in ("error: ", *words):
        assert word in errors, errors
