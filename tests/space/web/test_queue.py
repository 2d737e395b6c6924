"""Gradio's queue: it goes on whatever visitors do, keeps no more than it must, and visitors take turns."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import gradio as gr
import pytest

from space.web import queue as module
from space.web.queue import Messages, Queue

FN = type("Fn", (), {"batch": False, "_id": 1})()  # hashable


def event(session: str, address: str = "10.0.0.1", enqueued: float = 0.0) -> SimpleNamespace:
    request = SimpleNamespace(scope={"client": (address, 1), "headers": []})
    return SimpleNamespace(
        session_hash=session, _id=f"id of {session}", alive=True, request=request, concurrency_id="long",
        enqueue_time=enqueued, fn=FN, progress_pending=False,
    )  # fmt: skip


def message(text: str = "") -> SimpleNamespace:
    return SimpleNamespace(output={"data": [text]} if text else None)


def events(*waiting: SimpleNamespace, running: int = 0) -> SimpleNamespace:
    found = SimpleNamespace(queue=list(waiting), concurrency_limit=1, current_concurrency=running)
    found.start_times_per_fn = {}
    return found


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def queue() -> Queue:
    with gr.Blocks() as blocks:
        return Queue(True, 40, 1, None, blocks)


def hold(queue: Queue, session: str, size: int, address: str = "10.0.0.1") -> None:
    """A result of so many bytes that this address hasn't fetched."""
    queue.pending_messages_per_session[session] = asyncio.Queue()
    queue.pending_messages_per_session[session].key = address
    queue.pending_event_ids_session[session] = {session}
    queue.send_message(event(session, address), message("x" * size))


def test_an_event_that_waits_keeps_its_session_however_many_others_come(queue, clock):
    queue.event_queue_per_concurrency_id["long"] = events(event("first"))
    queue.active_jobs = [None, [event("running")]]
    for name in ("first", "running", *(f"s{i}" for i in range(3 * module.MAX_SESSIONS))):
        queue.pending_messages_per_session[name] = asyncio.Queue()
    clock.now += module.LISTENING + 1
    queue.tidy()
    sessions = queue.pending_messages_per_session
    assert {"first", "running", "s5999"} <= set(sessions) and len(sessions) == module.MAX_SESSIONS + 2
    queue.send_message(event("first"), message("result"))
    assert sessions["first"].get_nowait().output == {"data": ["result"]}
    queue.send_message(event("s1"), message("nobody's"))  # no error


