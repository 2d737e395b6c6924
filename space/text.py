"""Words that every page of the kit shares, and numbers and times as people read them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\s&|<>^%(),;=!]")  # in Windows' Command Prompt
TITLE = "Apparent age and gender"
CAUTION = (
    "A neural network estimates age and gender from appearance alone. Its training labels are themselves estimates, "
    "and its results are often wrong. Do not use them to make decisions about people."
)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 face`, `2 faces`, `3 people`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first names, `a, b, c …`."""
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def time_left(seconds: float | None) -> str:
    """`, 40 seconds left`; empty while that is not known."""
    if seconds is None:
        return ""
    return (
        f", about {seconds / 60:.0f} minutes left"
        if seconds > 90
        else f", {counted(max(1, round(seconds)), 'second')} left"
    )


def printable(text: str) -> str:
    """A text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def command_line(*words: object) -> str:
    """A command for people to copy, quoted for this system's shell."""
    texts = [str(word) for word in words]
    if os.name != "nt":
        return shlex.join(texts)
    return " ".join(f'"{text}"' if not text or _SPECIAL.search(text) else text for text in texts)


def missing_package(error: ModuleNotFoundError) -> str:
    """What to do in an environment without the app's requirements."""
    return f"The package {error.name} is missing: run pip install -r space/requirements.txt"
