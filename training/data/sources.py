"""Where faces come from: a Hub dataset, a folder, an archive or parquet files, as one `datasets.Dataset`.

Images stay encoded, in a column "image". Knows nothing of labels.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from space.hub.bundle import on_hub
from space.hub.card import DATASETS
from space.text import counted, some_of

DATASET, FAIRFACE = DATASETS["UTKFace"], DATASETS["FairFace"]
_CONFIGS = {FAIRFACE: "0.25"}  # of Hub datasets that have several: faces with a margin of a quarter
_TAR = (".tar", ".tar.gz", ".tgz")
_ARCHIVE = (".zip", ".tar.bz2", ".tbz2")  # which `datasets` does not read
_PICTURE = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_MORE = (".heic", ".heif", ".avif", ".tif", ".tiff", ".gif")  # used only if a label table names them
_TABLE = (".csv", ".jsonl")
# What columns of tables are called elsewhere, the likeliest first.
_NAMES = {"sex": "gender", "file": "file_name", "filename": "file_name", "path": "file_name", "image": "file_name"}
MAX_RATIO, MAX_UNPACKED = 20, 50_000_000  # of an archive: unpacked size in its own size, and bytes always allowed
LEFT_AFTER = 86_400.0  # seconds after its last change; an older unfinished entry belongs to a killed program
_UNFINISHED = re.compile(r"([0-9a-f]{16}-.*|unpacked-[0-9a-f]{16})\.partial-\d+")
_READ_ERRORS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}  # no fault of an image
_IMAGE_COLUMNS = ("image", "img", "picture", "photo", "face", "jpg", "bytes")


class DataError(ValueError):
    """The data can't be used; the message says why and what to do."""


def check_disk(name: str, error: OSError) -> None:
    """Raise DataError if an image can't be read for a reason that may pass: it would be left out of later runs too."""
    if error.errno in _READ_ERRORS:
        raise DataError(f"{name} can't be read: {error}. Check the disk, then try again.") from error


def open_source(source: str):
    """A source as one `datasets.Dataset` with encoded images in the column "image".

    Args:
        source: a Hub dataset id, with an optional @revision (branch, tag or commit); a folder, archive or parquet
            file; or a glob pattern of such files. A folder may have a table of labels (CSV or JSONL with a column
            file_name or file, and age and gender) beside its images.

    Raises:
        DataError: nothing is there, or it can't be read.
    """
    # Imported here: `datasets` takes a second, and `--help` should not.
    import datasets

    try:
        path = Path(source).expanduser()
        files = _files(path)
        if files or path.is_dir():
            dataset = _load_files(source, files)
        elif match := on_hub(source):
            dataset = datasets.load_dataset(match["repo"], _CONFIGS.get(match["repo"]), revision=match["revision"])
        else:
            raise DataError(
                f"No dataset at {source}: specify a Hub id such as {DATASET}, or an existing folder, .tar, .tar.gz, "
                ".tar.bz2, .zip or .parquet file."
            )
        # Splits of the source are joined: ours are made by content, never taken from a layout.
        dataset = datasets.concatenate_datasets(list(dataset.values()))
        return _with_images(source, dataset)
    except DataError:
        raise
    except Exception as error:  # datasets wraps network, format and cache errors in many kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise DataError(
            f"Cannot read the dataset {source}: {first}. Check the name and the network, or give a local folder, "
            "archive or parquet file with --dataset."
        ) from error


class PictureFiles:
    """Tells which image files belong to a source: a row may name any file of this machine instead of an image."""

    def __init__(self, source: str):
        import datasets
        from huggingface_hub import constants

        local = Path(source).expanduser()
        place = local if local.is_dir() else local.parent
        caches = (datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE)
        # What a folder or a pattern lists itself, also links. Archives are unpacked into the cache, without links.
        self._listed = set() if local.is_file() else {os.path.abspath(name) for name in _files(local)}
        places = (place, cache_folder(), *caches)
        self._places = [Path(place).resolve() for place in places]

    def __call__(self, picture: dict) -> bool:
        """Whether an encoded image, {bytes, path}, holds its bytes or names a file of the source."""
        if picture["bytes"] is not None:
            return True
        if os.path.abspath(picture["path"] or "") in self._listed:
            return True
        path = Path(picture["path"] or "").resolve()
        return any(path.is_relative_to(place) for place in self._places)


def public_name(source: str) -> str:
    """A local path or pattern without its folders, which say nothing to others; Hub ids and words as they are."""
    if on_hub(source):
        return source
    return Path(source).expanduser().name or Path(source).resolve().name


def without_revision(source: str) -> str:
    """A Hub id without its @revision; other sources as they are."""
    match = on_hub(source)
    return match["repo"] if match else source


