"""Locks for taking turns: first come, first served, also between the parts of long tasks."""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A lock that goes to whoever has waited longest. `threading.Lock` may let one thread take it again and again."""

    def __init__(self):
        self._mutex, self._held = threading.Lock(), False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._held:
                self._held = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()

    def __exit__(self, *_) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


class InTurns:
    """A network's session whose runs take turns with those of other sessions that share the lock."""

    def __init__(self, session, lock: FairLock):
        self._session, self._lock = session, lock

    def run(self, *arguments):
        with self._lock:
            return self._session.run(*arguments)

    def __getattr__(self, name: str):
        return getattr(self._session, name)
