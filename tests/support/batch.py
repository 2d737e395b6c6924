"""The batch command in this process or its own, and what it writes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
from pathlib import Path

from space import cli
from tests.support import EXAMPLES
from tests.support.app import python

GROUP, MAN, WOMAN = (EXAMPLES / f"{name}.jpg" for name in ("group", "age-20-29-male", "age-20-29-female"))


def command(*arguments, **kwargs):
    return python("-m", "space.cli", *arguments, **kwargs)


def batch(*arguments):
    """The same without a new process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # of wrong options
            status = stop.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def rows(jsonl: Path) -> list[dict]:
    return [json.loads(line) for line in jsonl.read_text().splitlines()]


def files_in(csv_file: Path) -> set[str]:
    with open(csv_file, newline="", encoding="utf-8-sig") as file:
        return {Path(line["file"]).name for line in csv.DictReader(file)}
