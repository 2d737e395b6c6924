"""What `client.Sandbox` does, without workers, for systems that have none.

Then the app is for one person's own files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..analyzer import FaceAnalyzer
from ..batch.pictures import Picture, open_zip, read_member
from ..photo import FRAMES, UPLOADS, Photo, open_photo
from ..video.annotator import annotate_video
from ..video.result import Progress, VideoResult


class InProcess:
    """As `client.Sandbox`, in this process and without its limits."""

    isolated = False

    def photo(self, fd: int) -> Photo:
        """Decode an image file. Raises PhotoError."""
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            return open_photo(file.read(), UPLOADS)

    def frames(self) -> InProcess:
        """A decoder for the frames of a live stream."""
        return self

    def decode(self, jpeg: bytes) -> np.ndarray:
        """A JPEG's pixels, uint8 [H, W, 3]. Raises PhotoError."""
        return open_photo(jpeg, FRAMES).rgb

    @contextlib.contextmanager
    def zip(self, fd: int, name: str, skipped: list[str]) -> Iterator[list[Picture]]:
        """The images in a zip. Raises BatchError."""
        with _copy_of(fd) as path:
            members, others = open_zip(path, name)
            skipped += others
            yield [Picture(member.name, partial(read_member, member, UPLOADS)) for member in members]

    def video(self, fd: int, target: Path, *, model: str, **settings) -> Iterator[Progress | VideoResult]:
        """`annotate_video` of a video file. Raises VideoError."""
        with _copy_of(fd) as path:
            yield from annotate_video(FaceAnalyzer.load(model), path, target, **settings)

    def close(self) -> None:
        """Nothing to end."""


@contextlib.contextmanager
def _copy_of(fd: int) -> Iterator[Path]:
    """A copy of a file, by name: not every system can open a descriptor once more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        with os.fdopen(os.dup(fd), "rb") as source, open(path, "wb") as target:
            source.seek(0)
            shutil.copyfileobj(source, target)
        yield path
