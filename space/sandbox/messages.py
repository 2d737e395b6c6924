"""Messages between the app and a worker: short JSON with file descriptors. Large data travels in sealed memory files.

Nothing is pickled: a worker compromised by a malicious file can send wrong values, but can't make the app run code.
"""

from __future__ import annotations

import json
import mmap
import os
import socket

MAX_MESSAGE = 60_000  # bytes of JSON; a datagram on a Unix socket holds 200 kB
MAX_FDS = 2
_SEALS = ("F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE")


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends. A message arrives whole, or the connection ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(connection: socket.socket, message: dict, *fds: int) -> None:
    """Send a message; the receiver gets its own copies of the descriptors. Raises OSError if the other end is gone."""
    socket.send_fds(connection, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """The next message and its descriptors, which belong to the caller.

    Raises:
        EOFError: the other end is gone, or sent something else than an object in JSON.
        OSError: the other end is gone without having read all, or nothing came within the connection's timeout.
    """
    data, fds, _, _ = socket.recv_fds(connection, MAX_MESSAGE, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    try:
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:  # nothing at all isn't JSON either
        for fd in fds:
            os.close(fd)
        raise EOFError from error
    return message, fds


def memory_file(data) -> int:
    """A descriptor of a memory file that holds `data`, bytes or a contiguous array, and that nobody can change."""
    import fcntl  # not on Windows, where there are no workers

    view = memoryview(data).cast("B")
    fd = os.memfd_create("age-gender", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while view:
            view = view[os.write(fd, view) :]
        for seal in _SEALS:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, getattr(fcntl, seal))
    except BaseException:
        os.close(fd)
        raise
    return fd


def content_of(fd: int, size: int | None = None, *, most: int | None = None) -> mmap.mmap:
    """What a memory file holds, as private memory. The map keeps its own descriptor: the caller can close this one.

    Raises:
        ValueError: it has another size than expected or more than `most` bytes, or its sender could still change it.
    """
    import fcntl

    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        length = os.fstat(fd).st_size
        fits = length > 0 and size in (None, length) and (most is None or length <= most)
        if not fits or not all(seals & getattr(fcntl, seal) for seal in _SEALS):
            raise ValueError("not a sealed memory file of the expected size")
        return mmap.mmap(fd, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise ValueError("not a memory file") from error
