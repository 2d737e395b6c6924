"""The app's own memory: given back after large requests, which would otherwise keep it for good. Linux with glibc."""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3
LARGE_BLOCK = 1 << 20  # bytes from which a block is mapped by itself, and returned when it is freed


def return_large_blocks() -> None:
    """Keep glibc from raising its limit for such blocks each time that one is freed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def trim_memory() -> None:
    """Return what is free to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
