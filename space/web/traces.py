"""Tracebacks without what visitors sent."""

from __future__ import annotations

import sys
import traceback


def log_traceback_without_message() -> None:
    """Log the location and type of the current exception, but not its message, which quotes visitors' data."""
    error = sys.exception()
    if error is not None:
        print("".join(traceback.format_tb(error.__traceback__)), type(error).__name__, sep="", file=sys.stderr)
