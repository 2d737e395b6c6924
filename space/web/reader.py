"""Reads what visitors send, in the sandbox, and decides whose turn it is.

One photo of each address is read and analyzed at a time. So one visitor with many slow photos can't delay the others.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from weakref import WeakValueDictionary

import gradio as gr

from ..analyzer import FaceAnalyzer
from ..batch.pictures import BatchError, Picture, unused_name
from ..photo import Photo, PhotoError
from ..sandbox.client import Sandbox
from ..turns import FairLock
from ..video.result import Progress, VideoResult
from .access import client_key
from .memory import trim_memory
from .uploads import Upload, UploadError

MAX_ZIPS, MAX_PICTURES = 20, 2000  # of one request
AT_ONCE = 4  # photos that are decoded, analyzed and drawn at the same time
LARGE = 3 * 6_000_000  # values of a photo of 6 megapixels


class Reader:
    """Reads uploads; safe to share between threads."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox, self._turns = sandbox, Turns()
        self._places, self._large = threading.Semaphore(AT_ONCE), FairLock()
        self._long = threading.Lock()  # the queue runs one video or folder at a time, but a canceled one takes a while

    @contextlib.contextmanager
    def photo(self, upload: Upload, request: gr.Request | None) -> Iterator[Photo]:
        """The photo of an upload, in this address's turn. Of large ones there is one at a time.

        Raises:
            PhotoError, UploadError: for the visitor.
        """
        with self._turns.of(client_key(request.request.scope) if request and request.request else ""), self._places:
            photo = self._decoded(upload)
            if photo.rgb.size <= LARGE:
                yield photo
                return
            with self._large:
                yield photo
            del photo
        trim_memory()

    def video(
        self, upload: Upload, target: Path, analyzer: FaceAnalyzer, **settings
    ) -> Iterator[Progress | VideoResult]:
        """As `annotate_video`, for an upload. Raises VideoError and UploadError."""
        bundle = analyzer.bundle
        model = bundle.card["name"] if bundle.source == "embedded" else str(bundle.folder)
        with self._long, upload.open() as file:
            yield from self.sandbox.video(file, target, model=model, **settings)

    @contextlib.contextmanager
    def pictures(self, uploads: list[Upload], skipped: list[str]) -> Iterator[list[Picture]]:
        """The images in uploaded files and zips, under their original names; names of other files go to `skipped`.

        Raises:
            BatchError: a zip that can't be read, or more than MAX_ZIPS zips or MAX_PICTURES images.
        """
        pictures: list[Picture] = []
        taken: Counter[str] = Counter()
        uploads = list({upload.path or upload: upload for upload in uploads}.values())
        if sum(upload.name.lower().endswith(".zip") for upload in uploads) > MAX_ZIPS:
            raise BatchError(f"There are more than {MAX_ZIPS} zips. Upload fewer at a time.")
        with self._long, contextlib.ExitStack() as stack:
            for upload in uploads:
                suffix = PurePath(upload.name).suffix.lower()
                if suffix in (".7z", ".rar"):
                    raise BatchError(f"{upload.name} isn't supported: create a zip instead.")
                if suffix == ".zip":
                    try:
                        with upload.open() as file:  # of which the worker has a descriptor of its own
                            found = stack.enter_context(self.sandbox.zip(file, upload.name, skipped))
                    except UploadError as error:
                        raise BatchError(str(error)) from None
                elif upload.looks_like_an_image():
                    found = [Picture(upload.name, partial(self._file, upload))]
                else:
                    skipped.append(upload.name)
                    continue
                pictures += [Picture(unused_name(picture.name, taken), picture.open) for picture in found]
                if len(pictures) > MAX_PICTURES:
                    raise BatchError(f"There are more than {MAX_PICTURES:,} images. Upload fewer at a time.")
            yield pictures

    def _file(self, upload: Upload) -> Photo:
        try:
            return self._decoded(upload)
        except UploadError as error:
            raise PhotoError(str(error)) from None

    def _decoded(self, upload: Upload) -> Photo:
        with upload.open() as file:
            return self.sandbox.photo(file)


class Turns:
    """Lets one task of each owner run at a time."""

    def __init__(self):
        self._lock = threading.Lock()
        self._owners: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()  # of those who run or wait

    @contextlib.contextmanager
    def of(self, owner: str) -> Iterator[None]:
        """Wait until no other task of this owner runs."""
        with self._lock:
            turn = self._owners.setdefault(owner, threading.Lock())
        with turn:
            yield
