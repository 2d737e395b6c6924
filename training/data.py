"""UTKFace and FairFace through the `datasets` library: samples with labels, hash-bucket splits, decoded pictures.

Takes a Hub dataset, a folder, a tar or parquet files, in every layout UTKFace is passed around in, and
finds labels by columns or, failing that, by file name (age_gender_race_datetime). Ages may be years or, as in
FairFace, bins of years. Splits depend only on a picture's bytes, so they are the same in every layout that keeps
the files.

Knows nothing of networks or training.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from training.sources import DATASET, DataError, cache_folder, commit_of, open_source

IMAGE_SIZE = 200  # pixels, height and width after decoding
GENDERS = ("male", "female")  # UTKFace's label order
RACES = ("White", "Black", "Asian", "Indian", "Other")  # UTKFace's label order
POLICIES = ("clean", "all")
SPLITS = ("train", "validation", "test")
# Buckets of each split; a bucket is the SHA-256 of the file modulo 10.
PROTOCOLS = {
    "80/10/10": {"train": (0, 1, 2, 3, 4, 5, 6, 7), "validation": (8,), "test": (9,)},
    "60/20/20": {"train": (0, 1, 2, 3, 4, 5), "validation": (6, 7), "test": (8, 9)},
}
OLDEST = 120  # years; UTKFace ends at 116
AGE_BANDS = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, OLDEST))  # inclusive

# Three files lack the race in their name; values from the corrections published with Paplham & Franc,
# "A Call to Reflect on Evaluation Practices for Age Estimation", CVPR 2024, arXiv 2307.04570.
_MISSING_RACE = {
    "39_1_20170116174525125": 1,
    "61_1_20170109142408075": 1,
    "61_1_20170109150557335": 3,
}
# Copies are named "20_0_0_2017… (1)" by Windows and "… - Copy" or "… copy" by others.
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)( ?\(\d+\)| - Copy( \(\d+\))?| copy( \d+)?)?")
_IN_MEMORY = 2048  # pictures; fewer are decoded anew each time instead of filling the cache folder


@dataclass(frozen=True)
class Samples:
    """Labelled faces, pictures still encoded. All arrays have length N."""

    name: np.ndarray  # str, file name without extension
    age_range: np.ndarray  # float32 [N, 2], first and last year that the label allows; equal where the age is known
    gender: np.ndarray  # int8, 0 male, 1 female
    race: np.ndarray  # int8, index into `races`, -1 unknown
    sha256: np.ndarray  # str, of the encoded picture
    encoded: tuple = field(repr=False)  # bytes, or the path of a file, each
    races: tuple[str, ...] = RACES

    def __len__(self) -> int:
        return len(self.name)

    @property
    def age(self) -> np.ndarray:
        """float32 [N], years; the middle of its range where only that is known."""
        return self.age_range.mean(axis=1)

    @property
    def binned(self) -> bool:
        """Whether ages are known as ranges of years only."""
        return bool((self.age_range[:, 0] < self.age_range[:, 1]).any())

    @property
    def bucket(self) -> np.ndarray:
        """int8 [N], the SHA-256 modulo 10."""
        return np.array([int(digest, 16) % 10 for digest in self.sha256], np.int8)

    def take(self, index) -> Samples:
        """The samples at `index` (integers or a boolean mask)."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        arrays = {k: getattr(self, k)[index] for k in ("name", "age_range", "gender", "race", "sha256")}
        return replace(self, encoded=tuple(self.encoded[i] for i in index), **arrays)

    def split(self, split: str, protocol: str = "80/10/10") -> Samples:
        """One split of `protocol`, by bucket. Raises DataError if it is empty."""
        chosen = self.take(np.isin(self.bucket, PROTOCOLS[protocol][split]))
        if not len(chosen):
            raise DataError(
                f"The {split} split of {protocol} is empty: the source has only {len(self)} usable pictures, "
                "none in its buckets. Give the whole dataset."
            )
        return chosen

    def limit(self, count: int | None, seed: int = 0) -> Samples:
        """At most `count` samples, drawn without replacement in an order that `seed` decides."""
        if count is None or count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))


