"""Ends of command lines: a sentence and an exit status, on any console."""

import io
import signal
import sys
import threading

import pytest

from space import console
from tests.support.app import python


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
        (BrokenPipeError(), 1, ""),
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


def test_a_closed_pipe_is_status_1_without_a_message(capsys):
    def main():
        raise BrokenPipeError

    assert console.command(ValueError)(main)() == 1 and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command_after_its_cleanup(name, status):
    program = """import os, signal, time
from space import console

signal.signal(signal.NAME, signal.SIG_DFL)  # nohup ignores it

@console.command(OSError)
def main():
    try:
        os.kill(os.getpid(), signal.NAME)
        time.sleep(10)
    finally:
        os.kill(os.getpid(), signal.NAME)
        time.sleep(0.1)
        print("cleaned")

@console.command(OSError)
def short():
    pass

short()
assert signal.getsignal(signal.NAME) == signal.SIG_DFL
main()"""
    result = python("-c", program.replace("NAME", name))
    assert result.returncode == status and result.stdout == "cleaned\n", result.stderr


def test_a_program_keeps_its_own_handler_of_sigterm():
    def own(*_):
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        assert console.command(OSError)(lambda: int(signal.getsignal(signal.SIGTERM) is own))() == 1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_command_runs_in_a_thread():
    status = []
    thread = threading.Thread(target=lambda: status.append(console.command(OSError)(lambda: 3)()))
    thread.start()
    thread.join(10)
    assert status == [3]


def test_a_console_without_all_letters_is_no_reason_to_fail():
    code = "from space.console import tolerate_console; tolerate_console(); print('4.29 \u2192 4.24 \U0001f44b')"
    result = python("-c", code, env={"PYTHONIOENCODING": "cp1252"})
    assert result.returncode == 0 and "4.29 \\u2192 4.24" in result.stdout, result.stderr
