"""Gradio's queue, which no visitor can stop, fill or hold.

Gradio keeps the messages of 2,000 sessions and drops the oldest one, even while its events wait: then the queue stops
for everybody. It keeps results that nobody fetches. And it runs long tasks in the order in which they came, however
many of them are one visitor's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from time import monotonic

from gradio import queueing
from gradio.utils import run_coro_in_background

from .access import client_key
from .traces import log_traceback_without_message

KEPT = 600.0  # seconds for which messages are kept after their session's last use
LISTENING = 30.0  # seconds since the last use for which somebody may still listen: listeners ask every ten
EVERY = 30.0  # seconds between two looks for messages to drop
MAX_SESSIONS = 2000  # without an event, whose messages are kept
MAX_BYTES = 300_000_000  # of results that haven't been fetched yet, about
MAX_BYTES_PER_ADDRESS = 50_000_000
MAX_REMEMBERED = 1000  # addresses and kinds of events, for whose turn it is
UNFETCHED = "Fetch the results of your earlier requests first, or try again in ten minutes."


class Messages(asyncio.Queue):
    """The messages for one session: whose it is, their size in bytes, and when it was used last."""

    def __init__(self):
        super().__init__()
        self.key, self.bytes, self.last_used = "", 0, monotonic()

    async def get(self):
        self.last_used = monotonic()
        return await super().get()

    def _put(self, item):
        super()._put(item)
        self.bytes += _size(getattr(item, "output", None))
        self.last_used = monotonic()

    def _get(self):
        item = super()._get()
        self.bytes -= _size(getattr(item, "output", None))
        self.last_used = monotonic()
        return item


class MessagesBySession(dict[str, Messages]):
    """Messages by the name of their session; the ones that Gradio adds know their size."""

    def __setitem__(self, session: str, messages: asyncio.Queue) -> None:
        super().__setitem__(session, Messages())

    def __delitem__(self, session: str) -> None:
        self.pop(session, None)  # it may be gone already when its listener leaves


class Queue(queueing.Queue):
    """The queue of a page."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.messages = self.pending_messages_per_session = MessagesBySession()
        self._served: dict[tuple[str, str], float] = {}  # when events of a kind and an address ran last
        self._running: set[asyncio.Task] = set()

    def start(self) -> None:
        """Run events, and drop what nobody fetches, until the queue is closed."""
        super().start()
        run_coro_in_background(self._tidy_regularly)

    async def push(self, body, request, username):
        """As Gradio's; refuses calls of an address that leaves too many results."""
        key = client_key(request.scope)
        if self._bytes()[key] > MAX_BYTES_PER_ADDRESS:
            return False, UNFETCHED, "queue_full"
        answer = await super().push(body, request, username)
        messages = self.messages.get(body.session_hash)
        if messages is not None:
            messages.key = key
        return answer

    def send_message(self, event, event_message) -> None:
        """Send a message to the event's session, unless it is gone or has canceled the event."""
        if event.alive and event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def broadcast_estimations(self, concurrency_id, after=None) -> None:
        """Tell waiting events how long they will wait; an error must not stop the queue."""
        try:
            super().broadcast_estimations(concurrency_id, after)
        except Exception:
            log_traceback_without_message()

    def get_events(self):
        """The next events: among those that may run, of the address whose last turn is the longest ago."""
        try:
            for waiting in self.event_queue_per_concurrency_id.values():
                limit = waiting.concurrency_limit
                if len(waiting.queue) > 1 and (limit is None or waiting.current_concurrency < limit):
                    waiting.queue.sort(key=lambda event: self._served.get(_kind(event), event.enqueue_time))
            return super().get_events()
        except Exception:
            log_traceback_without_message()
            return None

    async def process_events(self, events, *args, **kwargs) -> None:
        """Run events. Those that are canceled keep their place until their function has returned.

        Gradio frees it at once, but a thread can't be canceled: one visitor could start any number of them.
        """
        running = asyncio.create_task(self._run(events, *args, **kwargs))
        self._running.add(running)
        running.add_done_callback(self._ended)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            for event in events:
                event.alive = False  # a generator ends after its current step
            raise

    def _ended(self, running: asyncio.Task) -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # else asyncio logs it, with what visitors have sent

    async def _run(self, events, *args, **kwargs) -> None:
        """As Gradio's. Afterwards, other addresses come first, and no event is kept, even if it failed."""
        try:
            await super().process_events(events, *args, **kwargs)
        finally:
            for event in events:
                self._served.pop(_kind(event), None)
                self._served[_kind(event)] = monotonic()
                self.event_ids_to_events.pop(event._id, None)
            while len(self._served) > MAX_REMEMBERED:
                del self._served[next(iter(self._served))]

    def tidy(self) -> None:
        """Drop the messages of sessions that have no event, and that nobody has used for a while.

        If there are too many, those of the address that leaves most are dropped, the oldest first.
        """
        by_session, busy, now = self.messages, {e.session_hash for e in events_of(self)}, monotonic()
        finished = sorted((name for name in by_session if name not in busy), key=lambda s: by_session[s].last_used)
        for name in [name for name in finished if now - by_session[name].last_used > KEPT]:
            finished.remove(name)
            del by_session[name]
        unused = [name for name in finished if now - by_session[name].last_used > LISTENING]
        for name in unused[: max(0, len(finished) - MAX_SESSIONS)]:
            unused.remove(name)
            del by_session[name]
        held = self._bytes()
        while held.total() > MAX_BYTES:
            largest = held.most_common(1)[0][0]
            name = next((name for name in unused if by_session[name].key == largest), None)
            if name is None:
                break
            unused.remove(name)
            del by_session[name]
            held = self._bytes()
        for name in self.pending_event_ids_session.keys() - by_session.keys() - busy:
            del self.pending_event_ids_session[name]

    async def _tidy_regularly(self) -> None:
        while not self.stopped:
            await asyncio.sleep(EVERY)
            try:
                self.tidy()
            except Exception:
                log_traceback_without_message()

    def _bytes(self) -> Counter[str]:
        """Bytes of results that each address hasn't fetched."""
        held: Counter[str] = Counter()
        for messages in self.messages.values():
            held[messages.key] += messages.bytes
        return held


def events_of(queue: queueing.Queue) -> Iterator[queueing.Event]:
    """The events that wait in a queue or run."""
    for waiting in queue.event_queue_per_concurrency_id.values():
        yield from waiting.queue
    for job in queue.active_jobs:
        yield from job or ()


def _kind(event: queueing.Event) -> tuple[str, str]:
    """Events that take turns with those of other addresses."""
    return event.concurrency_id, client_key(event.request.scope)


def _size(value) -> int:
    """Bytes of JSON, about."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(key) + _size(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return 8
