"""The live stream's WebSocket: takes a visitor's newest camera frame and sends the faces in it.

Gradio's own streaming puts every frame through its queue and cannot tell when a frame was taken; this takes the frame
from memory, sends text that the page draws over the moving picture, and nothing touches the disk. The page's side is
`browser/live-socket.js`."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..analyzer import FaceAnalyzer
from ..detector import THRESHOLD_RANGE
from ..photo import PhotoError
from ..sandbox.client import Frames, Sandbox
from .stream import LiveStream

PATH = "/live"
MAX_BYTES = 1_000_000  # of a frame
MAX_PER_ADDRESS = 4  # visitors
MAX_VISITORS = 8  # at once; they take turns, so that each gets a share of the frames
BAD_FRAMES = 50  # in a row, after which a connection is closed
IDLE_TIMEOUT = 60.0  # seconds without a frame after which a connection is closed
_HEADER = struct.Struct("<I")  # number of the frame, then its JPEG
log = logging.getLogger(__name__)


class LiveServer:
    """The WebSocket endpoint. All visitors share one analyzer.

    Binary messages contain a frame: its number (uint32, little-endian), then its JPEG. Text messages set the detection
    threshold: `{"threshold": 0.7}`. Each answer is JSON with the number as `frame`, and either the values of
    `LiveStream.answer` or an `error` message. If several frames arrive during an analysis, only the newest is analyzed.
    """

    def __init__(
        self,
        analyzer: FaceAnalyzer,
        sandbox: Sandbox,
        may_use: Callable[[WebSocket], bool],
        address_of: Callable[[WebSocket], str],
    ):
        """`may_use`: whether a visitor may use the app, asked again for each message: a login may end."""
        self._analyzer, self._sandbox, self._may_use, self._address_of = analyzer, sandbox, may_use, address_of
        self._places: Counter[str] = Counter()  # of each address
        # Each visitor's frames are decoded on their own: a frame that takes long delays nobody else. The networks take
        # turns, so that no stream starves another.
        self._pool = ThreadPoolExecutor(MAX_VISITORS, thread_name_prefix="live")

    async def serve(self, socket: WebSocket) -> None:
        """Serve one visitor, from first to last frame. `access.Origins` has already checked the page's origin."""
        if not self._may_use(socket):
            await socket.close(1008)
            return
        await socket.accept()
        address = self._address_of(socket)
        if self._places[address] >= MAX_PER_ADDRESS:
            await _close_with_error(socket, f"{MAX_PER_ADDRESS} cameras from your address are using Live. Close one.")
            return
        visitors = self._places.total()
        if visitors >= MAX_VISITORS:
            await _close_with_error(socket, f"{visitors} others are using Live. Try again in a minute.")
            return
        self._places[address] += 1
        newest: list[bytes] = []
        arrived, stream, frames = asyncio.Event(), LiveStream(self._analyzer), self._sandbox.frames()
        tasks = [
            asyncio.create_task(t)
            for t in (
                self._receive(socket, stream, newest, arrived),
                self._send(socket, stream, frames, newest, arrived),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, RuntimeError):
            pass  # Starlette raises it when the client has disconnected
        except StreamClosed as refused:
            await _close_with_error(socket, str(refused))
        finally:
            self._places[address] -= 1
            self._places += Counter()  # without those that have none
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            frames.close()

    async def _receive(
        self, socket: WebSocket, stream: LiveStream, newest: list[bytes], arrived: asyncio.Event
    ) -> None:
        end = time.monotonic() + IDLE_TIMEOUT  # settings aren't frames
        while True:
            try:
                received = await asyncio.wait_for(socket.receive(), end - time.monotonic())
            except TimeoutError:
                raise StreamClosed("No frames arrived for a minute. Start the camera again.") from None
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received.get("code", 1000))
            if not self._may_use(socket):
                raise StreamClosed("You have logged out. Log in again.")
            message = received.get("bytes")
            if message is None:
                stream.threshold = _threshold(received.get("text") or "")
                continue
            if not _HEADER.size < len(message) <= MAX_BYTES:
                raise StreamClosed(f"A frame must be a number followed by a JPEG of at most {MAX_BYTES // 1000:,} kB.")
            newest[:] = [message]
            end = time.monotonic() + IDLE_TIMEOUT
            arrived.set()

    async def _send(
        self, socket: WebSocket, stream: LiveStream, frames: Frames, newest: list[bytes], arrived: asyncio.Event
    ) -> None:
        bad, run = 0, asyncio.get_running_loop().run_in_executor
        while True:
            await arrived.wait()
            arrived.clear()
            (message,) = newest
            (number,) = _HEADER.unpack_from(message)
            try:
                answer = await run(self._pool, _answer, stream, frames, message[_HEADER.size :])
            except PhotoError as error:
                answer = {"error": str(error)}
            except Exception:
                # One bad frame ends neither this stream nor another's.
                log.exception("A live frame could not be analyzed")
                answer = {"error": "This frame could not be analyzed."}
            bad = bad + 1 if "error" in answer else 0
            if bad >= BAD_FRAMES:
                raise StreamClosed(f"{answer['error']} Too many bad frames in a row.")
            await socket.send_json({"frame": number, **answer})


def _answer(stream: LiveStream, frames: Frames, jpeg: bytes) -> dict:
    arrived = time.monotonic()
    return stream.answer(frames.decode(jpeg), arrived)


def _threshold(text: str) -> float:
    """The setting of a text message, `{"threshold": 0.7}`. Raises StreamClosed for any other."""
    lowest, highest = THRESHOLD_RANGE
    try:
        value = json.loads(text if len(text) <= 100 else "")["threshold"]
        if isinstance(value, (int, float)) and lowest <= value <= highest:
            return float(value)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise StreamClosed(
        f"Send frames as binary messages, and settings as JSON with a threshold from {lowest} to {highest}."
    )


class StreamClosed(Exception):
    """The stream ends; the message is for the visitor."""


async def _close_with_error(socket: WebSocket, text: str) -> None:
    try:
        await socket.send_json({"error": text})
        await socket.close(1008)
    except (RuntimeError, WebSocketDisconnect):
        pass  # gone already
