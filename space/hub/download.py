"""Files of the Hub, downloaded within bounded time and verified by their hash."""

from __future__ import annotations

import hashlib
import queue
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CONNECT_TIMEOUT = 3.5  # seconds to wait for a Hub that does not answer
STALL = 5.0  # seconds without a byte after which a download is given up
CHUNK = 1 << 16  # bytes per progress report


class ModelError(RuntimeError):
    """A network or detector is unavailable or invalid. The message names it and says what to do."""


def hub_file(repo: str, filename: str, revision: str | None = None, *, sha256: str | None = None) -> tuple[str, Path]:
    """One file of a Hub model repository, from the Hub or, when that does not answer, from its cache.

    An unreachable Hub costs CONNECT_TIMEOUT, one that falls silent at most STALL seconds more. A file without the
    given hash is fetched once more, past the cache: a download damaged on its way would stay there for good.

    Returns:
        The full commit SHA and the file's path.

    Raises:
        ModelError: the repository, revision or file doesn't exist, access is denied, or the Hub is unreachable and
            the file isn't cached.
    """
    # Imported here: the embedded bundle needs no Hub client.
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub import errors as hub

    where = f"{repo}@{revision}" if revision else repo
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if isinstance(cached, str) and sha256 in (None, sha256_of(Path(cached))):
            return revision, Path(cached)  # a commit never changes: nothing to ask
    try:
        # One bounded question instead of hf_hub_download's retries, which take 23 s on a dead server.
        HfApi().model_info(repo, revision=revision, timeout=CONNECT_TIMEOUT)
        # By the branch's name, not the commit that it is at: so the cache can answer for that name later.
        path = _download_unless_stalled(hf_hub_download, repo, filename, revision=revision)
        if sha256 not in (None, sha256_of(Path(path))):
            path = _download_unless_stalled(hf_hub_download, repo, filename, revision=revision, force_download=True)
        return _with_commit(path, filename)
    except hub.GatedRepoError:
        raise ModelError(f"{repo} is gated: accept its terms on the Hub, then log in with `hf auth login`.") from None
    except hub.RevisionNotFoundError:
        raise ModelError(f"{repo} has no revision {revision}: check its branches, tags and commits.") from None
    except hub.RepositoryNotFoundError:
        raise ModelError(
            f"The model {repo} doesn't exist on the Hub, or it is private: check the name, or log in with "
            "`hf auth login`."
        ) from None
    except hub.EntryNotFoundError as error:
        if not isinstance(error, hub.LocalEntryNotFoundError):
            raise ModelError(f"{where} has no file {filename}: check the repository's name.") from None
        failure: Exception = error
    except Exception as error:  # the client's transport has its own kinds for time-outs and refused connections
        failure = error
    try:
        return _with_commit(hf_hub_download(repo, filename, revision=revision, local_files_only=True), filename)
    except Exception:
        reason = (str(failure).strip() or type(failure).__name__).splitlines()[0][:200]
        advice = "check the network"
        if isinstance(failure, hub.HfHubHTTPError) and failure.response.status_code == 401:
            advice = "the token is invalid. Run `hf auth login` again, or unset HF_TOKEN"
        elif isinstance(failure, PermissionError):
            advice = "set HF_HUB_CACHE to a folder that you can write to"
        raise ModelError(
            f"{filename} of {where} cannot be downloaded ({reason}), and no earlier copy is cached: {advice}."
        ) from failure


def _with_commit(path: str, filename: str) -> tuple[str, Path]:
    """The commit of a file in the Hub's cache, …/snapshots/<commit>/<filename>, and its path."""
    cached = Path(path)
    return cached.parts[-1 - len(Path(filename).parts)], cached


def _download_unless_stalled(download: Callable, repo: str, filename: str, **options) -> str:
    """What `download` returns; TimeoutError after STALL seconds without a byte.

    The client's own retries add up to minutes. After a timeout, the download may still end in the background, and the
    next start finds the file in the cache. Data that another process downloads from the same repository also counts,
    because the client waits for that process.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import tqdm

    # The client reports progress once per chunk. With its default of 10 MB, a slow download would look stalled.
    constants.DOWNLOAD_CHUNK_SIZE = min(constants.DOWNLOAD_CHUNK_SIZE, CHUNK)
    heard, seen = time.monotonic(), None
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"), "blobs")

    class Progress(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            nonlocal heard
            heard = time.monotonic()
            return super().update(n)

    answer: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put((download(repo, filename, tqdm_class=Progress, etag_timeout=STALL, **options), None))
        except Exception as error:
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            path, error = answer.get(timeout=0.2)
        except queue.Empty:
            if (sizes := _incomplete(blobs)) != seen:
                heard, seen = time.monotonic(), sizes
            if time.monotonic() - heard > STALL:
                raise TimeoutError(f"the Hub sent no data for {STALL:.0f} seconds") from None
            continue
        if error:
            raise error
        return path


def _incomplete(blobs: Path) -> dict[str, int]:
    """The sizes in bytes of the incomplete files in a folder of the Hub's cache."""
    sizes = {}
    for part in blobs.glob("*.incomplete"):
        with suppress(OSError):  # the download has ended
            sizes[part.name] = part.stat().st_size
    return sizes


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
