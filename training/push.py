"""Push a bundle to the Hub in one atomic commit. Access is checked before training; errors say what to do.

    python -m training.push runs/compact/bundle --repo-id you/age-gender-compact

Knows nothing of networks or data: a bundle is uploaded as it is on disk, with a model card that names its repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from space.console import command
from space.hub.bundle import verify
from space.hub.card import CARD
from space.hub.download import ModelError
from space.hub.upload import PUBLIC, HubError, check_write_access, to_hub_error, with_retries
from space.text import command_line
from training import programs

_EMPTY = {".gitattributes", "README.md", "LICENSE"}  # of a repository without a model, as the Hub creates it


@dataclass(frozen=True)
class Target:
    """Where a bundle is pushed to."""

    repo_id: str  # user/name
    private: bool = False
    revision: str | None = None  # branch, created if needed; None for main
    pull_request: bool = False

    def options(self) -> list[str]:
        """The same as words of a command line."""
        words = ["--repo-id", self.repo_id]
        words += ["--private"] if self.private else []
        words += ["--revision", self.revision] if self.revision else []
        return words + (["--pr"] if self.pull_request else [])


def check(target: Target) -> Target:
    """Make sure, before training, that a push will be able to work; changes nothing on the Hub.

    Args:
        target: `repo_id` may lack its user: the token's is put in.

    Raises:
        HubError: no token, an invalid or read-only token, an invalid name, no write access, a repository with another
            model or a public one that was to be private, or no connection.
    """
    target = replace(target, repo_id=check_write_access(target.repo_id, others=target.pull_request))
    api = HfApi()
    try:
        try:
            info = api.model_info(target.repo_id, revision=target.revision)
        except RevisionNotFoundError:  # a new branch begins with the files of main
            info = api.model_info(target.repo_id)
    except RepositoryNotFoundError:
        return target
    except Exception as error:
        raise to_hub_error(error, target.repo_id) from error
    if target.private and not info.private:
        raise HubError(PUBLIC.format(target.repo_id))
    names = {file.rfilename for file in info.siblings or ()}
    if not target.pull_request and CARD not in names and names - _EMPTY:
        raise HubError(f"{target.repo_id} contains another model: choose another name with --repo-id.")
    return target


def push(folder: Path, target: Target) -> CommitInfo:
    """Upload a bundle in one commit; what the repository has already is not sent again.

    Files that the bundle pushed before listed and this one does not are deleted.

    Raises:
        ModelError: the folder isn't a complete bundle.
        HubError: what the Hub said and what to do; the folder is as it was.
    """
    card = verify(folder)
    missing = [name for name in card["files"] if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} is missing {', '.join(missing)}, which its {CARD} lists: export it again.")
    if not (folder / "README.md").is_file():
        raise ModelError(f"{folder} has no README.md, the model card: export it again.")
    target = check(target)
    api = HfApi()
    try:
        contents = _contents(folder, card, target.repo_id)
        if not target.pull_request:
            api.create_repo(target.repo_id, private=target.private or None, exist_ok=True)
            if target.revision:
                api.create_branch(target.repo_id, branch=target.revision, exist_ok=True)
        return _commit(api, target, contents, card)
    except Exception as error:
        raise to_hub_error(error, target.repo_id) from error


def _commit(api: HfApi, target: Target, contents: dict[str, str | bytes], card: dict) -> CommitInfo:
    gender = f"gender {100 * card['metrics']['gender_accuracy']['value']:.1f}%"
    mae = card["metrics"].get("age_mae")
    years = f"age MAE {mae['value']:.2f} years, " if mae else ""
    title = f"{card['name']}: {years}{gender}"

    def attempt():
        head = api.model_info(target.repo_id, revision=target.revision).sha
        gone = _listed(api, target.repo_id, head) - set(contents)
        return api.create_commit(
            target.repo_id,
            [CommitOperationAdd(name, content) for name, content in contents.items()]
            + [CommitOperationDelete(name) for name in sorted(gone)],
            commit_message=title,
            revision=target.revision,
            create_pr=target.pull_request,
            parent_commit=head,
        )

    return with_retries(attempt)


def _contents(folder: Path, card: dict, repo_id: str) -> dict[str, str | bytes]:
    """The repository's target content: paths of files, and the two files that name the repository as bytes."""
    files = dict(card["files"])
    contents: dict[str, str | bytes] = {name: str(folder / name) for name in files}
    # Embedded bundles are served by this repository, which needs no copy of these.
    own = folder / programs.CONFIG
    for name, content in programs.files(card, own.read_bytes() if own.is_file() else None).items():
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        files[name] = entry | {"role": "keras-config" if name == programs.CONFIG else "document"}
        contents[name] = content
    readme = _named((folder / "README.md").read_text(encoding="utf-8"), repo_id).encode()
    files["README.md"] = {
        "role": "document",
        **files.get("README.md", {}),
        "sha256": hashlib.sha256(readme).hexdigest(),
        "bytes": len(readme),
    }
    published = {**card, "files": files}
    return {**contents, "README.md": readme, CARD: (json.dumps(published, indent=1) + "\n").encode()}


def _named(readme: str, repo_id: str) -> str:
    """A model card with the name of its repository."""
    return readme.replace("USER/NAME", repo_id).replace("- name: NAME\n", f"- name: {repo_id.split('/')[-1]}\n")


def _listed(api: HfApi, repo_id: str, head: str) -> set[str]:
    """The files that the repository's present bundle lists; none where there is no bundle yet."""
    try:
        path = api.hf_hub_download(repo_id, CARD, revision=head)
        present = set(api.list_repo_files(repo_id, revision=head))
        return present & set(json.loads(Path(path).read_text(encoding="utf-8"))["files"])
    except (RemoteEntryNotFoundError, ValueError, KeyError, TypeError):
        return set()


def url(pushed: CommitInfo) -> str:
    """Where the pull request or the commit of a push can be seen."""
    return pushed.pr_url or pushed.commit_url


def push_command(folder: Path, target: Target) -> str:
    """The command that pushes a bundle later."""
    return command_line("python", "-m", "training.push", folder, *target.options())


@command(ModelError, HubError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.push", description="Push a bundle to the Hub.")
    parser.add_argument("folder", type=Path, help="the bundle folder")
    parser.add_argument(
        "--repo-id",
        metavar="USER/NAME",
        help="model repository on the Hub (default: age-gender-NAME, with the model's name, under your username)",
    )
    parser.add_argument("--private", action="store_true", help="create the repository as private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to, created if needed (default: main)")
    parser.add_argument("--pr", action="store_true", help="open a pull request instead of committing")
    options = parser.parse_args(arguments)
    repo_id = options.repo_id or f"age-gender-{verify(options.folder)['name']}"
    target = Target(repo_id, options.private, options.revision, options.pr)
    done = push(options.folder, target)
    if target.pull_request and not done.pr_url:
        print("The repository already has these files: no pull request was opened.")
    else:
        print(f"Pushed: {url(done)}\nCommit: {done.oid}")


if __name__ == "__main__":
    sys.exit(main())