def test_only_the_address_that_leaves_most_loses_results(queue, clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    hold(queue, "other", 1000, "10.0.0.2")
    for number in range(30):
        clock.now += 1
        hold(queue, f"s{number}", 1000)
    clock.now += module.LISTENING + 1
    queue.tidy()
    kept = set(queue.pending_messages_per_session)
    assert "other" in kept and {"s29", "s28"} <= kept and "s0" not in kept and 8 <= len(kept) <= 10
    assert set(queue.pending_event_ids_session) == kept


def test_an_address_that_fetches_nothing_is_refused_and_others_are_not(queue, monkeypatch):
    async def push(self, body, request, username):
        return True, "id", "success"

    monkeypatch.setattr(Queue.__bases__[0], "push", push)
    monkeypatch.setattr(module, "MAX_BYTES_PER_ADDRESS", 5000)
    body = SimpleNamespace(session_hash="s0")
    hold(queue, "s0", 4000)
    assert asyncio.run(queue.push(body, event("s0").request, None))[0]
    queue.send_message(event("s0"), message("x" * 4000))  # in one session, with an event that waits
    assert asyncio.run(queue.push(body, event("s0").request, None)) == (False, module.UNFETCHED, "queue_full")
    assert asyncio.run(queue.push(body, event("b", "10.0.0.2").request, None))[0]


def test_sessions_are_forgotten_after_a_while_unless_somebody_listens(queue, clock):
    for name in ("old", "used", "busy", "heard"):
        queue.pending_messages_per_session[name] = asyncio.Queue()
    queue.pending_event_ids_session |= {"old": {"1"}, "gone": {"2"}, "busy": {"3"}}
    queue.event_queue_per_concurrency_id["long"] = events(event("busy"))
    clock.now += module.KEPT - 1
    queue.pending_messages_per_session["used"].put_nowait(message())  # Gradio's heartbeat

    async def listen():
        waiting = asyncio.create_task(queue.pending_messages_per_session["heard"].get())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(listen())
    clock.now += 2
    queue.tidy()
    assert list(queue.pending_messages_per_session) == ["used", "busy", "heard"]
    assert set(queue.pending_event_ids_session) == {"busy"}
    del queue.pending_messages_per_session["old"]  # as Gradio does when a listener leaves


def test_messages_know_the_size_of_results():
    messages = Messages()
    messages.put_nowait(SimpleNamespace(output={"data": ["x" * 100, {"image": "y" * 50}, 3, None]}))
    messages.put_nowait(SimpleNamespace())
    assert 150 < messages.bytes < 220
    messages.get_nowait(), messages.get_nowait()
    assert messages.bytes == 0


def test_addresses_take_turns(queue, clock, monkeypatch):
    ran = []

    async def run(self, events, *_):
        ran.append(events[0].session_hash)
        clock.now += 10

    monkeypatch.setattr(Queue.__bases__[0], "process_events", run)
    first = [event(f"a{i}", "10.0.0.1", 990 + i) for i in range(3)]
    long = queue.event_queue_per_concurrency_id["long"] = events(*first)
    while found := queue.get_events():
        if len(ran) == 0:  # others come while the first one runs
            long.queue += [event("b0", "10.0.0.2", 1001), event("c0", "10.0.0.3", 1002)]
        asyncio.run(queue.process_events(found[0]))
        if len(ran) == 3:
            long.queue.append(event("late", "10.0.0.4", clock.now))
    assert ran == ["a0", "b0", "c0", "a1", "late", "a2"]
    long.queue, long.current_concurrency = [event("a3"), event("b1")], 1
    assert queue.get_events() is None


def test_an_error_neither_stops_the_queue_nor_what_runs(queue, monkeypatch, capsys):
    ran, text, base = [], "visitor's data", Queue.__bases__[0]
    queue.live_updates = True

    async def run(self, events, *_):
        await asyncio.sleep(0.01)
        ran.append(events[0].session_hash)
        waiting.current_concurrency -= 1
        self.active_jobs[self.active_jobs.index(events)] = None

    def fail(self, *_):
        raise KeyError(text)

    monkeypatch.setattr(base, "process_events", run)
    monkeypatch.setattr(base, "broadcast_estimations", fail)
    waiting = queue.event_queue_per_concurrency_id["long"] = queue_of("a", "b")
    queue.active_jobs = [None] * 4

    async def work():
        task = asyncio.create_task(queue.start_processing())
        await asyncio.sleep(0.3)
        assert not queue.stopped
        queue.close()
        await task

    asyncio.run(work())
    errors = capsys.readouterr().err
    assert ran == ["a", "b"] and "KeyError" in errors and text not in errors


def queue_of(*sessions: str):
    from gradio.queueing import EventQueue

    waiting = EventQueue("long", 1)
    waiting.queue = [event(session) for session in sessions]
    return waiting


def test_nothing_is_kept_of_an_event_that_was_canceled_twice(queue, monkeypatch):
    async def canceled(self, events, *_):
        raise asyncio.CancelledError

    monkeypatch.setattr(Queue.__bases__[0], "process_events", canceled)
    queue.event_ids_to_events["id of a"] = event("a")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(queue.process_events([event("a")]))
    assert not queue.event_ids_to_events


def test_a_canceled_event_keeps_its_place_until_its_thread_has_ended(queue, monkeypatch):
    ended, sent = [], []

    async def run(self, events, *_):
        try:
            await asyncio.to_thread(time.sleep, 0.3)
            self.send_message(events[0], message("a result"))
        finally:
            ended.append(events[0].session_hash)  # here Gradio frees the place

    monkeypatch.setattr(Queue.__bases__[0], "process_events", run)
    monkeypatch.setattr(Queue.__bases__[0], "send_message", lambda self, event, message: sent.append(event))
    queue.pending_messages_per_session["a"] = asyncio.Queue()

    async def cancel():
        one = event("a")
        task = asyncio.create_task(queue.process_events([one]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ended and not one.alive
        await asyncio.sleep(0.5)
        assert ended == ["a"] and not sent and not queue._running

    asyncio.run(cancel())


def test_the_app_s_page_has_this_queue():
    from space.web import gradio_patches

    gradio_patches.patch_gradio()
    with gr.Blocks() as blocks:
        pass
    assert isinstance(blocks.queue()._queue, Queue)


def test_messages_know_whose_they_are(queue, monkeypatch):
    async def push(self, body, request, username):
        self.pending_messages_per_session[body.session_hash] = asyncio.Queue()
        return True, "id", "success"

    monkeypatch.setattr(Queue.__bases__[0], "push", push)
    request = event("s", "10.0.0.9").request
    asyncio.run(queue.push(SimpleNamespace(session_hash="s"), request, None))
    assert queue.messages["s"].key == "10.0.0.9"
