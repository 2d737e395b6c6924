"""Memory is given back once no more large requests come."""

from __future__ import annotations

import time

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
