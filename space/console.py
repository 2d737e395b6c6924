"""Helpers for command lines: output on any console, error messages and exit statuses."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator


def command(*errors: type[Exception]) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Decorate a command line's `main`: `errors` are for the user and become `error: …` and exit status 1.

    If `main` returns None, the exit status is 0. Ctrl-C prints "Stopped.", with the exception's text if it has one, and
    exits with status 130, as in a shell. SIGTERM (`kill`, `timeout`, a container's end) exits with status 143, SIGHUP
    (a closed terminal) with 129, and what is half written is deleted. A closed pipe (`| head`) prints no message and
    exits with status 1.
    """

    def decorate(main: Callable[..., int | None]) -> Callable[..., int]:
        @functools.wraps(main)
        def run(*arguments, **options) -> int:
            tolerate_console()
            try:
                try:
                    with terminated_cleanly():
                        return main(*arguments, **options) or 0
                finally:
                    _flush()
            except BrokenPipeError:
                return 1
            except errors as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt as stopped:
                print(" ".join(["\nStopped.", *map(str, stopped.args)]), file=sys.stderr)
                return 130

        return run

    return decorate


@contextlib.contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Run `finally` blocks after SIGTERM and SIGHUP, unless the program handles them or this isn't its main thread.

    `nohup` ignores SIGHUP.
    """
    numbers = [
        getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
    ]  # Windows has no SIGHUP
    main = threading.current_thread() is threading.main_thread()
    own = [number for number in numbers if main and signal.getsignal(number) == signal.SIG_DFL]

    def end(number: int, _) -> None:
        for other in own:  # a second signal would interrupt the cleanup
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in own:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def _flush() -> None:
    """Flush stdout: with short output, a closed pipe or a full disk raises an error only here."""
    try:
        if sys.stdout:  # None if it was closed before the start
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python flushes again at exit
        raise


def tolerate_console() -> None:
    """Print characters that a console lacks as escapes: a Windows console in cp1252 has no arrows, for example."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
