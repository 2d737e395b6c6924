"""What a visitor may send, who may stream, and when a stream ends."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from space.live import server
from space.live.server import StreamClosed, _threshold
from space.photo import PhotoError


@pytest.mark.parametrize("value", [0.3, 0.7, 0.95])
def test_a_threshold_within_the_range_is_taken(value):
    assert _threshold(f'{{"threshold": {value}}}') == value


LONG = '{"threshold": 0.5}' + 90 * " "
WRONG = (0.29, 0.96, '"0.5"', "true", "NaN", "null")


@pytest.mark.parametrize(
    "text",
    [*(f'{{"threshold": {value}}}' for value in WRONG), "{}", "[0.5]", "0.5", "", LONG],
)
def test_anything_else_closes_the_stream(text):
    with pytest.raises(StreamClosed, match=r"a threshold from 0\.3 to 0\.95"):
        _threshold(text)


class Socket:
    """A visitor's side of the connection: sends what it is told to, and keeps what it gets."""

    client = SimpleNamespace(host="10.0.0.1")

    def __init__(self, *messages):
        self.messages, self.sent, self.closed = list(messages), [], None

    async def accept(self):
        pass

    async def receive(self):
        if not self.messages:
            await asyncio.Event().wait()  # silence
        message = self.messages.pop(0)
        return await message() if callable(message) else message

    async def send_json(self, value):
        self.sent.append(value)

    async def close(self, code):
        self.closed = code


def frame(number: int = 1) -> dict:
    return {"type": "websocket.receive", "bytes": number.to_bytes(4, "little") + b"jpeg"}


def setting(value: float) -> dict:
    return {"type": "websocket.receive", "text": f'{{"threshold": {value}}}'}


async def gone() -> dict:
    await asyncio.sleep(0.2)  # the answer before it is on its way
    return {"type": "websocket.disconnect", "code": 1001}


@pytest.fixture
def live(monkeypatch):
    """A server whose analysis answers with the threshold."""
    monkeypatch.setattr(server, "_answer", lambda stream, frames, jpeg: {"threshold": stream.threshold})
    frames = SimpleNamespace(close=lambda: live.closed.append(1))
    live = server.LiveServer(None, SimpleNamespace(frames=lambda: frames), lambda _: True, lambda s: s.client.host)
    live.closed = []
    return live


def serve(live, *sockets: Socket) -> None:
    async def together():
        await asyncio.gather(*map(live.serve, sockets))

    asyncio.run(together())


def test_frames_are_answered_until_the_visitor_leaves(live):
    socket = Socket(setting(0.5), frame(7), gone)
    serve(live, socket)
    assert socket.sent == [{"frame": 7, "threshold": 0.5}] and socket.closed is None
    assert not live._places and live.closed == [1]


def test_settings_alone_do_not_keep_a_stream_open(live, monkeypatch):
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 1.0)

    async def later():
        await asyncio.sleep(0.4)
        return setting(0.5)

    async def later_frame():
        await asyncio.sleep(0.4)
        return frame(1)

    socket = Socket(later_frame, later, later, later, later)  # idle from 0.4 s on
    started = time.monotonic()
    serve(live, socket)
    assert socket.sent[-1]["error"].startswith("No frames arrived for a minute") and socket.closed == 1008
    assert [answer.get("frame") for answer in socket.sent] == [1, None]
    assert 1.3 < time.monotonic() - started < 2.5


def test_visitors_are_counted_together_and_by_address(live):
    def at(host: str) -> Socket:
        socket = Socket(gone)
        socket.client = SimpleNamespace(host=host)
        return socket

    one = [at("10.0.0.1") for _ in range(server.MAX_PER_ADDRESS + 1)]
    serve(live, *one)
    assert [socket.closed for socket in one] == [None] * server.MAX_PER_ADDRESS + [1008]
    assert one[-1].sent == [{"error": "4 cameras from your address are using Live. Close one."}]
    many = [at(f"10.0.0.{number}") for number in range(server.MAX_VISITORS + 1)]
    serve(live, *many)
    assert [socket.closed for socket in many] == [None] * server.MAX_VISITORS + [1008]
    assert many[-1].sent == [{"error": "8 others are using Live. Try again in a minute."}]


def test_who_logs_out_is_closed_at_the_next_message(live):
    allowed = iter([True, True, False])
    live._may_use = lambda socket: next(allowed)
    socket = Socket(frame(1), frame(2), gone)
    serve(live, socket)
    assert socket.sent[-1] == {"error": "You have logged out. Log in again."} and socket.closed == 1008
    live._may_use = lambda socket: False
    stranger = Socket(frame(1))
    serve(live, stranger)
    assert stranger.closed == 1008 and not stranger.sent


@pytest.mark.parametrize("size", [0, 3, 4, server.MAX_BYTES + 1])
def test_a_frame_has_a_number_and_at_most_a_megabyte(live, size):
    socket = Socket({"type": "websocket.receive", "bytes": bytes(size)})
    serve(live, socket)
    assert "a JPEG of at most 1,000 kB" in socket.sent[0]["error"] and socket.closed == 1008


def test_fifty_bad_frames_in_a_row_end_the_stream(live, monkeypatch):
    answers = iter([*["bad"] * 49, "good", *["bad"] * 50])

    def answer(*_):
        if next(answers) == "bad":
            raise PhotoError("This isn't a readable image.")
        return {"faces": []}

    async def next_frame():
        await asyncio.sleep(0.001)
        while len(socket.sent) < next_frame.sent:
            await asyncio.sleep(0.001)
        next_frame.sent += 1
        return frame(next_frame.sent)

    next_frame.sent = 0
    monkeypatch.setattr(server, "_answer", answer)
    socket = Socket(*[next_frame] * 100)
    serve(live, socket)
    assert len(socket.sent) == 100 and socket.sent[49] == {"frame": 50, "faces": []}
    assert socket.sent[48] == {"frame": 49, "error": "This isn't a readable image."}
    assert socket.sent[-1]["error"] == "This isn't a readable image. Too many bad frames in a row."
    assert socket.closed == 1008
