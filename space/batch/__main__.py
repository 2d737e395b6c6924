"""Analyze many images and write the results as tables.

    python -m space.batch PHOTOS... --csv faces.csv --jsonl faces.jsonl
    python -m space.batch PHOTOS... --ray --parquet FOLDER        on all cores, or on a Ray cluster

PHOTOS are images, zips and folders. Folders are searched recursively. The JSONL file has one line per image, and the
CSV file has one line per face. To resume a stopped or killed run, run the same command again. It skips images that
are already in the JSONL file, and tries unreadable ones again. With --jsonl, the CSV file has all images of the JSONL
file, also those of earlier runs.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ..analyzer import FaceAnalyzer
from ..detector import THRESHOLD
from ..estimator import cpus
from ..hub.download import ModelError
from ..text import counted, printable, tolerate_console
from .analyze import analyze_pictures
from .pictures import SUFFIXES, BatchError, Picture, find_pictures
from .ray_pipeline import run_with_ray
from .tables import OtherSettingsError, completed_names, settings, write_csv

STOPPED = "\nStopped. Run the same command again to resume."


@dataclass
class _Counts:
    """What a run did."""

    images: int = 0
    faces: int = 0
    unreadable: int = 0


def run(options: argparse.Namespace) -> str:
    """The command; returns a line that says what was done.

    Raises:
        BatchError, ModelError, OSError: the message is for the user.
    """
    jsonl = _targets(options)
    analyzer = FaceAnalyzer.load(options.model)
    skipped: list[str] = []
    pictures = find_pictures(options.paths, skipped)
    if not pictures:
        raise BatchError(f"There are no images in {', '.join(map(str, options.paths))}.")
    started, worked = time.monotonic(), time.process_time()
    with _lock(jsonl):
        counts = _append(analyzer, pictures, jsonl, options)
        if options.csv:
            write_csv(jsonl, options.csv, None if options.jsonl else {picture.name for picture in pictures})
        if options.csv and not options.jsonl:
            jsonl.unlink()
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
    return f"{text}: {', '.join(str(path) for path in (options.csv, options.jsonl) if path)}"


def _targets(options: argparse.Namespace) -> Path:
    """Check --csv and --jsonl; returns the JSONL, which without --jsonl lies beside the CSV until the end."""
    targets = [path for path in (options.csv, options.jsonl) if path]
    same = len({path.resolve() for path in targets}) < len(targets)
    for path in targets:
        other = str(path) == "-" or (path.exists() and not path.is_file())  # a folder or a device
        if other or path.suffix.lower() in SUFFIXES | {".zip"} or same:
            raise BatchError(
                f"{path} can't be an output file: use two different files "
                "for --csv and --jsonl, not a folder, device, image or zip."
            )
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)
    return options.jsonl or options.csv.with_name(options.csv.name + ".part.jsonl")


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
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _append(analyzer: FaceAnalyzer, pictures: list[Picture], jsonl: Path, options: argparse.Namespace) -> _Counts:
    """Analyze what the JSONL does not have yet, a line per image."""
    from tqdm import tqdm

    made = settings(analyzer, options.threshold)
    try:
        done = completed_names(jsonl, made) if jsonl.exists() else set()
    except OtherSettingsError:
        if options.jsonl:
            raise
        done = set()  # what another run with --csv left when it was stopped
        jsonl.unlink()
    left = [picture for picture in pictures if picture.name not in done]
    counts = _Counts(len(left))
    with (
        open(jsonl, "a", encoding="utf-8") as file,
        tqdm(total=len(pictures), initial=len(pictures) - len(left), unit="image", disable=None) as bar,
    ):
        for row in analyze_pictures(analyzer, left, threshold=options.threshold):
            file.write(json.dumps(row | made) + "\n")
            file.flush()
            counts.faces += len(row["faces"])
            counts.unreadable += bool(row["error"])
            if row["error"] and counts.unreadable <= 10:
                bar.write(printable(f"{row['file']}: {row['error']}"), file=sys.stderr)
            bar.update()
        os.fsync(file.fileno())
    return counts


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m space.batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="PHOTOS", help="an image, a folder or a zip")
    parser.add_argument("--csv", type=Path, help="CSV file, one line per face")
    parser.add_argument("--jsonl", type=Path, help="JSONL file, one line per image; a stopped run resumes from it")
    parser.add_argument("--model", help="compact, open, vgg16, a bundle folder or a Hub model, as for app.py")
    parser.add_argument(
        "--threshold",
        type=share,
        default=THRESHOLD,
        help=f"minimum detection score for a face, 0 to 1 (default: {THRESHOLD})",
    )
    parser.add_argument("--ray", action="store_true", help='run as a Ray Data pipeline (pip install "ray[data]")')
    parser.add_argument("--parquet", type=Path, metavar="FOLDER", help="output folder for --ray")
    options = parser.parse_args(arguments)
    tolerate_console()
    if options.ray and (options.csv or options.jsonl or not options.parquet):
        parser.error("--ray writes Parquet: use --parquet FOLDER instead of --csv and --jsonl")
    if not options.ray and (options.parquet or not (options.csv or options.jsonl)):
        parser.error("specify an output: --csv FILE, --jsonl FILE, or both (--parquet FOLDER with --ray)")
    # Windows' shells leave *.jpg to the program.
    options.paths = [name for path in options.paths for name in expanded(path)]
    try:
        print(run_with_ray(options) if options.ray else run(options))
    except (BatchError, ModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    return 0


def expanded(path: str) -> list[str]:
    """A path as it is, or what it matches as a pattern if there is no such file."""
    return [path] if os.path.lexists(path) else sorted(glob.glob(path)) or [path]


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be a number from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
