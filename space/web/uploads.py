"""Decides which files a request may open: those that were uploaded to this app, and no others.

`admitted` checks all values of a request before Gradio sees them, whatever endpoint and component they are for. An
`Upload` opens its file again without following links, so nothing can be put in its place in between.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from ..batch.pictures import SUFFIXES
from ..photo import is_image

MAX_DATA_URL = 20_000_000  # bytes of a file that a request holds as a data: URL
MAX_URLS = 1  # addresses of one request that are fetched
MAX_AGE = 3300.0  # seconds for which uploads and results are kept
MAX_DEPTH = 20  # of lists and objects in a request
MAX_STEM = 150  # bytes of the name of a file that is made from an upload; file systems take 255 with all suffixes
NO_FILE = "This file wasn't uploaded to this server, or has been deleted. Upload it and try again."
NO_URLS = "This server doesn't fetch files from URLs: upload the file itself."
_FILE_ROUTE = re.compile(r"/gradio_api/file=(/.+|[A-Za-z]:.+)$")
_META = {"_type": "gradio.FileData"}


class UploadError(ValueError):
    """A request names a file that it may not open; the message is for its sender and says nothing about the server."""


def folder() -> str:
    """The real path of the folder that uploads are in. Gradio's results are there too."""
    return os.path.realpath(os.environ.get("GRADIO_TEMP_DIR") or f"{tempfile.gettempdir()}/gradio")


def sweep(kept: set[str], age: float = MAX_AGE) -> None:
    """Delete all files and empty folders in `folder()` that are older than `age` seconds, but not the files `kept`.

    Gradio's `delete_cache` misses uploads that were cut off, and fields of a form that aren't named `files`.
    """
    oldest = time.time() - age
    for place, folders, names in os.walk(folder(), topdown=False):
        for name in folders:
            with contextlib.suppress(OSError):  # it isn't empty
                if os.lstat(path := os.path.join(place, name)).st_ctime < oldest:
                    os.rmdir(path)
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):  # deleted meanwhile
                status = os.lstat(path)
                # Copies keep the time of their original, but not the time at which they were made.
                if max(status.st_mtime, status.st_ctime) < oldest and path not in kept:
                    os.unlink(path)


def open_upload(path: str) -> int:
    """A descriptor of an uploaded file, for reading.

    The file must be a regular file below `folder()`. No link is followed on the way to it.

    Raises:
        UploadError: it isn't. All reasons have the same message.
    """
    try:
        root, parts = folder(), PurePath(path).parts
        names = PurePath(os.path.abspath(path)).relative_to(root).parts
        if not names or ".." in parts or not os.path.isabs(path) or "\0" in path:
            raise ValueError(path)
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        if os.open in os.supports_dir_fd:
            fd = _open_below(root, names, flags | os.O_NOFOLLOW)
        else:  # Windows
            if os.path.realpath(path) != os.path.abspath(path):
                raise ValueError(path)
            fd = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ValueError(path)
        return fd
    except (OSError, ValueError, TypeError):
        raise UploadError(NO_FILE) from None


def _open_below(root: str, names: tuple[str, ...], flags: int) -> int:
    with contextlib.ExitStack() as stack:
        place = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, place)
        for name in names[:-1]:
            place = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            stack.callback(os.close, place)
        return os.open(names[-1], flags, dir_fd=place)


