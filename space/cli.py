"""Estimate the apparent age and gender of the faces in images and videos.

    age-gender photo.jpg                                   a line per face
    age-gender holiday/ --csv faces.csv --jsonl faces.jsonl    folders and zips, as tables; run again to resume
    age-gender photo.jpg video.mp4 --annotated out/        copies with boxes and labels
    age-gender photo.jpg --json                            a JSON object per file

In a checkout, `python -m space.cli` is the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import metadata
from pathlib import Path

from PIL import Image

from .analyzer import FaceAnalyzer
from .annotate import blur, draw
from .batch import __main__ as batch
from .batch.analyze import analyze_pictures
from .batch.pictures import BatchError, Picture, find_pictures
from .detector import THRESHOLD
from .face import Face, confidence, interval_years, whole_years
from .hub.bundle import embedded
from .hub.download import ModelError
from .text import counted, printable, tolerate_console

VIDEOS = (".mp4", ".mov", ".webm", ".avi", ".mkv", ".m4v")
DISTRIBUTION = "age-gender-kit"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    tolerate_console()
    options.paths = [name for path in options.paths for name in batch.expanded(path)]
    videos = [path for path in options.paths if path.lower().endswith(VIDEOS)]
    if (options.csv or options.jsonl) and (videos or options.json or options.annotated):
        parser.error("--csv and --jsonl accept images only and can't be combined with --json or --annotated")
    if videos and not options.annotated:
        parser.error(f"{videos[0]} is a video: specify --annotated FOLDER for the annotated copy")
    try:
        if options.csv or options.jsonl:
            print(batch.run(options))
            return 0
        return _show(options, videos)
    except (BatchError, ModelError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="age-gender", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="FILE", help="an image, a video, a folder of images or a zip")
    parser.add_argument("--csv", type=Path, help="CSV file, one line per face")
    parser.add_argument("--jsonl", type=Path, help="JSONL file, one line per image; a stopped run resumes from it")
    parser.add_argument("--json", action="store_true", help="print JSON, one object per file")
    parser.add_argument("--annotated", type=Path, metavar="FOLDER", help="write annotated copies to this folder")
    parser.add_argument("--blur", action="store_true", help="blur faces in the annotated copies")
    parser.add_argument(
        "--model", help=f"{', '.join(embedded())}, a bundle folder or a Hub id user/name (default: {embedded()[0]})"
    )
    parser.add_argument(
        "--threshold",
        type=batch.share,
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


def _show(options: argparse.Namespace, videos: list[str]) -> int:
    """Print what is found, and write annotated copies; the exit status is 1 if nothing could be analyzed."""
    analyzer, analyzed = FaceAnalyzer.load(options.model), 0
    if options.annotated:
        options.annotated.mkdir(parents=True, exist_ok=True)
    images = [path for path in options.paths if path not in videos]
    pictures = find_pictures(images, []) if images else []
    if not pictures and not videos:
        raise BatchError(f"There are no images in {', '.join(map(str, options.paths))}.")
    for picture, row in zip(pictures, analyze_pictures(analyzer, pictures, threshold=options.threshold), strict=True):
        if row["error"]:
            print(printable(f"{row['file']}: {row['error']}"), file=sys.stderr)
            continue
        analyzed += 1
        _print(options.json, {"file": row["file"], "faces": row["faces"]})
        if options.annotated:
            _annotate(picture, row["faces"], options)
    for path in videos:
        _annotate_video(analyzer, path, options)
        analyzed += 1
    return 0 if analyzed else 1


def _print(as_json: bool, row: dict) -> None:
    """One image's faces."""
    if as_json:
        print(json.dumps(row))
        return
    print(printable(f"{row['file']}: {counted(len(row['faces']), 'face')}"))
    for number, face in enumerate(row["faces"], 1):
        print(f"  {number}: {_words(face)}")


def _words(person: dict) -> str:
    """`female · 97%, age 25 (likely 20 to 33)`."""
    gender = confidence(person["gender_label"], person["gender"], person["gender_probability"])
    likely = f" (likely {interval_years(person['age_low'], person['age_high'])})" if person["age_high"] else ""
    return f"{gender}, age {whole_years(person['age'])}{likely}"


def _annotate(picture: Picture, found: list[dict], options: argparse.Namespace) -> None:
    photo = picture.open()
    faces = [Face.from_dict(values).scaled(1 / photo.reduction) for values in found]
    image = blur(photo.rgb, faces) if options.blur else photo.rgb
    target = _free(options.annotated / f"{Path(picture.name).stem}.jpg")
    Image.fromarray(draw(image, faces)).save(target, quality=92)


def _annotate_video(analyzer, path: str, options: argparse.Namespace) -> None:
    from .video.annotator import annotate_video
    from .video.result import VideoResult

    target = _free(options.annotated / f"{Path(path).stem}.mp4")
    for step in annotate_video(analyzer, path, target, threshold=options.threshold, blurred=options.blur):
        if isinstance(step, VideoResult):
            people = [person.as_dict() for person in step.people]
            if options.json:
                print(json.dumps({"file": path, "people": people, "annotated": str(target)}))
                return
            print(printable(f"{path}: {counted(len(people), 'person', 'people')}, {target}"))
            for person in people:
                print(f"  {person['id']}: {_words(person)}, {person['first']:.1f} to {person['last']:.1f} s")


def _free(target: Path) -> Path:
    """The path, with a number if there is such a file already: nothing is overwritten."""
    number, free = 2, target
    while os.path.lexists(free):
        free, number = target.with_name(f"{target.stem}-{number}{target.suffix}"), number + 1
    return free


if __name__ == "__main__":
    sys.exit(main())
