"""Where a model comes from: the embedded one, a folder, or a Hub repository; verified before it is opened.

A bundle is a folder with `age_gender.json` (the card) and the files it lists with their hashes; the layout
is the same on disk and on the Hub. Knows nothing of what the network computes.
"""

from __future__ import annotations

import hashlib
import json
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1  # of age_gender.json; raised when an older reader would misread a bundle
CARD = "age_gender.json"
MODELS = Path(__file__).resolve().parent / "models"  # the embedded bundles, by name
DEFAULT = "compact"  # the one that serves if none is named
CONNECT_TIMEOUT = 3.5  # seconds to wait for a Hub that does not answer
STALL = 5.0  # seconds without a byte after which a download is given up
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")


class BundleError(RuntimeError):
    """A model cannot be had or must not be used; the message names the file and what to do."""


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
        return {"name": self.card["network"], "source": self.source, "revision": self.revision}


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
        BundleError: it is not there, damaged, of a newer format, or no bundle. Nothing else is tried instead.
    """
    model = model or DEFAULT
    if model in embedded():
        return Bundle(MODELS / model, verify(MODELS / model), "embedded")
    path = Path(model).expanduser()
    if path.is_dir():
        return Bundle(path, verify(path), path.resolve().name)
    match = _HUB_ID.fullmatch(model)
    if path.exists() or not match:
        raise BundleError(
            f"No model at {model}: give a bundle's folder, or a Hub id such as user/name or user/name@revision."
        )
    folder, revision = download(match["repo"], match["revision"], keras=keras)
    return Bundle(folder, verify(folder), match["repo"], revision)


def verify(folder: Path) -> dict:
    """Check a bundle's card and the hash of each file that is there; returns the card.

    Raises:
        BundleError: what is wrong with which file.
    """
    folder = Path(folder)
    card = read_card(folder)
    for name, entry in card["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink():
            raise BundleError(f"{folder / CARD} lists {name}, which lies outside of the bundle.")
        if path.is_file():
            if sha256_of(path) != entry["sha256"]:
                raise BundleError(f"{path} is damaged (its SHA-256 is not the one in {CARD}): get the bundle again.")
        elif name == card["serve"]:
            raise BundleError(f"{path} is missing: get the bundle again.")
    return card


def read_card(folder: Path) -> dict:
    """A bundle's `age_gender.json`, of a format that this reader knows and with all that it must have.

    Raises:
        BundleError: what is wrong with it.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder} is no model bundle: it has no {CARD}.") from None
    except (ValueError, OSError) as error:
        raise BundleError(f"{path} cannot be read ({error}): get the bundle again.") from error
    version = card.get("format") if isinstance(card, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{path} is not the card of a model bundle.")
    if version > FORMAT:
        raise BundleError(
            f"The bundle in {folder} has format {version}, this app reads up to {FORMAT}: update the app."
        )
    try:
        network, crop, served = card["network"], card["crop"], card["serve"]
        hashes = {name: entry["sha256"] for name, entry in card["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} lacks {error}: get the bundle again.") from error
    texts = (network, served, *hashes, *hashes.values())
    if not all(isinstance(text, str) and "\0" not in text for text in texts) or not isinstance(crop, dict):
        raise BundleError(f"{path} is not the card of a model bundle: something in it is of the wrong kind.")
    if served not in hashes:
        raise BundleError(f"{path} names {served} to serve but does not list it: get the bundle again.")
    return card


def download(repo: str, revision: str | None, *, keras: bool = False) -> tuple[Path, str]:
    """The files that serving needs of a Hub repository → their folder in the Hub's cache, and the commit.

    Raises:
        BundleError: no such repository, revision or file, no access, or the Hub does not answer and the cache
            has no copy.
    """
    commit, path = hub_file(repo, CARD, revision)
    card = read_card(path.parent)
    roles = ("keras", "keras-config", "keras-metadata", "keras-weights") if keras else ()
    for name, entry in card["files"].items():
        if name == card["serve"] or entry.get("role") in roles:
            hub_file(repo, name, commit, sha256=entry["sha256"])
    return path.parent, commit


def hub_file(repo: str, filename: str, revision: str | None = None, *, sha256: str | None = None) -> tuple[str, Path]:
    """One file of a Hub model repository, from the Hub or, when that does not answer, from its cache.

    An unreachable Hub costs CONNECT_TIMEOUT, one that falls silent at most STALL seconds more. A file without the
    given hash is fetched once more, past the cache: a download damaged on its way would stay there for good.

    Returns:
        The full commit SHA and the file's path.

    Raises:
        BundleError: as `download`.
    """
    # Imported here: the embedded bundle needs no Hub client.
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub import errors as hub

    where = f"{repo}@{revision}" if revision else repo
    if re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if isinstance(cached, str) and sha256 in (None, sha256_of(Path(cached))):
            return revision, Path(cached)  # a commit never changes: nothing to ask
    try:
        # One bounded question instead of hf_hub_download's retries, which take 23 s on a dead server.
        HfApi().model_info(repo, revision=revision, timeout=CONNECT_TIMEOUT)
        # By the branch's name, not the commit that it is at: so the cache can answer for that name later.
        path = _unless_stalled(hf_hub_download, repo, filename, revision=revision)
        if sha256 not in (None, sha256_of(Path(path))):
            path = _unless_stalled(hf_hub_download, repo, filename, revision=revision, force_download=True)
        return _with_commit(path, filename)
    except hub.GatedRepoError:
        raise BundleError(f"{repo} is gated: accept its terms on the Hub, then log in with `hf auth login`.") from None
    except hub.RevisionNotFoundError:
        raise BundleError(f"{repo} has no revision {revision}: look at its branches, tags and commits.") from None
    except hub.RepositoryNotFoundError:
        raise BundleError(
            f"There is no model {repo} on the Hub, or it is private: check the name, or log in with `hf auth login`."
        ) from None
    except hub.EntryNotFoundError as error:
        if not isinstance(error, hub.LocalEntryNotFoundError):
            raise BundleError(f"{where} is no model bundle: it has no {filename}.") from None
        failure = error
    except Exception as error:  # the client's transport has its own kinds for time-outs and refused connections
        failure = error
    try:
        return _with_commit(hf_hub_download(repo, filename, revision=revision, local_files_only=True), filename)
    except Exception:
        reason = (str(failure).strip() or type(failure).__name__).splitlines()[0][:200]
        raise BundleError(
            f"{filename} of {where} cannot be downloaded ({reason}), and no earlier copy is cached: check the network."
        ) from failure


def _with_commit(path: str, filename: str) -> tuple[str, Path]:
    """The commit of a file in the Hub's cache, …/snapshots/<commit>/<filename>, and its path."""
    cached = Path(path)
    return cached.parts[-1 - len(Path(filename).parts)], cached


def _unless_stalled(download: Callable, *arguments, **options) -> str:
    """What `download` returns; TimeoutError after STALL seconds without a byte.

    The client's own retries add up to minutes. A download that was given up on may still end in the background, and
    the next start then finds it in the cache.
    """
    from huggingface_hub.utils import tqdm

    heard = time.monotonic()

    class Progress(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            nonlocal heard
            heard = time.monotonic()
            return super().update(n)

    answer: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put((download(*arguments, tqdm_class=Progress, etag_timeout=STALL, **options), None))
        except Exception as error:
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            path, error = answer.get(timeout=0.2)
        except queue.Empty:
            if time.monotonic() - heard > STALL:
                raise TimeoutError(f"the Hub has sent nothing for {STALL:.0f} seconds") from None
            continue
        if error:
            raise error
        return path


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