@dataclass(frozen=True)
class Upload:
    """A file that a visitor sent: uploaded before, or as a data: URL in the request itself."""

    name: str  # as the visitor calls it, without folders
    path: str | None = None
    content: bytes | None = field(default=None, repr=False)

    @property
    def stem(self) -> str:
        """The name for files made from this one: without its suffix, printable and not too long for any file system."""
        text = "".join(c for c in PurePath(self.name).stem if c.isprintable() and c not in '<>:"|?*')
        return text[:60].encode()[:MAX_STEM].decode(errors="ignore").strip(". ") or "file"

    def looks_like_an_image(self) -> bool:
        """Whether the suffix or the content says so."""
        if PurePath(self.name).suffix.lower() in SUFFIXES:
            return True
        with contextlib.suppress(UploadError), self.open() as fd:
            return is_image(os.read(fd, 32))
        return False

    @classmethod
    def from_payload(cls, value) -> Upload | None:
        """The upload that an admitted file object stands for; None for None.

        Raises:
            UploadError: it stands for none.
        """
        values = value if isinstance(value, dict) or value is None else value.model_dump()
        if values is None:
            return None
        path, url = values.get("path"), values.get("url")
        name = PurePath(str(values.get("orig_name") or path or "photo").replace("\\", "/")).name or "photo"
        if isinstance(url, str) and url.startswith("data:"):
            return cls(name, content=_decoded(url))
        if not isinstance(path, str):
            raise UploadError("The request contains no file.")
        return cls(name, path)

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """A descriptor for reading, closed at the end. Raises UploadError."""
        if self.content is None:
            fd = open_upload(str(self.path))
        else:
            with tempfile.TemporaryFile() as file:
                file.write(self.content)
                file.flush()
                fd = os.dup(file.fileno())
            os.lseek(fd, 0, os.SEEK_SET)
        try:
            yield fd
        finally:
            os.close(fd)


def _decoded(url: str) -> bytes:
    if len(url) > MAX_DATA_URL * 4 / 3 + 100:
        raise UploadError(
            f"The data: URL is too large: the limit is {MAX_DATA_URL // 1_000_000} MB. Upload the file instead."
        )
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error:
        raise UploadError("The file's data: URL isn't valid base64.") from None


def admitted(value, fetch: Callable[[str], tuple[str, str]] | None = None):
    """A request's value in which every file object names an upload of this app, or holds a data: URL.

    A file object is an object with a `path` or a `url`. It is replaced with one that has nothing but what is checked
    here. So no component gets any other path or address, wherever in the request it was.

    Args:
        value: of JSON.
        fetch: makes an upload of an address, and returns its path and name, for at most MAX_URLS of a request; without
            it, addresses are refused.

    Raises:
        UploadError: a file object names another file, or an address that isn't fetched.
    """
    return _admitted(value, 0, fetch, [])


def _admitted(value, depth: int, fetch: Callable[[str], tuple[str, str]] | None, fetched: list[str]):
    if depth > MAX_DEPTH:
        raise UploadError("The request is nested too deeply.")
    if isinstance(value, list):
        return [_admitted(part, depth + 1, fetch, fetched) for part in value]
    if not isinstance(value, dict):
        return value
    if not {"path", "url"} & set(value):
        return {key: _admitted(part, depth + 1, fetch, fetched) for key, part in value.items()}
    path, url, name = value.get("path"), value.get("url"), value.get("orig_name")
    if isinstance(url, str) and url.startswith("data:"):
        return {"path": None, "url": url, "orig_name": _text(name), "meta": _META}
    if path is None and url is None:
        return None
    address = url if path is None else path
    if fetch and isinstance(address, str) and _is_foreign(address):
        if len(fetched) >= MAX_URLS:
            raise UploadError(f"The request contains too many URLs: the limit is {MAX_URLS}.")
        fetched.append(address)
        path, name = fetch(address)
    else:
        path = _own_path(address)
    os.close(open_upload(path))
    return {"path": path, "url": None, "orig_name": _text(name), "meta": _META}


def _text(value) -> str | None:
    return value[:300] if isinstance(value, str) else None


def _is_foreign(address: str) -> bool:
    """Whether a text is the URL of something other than this app's own files."""
    with contextlib.suppress(ValueError):
        own = _FILE_ROUTE.search(unquote(urlsplit(address).path))
        if own:  # another Gradio app has such paths too
            with contextlib.suppress(UploadError):
                os.close(open_upload(own[1]))
                return False
        return re.match(r"https?://", address, re.IGNORECASE) is not None
    return False


def _own_path(value) -> str:
    """The path that a value names: a path as it is, or a URL of this app's own files, whose host is ignored.

    Language models refer to an uploaded file by its URL.
    """
    if not isinstance(value, str):
        return ""
    if re.match(r"\s*[A-Za-z][\w+.-]+:", value):
        with contextlib.suppress(ValueError):
            if match := _FILE_ROUTE.search(unquote(urlsplit(value).path)):
                return match[1]
        raise UploadError(NO_URLS)
    return value
