"""The batch as a Ray Data pipeline, for all cores or all machines of a cluster."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ..analyzer import FaceAnalyzer
from ..photo import open_photo
from ..text import counted
from .analyze import analyze_pictures
from .pictures import SUFFIXES, BatchError, Picture, find_pictures
from .tables import COLUMNS, table


def write_parquet(paths: list[str], folder: Path, *, model: str | None, threshold: float) -> str:
    """Analyze images and folders, also of object storage (s3://), with one model per actor; returns what was done.

    In folders of object storage, an image is a file with an image's suffix whose name doesn't begin with an underscore.

    Args:
        folder: of the Parquet files, new or empty; the columns are those of the CSV file.
        model, threshold: as for `FaceAnalyzer`.

    Raises:
        BatchError, ModelError, OSError: the message is for the user.
    """
    try:
        import pyarrow.parquet
        import ray
    except ImportError as error:
        raise BatchError(f'--parquet needs Ray Data ({error}): pip install "ray[data]"') from error
    if folder.exists() and any(folder.iterdir()):
        raise BatchError(f"{folder} is not empty: choose another folder.")
    if any(path.lower().endswith(".zip") for path in paths):
        raise BatchError("--parquet reads images and folders, but not zips.")
    remote = [path for path in paths if "://" in path]
    pictures = find_pictures([path for path in paths if path not in remote])
    # Ray would leave out names that begin with an underscore, as those of some cameras do, and images without a suffix.
    files = [picture.name for picture in pictures if Path(picture.name).is_file() and _is_text(picture.name)]
    if not remote and not files:
        raise BatchError(f"There are no images in {', '.join(paths)}.")
    FaceAnalyzer.load(model)  # what is wrong is said here, not by an actor
    types = dict.fromkeys(("file", "gender", "gender_label", "quality", "error"), pyarrow.string())
    types |= {"face": pyarrow.int32(), "incomplete": pyarrow.bool_()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.float64())) for name in COLUMNS])

    class Analyze:
        def __init__(self):
            self.analyzer = FaceAnalyzer.load(model)

        def __call__(self, batch):
            pictures = [
                Picture(name.as_py(), lambda c=content: open_photo(c.as_py()))
                for name, content in zip(batch["path"], batch["bytes"], strict=True)
            ]
            rows = analyze_pictures(self.analyzer, pictures, threshold=threshold, workers=1)
            return pyarrow.Table.from_pylist([line for row in rows for line in table(row)], schema)

    started = time.monotonic()
    ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    cores = int(ray.cluster_resources().get("CPU", 1))
    extensions = sorted(suffix[1:] for suffix in SUFFIXES)
    try:
        first, *more = [
            *([ray.data.read_binary_files(files, include_paths=True)] if files else []),
            *([ray.data.read_binary_files(remote, include_paths=True, file_extensions=extensions)] if remote else []),
        ]
    except FileNotFoundError as error:
        raise BatchError(f"{error} doesn't exist: check the path.") from error
    photos = first.union(*more) if more else first
    found = photos.map_batches(Analyze, batch_size=16, batch_format="pyarrow", concurrency=max(1, cores // 2))
    found.write_parquet(str(folder.resolve()))
    ray.shutdown()
    errors = pyarrow.parquet.read_table(folder, columns=["error"])["error"]
    if not errors.null_count:
        raise BatchError(f"No image could be read. The reason for each is in {folder}.")
    lost = len(pictures) - len(files)
    why = "in a zip or an unreadable folder, or the name isn't UTF-8"
    note = f"; {counted(lost, 'image')} skipped ({why})" if lost else ""
    return f"{len(errors):,} rows in {time.monotonic() - started:.0f} s{note}; written to {folder}"


def _is_text(name: str) -> bool:
    """Whether a file name can be written in UTF-8, as Parquet needs it."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False
