"""Many pictures → one table, from the command line or from the page's folder tab.

    python -m space.batch PHOTOS... --csv faces.csv --jsonl faces.jsonl
    python -m space.batch PHOTOS... --ray --parquet FOLDER        on all cores, or all machines of a Ray cluster

PHOTOS are pictures, zips, and folders, which are searched whole. JSONL has one line a picture, CSV one a face. A run
that was stopped, even killed, goes on where it was when the same command is given again; a picture that stands in the
JSONL is not looked at again, and the CSV has all that the JSONL has.
"""

from __future__ import annotations

import argparse
import csv
import glob
import io
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from space.analyzer import FaceAnalyzer
from space.bundle import BundleError
from space.crop import crops
from space.detector import THRESHOLD
from space.estimator import BATCH
from space.face import Face
from space.photo import PhotoError, read_photo
from space.pictures import SUFFIXES, BatchError, Picture, find_pictures
from space.text import counted

AHEAD = 8  # pictures that are read while others are predicted
COLUMNS = (
    "file", "face", "x", "y", "width", "height", "score", "age", "age_low", "age_high", "gender", "gender_probability",
    "error",
)  # fmt: skip


def analyze_pictures(
    analyzer: FaceAnalyzer, pictures: Iterable[Picture], *, threshold: float = THRESHOLD, workers: int = 2
) -> Iterator[dict]:
    """Analyse pictures, faces of several in one batch; memory holds a few pictures at a time.

    Yields:
        In order, for JSON: file, width, height (None if it cannot be read), faces (as `Face.as_dict`, largest first),
        error (None, or a sentence).
    """

    def look(picture: Picture) -> tuple[dict, list[Face], np.ndarray]:
        row = {"file": picture.name, "width": None, "height": None, "faces": [], "error": None}
        try:
            rgb = read_photo(picture.read())
        except PhotoError as error:
            row["error"] = str(error)
        except OSError as error:
            row["error"] = f"The file cannot be read ({error.strerror or error})."
        except MemoryError:
            row["error"] = "The picture needs more memory than there is."
        else:
            row |= {"width": rgb.shape[1], "height": rgb.shape[0]}
            faces = analyzer.detect(rgb, threshold=threshold)
            return row, faces, crops(rgb, faces, analyzer.template)
        return row, [], np.empty((0, analyzer.template.size, analyzer.template.size, 3), np.uint8)

    def answered(seen: list[tuple]) -> Iterator[dict]:
        chips = np.concatenate([chips for *_, chips in seen])
        faces = analyzer.estimate_crops(chips, [face for _, found, _ in seen for face in found])
        for row, found, _ in seen:
            row["faces"], faces = [face.as_dict() for face in faces[: len(found)]], faces[len(found) :]
            yield row

    running: deque = deque()
    seen: list[tuple] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for picture in pictures:
                running.append(pool.submit(look, picture))
                if len(running) < AHEAD:
                    continue
                seen.append(running.popleft().result())
                if len(seen) >= BATCH or sum(len(faces) for _, faces, _ in seen) >= BATCH:
                    yield from answered(seen)
                    seen = []
            seen += [future.result() for future in running]
            running.clear()
            if seen:
                yield from answered(seen)
        finally:
            for future in running:
                future.cancel()


def table(row: dict) -> list[dict]:
    """One line a face, of COLUMNS, for one picture's row; a picture without faces has one line too, so none is lost."""
    lines = [
        dict(zip(("x", "y", "width", "height"), face["box"], strict=True))
        | {"face": number}
        | {k: v for k, v in face.items() if k in COLUMNS}
        for number, face in enumerate(row["faces"], 1)
    ]
    return [dict.fromkeys(COLUMNS) | line | {"file": row["file"], "error": row["error"]} for line in lines or [{}]]


