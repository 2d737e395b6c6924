"""Whether a model, or one of its ancestors, may have learned from the faces that it is measured on.

Splits are by content hash. So a protocol keeps them apart in one copy of a dataset, whoever trains. Another copy has
other bytes, and with them other splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from training.data.faces import Faces
from training.data.report import Report
from training.data.samples import PROTOCOLS, SPLITS, Samples, dataset_hash
from training.data.sources import DataError
from training.parents import Parent, is_whole


@dataclass(frozen=True)
class Measured:
    """Faces that a model is measured on: a split of a dataset, or some of its faces."""

    report: Report  # of the dataset
    protocol: str
    split: str  # one of SPLITS, or "all"
    sha256: str | None = None  # `dataset_hash` of the split, unless only some of its faces are used

    @classmethod
    def of(cls, report: Report, samples: Samples, protocol: str, split: str, limit: int | None) -> Measured:
        """These samples of a dataset."""
        return cls(report, protocol, split, dataset_hash(samples) if is_whole(limit, report.policy) else None)


@dataclass(frozen=True)
class Doubt:
    """Why a model may have learned from faces."""

    reason: str  # completes "the model, or one of its parent models, …"
    protocol: str | None = None  # its own, if it certainly has


def generations(record: Mapping) -> Iterator[Mapping]:
    """A model's record, as `Parent.as_dict` returns it, and those of all its ancestors."""
    yield record
    for parent in record.get("parents") or ():
        yield from generations(parent)


def doubt(record: Mapping, measured: Measured) -> Doubt | None:
    """Why a model with this record may have learned from these faces; None if it hasn't."""
    found = [one for entry in generations(record) if (one := _of_one(entry, measured))]
    return next((one for one in found if one.protocol), found[0] if found else None)


def _of_one(record: Mapping, measured: Measured) -> Doubt | None:
    if record.get("datasets") is None or record.get("protocol") is None:
        return Doubt("has no training record")
    report, protocol = measured.report, record["protocol"]
    # A model may have learned from any faces if their collection is unknown.
    collection = report.collection or report.similar
    shared = [d for d in record["datasets"] if d.get("learned", True) and d.get("collection") in (None, collection)]
    if not shared or not protocol:  # ImageNet has none
        return None
    if measured.split not in SPLITS[1:]:
        return Doubt("may have learned from these faces")
    if _overlaps(protocol, measured):
        reason = f"was trained with the split protocol {protocol}, whose training split includes {measured.split} faces"
        return Doubt(f"{reason} of {measured.protocol}", protocol if report.collection == collection else None)
    copies = [d for d in shared if d.get("collection")]
    same_splits = protocol == measured.protocol
    if not all(_same_copy(d, measured, same_splits=same_splits) for d in copies):
        return Doubt(f"learned from another copy of {collection}, which is split differently")
    seen = max((d.get("copies") or {}).get(measured.split, 0) for d in shared)
    if seen and same_splits:
        return Doubt(f"learned from re-encoded copies of {seen} {measured.split} faces of {collection}")
    return None


def _overlaps(trained: str, measured: Measured) -> bool:
    """Whether training, or choosing on validation, under the protocol `trained` saw faces of a split of another one.

    A protocol's own splits are apart, and an unknown one may have seen everything.
    """
    if trained == measured.protocol:
        return False
    if trained not in PROTOCOLS:
        return True
    seen = {*PROTOCOLS[trained]["train"], *PROTOCOLS[trained]["validation"]}
    return not seen.isdisjoint(PROTOCOLS[measured.protocol][measured.split])


def _same_copy(dataset: Mapping, measured: Measured, *, same_splits: bool) -> bool:
    """Whether a dataset of a record has the same files, as far as the record tells."""
    digest = (dataset.get("held_out") or {}).get(measured.split)
    if digest and measured.sha256 and same_splits:
        return digest == measured.sha256
    return dataset.get("rows") in (None, measured.report.rows)


def check(parents: Sequence[Parent], faces: Mapping[str, Sequence[Faces]], protocol: str, limit: int | None) -> None:
    """Warn of faces that a run validates or tests with and a parent may have learned from.

    Raises:
        DataError: a parent has certainly learned from some.
    """
    told = set()
    for parent in parents:
        for split in SPLITS[1:]:
            for part in faces[split]:
                found = doubt(parent.as_dict(), Measured.of(part.report, part.samples, protocol, split, limit))
                if found is None:
                    continue
                text = f"--{parent.role} {parent.model}, or one of its parent models, {found.reason}."
                if found.protocol:
                    raise DataError(f"{text} Set protocol = {found.protocol!r} in the recipe, or choose another model.")
                if text not in told:
                    told.add(text)
                    print(f"warning: {text} The results may be too optimistic.")
