"""The app's own memory: given back after large requests, which would otherwise keep it for good. Linux with glibc."""

from __future__ import annotations

import contextlib
import ctypes
import threading

DELAY = 3.0  # seconds after the last large request: the next one is faster with the memory of the one before
_lock = threading.Lock()
_timer: threading.Timer | None = None


def trim_memory() -> None:
    """Return what is free to the system, once no more large requests come."""
    global _timer
    with _lock:
        if _timer:
            _timer.cancel()
        _timer = threading.Timer(DELAY, _trim)
        _timer.daemon = True
        _timer.start()


def _trim() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
