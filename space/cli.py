"""Estimate the apparent age and gender of the faces in images and videos.

    age-gender photo.jpg                                   a line per face
    age-gender holiday/ --csv faces.csv --jsonl faces.jsonl    folders and zips, as tables; run again to resume
    age-gender s3://bucket/photos --parquet out/           the same with Ray Data, on all cores or a Ray cluster
    age-gender photo.jpg video.mp4 --annotated out/        copies with boxes and labels, also of folders
    age-gender photo.jpg --json                            a JSON object per file, with "error" if it can't be read

Folders are searched recursively. The JSONL file has one line per image, and the CSV file has one line per face. To
resume a stopped run, run the same command again: it skips images that are already in the JSONL file, and analyzes
unreadable and changed ones again. In a checkout, `python -m space.cli` is the same command.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from PIL import Image

from .analyzer import FaceAnalyzer
from .annotate import blur, draw
from .batch.analyze import analyze_pictures
from .batch.pictures import BatchError, Picture, find_pictures
from .batch.ray_pipeline import write_parquet
from .batch.run import write_tables
from .console import command
from .detector import THRESHOLD
from .face import Face, confidence, interval_years, whole_years
from .hub.bundle import embedded
from .hub.download import ModelError
from .photo import PhotoError
from .text import counted, printable, some_of
from .video.result import Progress, VideoError

# What is a video by its name; of these, `video.reader` says which it can read.
VIDEOS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".m2ts",
    ".ogv",
)  # fmt: skip
NAME = 200  # bytes that the name of an annotated copy has at most, without its suffix: file systems take 255
DISTRIBUTION = "age-gender-kit"


@command(BatchError, ModelError, OSError, ValueError)
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    # Files may also follow options; after --, everything is a file.
    options = (parser.parse_args if "--" in arguments else parser.parse_intermixed_args)(arguments)
    # Windows' shells leave *.jpg to the program.
    options.paths = [name for path in options.paths for name in _expanded(path)]
    videos = [path for path in options.paths if _is_video(path)]
    tables = options.csv or options.jsonl
    if options.parquet and tables:
        parser.error("--parquet can't be combined with --csv and --jsonl")
    if (tables or options.parquet) and (videos or options.json or options.annotated):
        parser.error("tables accept images only and can't be combined with --json or --annotated")
    if videos and not options.annotated:
        parser.error(f"{videos[0]} is a video: specify --annotated FOLDER for the annotated copy")
    if options.blur and not options.annotated:
        parser.error("--blur requires --annotated FOLDER")
    settings = {"model": options.model, "threshold": options.threshold}
    if tables:
        try:
            print(write_tables(options.paths, csv=options.csv, jsonl=options.jsonl, **settings))
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Run the same command again to resume.") from None
    elif options.parquet:
        print(write_parquet(options.paths, options.parquet, **settings))
    else:
        return _show(options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="age-gender", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="FILE", help="an image, a video, a folder or a zip")
    parser.add_argument("--csv", type=Path, help="CSV file, one line per face")
    parser.add_argument("--jsonl", type=Path, help="JSONL file, one line per image; a stopped run resumes from it")
    parser.add_argument(
        "--parquet", type=Path, metavar="FOLDER", help='Parquet files, one row per face (pip install "ray[data]")'
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object per file")
    parser.add_argument("--annotated", type=Path, metavar="FOLDER", help="write annotated copies to this folder")
    parser.add_argument("--blur", action="store_true", help="blur faces in the annotated copies")
    parser.add_argument(
        "--model", help=f"{', '.join(embedded())}, a bundle folder or a Hub id user/name (default: {embedded()[0]})"
    )
    parser.add_argument(
        "--threshold",
        type=_share,
        default=THRESHOLD,
        help=f"minimum detection score for a face, 0 to 1 (default: {THRESHOLD})",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    return parser


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(running from a checkout, not installed)"


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be a number from 0 to 1")
    return value


def _expanded(path: str) -> list[str]:
    """A path as it is, or what it matches as a pattern if there is no such file."""
    return [path] if os.path.lexists(path) else sorted(glob.glob(path)) or [path]


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEOS) and not os.path.isdir(path)


def _show(options: argparse.Namespace) -> int:
    """Print what is found, and write annotated copies; the exit status is 1 if nothing could be analyzed."""
    pictures, videos, skipped = _found(options)
    analyzer, analyzed = FaceAnalyzer.load(options.model), 0
    if options.annotated:
        options.annotated.mkdir(parents=True, exist_ok=True)
    for picture, row in zip(pictures, analyze_pictures(analyzer, pictures, threshold=options.threshold), strict=True):
        if row["error"]:
            _print_error(options.json, row["file"], row["error"])
            continue
        analyzed += 1
        try:
            target = _annotate(picture, row["faces"], options) if options.annotated else None
        except PhotoError as error:  # it has been changed or removed meanwhile
            _print_error(False, row["file"], f"There is no annotated copy. {error}")
            target = None
        _print(options.json, row, target)
    for path in videos:
        try:
            _annotate_video(analyzer, path, options)
            analyzed += 1
        except VideoError as error:
            _print_error(options.json, path, str(error))
    if skipped:
        print(printable(f"{counted(len(skipped), 'file')} skipped: {some_of(skipped)}"), file=sys.stderr)
    return 0 if analyzed else 1


def _found(options: argparse.Namespace) -> tuple[list[Picture], list[str], list[str]]:
    """Images, videos and the names of other files, in this order, among the paths and in their folders.

    Annotated copies from earlier runs count as other files. Raises BatchError if a path doesn't exist, or if there is
    nothing to analyze.
    """
    videos = [path for path in options.paths if _is_video(path)]
    missing = [path for path in videos if not os.path.isfile(path)]
    if missing:
        raise BatchError(printable(f"{missing[0]} doesn't exist."))
    images = [path for path in options.paths if path not in videos]
    others: list[str] = []
    pictures = find_pictures(images, others) if images else []
    is_copy = _copies(options)
    copies = {name for name in [*(picture.name for picture in pictures), *others] if is_copy(name)}
    pictures = [picture for picture in pictures if picture.name not in copies]
    others = [name for name in others if name not in copies]
    in_folders = [name for name in others if _is_video(name) and os.path.isfile(name) and not _is_hidden(name)]
    if options.annotated:
        videos += in_folders
    if not pictures and not videos:
        note = " Videos require --annotated FOLDER." if in_folders and not options.annotated else ""
        raise BatchError(f"There are no images in {', '.join(map(str, options.paths))}.{note}")
    videos = list({os.path.normpath(path): path for path in videos}.values())
    return pictures, videos, [name for name in others if name not in videos] + sorted(copies)


def _is_hidden(name: str) -> bool:
    """Hidden, as what macOS keeps beside videos; or .ts, which in folders is mostly TypeScript."""
    return Path(name).name.startswith(".") or name.lower().endswith(".ts")


def _copies(options: argparse.Namespace) -> Callable[[str], bool]:
    """Tells whether a file is an annotated copy from an earlier run: in --annotated, inside of a folder to search."""
    roots = [Path(path).resolve() for path in options.paths]
    folder = options.annotated.resolve() if options.annotated else None

    def is_copy(name: str) -> bool:
        places = [Path(name).resolve(), *Path(name).resolve().parents]
        # Of the paths that lead to the file, the nearest one counts: it may itself be in the folder.
        nearest = next((place for place in places if place in roots), None)
        return folder in places and nearest is not None and nearest in folder.parents

    return is_copy if folder else lambda _: False


def _print(as_json: bool, row: dict, target: Path | None) -> None:
    """One image's faces; `target`: the annotated copy."""
    if as_json:
        kept = {key: row[key] for key in ("file", "width", "height", "incomplete", "faces")}
        print(json.dumps(kept | ({"annotated": str(target)} if target else {})))
        return
    notes = [counted(len(row["faces"]), "face"), *(["the file is incomplete"] if row["incomplete"] else [])]
    print(printable(f"{row['file']}: {', '.join([*notes, *([str(target)] if target else [])])}"))
    for number, face in enumerate(row["faces"], 1):
        print(f"  {number}: {_words(face)}")