@dataclass
class Report:
    """What became of the rows of a source."""

    source: str
    policy: str
    revision: str | None = None  # commit of a Hub dataset
    rows: int = 0
    used: int = 0
    rejected: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # reason -> names
    corrected: list[str] = field(default_factory=list)
    duplicate_groups: int = 0
    duplicate_files: int = 0  # files beyond the first of their group
    conflicting_groups: int = 0  # byte-identical pictures whose age or gender disagree
    dropped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        source = f"{self.source}@{self.revision}" if self.revision else self.source
        lines = [f"{source}: {self.rows} rows, {self.used} used (policy {self.policy})"]
        for reason, names in self.rejected.items():
            shown = ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")
            lines.append(f"  rejected {len(names)}: {reason}: {shown}")
        if self.corrected:
            lines.append(f"  corrected {len(self.corrected)}: race missing in the name: {', '.join(self.corrected)}")
        lines.append(
            f"  byte-identical: {self.duplicate_groups} groups, {self.duplicate_files} extra files; "
            f"{self.conflicting_groups} groups disagree on age or gender"
        )
        lines += [f"  dropped {count}: {reason}" for reason, count in self.dropped.items()]
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """The same as plain values, for JSON."""
        return {
            "source": self.source,
            "revision": self.revision,
            "policy": self.policy,
            "rows": self.rows,
            "used": self.used,
            "rejected": {reason: len(names) for reason, names in self.rejected.items()},
            "corrected": len(self.corrected),
            "duplicate_groups": self.duplicate_groups,
            "duplicate_files": self.duplicate_files,
            "conflicting_groups": self.conflicting_groups,
            "dropped": dict(self.dropped),
        }


def load_utkface(
    source: str | os.PathLike = DATASET,
    *,
    split: str = "all",
    policy: str = "clean",
    protocol: str = "80/10/10",
    revision: str | None = None,
) -> tuple[Samples, Report]:
    """Read UTKFace.

    Args:
        source: a Hub dataset id, a folder (of pictures, tars or parquet files), a tar, a parquet file, or
            a glob pattern of such files.
        split: "train", "validation", "test" or "all".
        policy: "clean" keeps one of each group of byte-identical files and leaves out groups whose age or
            gender disagree; "all" keeps every file.
        protocol: "80/10/10" or "60/20/20".
        revision: branch, tag or commit of a Hub dataset.

    Returns:
        The samples and a report of what was read, rejected, corrected and dropped, and why.

    Raises:
        DataError: nothing there, nothing usable, or an unknown split, policy or protocol.
    """
    for value, known, what in ((policy, POLICIES, "policy"), (protocol, PROTOCOLS, "protocol")):
        if value not in known:
            raise DataError(f"Unknown {what} {value!r}: choose one of {', '.join(known)}.")
    if split not in (*SPLITS, "all"):
        raise DataError(f"Unknown split {split!r}: choose one of {', '.join(SPLITS)}, all.")

    report = Report(str(source), policy)
    dataset = open_source(str(source), revision)
    report.revision = commit_of(dataset)
    samples = _read(dataset, report)
    samples = _deduplicate(samples, report)
    report.used = len(samples)
    if not len(samples):
        raise DataError(f"No usable picture in {source}.\n{report}")
    return (samples if split == "all" else samples.split(split, protocol)), report


def load_chips(source: str | os.PathLike, split: str) -> Samples:
    """One split of UTKFace's chips; DataError for photographs such as FairFace's, whose ages are ranges."""
    samples, _ = load_utkface(source, split=split)
    if samples.binned:
        raise DataError(f"{source} has photographs whose ages are ranges of years; UTKFace's chips are needed.")
    return samples


