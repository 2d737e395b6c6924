"""Many pictures → one table, from the command line or from the page's folder tab.

    python -m space.batch PHOTOS... --csv faces.csv --jsonl faces.jsonl
    python -m space.batch PHOTOS... --ray --parquet FOLDER        on all cores, or all machines of a Ray cluster

PHOTOS are pictures, zips, and folders, which are searched whole. JSONL has one line a picture, CSV one a face. A run
that was stopped, even killed, goes on where it was when the same command is given again; a picture that stands in the
JSONL is not looked at again, and the CSV has all that the JSONL has.
"""

from __future__ import annotations

import argparse
import glob
import io
import json
import math
import os
import sys
import time
from pathlib import Path

from space.analyzer import FaceAnalyzer
from space.batch.analyze import analyze_pictures
from space.batch.pictures import SUFFIXES, BatchError, find_pictures
from space.batch.ray_pipeline import run_with_ray
from space.batch.tables import finished, settings, write_csv
from space.detector import THRESHOLD
from space.download import BundleError
from space.text import counted, printable


def run(options: argparse.Namespace) -> str:
    """The command; returns a line that says what was done.

    Raises:
        BatchError, BundleError, OSError: the message is for the user.
    """
    from filelock import FileLock, Timeout
    from tqdm import tqdm

    targets = [path for path in (options.csv, options.jsonl) if path]
    same = len({path.resolve() for path in targets}) < len(targets)
    for path in targets:
        if path.is_dir() or path.suffix.lower() in SUFFIXES | {".zip"} or same:
            raise BatchError(f"{path} cannot be a table: give --csv and --jsonl a file each, of a name of its own.")
    jsonl = options.jsonl or options.csv.with_name(options.csv.name + ".part.jsonl")
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)
    analyzer = FaceAnalyzer.load(options.model, detector=options.detector)
    if analyzer.note:
        print(f"note: {analyzer.note}", file=sys.stderr)
    skipped: list[str] = []
    pictures = find_pictures(options.paths, skipped)
    if not pictures:
        raise BatchError(f"There are no images in {', '.join(map(str, options.paths))}.")
    lock = FileLock(f"{jsonl}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BatchError(f"Another run is writing {jsonl}: wait for it, or choose another file.") from None
    started = time.monotonic()
    made = settings(analyzer, options.threshold)
    try:
        done = finished(jsonl, made) if jsonl.exists() else set()
        left = [picture for picture in pictures if picture.name not in done]
        faces = errors = 0
        with (
            open(jsonl, "a", encoding="utf-8") as file,
            tqdm(total=len(pictures), initial=len(pictures) - len(left), unit="picture", disable=None) as bar,
        ):
            for row in analyze_pictures(analyzer, left, threshold=options.threshold):
                file.write(json.dumps(row | made) + "\n")
                file.flush()
                faces, errors = faces + len(row["faces"]), errors + bool(row["error"])
                if row["error"] and errors <= 10:
                    bar.write(printable(f"{row['file']}: {row['error']}"), file=sys.stderr)
                bar.update()
            os.fsync(file.fileno())
        if options.csv:
            write_csv(jsonl, options.csv)
        if options.csv and not options.jsonl:
            jsonl.unlink()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
    seconds = time.monotonic() - started
    text = f"{counted(len(left), 'image')}, {counted(faces, 'face')}, {counted(errors, 'unreadable image')}, "
    text += f"in {seconds:.0f} s"
    if skipped:
        text += f"; {counted(len(skipped), 'file')} skipped: not an image"
    if len(left) < len(pictures):
        text += f"; {len(pictures) - len(left):,} were done before"
    return f"{text}: {', '.join(str(path) for path in (options.csv, options.jsonl) if path)}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m space.batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a picture, a folder or a zip")
    parser.add_argument("--csv", type=Path, help="a table with a line a face")
    parser.add_argument("--jsonl", type=Path, help="a line of JSON a picture; also what a stopped run goes on from")
    parser.add_argument("--model", help="as for app.py: a bundle's folder or user/name[@revision]")
    parser.add_argument("--detector", help="as for app.py: YuNet's .onnx file, or haar")
    parser.add_argument(
        "--threshold",
        type=_share,
        default=THRESHOLD,
        help=f"the detector's score from which a face counts, 0 to 1 (default {THRESHOLD})",
    )
    parser.add_argument("--ray", action="store_true", help='as a Ray Data pipeline (pip install "ray[data]")')
    parser.add_argument("--parquet", type=Path, metavar="FOLDER", help="where --ray writes")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a Windows console has not every letter of a file's name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if options.ray and (options.csv or options.jsonl or not options.parquet):
        parser.error("--ray writes Parquet: give --parquet FOLDER, and neither --csv nor --jsonl")
    if not options.ray and (options.parquet or not (options.csv or options.jsonl)):
        parser.error("say where the results go: --csv FILE, --jsonl FILE, or both (--parquet FOLDER with --ray)")
    # Windows' shells leave *.jpg to the program.
    options.paths = [name for path in options.paths for name in expanded(path)]
    try:
        print(run_with_ray(options) if options.ray else run(options))
    except (BatchError, BundleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def expanded(path: str) -> list[str]:
    """A path as it is, or what it matches as a pattern if there is no such file."""
    return [path] if os.path.lexists(path) else sorted(glob.glob(path)) or [path]


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be a number from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