def commit_of(dataset) -> str | None:
    """The commit of a Hub dataset: `datasets` names its cache folder after it. None for local files."""
    folders = {Path(file["filename"]).parent.name for file in dataset.cache_files}
    return next((name for name in folders if re.fullmatch(r"[0-9a-f]{40}", name)), None)


def cache_folder() -> Path:
    """Where decoded and unpacked faces are kept: `$AGE_GENDER_CACHE`, else `~/.cache/age_gender`."""
    return Path(os.environ.get("AGE_GENDER_CACHE") or Path.home() / ".cache" / "age_gender")


@contextlib.contextmanager
def new_in_cache(name: str) -> Iterator[Path]:
    """A path at which to make a file or folder of the cache: it gets its name on success and is deleted on failure.

    Deletes unfinished entries of killed programs a day after they were last changed. They can take gigabytes.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        with contextlib.suppress(OSError):  # deleted meanwhile
            if _UNFINISHED.fullmatch(left.name) and time.time() - left.stat().st_mtime > LEFT_AFTER:
                _delete(left)
    partial, target = folder / f"{name}.partial-{os.getpid()}", folder / name
    try:
        yield partial
        try:
            partial.replace(target)
        except OSError:
            if not target.is_dir():  # else another program has made the same folder meanwhile
                raise
    finally:
        _delete(partial)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> list[str]:
    """The files of a local source, by name."""
    if path.is_dir():
        config = path / _CONFIGS[FAIRFACE]  # a copy of FairFace has each photograph with two margins
        folder = config if config.is_dir() else path
        return sorted(str(f) for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    if path.is_file():
        unpack = path.name.lower().endswith(_ARCHIVE) or _table_in(path)
        return _files(_unpacked(path)) if unpack else [str(path)]
    return sorted(glob.glob(str(path), recursive=True))


def _table_in(path: Path) -> str | None:
    """The name of a table of labels in a .tar, which `datasets` would not use."""
    if not path.name.lower().endswith(_TAR):
        return None
    with tarfile.open(path) as tar:
        return next((member.name for member in tar if member.name.lower().endswith(_TABLE)), None)


def _unpacked(archive: Path) -> Path:
    """The folder of an archive's content, unpacked once."""
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_folder() / f"unpacked-{key}"
    if not folder.is_dir():
        with new_in_cache(folder.name) as partial:
            _unpack(archive, partial, stat.st_size)
    return folder


def _unpack(archive: Path, target: Path, size: int) -> None:
    """Unpack an archive of images, which are compressed already: a small one with a large content is an attack."""
    most, unpacked = MAX_RATIO * size + MAX_UNPACKED, 0

    def count(more: int) -> None:
        nonlocal unpacked
        unpacked += more
        if unpacked > most:
            raise DataError(
                f"{archive} unpacks to more than {most / 1e6:,.0f} MB, which is too much for its size. If you trust "
                "it, unpack it yourself and specify the folder."
            )

    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                count(entry.file_size)  # which zipfile enforces
                packed.extract(entry, target)
    else:
        # Not by `extract`, whose filter Python has from 3.11.4 on. Files and hard links, below `target`.
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() or member.islnk() else None
                if content is None:
                    continue
                parts = [part for part in member.name.split("/") if part not in ("", ".", "..")]
                path = target.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with content, open(path, "wb") as file:
                    while chunk := content.read(1 << 20):
                        count(len(chunk))
                        file.write(chunk)


def _load_files(source: str, files: list[str]):
    import datasets

    labels = _label_table(files)
    if labels:
        columns = {name: [row[name] for row in labels] for name in labels[0]}
        return {"train": datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(decode=False))}
    kinds = {
        loader: [f for f in files if f.lower().endswith(endings)]
        for loader, endings in (("webdataset", _TAR), ("parquet", (".parquet",)), ("imagefolder", _PICTURE))
    }
    for loader, chosen in kinds.items():
        if chosen:
            if others := sum(map(len, kinds.values())) - len(chosen):
                used = some_of([os.path.basename(f) for f in chosen])
                print(f"{source}: uses only {used}, not {counted(others, 'other file')}. To use those, specify them.")
            for name in chosen if not Path(source).expanduser().is_file() else ():
                if table := _table_in(Path(name)):
                    raise DataError(f"{name} contains a table of labels, {table}. Specify the archive itself.")
            # drop_labels: a folder's name is no label; imagefolder would invent one.
            extra = {"drop_labels": True, "drop_metadata": True} if loader == "imagefolder" else {}
            escaped = [glob.escape(f) for f in chosen]  # `datasets` takes them for patterns
            return datasets.load_dataset(loader, data_files={"train": escaped}, **extra)
    raise DataError(
        f"{source} contains no images, archives or parquet files. Expected UTKFace's *.jpg.chip.jpg files, a .tar, "
        ".tar.gz or .zip of them, images with a metadata.csv, or .parquet files with image, age and gender columns."
    )


