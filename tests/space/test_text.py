"""Numbers, times and texts as people read them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from space import text


def test_counted_things_are_singular_or_plural():
    assert [text.counted(n, "face") for n in (0, 1, 2, 1200)] == ["0 faces", "1 face", "2 faces", "1,200 faces"]
    assert [text.counted(n, "person", "people") for n in (1, 2)] == ["1 person", "2 people"]


def test_long_lists_end_in_dots():
    assert text.some_of(["a"]) == "a" and text.some_of(list("abcde")) == "a, b, c, d, e"
    assert text.some_of(list("abcdef")) == "a, b, c, d, e …" and text.some_of(list("abc"), 2) == "a, b …"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.2, ", 1 second left"),
        (1.4, ", 1 second left"),
        (40, ", 40 seconds left"),
        (90, ", 90 seconds left"),
        (91, ", about 2 minutes left"),
        (600, ", about 10 minutes left"),
    ],
)
def test_remaining_time(seconds, words):
    assert text.time_left(seconds) == words


def test_control_characters_are_replaced():
    assert (
        text.printable("\x1b[31mred\x07 né\u202e")
        == "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER} né\N{REPLACEMENT CHARACTER}"
    )


@pytest.mark.parametrize(
    ("system", "expected"),
    [("posix", "python -m x 'R&D runs/a b' plain"), ("nt", 'python -m x "R&D runs/a b" plain')],
)
def test_printed_commands_are_quoted_for_the_system(monkeypatch, system, expected):
    monkeypatch.setattr(text, "os", SimpleNamespace(name=system))
    assert text.command_line("python", "-m", "x", "R&D runs/a b", "plain") == expected
