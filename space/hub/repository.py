"""The files of this repository that a Space is made of, and the card that it gets."""

from __future__ import annotations

import subprocess
from pathlib import Path

from huggingface_hub import SpaceCard

from .bundle import Bundle
from .card import learned, license_of
from .upload import HubError

ROOT = Path(__file__).resolve().parent.parent.parent
THUMBNAIL = "thumbnail.jpg"  # what the Hub and other sites show of a Space


def own_files(folder: str) -> list[Path]:
    """The regular files below a folder of the repository that git tracks: nothing else that lies there is published.

    In a downloaded archive, without git: all files that are neither hidden nor compiled. Links are left out.

    Raises:
        HubError: this is a checkout, but git can't list it, or tracks nothing of it.
    """
    paths = [ROOT / name for name in _listed(folder)] if _is_checkout() else sorted((ROOT / folder).rglob("*"))
    if not paths:
        raise HubError(f"git tracks no file of {ROOT / folder}, so nothing can be published: commit the kit first.")
    return [path for path in paths if path.is_file() and not path.is_symlink() and not _is_hidden(path)]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)


def untracked(*folders: str) -> list[str]:
    """The names of files below these folders of a checkout that git neither tracks nor ignores."""
    return _listed("--others", "--exclude-standard", *folders) if _is_checkout() else []


def _is_checkout() -> bool:
    return any((folder / ".git").exists() for folder in (ROOT, *ROOT.parents))  # a file in a worktree


def _listed(*arguments: str) -> list[str]:
    command = ["git", "ls-files", "-z", *arguments]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip()
        raise HubError(f"git can't list the files of {ROOT}, which decides what is published: {reason}") from error
    return sorted(filter(None, listed.stdout.decode(errors="surrogateescape").split("\0")))


def space_card(path: Path, space: str, bundles: list[Bundle]) -> SpaceCard:
    """A Space's card from the one at `path`, with the licenses and datasets of the models that it serves.

    Args:
        space: `user/name`.
    """
    card, licenses = SpaceCard.load(path), [license_of(bundle.card) for bundle in bundles]
    card.data.models = [*(bundle.source for bundle in bundles if bundle.revision), *card.data.models]
    datasets = [id for bundle in bundles for id in learned(bundle.card.get("provenance") or {})]
    card.data.datasets = list(dict.fromkeys(datasets)) or None
    names = dict.fromkeys(name for name, _ in licenses)
    card.data.license, card.data.license_name = "other", f"mit-code-{'-'.join(names)}-weights"
    links = [entry["link"] for bundle in bundles if (entry := bundle.card.get("license") or {}).get("link")]
    card.data.license_link = links[0] if links else None
    card.data.thumbnail = f"https://huggingface.co/spaces/{space}/resolve/main/{THUMBNAIL}"
    sentences = {
        sentence: ", ".join(b.card["name"] for b in bundles if license_of(b.card)[1] == sentence)
        for _, sentence in licenses
    }
    text = " ".join(
        sentence if len(sentences) == 1 else f"{models}: {sentence}" for sentence, models in sentences.items()
    )
    card.text = card.text.replace("USER/NAME", space).replace("{LICENSE}", text)
    return card
