"""Memory is given back once no more large requests come."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from space.web import memory


def test_memory_is_trimmed_once_after_the_last_of_several_requests(monkeypatch):
    trimmed = []
    monkeypatch.setattr(memory, "DELAY", 0.3)
    monkeypatch.setattr(memory, "_trim", lambda: trimmed.append(time.monotonic()))
    for _ in range(3):
        last = time.monotonic()
        memory.trim_memory()
        time.sleep(0.1)
    deadline = time.monotonic() + 5
    while not trimmed and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.4)
    assert len(trimmed) == 1 and trimmed[0] >= last + 0.3


def test_all_free_memory_is_returned_and_no_exit_waits_for_it(monkeypatch):
    kept = []
    libc = SimpleNamespace(malloc_trim=lambda pad: kept.append(pad))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: libc)
    memory._trim()
    assert kept == [0]
    memory.trim_memory()
    assert {thread.daemon for thread in threading.enumerate() if isinstance(thread, threading.Timer)} == {True}
    memory._timer.cancel()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())  # another C library
    memory._trim()
