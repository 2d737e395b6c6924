"""Gradio's queue, which no visitor can stop, fill or hold.

Gradio keeps the messages of 2,000 sessions and drops the oldest one, even while its events wait: then the queue stops
for everybody. It keeps results that nobody fetches. And it runs long tasks in the order in which they came, however
many of them are one visitor's.
"""

from __future__ import annotations

import asyncio
import sys
import time

from gradio import queueing

from .access import client_key
from .traces import log_traceback_without_message

KEPT = 600.0  # seconds for which messages are kept after their session's last event
MAX_SESSIONS = 2000  # whose messages are kept
MAX_BYTES = 200_000_000  # of results that haven't been fetched yet, about
MAX_REMEMBERED = 1000  # addresses, for whose turn it is


class Messages(asyncio.Queue):
    """The messages for one session, with their size in bytes and the time of the last use."""

    def __init__(self):
        super().__init__()
        self.bytes, self.used = 0, time.monotonic()

    def _put(self, item):
        super()._put(item)
        self.bytes += _size(getattr(item, "output", None))
        self.used = time.monotonic()

    def _get(self):
        item = super()._get()
        self.bytes -= _size(getattr(item, "output", None))
        self.used = time.monotonic()
        return item


class Sessions(dict):
    """The messages of each session by its name.

    Those of finished sessions are dropped after a while, or for lack of room.
    """

    def __init__(self, queue: queueing.Queue):
        super().__init__()
        self._queue = queue

    def __setitem__(self, session: str, messages: asyncio.Queue) -> None:
        self.tidy()
        super().__setitem__(session, Messages())

    def tidy(self) -> None:
        """Drop sessions that have no waiting or running event: those not used for KEPT seconds, and the oldest ones."""
        busy = {event.session_hash for event in self._queue.event_ids_to_events.values()}
        finished = sorted((name for name in self if name not in busy), key=lambda name: self[name].used)
        size, forgotten = sum(messages.bytes for messages in self.values()), time.monotonic() - KEPT
        for name in finished:
            messages = self[name]
            if messages.used < forgotten or len(self) >= MAX_SESSIONS or (size > MAX_BYTES and messages.bytes):
                size -= messages.bytes
                del self[name]
                self._queue.pending_event_ids_session.pop(name, None)


class Queue(queueing.Queue):
    """The queue of a page."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pending_messages_per_session = Sessions(self)
        self._served: dict[str, float] = {}  # when an event of each address was taken last

    def send_message(self, event, event_message) -> None:
        """Send a message to the event's session, if it is still there."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)
            if getattr(event_message, "output", None):
                self.pending_messages_per_session.tidy()

    def get_events(self):
        """The next events: among those that may run, of the address that has had no turn for the longest time."""
        for waiting in self.event_queue_per_concurrency_id.values():
            limit = waiting.concurrency_limit
            if len(waiting.queue) > 1 and (limit is None or waiting.current_concurrency < limit):
                waiting.queue.sort(key=lambda event: self._served.get(client_key(event.request.scope), 0.0))
        found = super().get_events()
        for event in found[0] if found else ():
            key = client_key(event.request.scope)
            self._served.pop(key, None)
            self._served[key] = time.monotonic()
            if len(self._served) > MAX_REMEMBERED:
                del self._served[next(iter(self._served))]
        return found

    async def start_processing(self) -> None:
        """Run events until the queue is closed; an error ends what runs, but not the queue."""
        while True:
            try:
                return await super().start_processing()
            except Exception:
                log_traceback_without_message()
                print("The queue was restarted.", file=sys.stderr)
                self.stopped = False
                await asyncio.sleep(0.1)


def _size(value) -> int:
    """Bytes of JSON, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(key) + _size(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return 8