def _label_table(files: list[str]) -> list[dict]:
    """Rows of image, age, gender and race from tables beside the images that they name; empty without one.

    Says which tables are used and which aren't.
    """
    known = {os.path.normpath(name): name for name in files if name.lower().endswith(_PICTURE + _MORE)}
    real = {os.path.realpath(name): name for name in known}
    other_case = {name.lower(): name for name in known}  # IMG_1.JPG as img_1.jpg

    def find(path: str) -> str | None:
        return known.get(path) or real.get(os.path.realpath(path)) or other_case.get(path.lower())

    rows: list[dict] = []
    for name in (name for name in files if name.lower().endswith(_TABLE)):
        labeled, note = _labels(name, find)
        print(f"{name}{note}")
        rows += labeled
    unlabeled = len(known) - len({row["image"] for row in rows})
    if rows and unlabeled:
        print(f"{counted(unlabeled, 'image')} without a label in these tables: not used.")
    return rows


def _labels(table: str, find: Callable[[str], str | None]) -> tuple[list[dict], str]:
    """The labels of the images that a table names, and how the sentence about the table goes on.

    `find`: the image at a path, if there is one.
    """
    lines = _lines(table)
    columns = list(dict.fromkeys(key for line in lines for key in line))  # JSONL rows may lack some
    if {"gender_probability", "age_low"} & set(columns):
        return [], " holds estimates of this kit, not labels: it isn't used."
    lines = [_renamed(line) for line in lines]
    if not {"age", "gender", "file_name"} <= {key for line in lines for key in line}:
        found = f"; its columns are {', '.join(columns[:8])}" if columns else ""
        return [], f" isn't a table of labels (file_name, age, gender){found}: it isn't used."
    rows: list[dict] = []
    absent: dict[str, list[str]] = {"missing": [], "not supported, or outside of the dataset": []}
    unnamed = 0
    for line in lines:
        named = str(line.get("file_name") or "").strip()
        if not named:
            unnamed += 1
            continue
        path = os.path.normpath(Path(table).parent / named.replace("\0", ""))
        image = find(path) or find(path.replace("\\", "/"))  # a path written on Windows
        if image is None:
            absent["not supported, or outside of the dataset" if os.path.isfile(path) else "missing"].append(named)
            continue
        race = line.get("race", line.get("ethnicity"))
        label = {key: str(line.get(key)) for key in ("age", "gender")}
        rows.append({"image": image, **label, "race": None if race is None else str(race)})
    notes = [
        f"; {counted(len(names), 'named file')} {what}: {', '.join(names[:3])}"
        for what, names in absent.items()
        if names
    ]
    if unnamed:
        notes.append(f"; {counted(unnamed, 'row')} without a file name")
    return rows, f": labels of {len(rows)} images{''.join(notes)}."


def _lines(table: str) -> list[dict]:
    """The rows of a CSV or JSONL file with lowercase columns; none if it is something else."""
    with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
        try:
            if table.lower().endswith(".csv"):
                header = file.readline()
                file.seek(0)
                # Spreadsheets separate by semicolons where commas are decimal.
                lines: Iterable[dict] = csv.DictReader(file, delimiter=max(",;\t", key=header.count))
            else:
                lines = map(json.loads, filter(str.strip, file))
            return [{str(key).strip().lower(): value for key, value in line.items() if key} for line in lines]
        except (ValueError, AttributeError, RecursionError, csv.Error):  # no JSON, no objects, or binary
            return []


def _renamed(row: dict) -> dict:
    """A row with its columns as the kit calls them."""
    for other, name in _NAMES.items():
        if other in row:
            row.setdefault(name, row[other])
    return row


def _with_images(source: str, dataset):
    """The dataset with its images, whatever their column and form, as encoded "image"."""
    import datasets
    import pyarrow

    pictures = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
    if not pictures:
        types = {field.name: field.type for field in dataset.features.arrow_schema}
        for name, kind in types.items():
            binary = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)
            struct = pyarrow.types.is_struct(kind) and "bytes" in {field.name for field in kind}
            if (binary or struct) and name.lower() in _IMAGE_COLUMNS:
                pictures.append(name)
    if not pictures:
        raise DataError(f"{source} has no image column; its columns are {', '.join(dataset.column_names)}.")
    dataset = dataset.cast_column(pictures[0], datasets.Image(decode=False))
    return dataset.rename_column(pictures[0], "image") if pictures[0] != "image" else dataset