def _print_error(as_json: bool, file: str, error: str) -> None:
    """Why a file can't be analyzed."""
    print(printable(f"{file}: {error}"), file=sys.stderr)
    if as_json:
        print(json.dumps({"file": file, "error": error}))


def _words(person: dict) -> str:
    """`female · 97%, age 25 (likely 20 to 33)`."""
    gender = confidence(person["gender_label"], person["gender"], person["gender_probability"])
    likely = interval_years(person["age_low"], person["age_high"])
    return f"{gender}, age {whole_years(person['age'])} (likely {likely})"


def _annotate(picture: Picture, found: list[dict], options: argparse.Namespace) -> Path:
    """Write the annotated copy of an image; returns its path. Raises PhotoError if it can't be read again."""
    try:
        photo = picture.open()
    except OSError as error:
        raise PhotoError(f"The file can't be read again ({error.strerror}).") from error
    faces = [Face.from_dict(values).scaled(1 / photo.reduction) for values in found]
    image = blur(photo.rgb, faces) if options.blur else photo.rgb
    with _unused(options.annotated, picture.name, ".jpg") as target:
        jpeg = io.BytesIO()  # Pillow doesn't notice that the disk is full
        Image.fromarray(draw(image, faces)).save(jpeg, "JPEG", quality=92)
        target.write_bytes(jpeg.getvalue())
    return target


def _annotate_video(analyzer, path: str, options: argparse.Namespace) -> None:
    """Write the annotated copy of a video, and print its people. Raises VideoError."""
    from tqdm import tqdm

    from .video.annotator import annotate_video

    progress = {"desc": printable(Path(path).name), "bar_format": "{desc}: {n:.0f}% [{elapsed}]"}
    with _unused(options.annotated, path, ".mp4") as target, tqdm(total=100, disable=None, **progress) as bar:
        for step in annotate_video(analyzer, path, target, threshold=options.threshold, blurred=options.blur):
            if isinstance(step, Progress):
                bar.update(100 * step.share - bar.n)
            else:
                result = step
    people = [person.as_dict() for person in result.people]
    if options.json:
        values = {"file": path, "seconds": result.seconds, "damaged": result.damaged, "people": people}
        print(json.dumps(values | {"annotated": str(target)}))
        return
    damaged = f", damaged: {result.seconds:.1f} s could be read" if result.damaged else ""
    print(printable(f"{path}: {counted(len(people), 'person', 'people')}{damaged}, {target}"))
    for person in people:
        print(f"  {person['id']}: {_words(person)}, {person['first']:.1f} to {person['last']:.1f} s")


@contextlib.contextmanager
def _unused(folder: Path, name: str, suffix: str) -> Iterator[Path]:
    """Create an empty file for the annotated copy of a file; delete it on errors.

    If the name is taken, perhaps by a concurrent run, add a number: nothing is overwritten.
    """
    stem = Path(name).stem.encode(errors="surrogateescape")[:NAME].decode(errors="ignore").strip(" .") or "image"
    for number in itertools.count(1):
        target = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
        with contextlib.suppress(FileExistsError):
            target.touch(exist_ok=False)
            break
    try:
        yield target
    except BaseException:
        target.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
