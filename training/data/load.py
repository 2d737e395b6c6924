"""UTKFace and FairFace through the `datasets` library: samples with labels, hash-bucket splits, decoded pictures.

Takes a Hub dataset, a folder, a tar or parquet files, in every common UTKFace layout, and
finds labels by columns or, failing that, by file name (age_gender_race_datetime). Ages may be years or, as in
FairFace, bins of years. Splits depend only on a picture's bytes, so they are the same in every layout that keeps
the files.

Knows nothing of networks or training.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from training.data.labels import (
    LabelError,
    class_name,
    is_number,
    is_utkface,
    parse_label,
    parse_name,
    race_names,
    sha256_of_image,
    stem,
    unreadable,
)
from training.data.report import Report
from training.data.samples import FAIRFACE_RACES, GENDERS, Samples
from training.data.sources import DATASET, DataError, PictureFiles, commit_of, open_source, without_revision

OLDEST_INDEX = 8  # of FairFace's age groups
MOST_REASONS = 20  # that rows are rejected for, by value


def load_samples(source: str | os.PathLike = DATASET, *, policy: str = "clean") -> tuple[Samples, Report]:
    """Read labeled faces: UTKFace's crops, or photos such as FairFace's.

    Args:
        source: a Hub dataset id with an optional @revision, a folder (of pictures, tars or parquet files), a tar, a
            parquet file, or a glob pattern of such files.
        policy: "clean" keeps one of each group of byte-identical files and leaves out groups whose age or
            gender disagree; "all" keeps every file.

    Returns:
        The samples and a report of what was read, rejected, corrected and dropped, and why.

    Raises:
        DataError: nothing there, or nothing usable.
    """
    report = Report(without_revision(str(source)), policy)
    dataset = open_source(str(source))
    report.revision = commit_of(dataset)
    samples = _read(dataset, report, PictureFiles(str(source)))
    samples = _deduplicate(samples, report)
    report.used = len(samples)
    report.collection, report.similar = _collection(str(source), samples)
    if report.collection is None and any(parse_name(str(name), Report("", "")) for name in samples.name):
        report.notes.append(
            "the file names have UTKFace's layout, but not its timestamps. If these faces are UTKFace's, add utkface "
            "to the folder's name: its license then applies"
        )
    female = float(np.mean(samples.gender == 1)) if len(samples) else 0.5
    if not 0.1 <= female <= 0.9:
        report.notes.append(f"{100 * max(female, 1 - female):.0f}% of the faces are {GENDERS[female > 0.5]}")
    if not len(samples):
        raise DataError(f"No usable image in {source}.\n{report}")
    return samples, report


def _collection(source: str, samples: Samples) -> tuple[str | None, str | None]:
    """The collection that faces come from, which decides their license, and the one that they may come from.

    As far as names and labels show it. A copy of FairFace in a folder of another name has nothing but its labels, but
    other faces may have such labels, and a folder of that name may hold others.
    """
    if "utkface" in source.lower() or any(is_utkface(str(name)) for name in samples.name):
        return "UTKFace", "UTKFace"
    signs = [set(samples.races) == set(FAIRFACE_RACES) and samples.binned, "fairface" in source.lower()]
    return "FairFace" if all(signs) else None, "FairFace" if any(signs) else None


def load_crops(source: str | os.PathLike, split: str) -> Samples:
    """One split of UTKFace's crops; DataError for photographs such as FairFace's, whose ages are ranges."""
    samples, _ = load_samples(source)
    if samples.binned:
        raise DataError(f"{source} has photos with age ranges, but UTKFace's face crops are needed.")
    return samples.split(split)


def _read(dataset, report: Report, own_picture: PictureFiles) -> Samples:
    """Rows → samples; every row that can't be used goes into the report."""
    report.rows = len(dataset)
    labels = _LabelReader(dataset, report)
    names, rows, digests, encoded = [], [], [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in dataset.select_columns(labels.columns).with_format("arrow").iter(batch_size=2000):
            batch = batch.to_pydict()
            batch["image"] = [picture if picture and own_picture(picture) else None for picture in batch["image"]]
            digest = pool.map(sha256_of_image, batch["image"], chunksize=100)
            for i, (picture, sha) in enumerate(zip(batch["image"], digest, strict=True)):
                name, label = labels.read(batch, i, readable=sha is not None)
                if label is not None:
                    names.append(name)
                    rows.append(label)
                    digests.append(sha)
                    encoded.append(picture["bytes"] if picture["bytes"] is not None else picture["path"])
    ranges = sum(label[0] < label[1] for label in rows)
    if 0 < ranges < len(rows):
        kind = "as bands" if ranges > len(rows) / 2 else "in years, from the nearest end of a range"
        report.notes.append(f"{ranges} of {len(rows)} ages are ranges, the others exact: errors are measured {kind}")
    if ranges == 0 and rows and max(label[1] for label in rows) <= OLDEST_INDEX:
        report.notes.append(
            f"all ages are {OLDEST_INDEX} or less: if these are age group indices, replace them with the group names"
        )
    if labels.numbers:
        report.notes.append("gender: 0 is read as male, 1 as female")
    first, last, gender, race = np.array(rows, np.float32).reshape(-1, 4).T
    return Samples(
        name=np.array(names, str),
        age_range=np.stack([first, last], axis=1),
        gender=gender.astype(np.int8),
        race=race.astype(np.int8),
        sha256=np.array(digests, str),
        encoded=tuple(encoded),
        races=labels.races,
    )


class _LabelReader:
    """Finds a row's label: in the columns age, gender and race if there are some, else in the file name."""

    def __init__(self, dataset, report: Report):
        columns = {name.lower(): name for name in dataset.column_names}
        if "sex" in columns:
            columns.setdefault("gender", columns["sex"])
        race = columns.get("race") or columns.get("ethnicity")
        self._report, self._row = report, 0
        self.numbers = False  # whether genders are given as numbers
        self._key = columns.get("__key__")
        self._labels = (columns["age"], columns["gender"], race) if {"age", "gender"} <= set(columns) else ()
        self.columns = ["image", *filter(None, (self._key, *self._labels))]
        self._classes = {c: getattr(dataset.features[c], "names", None) for c in self.columns}
        if "service_test" in columns and self._labels and not self._classes[self._labels[0]]:
            integers = getattr(dataset.features[self._labels[0]], "dtype", "").startswith("int")
            if integers:  # a copy of FairFace's files without their metadata
                raise DataError(
                    f"{report.source} has FairFace's columns but not the age group names: use the original files, "
                    "which include them."
                )
        texts = race and getattr(dataset.features[race], "dtype", "") in ("string", "large_string")
        self.races = race_names(sorted(filter(None, dataset.unique(race))) if texts else self._classes.get(race))

    def read(self, batch: dict, i: int, *, readable: bool) -> tuple[str, tuple | None]:
        """Name and label of row `i` of a batch; None, and a line in the report, if it can't be used."""
        key = batch[self._key][i] if self._key else (batch["image"][i] or {}).get("path")
        name = stem(key) if key else f"row {self._row}"
        self._row += 1
        if not readable:
            label, reason = None, "missing or unreadable image"
        elif self._labels:
            age, gender, race = (class_name(batch[c][i], self._classes[c]) if c else None for c in self._labels)
            self.numbers |= is_number(gender)
            try:
                label = parse_label(age, gender, race, self.races)
            except LabelError as error:
                raise DataError(f"{self._report.source}: {name} (row {self._row}) has {error}.") from None
            reason = "" if label else self._bounded(unreadable(age, gender))
        else:
            label, reason = parse_name(name, self._report), "the file name isn't age_gender_race_datetime"
        if label is None:
            self._report.rejected[reason].append(name)
        return name, label

    def _bounded(self, reason: str) -> str:
        """The reason, or a common one after many: in a column of dates, each row has its own."""
        found = self._report.rejected
        if reason in found or len(found) < MOST_REASONS:
            return reason
        return "other ages or genders are missing or can't be read"


def _deduplicate(samples: Samples, report: Report) -> Samples:
    groups = defaultdict(list)
    for i, digest in enumerate(samples.sha256):
        groups[digest].append(i)
    keep = []
    dropped: Counter[str] = Counter()
    for members in groups.values():
        if len(members) > 1:
            report.duplicate_groups += 1
            report.duplicate_files += len(members) - 1
            conflict = len({(*samples.age_range[i].tolist(), int(samples.gender[i])) for i in members}) > 1
            report.conflicting_groups += conflict
            if conflict:
                dropped["byte-identical images with contradictory age or gender"] += len(members)
                continue
            dropped["byte-identical duplicates"] += len(members) - 1
        keep.append(members[0])
    if report.policy == "all":
        return samples
    report.dropped = dict(dropped)
    return samples.take(np.array(sorted(keep), np.int64))
