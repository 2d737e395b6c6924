"""Ends of command lines: a sentence and an exit status, on any console."""

import io
import sys

import pytest

from space import console


def test_a_console_shows_characters_that_it_lacks_as_escapes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    console.tolerate_console()
    print("1 → 2", flush=True)
    assert written.getvalue().split() == [b"1", rb"\u2192", b"2"]


@pytest.mark.parametrize(
    "raised, status, printed",
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, "\nStopped.\n"),
        (FileNotFoundError("no faces.csv"), 1, "error: no faces.csv\n"),
    ],
)
def test_a_command_ends_with_a_word_and_its_status(raised, status, printed, capsys):
    @console.command(LookupError, OSError)
    def main(arguments: list[str]) -> None:
        if raised:
            raise raised

    assert main(["x"]) == status
    assert capsys.readouterr().err == printed


def test_an_error_that_a_command_does_not_name_keeps_its_traceback():
    @console.command(OSError)
    def main() -> None:
        raise ValueError("a mistake of the program")

    with pytest.raises(ValueError, match="a mistake"):
        main()


def test_a_command_may_choose_its_status():
    assert console.command(OSError)(lambda: 3)() == 3
