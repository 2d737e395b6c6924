"""The license of a model's weights. The datasets of the model and of all its ancestors determine it."""

from __future__ import annotations

from collections.abc import Iterator

from training.leakage import generations

UTKFACE = {
    "id": "other",
    "name": "utkface-non-commercial-research",
    "link": "https://susanqq.github.io/UTKFace/",
}
FAIRFACE = {"id": "cc-by-4.0", "name": None, "link": None}
UNKNOWN = {"id": "other", "name": "license-of-the-training-data", "link": None}


def of(provenance: dict) -> dict:
    """The license of a bundle with this provenance, for its card: id, name and link, as the Hub names them."""
    found = set(collections(provenance))
    return UTKFACE if "UTKFace" in found else FAIRFACE if found == {"FairFace"} else UNKNOWN


def collections(record: dict) -> Iterator[str | None]:
    """The collections that weights, and all their ancestors, learned from; None for other or unknown faces.

    Args:
        record: the provenance of a bundle, or a parent of it.
    """
    for entry in generations(record):
        if entry["datasets"] is None:
            yield None
        else:  # also if nothing was trained: the calibration comes from the run's datasets
            yield from (dataset["collection"] for dataset in entry["datasets"] if dataset["learned"])
