"""The license of weights follows what they and all their ancestors learned from."""

from __future__ import annotations

import pytest

from training.bundle import licenses
from training.parents import IMAGENET, UNKNOWN


def record(collection: str | None, *parents: dict) -> dict:
    datasets = [
        {"dataset": "x", "collection": collection, "learned": True},
        {"dataset": "y", "collection": "UTKFace", "learned": False},  # only tested on
    ]
    return {"datasets": datasets, "protocol": "80/10/10", "parents": list(parents)}


@pytest.mark.parametrize(
    ("provenance", "license"),
    [
        (record("FairFace"), licenses.FAIRFACE),
        (record("UTKFace"), licenses.UTKFACE),
        (record(None), licenses.UNKNOWN),
        (record("FairFace", record("FairFace", record("FairFace"))), licenses.FAIRFACE),
        (record("FairFace", record("UTKFace")), licenses.UTKFACE),
        (record("FairFace", record("FairFace", record("UTKFace"))), licenses.UTKFACE),
        (record("FairFace", record("FairFace"), record("UTKFace")), licenses.UTKFACE),
        (record(None, record("UTKFace")), licenses.UTKFACE),
        (record("FairFace", record(None)), licenses.UNKNOWN),
        (record("FairFace", UNKNOWN), licenses.UNKNOWN),
        (record("FairFace", IMAGENET), licenses.UNKNOWN),
    ],
)
def test_a_free_license_needs_fairface_alone_in_the_whole_chain(provenance, license):
    assert licenses.of(provenance) == license
