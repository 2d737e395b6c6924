"""Gradio's queue: it goes on whatever visitors do, keeps no more than it must, and visitors take turns."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import gradio as gr
import pytest

from space.web import queue as module
from space.web.queue import Messages, Queue, Sessions


def event(session: str, address: str = "10.0.0.1") -> SimpleNamespace:
    request = SimpleNamespace(scope={"client": (address, 1), "headers": []})
    return SimpleNamespace(session_hash=session, _id=session, alive=True, request=request, concurrency_id="long")


def message(text: str = "") -> SimpleNamespace:
    return SimpleNamespace(output={"data": [text]} if text else None)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def waiting() -> Queue:
    with gr.Blocks() as blocks:
        return Queue(True, 40, 1, None, blocks)


def test_an_event_that_waits_keeps_its_session_however_many_others_come(waiting):
    sessions = waiting.pending_messages_per_session
    waiting.event_ids_to_events["first"] = event("first")
    for number in range(3 * module.MAX_SESSIONS):
        sessions["first" if number == 0 else f"s{number}"] = asyncio.Queue()
    assert "first" in sessions and len(sessions) <= module.MAX_SESSIONS
    waiting.send_message(event("first"), message("result"))
    assert sessions["first"].get_nowait().output == {"data": ["result"]}
    waiting.send_message(event("s1"), message("nobody's"))  # no error


def test_results_that_nobody_fetches_are_dropped_for_newer_ones(waiting, clock, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    sessions = waiting.pending_messages_per_session
    for number in range(30):
        clock.now += 1
        sessions[f"s{number}"] = asyncio.Queue()
        waiting.pending_event_ids_session[f"s{number}"] = {f"s{number}"}
        waiting.send_message(event(f"s{number}"), message("x" * 1000))
    kept = [name for name, messages in sessions.items() if messages.bytes]
    assert kept == [f"s{number}" for number in range(30 - len(kept), 30)] and 8 <= len(kept) <= 10
    assert set(waiting.pending_event_ids_session) == set(sessions)


def test_finished_sessions_are_forgotten_after_a_while_and_those_in_use_are_not(waiting, clock):
    sessions = waiting.pending_messages_per_session
    for name in ("old", "used", "busy"):
        sessions[name] = asyncio.Queue()
    waiting.event_ids_to_events["busy"] = event("busy")
    clock.now += module.KEPT - 1
    sessions["used"].put_nowait(message())  # Gradio's heartbeat, while somebody listens
    clock.now += 2
    sessions["new"] = asyncio.Queue()
    assert list(sessions) == ["used", "busy", "new"]


def test_messages_know_the_size_of_results():
    messages = Messages()
    messages.put_nowait(SimpleNamespace(output={"data": ["x" * 100, {"image": "y" * 50}, 3, None]}))
    messages.put_nowait(SimpleNamespace())
    assert 150 < messages.bytes < 220
    messages.get_nowait(), messages.get_nowait()
    assert messages.bytes == 0


def test_addresses_take_turns(waiting, clock):
    long = waiting.event_queue_per_concurrency_id["long"] = SimpleNamespace(
        queue=[], concurrency_limit=1, current_concurrency=0
    )
    for item in (*(event(f"a{i}", "10.0.0.1") for i in range(3)), event("b0", "10.0.0.2"), event("c0", "10.0.0.3")):
        item.fn = SimpleNamespace(batch=False)
        long.queue.append(item)
    order = []
    while found := waiting.get_events():
        clock.now += 1
        order.append(found[0][0]._id)
    assert order == ["a0", "b0", "c0", "a1", "a2"]
    long.queue, long.current_concurrency = [event("a3"), event("b1")], 1
    assert waiting.get_events() is None


def test_an_error_does_not_stop_the_queue(waiting, monkeypatch, capsys):
    calls, text = [], "visitor's data"

    async def fail(self):
        calls.append(self.stopped)
        self.stopped = True
        if len(calls) < 3:
            raise KeyError(text)

    monkeypatch.setattr(Queue.__bases__[0], "start_processing", fail)  # Gradio's
    asyncio.run(waiting.start_processing())
    assert calls == [False, False, False]
    errors = capsys.readouterr().err
    assert errors.count("The queue was restarted.") == 2 and "KeyError" in errors and text not in errors


def test_the_app_s_page_has_this_queue():
    from space.web import gradio_patches

    gradio_patches.patch_gradio()
    with gr.Blocks() as blocks:
        pass
    assert isinstance(blocks.queue()._queue, Queue)
    assert isinstance(blocks._queue.pending_messages_per_session, Sessions)
