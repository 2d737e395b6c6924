"""The live stream: a WebSocket that takes a visitor's newest camera frame and answers with the people in it.

Gradio's own streaming puts every frame through its queue and cannot tell when a frame was taken; this takes the frame
from memory, answers with text that the page draws over the moving picture, and nothing touches the disk. Each
connection has its own tracker, which goes with it. The page's side is `live.js`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from starlette.websockets import WebSocket, WebSocketDisconnect

from space.analyzer import FaceAnalyzer
from space.annotate import label
from space.face import interval_years
from space.guard import signed_in
from space.photo import PhotoError, read_photo
from space.tracker import Tracker

PATH = "/live"
SIDE = 320  # pixels, longer side at which a frame is searched: faces from about 20 pixels of 640
MOST = 4  # faces a frame that get a new answer; in a crowd they take turns
MAX_BYTES = 1_000_000  # of a frame
MAX_PIXELS = 1920 * 1080  # of a frame
MAX_VISITORS = 8  # at once; they take turns, so that each gets a share of the frames
BAD_FRAMES = 50  # in a row, after which a connection is closed
SILENCE = 60.0  # seconds without a frame after which a connection is closed
_HEADER = struct.Struct("<I")  # number of the frame, then its JPEG

log = logging.getLogger(__name__)


class LiveStream:
    """What the server knows of one visitor's stream."""

    def __init__(self, analyzer: FaceAnalyzer):
        self._analyzer = analyzer
        self._tracker = Tracker()

    def answer(self, frame: bytes, seconds: float) -> dict:
        """The people in a frame.

        Args:
            frame: a JPEG or WebP file.
            seconds: when it arrived, on any clock.

        Returns:
            For JSON: width, height (pixels of the frame), ms (time it took), faces: each with id, box [x, y, width,
            height], label, interval (text) and what `Face.as_dict` has, smoothed over frames.

        Raises:
            PhotoError: the frame is no picture, or a too large one.
        """
        started = time.perf_counter()
        rgb = read_photo(frame, most_pixels=MAX_PIXELS)
        analyzer = self._analyzer
        faces = self._tracker.update(
            analyzer.detect(rgb, side=SIDE, quarters=0), seconds, lambda found: analyzer.estimate(rgb, found), most=MOST
        )
        return {
            "width": rgb.shape[1],
            "height": rgb.shape[0],
            "ms": round(1000 * (time.perf_counter() - started), 1),
            "faces": [
                face.as_dict()
                | {"id": face.track_id, "label": label(face)}
                | {"interval": interval_years(face.age_low, face.age_high)}
                for face in faces
            ],
        }


class LiveServer:
    """The WebSocket endpoint: all visitors share one analyzer and take turns frame by frame.

    A message is a frame's number (uint32, little-endian) and its JPEG; the answer is `LiveStream.answer` as JSON with
    `frame`, that number, or `error`, a sentence. Of frames that arrive while another is analysed the newest counts.
    """

    def __init__(self, analyzer: FaceAnalyzer):
        self._analyzer = analyzer
        # One frame of one visitor at a time, first come first served: nobody's stream starves another's.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="live")
        self.visitors = 0

    async def serve(self, socket: WebSocket) -> None:
        """One visitor, from first to last frame. `guard.Guard` has checked where the page comes from."""
        if not signed_in(socket.app, socket.cookies):
            await socket.close(1008)
            return
        await socket.accept()
        if self.visitors >= MAX_VISITORS:
            await _farewell(socket, f"{self.visitors} others are live now. Try again in a minute.")
            return
        self.visitors += 1
        newest: list[bytes] = []
        arrived = asyncio.Event()
        tasks = [
            asyncio.create_task(t)
            for t in (self._receive(socket, newest, arrived), self._send(socket, newest, arrived))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, RuntimeError):
            pass  # Starlette's word for an answer to somebody who has gone
        except _Refused as refused:
            await _farewell(socket, str(refused))
        finally:
            self.visitors -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self, socket: WebSocket, newest: list[bytes], arrived: asyncio.Event) -> None:
        while True:
            try:
                message = await asyncio.wait_for(socket.receive_bytes(), SILENCE)
            except TimeoutError:
                raise _Refused("The camera sent nothing for a minute. Start it again.") from None
            except KeyError:  # a text, as Starlette sees it
                message = None
            if not isinstance(message, bytes):
                raise _Refused("A frame must be sent as bytes.")
            if not _HEADER.size < len(message) <= MAX_BYTES:
                raise _Refused(f"A frame must be a number and a JPEG of at most {MAX_BYTES // 1000:,} kB.")
            newest[:] = [message]
            arrived.set()

    async def _send(self, socket: WebSocket, newest: list[bytes], arrived: asyncio.Event) -> None:
        stream, bad = LiveStream(self._analyzer), 0
        while True:
            await arrived.wait()
            arrived.clear()
            (message,) = newest
            (number,) = _HEADER.unpack_from(message)
            work = asyncio.get_running_loop().run_in_executor(
                self._pool, stream.answer, message[_HEADER.size :], time.monotonic()
            )
            try:
                answer = await work
            except PhotoError as error:
                answer = {"error": str(error)}
            except Exception:
                # One bad frame ends neither this stream nor another's.
                log.exception("A live frame could not be analysed")
                answer = {"error": "This frame could not be analysed."}
            bad = bad + 1 if "error" in answer else 0
            if bad >= BAD_FRAMES:
                raise _Refused(f"{answer['error']} Too many such frames.")
            await socket.send_json({"frame": number, **answer})


class _Refused(Exception):
    """The stream ends; the message is for the visitor."""


async def _farewell(socket: WebSocket, text: str) -> None:
    try:
        await socket.send_json({"error": text})
        await socket.close(1008)
    except (RuntimeError, WebSocketDisconnect):
        pass  # gone already
