"""Where a model comes from: the embedded one, a folder, or a Hub repository; verified before it is opened.

A bundle is a folder with `age_gender.json` (the card) and the files it lists with their hashes; the layout
is the same on disk and on the Hub. Knows nothing of what the network computes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .card import CARD, license_of, read_card
from .download import ModelError, hub_file, sha256_of

MODELS = Path(__file__).resolve().parent.parent / "models"  # the embedded bundles, by name
DEFAULT = "compact"  # the one that serves if none is named
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this disk."""

    folder: Path
    card: dict  # age_gender.json
    source: str  # "embedded", a folder's name (visitors see it, so not its path), or the Hub id
    revision: str | None = None  # full commit SHA, for the Hub

    @property
    def model_path(self) -> Path:
        """The ONNX file to serve."""
        return self.folder / self.card["serve"]

    def as_dict(self) -> dict:
        """What the API says about the model."""
        return {
            "name": self.card["name"],
            "source": self.source,
            "revision": self.revision,
            "license": license_of(self.card)[0],
        }


def embedded() -> list[str]:
    """The names of the embedded bundles, the default first."""
    names = sorted(path.parent.name for path in MODELS.glob(f"*/{CARD}"))
    return sorted(names, key=lambda name: name != DEFAULT)


def open_bundle(model: str | None = None, *, keras: bool = False) -> Bundle:
    """Find and verify a bundle.

    Args:
        model: the name of an embedded bundle ("compact"), a folder, a Hub id `user/name[@revision]` (branch, tag or
            commit), or None for the default embedded one.
        keras: from the Hub, also download the Keras weights.

    Raises:
        ModelError: the model is missing, damaged, in a newer format, or not a bundle. There is no fallback.
    """
    model = model or DEFAULT
    if model in embedded():
        return Bundle(MODELS / model, verify(MODELS / model), "embedded")
    path = Path(os.path.expanduser(model))
    if path.is_dir():
        return Bundle(path, verify(path), path.resolve().name)
    if not (match := on_hub(model)):
        raise ModelError(
            f"No model at {model}: use {', '.join(embedded())}, a bundle folder, or a Hub id such as user/name."
        )
    folder, revision = download(match["repo"], match["revision"], keras=keras)
    return Bundle(folder, verify(folder), match["repo"], revision)


def on_hub(model: str) -> re.Match | None:
    """The "repo" and "revision" of a Hub id; None for what lies on this disk, and for other names."""
    return None if os.path.exists(model) else _HUB_ID.fullmatch(model)


def verify(folder: Path) -> dict:
    """Check a bundle's card and the hash of each file that is there; returns the card.

    Raises:
        ModelError: the card is invalid, or a file is missing or damaged; the message names it.
    """
    card = read_card(folder)
    for name, entry in card["files"].items():
        path = folder / name
        if path.is_file():
            if sha256_of(path) != entry["sha256"]:
                raise ModelError(f"{path} is damaged (its SHA-256 differs from {CARD}): download or export it again.")
        elif name == card["serve"]:
            raise ModelError(f"{path} is missing: download or export the bundle again.")
    return card


def download(repo: str, revision: str | None, *, keras: bool = False) -> tuple[Path, str]:
    """The files that serving needs of a Hub repository → their folder in the Hub's cache, and the commit.

    Raises:
        ModelError: the repository, revision or file doesn't exist, access is denied, or the Hub is unreachable and
            the file isn't cached.
    """
    commit, path = hub_file(repo, CARD, revision)
    try:
        card = read_card(path.parent)
    except ModelError:  # perhaps it was damaged in the cache: fetched once more
        for copy in (path.resolve(), path):
            copy.unlink(missing_ok=True)
        commit, path = hub_file(repo, CARD, revision or commit)
        card = read_card(path.parent)
    for name in needed(card, keras=keras):
        hub_file(repo, name, commit, sha256=card["files"][name]["sha256"])
    return path.parent, commit


def needed(card: dict, *, keras: bool = False) -> list[str]:
    """The files that serving downloads besides the card, or also those that Keras loads.

    These are the network, and the `config.json` by which the Hub counts downloads of Keras models.
    """
    roles = {"keras-config", *(("keras", "keras-metadata", "keras-weights") if keras else ())}
    return [name for name, entry in card["files"].items() if name == card["serve"] or entry.get("role") in roles]
