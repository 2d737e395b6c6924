"""What a worker does: one job for one visitor, within limits, and then it ends. Linux only.

Started by `fork_server.py`. A job gets the connection to the app, the message that asks for it, and the message's
descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ..photo import FRAMES, UPLOADS, Limits, PhotoError, PhotoMemoryError, image_pixels, open_photo
from .messages import content_of, memory_file, receive, send

PR_SET_PDEATHSIG = 1
LARGE = 6_000_000  # pixels of an image whose decoding may fail for want of memory
MAX_LISTED = 5_000  # files in a zip


def own_image(kind: str) -> bytes:
    """An image file of this project's own. Raises OSError and KeyError if this build of Pillow can't write it."""
    file = io.BytesIO()
    Image.new("RGB", (640, 480), (90, 120, 150)).save(file, kind)
    return file.getvalue()


_OWN = own_image("JPEG")


def run(connection: socket.socket) -> None:
    """Say that this worker is ready, do one job, and end the process."""
    status = 1
    try:
        with contextlib.suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # when the fork server ends
        touch_memory()
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the app doesn't need it any more
            this_process = os.pidfd_open(os.getpid())
            send(connection, {"ready": True}, this_process)
            os.close(this_process)
            message, fds = receive(connection)
            _limit(**message["limits"])
            JOBS[message["job"]](connection, message, fds)
        status = 0
    except BaseException as error:  # its message may quote the file
        place = "".join(traceback.format_tb(error.__traceback__))
        os.write(2, f"A worker failed:\n{place}{type(error).__name__}\n".encode())
    finally:
        os._exit(status)


def touch_memory() -> None:
    """Decode an image before anybody waits: what a fork shares with its parent is copied at the first touch."""
    open_photo(_OWN, UPLOADS)


def _limit(*, memory: int, cpu: int, written: int, nice: int) -> None:
    memory += _memory()
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    _limit_cpu(cpu)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(nice)


def _memory() -> int:
    """Bytes that this process has already, which depend on the libraries' versions."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _limit_cpu(seconds: int) -> None:
    """End this process after so many seconds of CPU from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _photo(connection: socket.socket, message: dict, fds: list[int]) -> None:
    """Decode the image file that is the first descriptor."""
    most = message["most_bytes"]
    with open(fds[0], "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        send(connection, {"error": f"The image file is too large: the limit is {most // 1_000_000} MB."})
    else:
        _send_photo(connection, content, UPLOADS)


def _frames(connection: socket.socket, message: dict, fds: list[int]) -> None:
    """Decode JPEG files, one after the other, until the app closes the connection."""
    while True:
        _limit_cpu(message["limits"]["cpu"])
        content = bytes(content_of(fds[0]))
        os.close(fds[0])
        _send_photo(connection, content, FRAMES)
        message, fds = receive(connection)


def _send_photo(connection: socket.socket, content: bytes, limits: Limits) -> None:
    try:
        photo = open_photo(content, limits)
    except PhotoError as error:
        # Some decoders call a lack of memory damage.
        memory = isinstance(error, PhotoMemoryError) or image_pixels(content, limits) > LARGE
        send(connection, {"error": str(error)[:500], "memory": memory})
        return
    pixels = memory_file(photo.rgb)
    send(connection, {"shape": photo.rgb.shape, "size": photo.size, "incomplete": photo.incomplete}, pixels)
    os.close(pixels)


def _zip(connection: socket.socket, message: dict, fds: list[int]) -> None:
    """List the images in the zip that is the first descriptor, then send the content of those that are asked for."""
    from ..batch.pictures import BatchError, open_zip

    try:
        members, skipped = open_zip(f"/proc/self/fd/{fds[0]}", message["name"])
    except BatchError as error:
        send(connection, {"error": str(error)[:500]})
        return
    if len(members) + len(skipped) > MAX_LISTED:
        send(connection, {"error": f"{message['name']} has too many files: the limit is {MAX_LISTED:,} in one zip."})
        return
    listed = json.dumps([[member.name for member in members], skipped]).encode()
    names = memory_file(listed)
    send(connection, {}, names)
    os.close(names)
    while True:
        message, _ = receive(connection)
        _limit_cpu(message["limits"]["cpu"])
        try:
            content = memory_file(members[message["member"]].read() or b"\0")
        except PhotoError as error:
            send(connection, {"error": str(error)[:500]})
        else:
            send(connection, {}, content)
            os.close(content)


def _video(connection: socket.socket, message: dict, fds: list[int]) -> None:
    """Annotate the video file that is the first descriptor; sends progress and at the end the result."""
    from ..analyzer import FaceAnalyzer
    from ..hub.download import ModelError
    from ..video.annotator import annotate_video
    from ..video.result import VideoError, VideoResult

    source, settings = f"/proc/self/fd/{fds[0]}", message["settings"]
    try:
        analyzer = FaceAnalyzer.load(message["model"])
        for step in annotate_video(analyzer, source, Path(message["target"]), **settings):
            if isinstance(step, VideoResult):
                send(connection, {"result": True}, memory_file(json.dumps(step.to_json()).encode()))
            else:
                _send_progress(connection, step)
    except (VideoError, ModelError) as error:
        send(connection, {"error": str(error)[:500]})


def _send_progress(connection: socket.socket, step) -> None:
    """Send a `Progress`, its picture as a memory file."""
    reply = {"share": step.share, "seconds_left": step.seconds_left}
    if step.picture is None:
        send(connection, reply)
        return
    pixels = memory_file(step.picture.tobytes())
    try:
        send(connection, reply | {"shape": step.picture.shape}, pixels)
    finally:
        os.close(pixels)


JOBS: dict[str, Callable[[socket.socket, dict, list[int]], None]] = {
    "photo": _photo,
    "frames": _frames,
    "zip": _zip,
    "video": _video,
}
