"""Reads what visitors send, in the sandbox, and decides whose turn it is.

One photo of each address is read and analyzed at a time. So one visitor with many slow photos can't delay the others.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from space.analyzer import FaceAnalyzer
from space.batch.pictures import BatchError, Picture
from space.photo import Photo, PhotoError
from space.sandbox.client import Sandbox
from space.video.result import Progress, VideoResult
from space.web.access import client_address
from space.web.uploads import Upload, UploadError


class Reader:
    """Reads uploads; safe to share between threads."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox, self._turns = sandbox, Turns()
        # Two cores answer one photo faster than two halves.
        self._network = threading.Lock()

    @contextlib.contextmanager
    def photo(self, upload: Upload, request: gr.Request | None) -> Iterator[Photo]:
        """The photo of an upload; the context has the network to itself, and this address's turn.

        Raises:
            PhotoError, UploadError: for the visitor.
        """
        with self._turns.of(client_address(request.request.scope) if request else ""):
            photo = self._decoded(upload)
            with self._network:
                yield photo

    def video(
        self, upload: Upload, target: Path, analyzer: FaceAnalyzer, **settings
    ) -> Iterator[Progress | VideoResult]:
        """As `annotate_video`, for an upload. Raises VideoError and UploadError."""
        bundle = analyzer.bundle
        model = bundle.card["network"] if bundle.source == "embedded" else str(bundle.folder)
        with upload.open() as file:
            yield from self.sandbox.video(file, target, model=model, **settings)

    @contextlib.contextmanager
    def pictures(self, uploads: list[Upload], skipped: list[str]) -> Iterator[list[Picture]]:
        """The images among uploaded files and zips, called as their owner calls them; others' names go to `skipped`.

        Raises:
            BatchError: a zip that can't be read.
        """
        pictures: list[Picture] = []
        names: Counter[str] = Counter()
        with contextlib.ExitStack() as stack:
            for upload in uploads:
                if upload.name.lower().endswith(".zip"):
                    try:
                        file = stack.enter_context(upload.open())
                    except UploadError as error:
                        raise BatchError(str(error)) from None
                    found = stack.enter_context(self.sandbox.zip(file, upload.name, skipped))
                elif upload.looks_like_an_image():
                    found = [Picture(upload.name, lambda u=upload: self._file(u))]
                else:
                    skipped.append(upload.name)
                    continue
                for picture in found:
                    names[picture.name] += 1
                    count = names[picture.name]
                    pictures.append(Picture(f"{picture.name} ({count})" if count > 1 else picture.name, picture.open))
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
        self._owners: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def of(self, owner: str) -> Iterator[None]:
        """Wait until no other task of this owner runs."""
        with self._lock:
            turn, waiting = self._owners.get(owner, (threading.Lock(), 0))
            self._owners[owner] = turn, waiting + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, waiting = self._owners[owner]
                if waiting > 1:
                    self._owners[owner] = turn, waiting - 1
                else:
                    del self._owners[owner]
