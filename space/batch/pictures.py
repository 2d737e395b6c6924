"""The images of files, folders and zips, found but not read yet."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from ..photo import OWN_FILES, Limits, Photo, PhotoError, is_image, open_photo

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic",
    ".heif", ".ppm",
}  # fmt: skip
MAX_BYTES = 100_000_000  # of a picture's file
_TOO_LARGE = f"The image file is too large: the limit is {MAX_BYTES // 1_000_000} MB."
BLOCK = 1 << 14  # bytes; a fingerprint covers a file's size and five blocks of it
MAX_MEMBERS = 100_000  # pictures in a zip
_AES = 99  # WinZip's compression method for encrypted members
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile decompresses bzip2 and LZMA whole to read one byte
MAX_DIRECTORY = 20_000_000  # bytes of a zip's list of members: Python keeps it all, at ten times the size


Archive = Callable[[str | Path], zipfile.ZipFile]


class BatchError(ValueError):
    """The run can't start or continue; the message is for the user."""


@dataclass(frozen=True)
class Picture:
    """An image that was found, not read yet."""

    name: str  # as the tables call it
    open: Callable[[], Photo]  # raises PhotoError and OSError
    fingerprint: Callable[[], str | None] = lambda: None  # differs for other content; None if unknown


@dataclass(frozen=True)
class Member:
    """An image in a zip."""

    name: str
    read: Callable[[], bytes]  # raises PhotoError
    fingerprint: str


def find_pictures(paths: Iterable[str | Path], skipped: list[str] | None = None) -> list[Picture]:
    """All images among files, folders (searched whole) and zips, each once, folders by name.

    A file that is named counts as an image whatever it is. In folders and zips a file is an image if its content or its
    suffix says so and it isn't hidden; the names of the others are appended to `skipped`.

    Raises:
        BatchError: a path that is not there, or a zip among `paths` that cannot be opened.
    """
    found: list[Picture] = []
    skipped = [] if skipped is None else skipped
    # A few zips stay open: reading a large one's list anew for each image would take longer than the images.
    archive = lru_cache(maxsize=4)(zipfile.ZipFile)
    for path in paths:
        if not str(path):
            raise BatchError("A path is empty.")
        path = Path(path)
        if path.is_dir():
            failed: list[OSError] = []
            for file in _walk(path, failed):
                if file.name.startswith("."):
                    skipped.append(file.as_posix())
                elif file.suffix.lower() == ".zip":
                    try:
                        found += _zip(file, skipped, archive)
                    except BatchError as error:
                        found.append(Picture(file.as_posix(), partial(_raise_photo_error, str(error))))
                elif is_image_file(file):
                    found.append(_file(file))
                else:
                    skipped.append(file.as_posix())
            for refused in failed:
                message = f"The file can't be read ({refused.strerror})."
                if os.path.isdir(refused.filename):
                    message = f"This folder can't be read ({refused.strerror})."
                found.append(Picture(Path(refused.filename).as_posix(), partial(_raise_photo_error, message)))
        elif not path.is_file():
            raise BatchError(f"{path} isn't a readable file." if path.exists() else f"{path} doesn't exist.")
        else:
            found += _zip(path, skipped, archive) if path.suffix.lower() == ".zip" else [_file(path)]
    return list({picture.name: picture for picture in found}.values())


def _walk(folder: Path, failed: list[OSError]) -> Iterator[Path]:
    """Every file below a folder, by name, but not in hidden folders; links to folders are followed, once each.

    The errors of folders that can't be read are appended to `failed`.
    """
    seen = set()
    for place, folders, files in os.walk(folder, onerror=failed.append, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files) if real not in seen else ():
            path = Path(place, name)
            try:
                if not path.is_file():
                    continue
            except OSError as error:  # in a folder that may be listed, but not entered
                failed.append(error)
                continue
            yield path
        seen.add(real)


def _raise_photo_error(message: str) -> Photo:
    raise PhotoError(message)


def is_image_file(path: Path) -> bool:
    """Whether a file's suffix or its content says that it is an image."""
    return path.suffix.lower() in SUFFIXES or is_image(_beginning(path))


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(32)
    except OSError:
        return b""


