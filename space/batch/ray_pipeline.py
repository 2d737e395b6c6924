"""The batch as a Ray Data pipeline, for all cores or all machines of a cluster."""

from __future__ import annotations

import argparse
import time

from ..analyzer import FaceAnalyzer
from ..photo import open_photo
from .analyze import analyze_pictures
from .pictures import SUFFIXES, BatchError, Picture, find_pictures
from .tables import COLUMNS, table


def run_with_ray(options: argparse.Namespace) -> str:
    """The same analysis as a Ray Data pipeline, one model per actor, into a folder of Parquet files.

    Raises:
        BatchError, ModelError, OSError: the message is for the user.
    """
    try:
        import pyarrow
        import ray
    except ImportError as error:
        raise BatchError(f'--ray needs Ray Data ({error}): pip install "ray[data]"') from error
    if options.parquet.exists() and any(options.parquet.iterdir()):
        raise BatchError(f"{options.parquet} is not empty: choose another folder.")
    if any(path.lower().endswith(".zip") for path in options.paths):
        raise BatchError("--ray reads images and folders, but not zips.")
    if not any("://" in path for path in options.paths) and not find_pictures(options.paths):
        raise BatchError(f"There are no images in {', '.join(options.paths)}.")
    FaceAnalyzer.load(options.model)  # what is wrong is said here, not by an actor
    types = dict.fromkeys(("file", "gender", "gender_label", "quality", "error"), pyarrow.string())
    types |= {"face": pyarrow.int32(), "incomplete": pyarrow.bool_()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.float64())) for name in COLUMNS])
    model, threshold = options.model, options.threshold

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
    ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
    cores = int(ray.cluster_resources().get("CPU", 1))
    extensions = sorted(suffix[1:] for suffix in SUFFIXES)
    photos = ray.data.read_binary_files(options.paths, include_paths=True, file_extensions=extensions)
    found = photos.map_batches(Analyze, batch_size=16, batch_format="pyarrow", concurrency=max(1, cores // 2))
    found.write_parquet(str(options.parquet.resolve()))
    written = ray.data.read_parquet(str(options.parquet.resolve()))
    count = written.count()
    ray.shutdown()
    return f"{count:,} rows in {time.monotonic() - started:.0f} s: {options.parquet}"
