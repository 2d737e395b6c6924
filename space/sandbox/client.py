"""The app's side of the sandbox: what visitors send goes into workers, and pixels, names and results come out.

Each call uses a worker that has never seen another visitor's data, and whose memory and time are limited. Spare workers
wait, so that a photo doesn't wait for a fork. On systems other than Linux there are no workers: see `in_process.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..batch.pictures import BatchError, Picture
from ..photo import Photo, PhotoError, PhotoMemoryError
from ..video.result import Progress, VideoError, VideoResult
from .messages import content_of, memory_file, pair, receive, send

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_BYTES = 50_000_000  # of an image file
START = 20.0  # seconds until a worker must be ready
SPARES = 2  # workers that wait
AT_ONCE = 2  # photos that are decoded at the same time


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker may use."""

    memory: int  # bytes, in addition to what the fork server has
    cpu: int  # seconds, for each request
    written: int  # bytes of a file, memory files included
    nice: int = 0


QUICK = WorkerLimits(memory=270_000_000, cpu=2, written=200_000_000)
LARGE = WorkerLimits(memory=570_000_000, cpu=7, written=200_000_000, nice=10)  # for what doesn't fit into QUICK
FRAME = WorkerLimits(memory=60_000_000, cpu=2, written=10_000_000)
ZIP = WorkerLimits(memory=200_000_000, cpu=3, written=MAX_BYTES * 2)
VIDEO = WorkerLimits(memory=800_000_000, cpu=1500, written=400_000_000, nice=10)
ANSWER = 15.0  # seconds for a decoded photo, or the next step of a video
OPENING = 8.0  # seconds for the first step of a video
VIDEO_SECONDS = 3000.0  # wall-clock seconds for a whole video; a worker that only waits uses no CPU time
MAX_JSON = 100_000_000  # bytes of the names in a zip, or of a video's result: 37 kB for each person's thumbnail
MAX_VALUES = 1_000_000  # values in it, each of which takes memory of its own

TOO_MUCH = "The image takes too much time or memory to read. Export it as JPEG and try again."


class WorkerEnded(Exception):
    """A worker exceeded its limits or crashed."""


