"""Helpers for command lines: output on any console, error messages and exit statuses."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable


def command(*errors: type[Exception]) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Decorate a command line's `main`: `errors` are for the user and become `error: …` and exit status 1.

    If `main` returns None, the exit status is 0. Ctrl-C prints "Stopped." and exits with status 130, as in a shell.
    """

    def decorate(main: Callable[..., int | None]) -> Callable[..., int]:
        @functools.wraps(main)
        def run(*arguments, **options) -> int:
            tolerate_console()
            try:
                return main(*arguments, **options) or 0
            except errors as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("\nStopped.", file=sys.stderr)
                return 130

        return run

    return decorate


def tolerate_console() -> None:
    """Print characters that a console lacks as escapes: a Windows console in cp1252 has no arrows, for example."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
