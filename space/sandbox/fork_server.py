"""The process that the workers are forked from: `python -m space.sandbox.fork_server FD`.

It has imported what decoding needs and decoded small images of its own, and it never sees a visitor's file. So a
worker's memory holds nothing of an earlier visitor. It ends when the app does, and its workers end with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

from ..photo import UPLOAD_FORMATS, UPLOADS, PhotoError, open_photo
from . import worker


def warm_up() -> None:
    """Decode an image of each format: what a decoder sets up at its first use, workers then inherit."""
    for name in UPLOAD_FORMATS:
        with contextlib.suppress(OSError, KeyError, PhotoError):  # this build of Pillow lacks it
            open_photo(worker.own_image(name), UPLOADS)


def main() -> None:
    """Fork a worker for each socket that the app sends."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group: the app decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended workers leave nothing behind
    warm_up()
    gc.collect()
    gc.freeze()  # so that a worker's garbage collection doesn't copy all of this memory
    while True:
        data, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        try:
            child = os.fork()
        except OSError:  # no memory or processes left: the app sees a closed connection
            child = None
        if child == 0:
            control.close()
            worker.run(socket.socket(fileno=fds[0]))
        os.close(fds[0])


if __name__ == "__main__":
    main()
