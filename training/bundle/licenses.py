"""Under which license the weights of a model may be used: what it and all its ancestors learned from decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class License:
    """A license of weights, as the card and the pages name it."""

    id: str  # the Hub's
    name: str | None  # of a license without an id of its own
    link: str | None
    summary: str  # one sentence


UTKFACE = License(
    "other",
    "utkface-non-commercial-research",
    "https://susanqq.github.io/UTKFace/",
    "The weights are for non-commercial research only, as UTKFace is.",
)
FAIRFACE = License(
    "cc-by-4.0",
    None,
    "https://creativecommons.org/licenses/by/4.0/",
    "Anyone may use the weights, also commercially, under CC BY 4.0 with attribution.",
)
UNKNOWN = License(
    "other",
    "license-of-the-training-data",
    None,
    "The weights may be used as far as the licenses of their training data allow.",
)


def of(provenance: dict) -> dict:
    """The license of a bundle with this provenance, as plain values for its card."""
    found = set(collections(provenance))
    license = UTKFACE if "UTKFace" in found else FAIRFACE if found == {"FairFace"} else UNKNOWN
    return {"id": license.id, "name": license.name, "link": license.link, "summary": license.summary}


def collections(record: dict) -> Iterator[str | None]:
    """The collections that weights, and all their ancestors, learned from; None for other or unknown faces.

    Args:
        record: the provenance of a bundle, or a parent of it.
    """
    if record["datasets"] is None:
        yield None
    elif record["epochs_run"] != 0:
        yield from (dataset["collection"] for dataset in record["datasets"] if dataset["learned"])
    for parent in record["parents"]:
        yield from collections(parent)
