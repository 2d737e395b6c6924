"""Decode files and print a hash of the pixels of each, one line a file: a helper of tests/space/test_memory.py.

    MALLOC_PERTURB_=85 python -m tests.support.memory_worker image|video FILE…

`MALLOC_PERTURB_` makes glibc fill memory with a pattern when it is allocated and freed. A file whose pixels depend on
the pattern shows memory that its decoder never wrote.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def pixels_of_image(path: str):
    from space.photo import PhotoError, read_photo

    try:
        yield read_photo(Path(path).read_bytes())
    except PhotoError:
        return


def pixels_of_video(path: str):
    import av

    from space.video.limits import MAX_FRAMES
    from space.video.reader import open_video
    from space.video.result import VideoError

    try:
        with open_video(Path(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                yield frame.to_ndarray(format="rgb24")
                if number >= min(MAX_FRAMES, 50):
                    return
    except (VideoError, av.FFmpegError, ValueError, OSError, IndexError, MemoryError):
        return


def main() -> None:
    read = {"image": pixels_of_image, "video": pixels_of_video}[sys.argv[1]]
    for path in sys.argv[2:]:
        digest = hashlib.sha256()
        for rgb in read(path):
            digest.update(repr(rgb.shape).encode() + rgb.tobytes())
        print(digest.hexdigest(), flush=True)


if __name__ == "__main__":
    main()