class Sandbox:
    """The workers of an app; safe to share between threads."""

    isolated = True
    server: ClassVar[list[str]] = [
        sys.executable,
        "-m",
        f"{__package__}.fork_server",
    ]  # the command, without the socket

    def __init__(self):
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._server: subprocess.Popen | None = None
        self._spares: deque[_Worker] = deque()
        self._at_once, self._large = threading.Semaphore(AT_ONCE), threading.Lock()
        self._refill()

    def photo(self, fd: int) -> Photo:
        """Decode an image file, given its descriptor. Raises PhotoError."""
        with self._at_once, contextlib.suppress(WorkerEnded, PhotoMemoryError):
            return self._photo(fd, QUICK)
        # One at a time and at low priority: senders of such files wait for each other.
        with self._large:
            try:
                return self._photo(fd, LARGE)
            except (WorkerEnded, PhotoMemoryError):
                raise PhotoError(TOO_MUCH) from None

    def _photo(self, fd: int, limits: WorkerLimits) -> Photo:
        os.lseek(fd, 0, os.SEEK_SET)
        with self._worker() as worker:
            return worker.photo({"job": "photo", "most_bytes": MAX_BYTES, "limits": asdict(limits)}, fd)

    def frames(self) -> Frames:
        """A decoder for the frames of one visitor's live stream."""
        return Frames(self)

    @contextlib.contextmanager
    def zip(self, fd: int, name: str, skipped: list[str]) -> Iterator[list[Picture]]:
        """The images in a zip, given its descriptor and name; the names of other members are appended to `skipped`.

        Raises:
            BatchError: it isn't a readable zip.
        """
        with contextlib.closing(Members(self, fd, name)) as members:
            names, others = members.open()
            skipped += others
            yield [Picture(name, partial(members.photo, i)) for i, name in enumerate(names)]

    def video(self, fd: int, target: Path, *, model: str, **settings) -> Iterator[Progress | VideoResult]:
        """`annotate_video` of a video file, given its descriptor.

        Args:
            fd: the video file.
            target: the .mp4 to write.
            model: the model to load, as for `FaceAnalyzer.load`.
            settings: keyword arguments of `annotate_video`.

        Raises:
            VideoError: as there, or the video takes too much time or memory.
        """
        message = {"job": "video", "target": str(target), "model": model, "settings": settings, "limits": asdict(VIDEO)}
        end = time.monotonic() + VIDEO_SECONDS
        try:
            with self._worker() as worker:
                with worker.ask(message, fd, timeout=OPENING) as (reply, fds):
                    step = _video_step(reply, fds)
                while isinstance(step, Progress) and time.monotonic() < end:
                    yield step
                    with worker.ask(None) as (reply, fds):
                        step = _video_step(reply, fds)
        except WorkerEnded:
            step = None
        if not isinstance(step, VideoResult):
            raise VideoError(
                "The video takes too much time or memory to read. Convert it to MP4 (H.264) and try again."
            )
        yield step

    def close(self) -> None:
        """End the fork server, and with it all workers. The next call starts another."""
        with self._lock:
            while self._spares:
                self._spares.popleft().kill()
            if self._server and self._control:
                self._control.close()
                self._server.kill()
                self._server.wait()
                self._server = None

    @contextlib.contextmanager
    def _worker(self) -> Iterator[_Worker]:
        """A worker for one visitor; it is killed at the end, and a spare one starts."""
        worker = self._ready_worker()
        try:
            yield worker
        finally:
            worker.kill()
            self._refill()

    def _ready_worker(self) -> _Worker:
        for attempt in range(SPARES + 1):  # the server may have ended before any of the spare ones was ready
            with self._lock:
                if not self._spares:
                    self._fill()
                worker = self._spares.popleft()
            try:
                worker.wait_until_ready()
                return worker
            except WorkerEnded:
                worker.kill()
                if attempt + 1 == SPARES:
                    self.close()
        raise WorkerEnded

    def _refill(self) -> None:
        with self._lock:
            self._fill()

    def _fill(self) -> None:
        """Ask for spare workers; doesn't wait for them. Call it with the lock."""
        while len(self._spares) < SPARES:
            if self._server is None or self._server.poll() is not None:
                self._start()
            assert self._control is not None
            ours, theirs = pair()
            with theirs, contextlib.suppress(OSError):  # a server that has just ended: the worker is never ready
                socket.send_fds(self._control, [b"f"], [theirs.fileno()], socket.MSG_NOSIGNAL)
            self._spares.append(_Worker(ours))

    def _start(self) -> None:
        ours, theirs = pair()
        # A clean environment, so that a malicious file that takes over a decoder finds no tokens and no passwords.
        kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", "VIRTUAL_ENV")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        # Freed memory stays with a worker: getting new pages takes longer than decoding a small photo.
        environment |= {"MALLOC_TRIM_THRESHOLD_": "67108864", "MALLOC_MMAP_THRESHOLD_": "33554432"}
        with theirs:
            self._server = subprocess.Popen(
                [*self.server, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        self._control = ours


class Frames:
    """Decodes one visitor's frames, in a worker of their own that starts with the first frame."""

    def __init__(self, sandbox: Sandbox):
        self._sandbox, self._stack = sandbox, contextlib.ExitStack()
        self._worker: _Worker | None = None

    def decode(self, jpeg: bytes) -> np.ndarray:
        """A JPEG's pixels, uint8 [H, W, 3]. Raises PhotoError."""
        try:
            if self._worker is None:
                self._worker = self._stack.enter_context(self._sandbox._worker())
            fd = memory_file(jpeg)
            try:
                return self._worker.photo({"job": "frames", "limits": asdict(FRAME)}, fd).rgb
            finally:
                os.close(fd)
        except WorkerEnded:
            self.close()  # the next frame gets a new one
            raise PhotoError(TOO_MUCH) from None

    def close(self) -> None:
        """End the worker."""
        self._stack.close()
        self._worker = None


class Members:
    """The images of a zip, read by one worker at a time."""

    def __init__(self, sandbox: Sandbox, fd: int, name: str):
        self._sandbox, self._fd, self._name, self._stack = sandbox, os.dup(fd), name, contextlib.ExitStack()
        self._lock = threading.Lock()  # a worker answers one question at a time
        self._worker: _Worker | None = None

    def open(self) -> tuple[list[str], list[str]]:
        """Start a worker; returns the names of the images and of the other members. Raises BatchError."""
        try:
            self._worker = self._stack.enter_context(self._sandbox._worker())
            message = {"job": "zip", "name": self._name, "limits": asdict(ZIP)}
            with self._worker.ask(message, self._fd) as (reply, fds):
                if "error" in reply:
                    raise BatchError(str(reply["error"]))
                with _from_anybody():
                    names, others = _json(fds)
                    return [str(name) for name in names], [str(name) for name in others]
        except WorkerEnded:
            raise BatchError(
                f"{self._name} takes too much time or memory to read. Upload the images without a zip."
            ) from None

    def photo(self, number: int) -> Photo:
        """The image of a member. Raises PhotoError."""
        with self._lock:
            try:
                if self._worker is None:
                    self.open()
                assert self._worker is not None
                with self._worker.ask({"member": number, "limits": asdict(ZIP)}) as (reply, fds):
                    if "error" in reply:
                        raise PhotoError(str(reply["error"]))
                    with _from_anybody():
                        content = fds.pop(0)
            except (WorkerEnded, BatchError):
                self._end()  # its late answer would be taken for that to the next question
                raise PhotoError(TOO_MUCH) from None
        try:
            return self._sandbox.photo(content)
        finally:
            os.close(content)

    def close(self) -> None:
        """End the worker and close the zip."""
        self._end()
        os.close(self._fd)

    def _end(self) -> None:
        self._stack.close()
        self._worker = None


@contextlib.contextmanager
def _from_anybody() -> Iterator[None]:
    """Read what a worker sent. A malicious file may control it: WorkerEnded, if it isn't as expected."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WorkerEnded from error


def _json(fds: list[int]) -> Any:
    """The JSON that a worker sends in a memory file."""
    content = bytes(content_of(fds[0], most=MAX_JSON))
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError("too many values")
    return json.loads(content)


def _pixels(shape: list, fds: list[int]) -> np.ndarray:
    """uint8 [H, W, 3] that a worker sends."""
    height, width, channels = map(int, shape)
    return np.frombuffer(content_of(fds[0], height * width * 3), np.uint8).reshape(height, width, channels)


def _video_step(reply: dict, fds: list[int]) -> Progress | VideoResult:
    """What a worker sends of a video. Raises VideoError and WorkerEnded."""
    if "error" in reply:
        raise VideoError(str(reply["error"]))
    with _from_anybody():
        if "share" not in reply:
            return VideoResult.from_json(_json(fds))
        picture = _pixels(reply["shape"], fds) if "shape" in reply else None
        left = reply["seconds_left"]
        return Progress(float(reply["share"]), None if left is None else float(left), picture)


class _Worker:
    """The app's end of a connection to one worker."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._process: int | None = None  # a descriptor of it

    def wait_until_ready(self) -> None:
        with self.ask(None, timeout=START) as (_, fds):
            self._process = os.dup(fds[0]) if fds else None

    @contextlib.contextmanager
    def ask(self, message: dict | None, *fds: int, timeout: float = ANSWER) -> Iterator[tuple[dict, list[int]]]:
        """Send a message, if there is one. Yields the next reply and its descriptors, and closes these at the end.

        Raises:
            WorkerEnded: there is no reply.
        """
        self._connection.settimeout(timeout)
        try:
            if message is not None:
                send(self._connection, message, *fds)
            reply, received = receive(self._connection)
        except (EOFError, OSError) as error:  # TimeoutError is one
            raise WorkerEnded from error
        try:
            yield reply, received
        finally:
            for fd in received:
                os.close(fd)

    def photo(self, message: dict, fd: int) -> Photo:
        """The photo that a worker sends for a message. Raises PhotoError and WorkerEnded."""
        with self.ask(message, fd) as (reply, fds):
            if "error" in reply:
                raise (PhotoMemoryError if reply.get("memory") else PhotoError)(str(reply["error"]))
            with _from_anybody():
                width, height = map(int, reply["size"])
                return Photo(_pixels(reply["shape"], fds), (width, height), bool(reply["incomplete"]))

    def kill(self) -> None:
        """End the worker, whatever it does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
            self._process = None
        self._connection.close()


def open_sandbox():
    """The sandbox of this system: a `Sandbox` on Linux, and an `InProcess`, which protects nobody, on others."""
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.close(os.memfd_create("age-gender", os.MFD_ALLOW_SEALING))
    except (AttributeError, OSError):
        from .in_process import InProcess

        return InProcess()
    return Sandbox()