def decode(
    samples: Samples,
    cut: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[Samples, np.ndarray]:
    """Decode the pictures, in parallel, into one array that is kept on disk for the next time.

    Args:
        samples: N faces.
        cut: makes a chip, uint8 [200, 200, 3], of a photograph, uint8 [H, W, 3]; ValueError where there is no face.
            None: pictures of 200 x 200 pixels are face crops already; others are cropped if they aren't framed as
            UTKFace's (`framing.Cut.crop_unless_framed`). A `cut` with a `name` is kept on disk under it, others are
            not.
        cache_dir: where decoded pictures are kept, 120 kB each; default `$AGE_GENDER_CACHE`, else
            `~/.cache/age_gender`. Sets of up to 2048 pictures are not kept.

    Returns:
        The samples whose picture can be read (those that cannot are named on the terminal), and their
        pictures: uint8 [M, 200, 200, 3] RGB, read-only, memory-mapped when cached.

    Raises:
        DataError: no picture can be read, or the disk has no room for the cache.
    """
    if len(samples) <= _IN_MEMORY or (cut and not hasattr(cut, "name")):
        images = np.empty((len(samples), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        order = _decode_into(samples, images, cut)
    else:
        images, order = _decode_cached(samples, cut, cache_dir)
    if len(order) < len(samples):
        names = [str(name) for name in np.delete(samples.name, order)]
        what = (
            "Pictures without a detectable face" if cut else "Unreadable pictures, or photos without a detectable face,"
        )
        print(f"{what} left out: {len(names)}: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}")
        if not len(order):
            reason = "No face was found in them." if cut else "They are damaged, or photos in which no face is found."
            raise DataError(f"None of the pictures can be used. {reason}")
        samples, images = samples.take(order), images[: len(order)]
    images.flags.writeable = False
    return samples, images


def _decode_cached(samples: Samples, cut, cache_dir) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(cache_dir or cache_folder())
    key = hashlib.sha256("".join(samples.sha256).encode()).hexdigest()[:16]
    key += f"-{IMAGE_SIZE}" + (f"-{cut.name}" if cut else "")
    pixels, places = folder / f"{key}.npy", folder / f"{key}.order.npy"
    shape = (len(samples), IMAGE_SIZE, IMAGE_SIZE, 3)
    if pixels.is_file() and places.is_file():
        images = np.load(pixels, mmap_mode="r")
        if images.shape == shape:
            return images, np.load(places)
    partial = pixels.with_suffix(f".partial-{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        need, free = int(np.prod(shape)), shutil.disk_usage(folder).free
        if free < need + (64 << 20):
            raise DataError(
                f"{folder} has {free / 1e9:.1f} GB free, decoded pictures need {need / 1e9:.1f} GB: make room, or set "
                "AGE_GENDER_CACHE to a folder on a larger disk."
            )
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        order = _decode_into(samples, images, cut)
        images.flush()
        del images
        np.save(places, order)
        partial.replace(pixels)
    except OSError as error:
        raise DataError(f"Cannot keep decoded pictures in {folder}: {error}. Set AGE_GENDER_CACHE.") from error
    finally:
        partial.unlink(missing_ok=True)
    return np.load(pixels, mmap_mode="r"), order


def _decode_into(samples: Samples, images: np.ndarray, cut) -> np.ndarray:
    """Fill `images` from its beginning; returns which sample each picture is of, without those that cannot be read."""
    photos = []

    @functools.cache
    def cropper():
        from space.detector import load_detector
        from training.framing import Cut  # which imports this module

        return Cut(load_detector()[0])

    def one(i: int) -> bool:
        try:
            encoded = samples.encoded[i]
            if cut:
                images[i] = cut(decode_picture(encoded, size=None))
            elif image_size(encoded) == (IMAGE_SIZE, IMAGE_SIZE):
                images[i] = decode_picture(encoded)
            else:  # perhaps a photo under the name of a face crop
                images[i], cropped = cropper().crop_unless_framed(decode_picture(encoded, size=None))
                photos.extend([i] * cropped)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # all that PIL raises
            return False
        return True

    count = len(samples)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        readable = np.fromiter(
            tqdm(pool.map(one, range(count), chunksize=64), "Decoding", count, unit=" pictures", disable=count < 1000),
            bool,
            count,
        )
    if photos:
        print(f"{len(photos)} of {count} pictures are photos, not face crops: their faces are detected and cropped")
    order = np.arange(count)
    usable = int(readable.sum())
    # Gaps are filled from the end: to leave them out by an index would copy gigabytes into memory.
    for gap, last in zip(np.flatnonzero(~readable[:usable]), usable + np.flatnonzero(readable[usable:]), strict=True):
        images[gap], order[gap] = images[last], last
    return order[:usable]


def image_size(encoded: bytes | str) -> tuple[int, int]:
    """Width and height of a picture (bytes, or the path of a file), in pixels; its pixels are not decoded."""
    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
        return image.size


def decode_picture(encoded: bytes | str, size: int | None = IMAGE_SIZE) -> np.ndarray:
    """One picture (bytes, or the path of a file) as uint8 [size, size, 3] RGB, or in its own size for None.

    OSError if it is damaged.
    """
    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
        if size and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
        return np.asarray(image)


def _read(dataset, report: Report) -> Samples:
    """Rows → samples; every row that cannot be used goes into the report."""
    report.rows = len(dataset)
    columns = {name.lower(): name for name in dataset.column_names}
    race_column = columns.get("race") or columns.get("ethnicity")
    labelled = "age" in columns and "gender" in columns
    wanted = ["image"] + ([columns["__key__"]] if "__key__" in columns else [])
    wanted += [c for c in (columns.get("age"), columns.get("gender"), race_column) if labelled and c]
    class_names = {c: getattr(dataset.features[c], "names", None) for c in wanted}
    texts = race_column and getattr(dataset.features[race_column], "dtype", "") == "string"
    races = _races(sorted(dataset.unique(race_column)) if texts else class_names.get(race_column))

    names, labels, digests, encoded = [], [], [], []
    row = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in dataset.select_columns(wanted).with_format("arrow").iter(batch_size=2000):
            batch = batch.to_pydict()
            digest = pool.map(_sha256, batch["image"], chunksize=100)
            for i, (picture, sha) in enumerate(zip(batch["image"], digest, strict=True)):
                key = batch["__key__"][i] if "__key__" in batch else (picture or {}).get("path")
                name = _stem(key) if key else f"row {row}"
                row += 1
                if sha is None:
                    report.rejected["no picture, or its file cannot be read"].append(name)
                    continue
                if labelled:
                    label = _label(
                        *(
                            _value(batch[c][i], class_names[c]) if c else None
                            for c in (columns["age"], columns["gender"], race_column)
                        ),
                        races,
                    )
                    reason = "age or gender is missing or out of range"
                else:
                    label = _parse(name, report)
                    reason = "the name is not age_gender_race_datetime"
                if label is None:
                    report.rejected[reason].append(name)
                    continue
                names.append(name)
                labels.append(label)
                digests.append(sha)
                encoded.append(picture["bytes"] if picture["bytes"] is not None else picture["path"])
    first, last, gender, race = np.array(labels, np.float32).reshape(-1, 4).T
    return Samples(
        name=np.array(names, str),
        age_range=np.stack([first, last], axis=1),
        gender=gender.astype(np.int8),
        race=race.astype(np.int8),
        sha256=np.array(digests, str),
        encoded=tuple(encoded),
        races=races,
    )


def _races(names: list[str] | None) -> tuple[str, ...]:
    """The races of a dataset that names its classes; UTKFace's if it does not, or names those."""
    if not names or all(_index(name, RACES) >= 0 for name in names):
        return RACES
    return tuple(name.replace("_", " ") for name in names)


def _sha256(picture: dict | None) -> str | None:
    if not picture or (picture["bytes"] is None and not picture["path"]):
        return None
    try:
        content = picture["bytes"] if picture["bytes"] is not None else Path(picture["path"]).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest() if content else None


def _stem(path: str) -> str:
    name = path.replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"(\.(jpe?g|png|webp|bmp|chip))+$", "", name, flags=re.IGNORECASE).strip()


def _parse(name: str, report: Report) -> tuple[float, float, int, int] | None:
    if name in _MISSING_RACE:
        report.corrected.append(name)
        age, gender, _ = name.split("_")
        return int(age), int(age), int(gender), _MISSING_RACE[name]
    match = _NAME.fullmatch(name)
    return _label(*match.groups()[:3]) if match else None


def _value(value, class_names):
    return class_names[value] if class_names and isinstance(value, int) and 0 <= value < len(class_names) else value


def _label(age, gender, race, races: tuple[str, ...] = RACES) -> tuple[float, float, int, int] | None:
    """Labels as numbers or words → (first year, last year, gender, race), or None if age or gender makes no sense."""
    years, gender = _years(str(age)), _index(gender, GENDERS)
    return (*years, gender, _index(str(race).replace("_", " "), races)) if years and gender >= 0 else None


@functools.lru_cache(maxsize=256)
def _years(age: str) -> tuple[float, float] | None:
    """`31`, `30-39` or `more than 70` → first and last year; None if it is nothing of the kind or out of range."""
    text = age.strip().lower()
    if match := re.fullmatch(r"(\d+)\s*[-–]\s*(\d+)", text):
        first, last = map(float, match.groups())
    elif match := re.fullmatch(r"more than (\d+)|(\d+)\s*\+", text):
        first, last = float(match[1] or match[2]), float(OLDEST)
    else:
        try:
            first = last = float(text)
        except ValueError:
            return None
    return (first, last) if 0 <= first <= last <= OLDEST else None  # NaN fails too


@functools.lru_cache(maxsize=256)
def _index(value, names: tuple[str, ...]) -> int:
    """A label given as index or name (singular or plural, any case) → index, -1 if it is neither."""
    text = str(value).strip().lower()
    if re.fullmatch(r"\d+(\.0)?", text):
        number = int(float(text))
        return number if number < len(names) else -1
    lowered = [name.lower() for name in names]
    return next((i for i, name in enumerate(lowered) if text in (name, name + "s", name[0])), -1)


def _deduplicate(samples: Samples, report: Report) -> Samples:
    groups = defaultdict(list)
    for i, digest in enumerate(samples.sha256):
        groups[digest].append(i)
    keep = []
    dropped = Counter()
    for members in groups.values():
        if len(members) > 1:
            report.duplicate_groups += 1
            report.duplicate_files += len(members) - 1
            conflict = len({(*samples.age_range[i].tolist(), int(samples.gender[i])) for i in members}) > 1
            report.conflicting_groups += conflict
            if conflict:
                dropped["byte-identical pictures whose age or gender disagree"] += len(members)
                continue
            dropped["further copies of a byte-identical picture"] += len(members) - 1
        keep.append(members[0])
    if report.policy == "all":
        return samples
    report.dropped = dict(dropped)
    return samples.take(np.array(sorted(keep), np.int64))


def band_name(low: int, high: int) -> str:
    """`20-29`, `70+`."""
    return f"{low}-{high}" if high < OLDEST else f"{low}+"


def positive(text: str) -> int:
    """An option's value that must be a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def splits_overlap(trained: str | None, protocol: str, splits: Sequence[str]) -> bool:
    """Whether training, or choosing on validation, under the protocol `trained` saw faces of these splits of another.

    A protocol's own splits are apart, and an unknown one may have seen everything. None, no record, is not judged.
    """
    if trained in (None, protocol):
        return False
    if trained not in PROTOCOLS:
        return True
    seen = {*PROTOCOLS[trained]["train"], *PROTOCOLS[trained]["validation"]}
    return any(not seen.isdisjoint(PROTOCOLS[protocol][split]) for split in splits)


def fingerprint(samples: Samples) -> str:
    """Names a set of faces, in whatever layout it came: SHA-256 over the images' own, sorted."""
    return hashlib.sha256("".join(sorted(samples.sha256)).encode()).hexdigest()


def describe(samples: Samples) -> str:
    """One line: how many, of which ages and genders."""
    if not len(samples):
        return "0 faces"
    low, median, high = np.percentile(samples.age, (0, 50, 100))
    if samples.binned:
        low, high = samples.age_range.min(), samples.age_range.max()
    return (
        f"{len(samples)} faces, ages {low:.0f} to {high:.0f} (median {median:.0f}), "
        f"{100 * np.mean(samples.gender):.0f} % female"
    )


def main(arguments: list[str] | None = None) -> int:
    """Report what a source holds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data", description="Report what a UTKFace source holds.")
    parser.add_argument("source", nargs="?", default=DATASET)
    parser.add_argument("--revision", help="branch, tag or commit of a Hub dataset")
    parser.add_argument("--policy", default="clean", choices=POLICIES)
    options = parser.parse_args(arguments)
    try:
        samples, report = load_utkface(options.source, policy=options.policy, revision=options.revision)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    for name, buckets in PROTOCOLS["80/10/10"].items():
        print(f"  {name}: {describe(samples.take(np.isin(samples.bucket, buckets)))}")
    print(json.dumps(report.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