def spreadsheet_safe(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that starts like a formula gets an apostrophe in front."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def write_csv(jsonl: Path, target: Path) -> None:
    """The CSV of a finished JSONL; it is there whole or not at all."""
    part = target.with_name(target.name + ".part")
    with (
        open(jsonl, encoding="utf-8") as rows,
        # With a byte order mark, without which spreadsheets misread letters beyond ASCII.
        open(part, "w", newline="", encoding="utf-8-sig", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in rows:
            for line in table(json.loads(row)):
                writer.writerow({k: spreadsheet_safe(v) if k == "file" else v for k, v in line.items()})
    os.replace(part, target)


def settings(analyzer: FaceAnalyzer, threshold: float) -> dict:
    """What a row depends on beside its picture; stands in each line of the JSONL."""
    card = analyzer.bundle.card
    return {
        "model": f"{card['network']}-{card['files'][card['serve']]['sha256'][:12]}",
        "detector": analyzer.detector.name,
        "threshold": threshold,
    }


_BEGINNING = b'{"file": '  # of each of our rows


def finished(jsonl: Path, wanted: dict) -> set[str]:
    """The pictures that a JSONL has; a last line that was cut off is taken away.

    Raises:
        BatchError: it was made with other settings, or is no JSONL of ours.
    """
    done, whole = set(), 0
    with open(jsonl, "rb+") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (whole or _BEGINNING.startswith(line[: len(_BEGINNING)])):
                break  # cut off by a kill
            try:
                row = json.loads(line)
                name, made = row["file"], {key: row[key] for key in wanted}
            except (ValueError, KeyError, TypeError):
                raise BatchError(
                    f"{jsonl} is not a table of this command (line {number}): choose another file."
                ) from None
            if made != wanted:
                raise BatchError(
                    f"{jsonl} was made with {made}, this run has {wanted}: use the same or choose another file."
                )
            done.add(name)
            whole += len(line)
        if whole < file.seek(0, os.SEEK_END):
            file.truncate(whole)
    return done


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
                    bar.write(f"{row['file']}: {row['error']}", file=sys.stderr)
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


def run_with_ray(options: argparse.Namespace) -> str:
    """The same analysis as a Ray Data pipeline, one model an actor, into a folder of Parquet files.

    Raises:
        BatchError, BundleError, OSError: the message is for the user.
    """
    try:
        import pyarrow
        import ray
    except ImportError as error:
        raise BatchError(f'--ray needs Ray Data ({error}): pip install "ray[data]"') from error
    if options.parquet.exists() and any(options.parquet.iterdir()):
        raise BatchError(f"{options.parquet} is not empty: choose another folder.")
    if any(path.lower().endswith(".zip") for path in options.paths):
        raise BatchError("--ray reads pictures and folders, no zips.")
    if not any("://" in path for path in options.paths) and not find_pictures(options.paths):
        raise BatchError(f"There are no images in {', '.join(options.paths)}.")
    FaceAnalyzer.load(options.model, detector=options.detector)  # what is wrong is said here, not by an actor
    texts, numbers = {"file", "gender", "error"}, {"face": pyarrow.int32()}
    schema = pyarrow.schema(
        [(c, pyarrow.string() if c in texts else numbers.get(c, pyarrow.float64())) for c in COLUMNS]
    )
    model, detector, threshold = options.model, options.detector, options.threshold

    class Analyze:
        def __init__(self):
            self.analyzer = FaceAnalyzer.load(model, detector=detector)

        def __call__(self, batch):
            pictures = [
                Picture(name.as_py(), content.as_py)
                for name, content in zip(batch["path"], batch["bytes"], strict=True)
            ]
            rows = analyze_pictures(self.analyzer, pictures, threshold=threshold, workers=1)
            return pyarrow.Table.from_pylist([line for row in rows for line in table(row)], schema)

    started = time.monotonic()
    ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False, logging_level="warning")
    cores = int(ray.cluster_resources().get("CPU", 1))
    extensions = sorted(suffix[1:] for suffix in SUFFIXES)
    photos = ray.data.read_binary_files(options.paths, include_paths=True, file_extensions=extensions)
    found = photos.map_batches(Analyze, batch_size=16, batch_format="pyarrow", concurrency=max(1, cores // 2))
    found.write_parquet(str(options.parquet.resolve()))
    written = ray.data.read_parquet(str(options.parquet.resolve()))
    count = written.count()
    ray.shutdown()
    return f"{count:,} lines in {time.monotonic() - started:.0f} s: {options.parquet}"


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
    options.paths = [name for path in options.paths for name in (sorted(glob.glob(path)) or [path])]
    try:
        print(run_with_ray(options) if options.ray else run(options))
    except (BatchError, BundleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


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
