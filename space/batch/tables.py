"""Rows of a batch as JSONL and CSV files, with resume."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ..analyzer import FaceAnalyzer
from ..text import printable
from .pictures import BatchError, Picture

METHOD = 4  # version of the rows; increase it when old rows are incompatible with new ones
COLUMNS = (
    "file", "face", "x", "y", "width", "height", "score", "age", "age_low", "age_high", "gender", "gender_probability",
    "gender_label", "sharpness", "yaw", "roll", "cut_off", "quality", "incomplete", "error",
)  # fmt: skip


def table(row: dict) -> list[dict]:
    """One line per face, with COLUMNS, for one image's row; an image without faces also has one line."""
    lines = [
        dict(zip(("x", "y", "width", "height"), face["box"], strict=True))
        | {"face": number}
        | {k: v for k, v in face.items() if k in COLUMNS}
        for number, face in enumerate(row["faces"], 1)
    ]
    image = {key: row[key] for key in ("file", "incomplete", "error")}
    return [dict.fromkeys(COLUMNS) | line | image for line in lines or [{}]]


def no_faces(row: dict) -> str:
    """Why an image's row has no faces, in a few words."""
    return row["error"] or ("no face found; the image file is incomplete" if row["incomplete"] else "no face found")


def spreadsheet_safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe precedes each part that starts like one.

    In many languages, spreadsheets split CSV files at semicolons.
    """
    return re.sub(r"(^|;)(?=[=+\-@\t\r\n])", r"\1'", text)


def write_csv(jsonl: Path, target: Path, names: set[str] | None = None) -> None:
    """Write the CSV of a finished JSONL, or only of the images in `names`. The file is written atomically."""
    with (
        open(jsonl, encoding="utf-8") as rows,
        # With a byte order mark, without which spreadsheets misread letters beyond ASCII.
        _replaced(target, newline="", encoding="utf-8-sig", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in map(json.loads, rows):
            if names is None or row["file"] in names:
                writer.writerows(table(row | {"file": spreadsheet_safe(row["file"])}))


def is_table(path: Path) -> bool:
    """Whether a file is a CSV that `write_csv` wrote."""
    beginning = ",".join(COLUMNS[:2]).encode("utf-8-sig")
    with open(path, "rb") as file:
        return file.read(len(beginning)) == beginning


@contextlib.contextmanager
def _replaced(target: Path, mode: str = "w", **how) -> Iterator[IO]:
    """A file that takes the place of `target` once it is complete."""
    target = target.resolve()  # replaces the link's target, not the link
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with open(part, mode, **how) as file:
            if target.exists():
                shutil.copymode(target, part)  # a table may be for its owner alone
            yield file
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def settings(analyzer: FaceAnalyzer, threshold: float) -> dict:
    """What a row depends on besides its image; included in each line of the JSONL."""
    card = analyzer.bundle.card
    return {
        "model": f"{card['name']}-{card['files'][card['serve']]['sha256'][:12]}",
        "detector": analyzer.detector.name,
        "threshold": threshold,
        "method": METHOD,
    }


def origin(picture: Picture) -> dict:
    """Fields that distinguish an image from others with the same name; included in its line of the JSONL."""
    # Names are relative to the working directory, whose path may be private.
    folder = hashlib.sha256(os.fsencode(os.getcwd())).hexdigest()[:12]
    return {"fingerprint": picture.fingerprint(), "folder": None if os.path.isabs(picture.name) else folder}


_BEGINNING = b'{"file": '  # of each of our rows


class OtherRunError(BatchError):
    """A JSONL was made with other settings, or from different images with the same names."""


def completed_names(jsonl: Path, wanted: dict, pictures: dict[str, Picture]) -> set[str]:
    """The names of the images that are complete in a JSONL.

    Removes a truncated last line and the lines of images to analyze again: images in `pictures` that were unreadable or
    incomplete, or have changed. Lines of unreadable folders and ZIP files go if they contain any of `pictures`.

    Args:
        wanted: `settings` of this run.
        pictures: the images of this run, by name.

    Raises:
        BatchError: it wasn't written by this command, or (OtherRunError) belongs to another run.
    """
    done, again = set(), set()
    tried = {place for name in pictures for place in (name, *map(str, PurePosixPath(name).parents))}
    with open(jsonl, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (number > 1 or _BEGINNING.startswith(line[: len(_BEGINNING)])):
                again.add(number)  # cut off by a kill
                break
            try:
                row = json.loads(line)
                made = {k: row[k] for k in wanted}
                name, fingerprint, folder = row["file"], row["fingerprint"], row["folder"]
                table(row)
                hash(name)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise BatchError(
                    f"{jsonl} wasn't written by this version of the command (line {number}): choose another file."
                ) from None
            if made != wanted:
                raise OtherRunError(
                    f"{jsonl} was made with {made}, but this run uses {wanted}: use the same settings or another file."
                )
            now = origin(pictures[name]) if name in pictures else {"fingerprint": None}
            changed = now["fingerprint"] not in (None, fingerprint)
            if changed and now["folder"] != folder:
                raise OtherRunError(
                    f"{jsonl} already has a different image named {printable(name)}, from a different folder: choose "
                    "another file."
                )
            if not (row["error"] or row["incomplete"] or changed):
                done.add(name)
            elif name in tried:  # it may be readable or complete by now
                again.add(number)
    if again:
        with open(jsonl, "rb") as rows, _replaced(jsonl, mode="wb") as kept:
            kept.writelines(row for number, row in enumerate(rows, 1) if number not in again)
    return done