def _file(path: Path) -> Picture:
    def read() -> Photo:
        if path.stat().st_size > MAX_BYTES:
            raise PhotoError(_TOO_LARGE)
        return open_photo(path.read_bytes())

    def fingerprint() -> str | None:
        try:
            with open(path, "rb") as file:  # all of it would take long on slow disks
                size, crc = os.fstat(file.fileno()).st_size, 0
                for quarter in range(5):
                    file.seek(max(0, (size - BLOCK) * quarter // 4))
                    crc = zlib.crc32(file.read(BLOCK), crc)
                return f"{size}-{crc:08x}"
        except OSError:
            return None

    return Picture(path.as_posix(), read, fingerprint)


def read_member(member, limits: Limits = OWN_FILES) -> Photo:
    """The image of a member of `open_zip`. Raises PhotoError."""
    return open_photo(member.read(), limits)


def _zip(path: Path, skipped: list[str], archive: Archive) -> list[Picture]:
    members, others = open_zip(path, path.as_posix(), archive)
    skipped += others
    return [Picture(m.name, partial(read_member, m), partial(getattr, m, "fingerprint")) for m in members]


def open_zip(path: str | Path, name: str, archive: Archive | None = None) -> tuple[list[Member], list[str]]:
    """The images in a zip and the names of its other members; `name` is the zip's own, with which theirs begin.

    `archive` opens the zip, or returns it open.

    Raises:
        BatchError: it can't be opened, or lists too many files or one file's bytes several times.
    """
    short, archive = name.rpartition("/")[2], archive or lru_cache(maxsize=1)(zipfile.ZipFile)
    try:
        with open(path, "rb") as file:
            # What ZipFile reads first, and then as many bytes as it says; the library has no other way to bound that.
            end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        too_many = end and end[zipfile._ECD_SIZE] > MAX_DIRECTORY  # type: ignore[attr-defined]
        entries = [] if too_many else archive(path).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BatchError(f"{short} is not a readable zip.") from error
    if too_many:
        raise BatchError(f"{short} lists too many files: the limit is {MAX_MEMBERS:,} in one zip.")
    _check_overlap(entries, short)
    images, others = [], []
    for entry in entries:
        if not entry.filename or entry.is_dir():
            continue
        image = not _hidden(entry) and (
            Path(entry.filename).suffix.lower() in SUFFIXES or is_image(_member_beginning(archive(path), entry))
        )
        images.append(entry) if image else others.append(f"{name}/{_name(entry)}")
    if len(images) > MAX_MEMBERS:
        raise BatchError(f"{short} has {len(images):,} images: the limit is {MAX_MEMBERS:,} in one zip.")
    taken: Counter[str] = Counter()  # a zip may hold several members of one name
    found = []
    for entry in sorted(images, key=lambda entry: entry.filename):
        member, fingerprint = unused_name(_name(entry), taken), f"{entry.file_size}-{entry.CRC:08x}"
        found.append(Member(f"{name}/{member}", partial(_member, path, entry, archive), fingerprint))
    return found, others


def unused_name(name: str, taken: Counter[str]) -> str:
    """The name, or, if it is taken, the name with a number: `a.jpg (2)`. It counts as taken from now on."""
    unused = name
    while unused in taken:
        taken[name] += 1
        unused = f"{name} ({taken[name]})"
    taken[unused] = 1
    return unused


def _check_overlap(entries: list[zipfile.ZipInfo], name: str) -> None:
    """A small zip whose members share their bytes unpacks to any size."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise BatchError(f"{name} is not a readable zip (its files overlap).")
        end = entry.header_offset + entry.compress_size


def _member(path: str | Path, entry: zipfile.ZipInfo, archive: Archive) -> bytes:
    if entry.compress_type == _AES or entry.flag_bits & 1:
        raise PhotoError("The image is password-protected.")
    if entry.compress_type not in BOUNDED:
        raise PhotoError("The zip's compression method isn't supported. Create it with Deflate.")
    try:
        # In place, so a member's name leads nowhere; and no further than allowed, whatever its header says.
        with archive(path).open(entry) as file:
            content = file.read(MAX_BYTES + 1)
    except Exception as error:  # a damaged archive makes the decompressors raise almost anything
        raise PhotoError(f"The image can't be read from its zip ({error}).") from error
    if len(content) > MAX_BYTES:
        raise PhotoError(_TOO_LARGE)
    return content


def _hidden(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.split("/")
    return parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts if part not in (".", ".."))


def _member_beginning(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in BOUNDED:
        return b""
    try:
        with archive.open(member) as file:
            return file.read(32)
    except Exception:  # locked or damaged
        return b""


def _name(member: zipfile.ZipInfo) -> str:
    """A member's name, also from Windows, which writes names in the code page of its country.

    Python reads a name without the UTF-8 flag as cp437. This function tries UTF-8 first. Then it takes cp850 if the
    name looks like Western European words, or cp932 if it has kana or kanji in it. Otherwise it takes cp850.
    """
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    try:
        raw = member.filename.encode("cp437")
    except UnicodeEncodeError:
        return member.filename
    western = raw.decode("cp850")  # which gives every byte a character
    with contextlib.suppress(UnicodeDecodeError):
        return raw.decode("utf-8")
    with contextlib.suppress(UnicodeDecodeError):
        japanese = raw.decode("cp932")
        if not _looks_western(western) and re.search("[\u3040-\u30ff\u4e00-\u9fff\uff66-\uff9d]", japanese):
            return japanese
    return western


def _looks_western(name: str) -> bool:
    """Whether a name, read as cp850, is of words with a few accents in each.

    Kana and kanji in the wrong code page have symbols, capitals within words, or as many accents as plain letters.
    """
    if any(not c.isascii() and not c.isalpha() for c in name):
        return False
    for word in re.findall(r"[^\W\d_]+", name):
        for part in re.split("(?<=[a-z])(?=[A-Z])", word):  # of CamelCase
            accents = sum(not c.isascii() for c in part)
            if accents and (2 * accents >= len(part) or part not in (part.lower(), part.upper(), part.capitalize())):
                return False
    return True
