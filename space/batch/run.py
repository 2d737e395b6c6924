"""Many images → tables. A stopped run resumes: the JSONL file has a line for each image that is done."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ..analyzer import FaceAnalyzer
from ..estimator import cpus
from ..text import counted, printable
from .analyze import analyze_pictures
from .pictures import SUFFIXES, BatchError, Picture, find_pictures
from .tables import OtherRunError, completed_names, is_table, origin, settings, write_csv


@dataclass
class _Counts:
    """What a run did."""

    images: int = 0
    faces: int = 0
    unreadable: int = 0


def write_tables(paths: list[str], *, csv: Path | None, jsonl: Path | None, model: str | None, threshold: float) -> str:
    """Analyze images, folders and zips; returns a line that says what was done.

    Args:
        csv: file with a line per face. With `jsonl`, it has all images of that file, also those of earlier runs.
        jsonl: file with a line per image. Images that are in it are skipped; unreadable and changed ones are analyzed
            again.
        model, threshold: as for `FaceAnalyzer`.

    Raises:
        BatchError, ModelError, OSError: the message is for the user. If no image could be read, the files are written
            before the error.
    """
    lines = _lines(csv, jsonl)
    analyzer = FaceAnalyzer.load(model)
    skipped: list[str] = []
    pictures = find_pictures(paths, skipped)
    if not pictures:
        raise BatchError(f"There are no images in {', '.join(paths)}.")
    started, worked = time.monotonic(), time.process_time()
    with _lock(lines):
        counts = _append(analyzer, pictures, lines, threshold, keep=bool(jsonl))
        if csv:
            write_csv(lines, csv, None if jsonl else {picture.name for picture in pictures})
        if not jsonl:
            lines.unlink()
    written = ", ".join(str(path) for path in (csv, jsonl) if path)
    if counts.unreadable == len(pictures):
        raise BatchError(f"No image could be read. The reason for each is in {written}.")
    seconds = time.monotonic() - started
    text = f"{counted(counts.images, 'image')}, {counted(counts.faces, 'face')}, "
    text += f"{counted(counts.unreadable, 'unreadable image')}, in {seconds:.0f} s"
    if counts.images > 10:
        busy = (time.process_time() - worked) / seconds / cpus()
        text += f" ({counts.images / seconds:.1f} images per second, CPUs {100 * min(busy, 1):.0f}% busy)"
    if skipped:
        text += f"; {counted(len(skipped), 'file')} skipped (not a supported image format)"
    if counts.images < len(pictures):
        text += f"; {len(pictures) - counts.images:,} already done"
    return f"{text}; written to {written}"


def _lines(csv: Path | None, jsonl: Path | None) -> Path:
    """Check the output files; returns the JSONL, which without `jsonl` lies beside the CSV until the end."""
    targets = [path for path in (csv, jsonl) if path]
    same = len({path.resolve() for path in targets}) < len(targets)
    for path in targets:
        other = str(path) == "-" or (path.exists() and not path.is_file())  # a folder or a device
        other |= path.absolute().parts[1:2] in (("dev",), ("proc",))  # /dev/stdout may lead to any file
        if other or path.suffix.lower() in SUFFIXES | {".zip"} or same:
            raise BatchError(
                f"{path} can't be an output file: use two different files "
                "for --csv and --jsonl, not a folder, device, image or zip."
            )
    if csv and csv.exists() and csv.stat().st_size and not is_table(csv):
        raise BatchError(f"{csv} isn't a table of this command, so it isn't replaced: choose another file.")
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)
    return jsonl or Path(f"{csv}.part.jsonl")


@contextlib.contextmanager
def _lock(jsonl: Path):
    """No other run writes the same file meanwhile."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{jsonl}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BatchError(f"Another run is writing to {jsonl}: wait for it to finish, or choose another file.") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps files that are open
            Path(lock.lock_file).unlink()
        lock.release()


def _append(analyzer: FaceAnalyzer, pictures: list[Picture], jsonl: Path, threshold: float, *, keep: bool) -> _Counts:
    """Analyze what the JSONL does not have yet, a line per image; `keep`: it is the user's file."""
    from tqdm import tqdm

    made, named = settings(analyzer, threshold), {picture.name: picture for picture in pictures}
    try:
        done = completed_names(jsonl, made, named) if jsonl.exists() else set()
    except OtherRunError:
        if keep:
            raise
        done = set()  # what another run with --csv left when it was stopped
        jsonl.unlink()
    left = [picture for picture in pictures if picture.name not in done]
    counts = _Counts(len(left))
    with (
        open(jsonl, "a", encoding="utf-8") as file,
        tqdm(total=len(pictures), initial=len(pictures) - len(left), unit="image", disable=None) as bar,
    ):
        for row in analyze_pictures(analyzer, left, threshold=threshold):
            file.write(json.dumps(row | made | origin(named[row["file"]])) + "\n")
            file.flush()
            counts.faces += len(row["faces"])
            counts.unreadable += bool(row["error"])
            if row["error"] and counts.unreadable <= 10:
                bar.write(printable(f"{row['file']}: {row['error']}"), file=sys.stderr)
            bar.update()
        os.fsync(file.fileno())
    return counts
