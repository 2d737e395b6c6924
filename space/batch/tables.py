"""Rows of a batch as JSONL and CSV files, with resume."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

from ..analyzer import FaceAnalyzer
from .pictures import BatchError

METHOD = 2  # of intervals and labels; raised when rows of before would not fit beside new ones
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
    """A text that no spreadsheet takes for a formula: one that starts like a formula gets an apostrophe in front."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def csv_lines(row: dict) -> list[dict]:
    """`table` for a CSV file, whose file names no spreadsheet takes for formulas."""
    return [line | {"file": spreadsheet_safe(line["file"])} for line in table(row)]


def write_csv(jsonl: Path, target: Path, names: set[str] | None = None) -> None:
    """Write the CSV of a finished JSONL, or only of the images in `names`. The file is written atomically."""
    target = target.resolve()  # replaces the link's target, not the link
    part = target.with_name(target.name + ".part")
    with (
        open(jsonl, encoding="utf-8") as rows,
        # With a byte order mark, without which spreadsheets misread letters beyond ASCII.
        open(part, "w", newline="", encoding="utf-8-sig", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in map(json.loads, rows):
            if names is None or row["file"] in names:
                writer.writerows(csv_lines(row))
    os.replace(part, target)


def settings(analyzer: FaceAnalyzer, threshold: float) -> dict:
    """What a row depends on besides its image; included in each line of the JSONL."""
    card = analyzer.bundle.card
    return {
        "model": f"{card['name']}-{card['files'][card['serve']]['sha256'][:12]}",
        "detector": analyzer.detector.name,
        "threshold": threshold,
        "method": METHOD,
    }


_BEGINNING = b'{"file": '  # of each of our rows


class OtherSettingsError(BatchError):
    """A JSONL was made with other settings."""


def completed_names(jsonl: Path, wanted: dict) -> set[str]:
    """The images that a JSONL has, whole. A last line that was cut off, unreadable and incomplete images are removed.

    Raises:
        BatchError: it wasn't written by this command, or (OtherSettingsError) was made with other settings.
    """
    done, failed, whole = set(), False, 0
    with open(jsonl, "rb+") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (whole or _BEGINNING.startswith(line[: len(_BEGINNING)])):
                break  # cut off by a kill
            try:
                row = json.loads(line)
                # Rows of a JSONL that a user has asked for have no folder.
                name, made = row["file"], {k: row.get(k) if k == "folder" else row[k] for k in wanted}
                table(row)
            except (ValueError, KeyError, TypeError):
                raise BatchError(
                    f"{jsonl} wasn't written by this command (line {number}): choose another file."
                ) from None
            if made != wanted:
                raise OtherSettingsError(
                    f"{jsonl} was made with {made}, but this run uses {wanted}: use the same settings or another file."
                )
            if _failed(row):
                failed = True
            else:
                done.add(name)
            whole += len(line)
        if whole < file.seek(0, os.SEEK_END):
            file.truncate(whole)
    if failed:
        _remove_failed(jsonl.resolve())
    return done


def _failed(row: dict) -> bool:
    """Whether an image is tried again: it may be readable by now, or whole."""
    return bool(row["error"] or row["incomplete"])


def _remove_failed(jsonl: Path) -> None:
    kept = jsonl.with_name(jsonl.name + ".part")
    with open(jsonl, "rb") as rows, open(kept, "wb") as file:
        file.writelines(row for row in rows if not _failed(json.loads(row)))
    os.replace(kept, jsonl)
