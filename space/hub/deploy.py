"""Publish the app as a Hugging Face Space: one atomic commit, the model pinned to a commit.

    python -m space.hub.deploy --space you/age-gender --model you/age-gender-compact --wait
    python -m space.hub.deploy --space you/age-gender --dry-run
    python -m space.hub.deploy --static --space you/age-gender-live
    python -m space.hub.deploy --static --out site

Without --model the Space serves the default embedded bundle. A static Space, which runs in visitors' browsers, offers
all of them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from ..console import command
from ..text import command_line, counted, missing_package, some_of

try:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    from ..web import modules
    from . import static
    from .bundle import Bundle, embedded, needed, on_hub, open_bundle
    from .card import CARD
    from .download import ModelError, hub_file
    from .repository import ROOT, THUMBNAIL, own_files, space_card, untracked
    from .static import Files
    from .upload import PUBLIC, HubError, check_write_access, is_denied, to_hub_error, with_retries
    from .wait import wait
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing_package(missing)}")

_UNPAID = (
    "The Hub requires a paid plan (402): creating a Gradio Space on CPU needs PRO, Team or Enterprise. Subscribe at "
    "huggingface.co/pricing, use --hardware zero-a10g (free accounts can host two such Spaces), or specify an existing "
    "Space with --space."
)
# Remote files that a deployment deletes unless it uploads them.
_OURS = {
    "gradio": re.compile(r"space/|app\.py$"),
    "static": re.compile(r"models/[\w.-]+/(model\.onnx|age_gender\.json)$|ort/ort[\w.-]+$"),
}
# A file of every app, and one that only this kit's has.
_APP = {"gradio": ("app.py", "space/analyzer.py"), "static": ("index.html", "kit.json")}
# What the app itself has no use for.
_TOOLS = (
    "space/bench/",
    "space/hub/deploy.py",
    "space/hub/repository.py",
    "space/hub/static.py",
    "space/hub/wait.py",
    "space/hub/upload.py",
    "space/BENCHMARKS.md",
)


def space_files(space: str, bundle: Bundle, *, preload: bool = True, mcp: bool = False) -> Files:
    """What the Space's repository holds: path → file or bytes.

    The card and the requirements lie at the root, where Spaces look for them. Only what serving the chosen model needs
    goes up: nothing of training/ or tests/, no tools, and one embedded bundle at most, with one network.

    Args:
        space: `user/name`, for the card.
        bundle: the model to serve.
        preload: let the build download a Hub model, not the start.
    """
    card = space_card(ROOT / "space" / "README.md", space, [bundle])
    if bundle.revision and preload:  # baked into the image: the Space then starts without the network's help
        names = [CARD, *needed(bundle.card)]
        card.data["preload_from_hub"] = [f"{bundle.source} {','.join(names)} {bundle.revision}"]
    files: Files = {
        "README.md": str(card).encode(),
        THUMBNAIL: ROOT / ".github" / "photo.jpg",
        "requirements.txt": _requirements(mcp),
        "app.py": ROOT / "app.py",
        "LICENSE": ROOT / "LICENSE",
    }
    at_root = ("space/README.md", "space/requirements.txt")
    own = {path.relative_to(ROOT).as_posix(): path for path in own_files("space")}
    files |= {name: path for name, path in own.items() if not name.startswith((*_TOOLS, *at_root, "space/models/"))}
    files |= {path.relative_to(ROOT).as_posix(): path for path in modules.FILES}
    if not bundle.revision:
        for name, entry in bundle.card["files"].items():
            if name == bundle.card["serve"] or not entry["role"].startswith("onnx"):
                files[f"space/models/{bundle.folder.name}/{name}"] = bundle.folder / name
        files[f"space/models/{bundle.folder.name}/{CARD}"] = bundle.folder / CARD
    return files


def _requirements(mcp: bool) -> bytes:
    text = (ROOT / "space" / "requirements.txt").read_text(encoding="utf-8")
    return (text.replace("gradio~=", "gradio[mcp]~=") if mcp else text).encode()


def deploy(
    space: str,
    *,
    model: str | None = None,
    hardware: str | None = None,
    private: bool = False,
    mcp: bool = False,
    dry_run: bool = False,
) -> str:
    """Create or update a Space; returns its page's address.

    Args:
        space: `user/name`, or `name` under the token's user.
        model: `user/name[@revision]` to serve, pinned to the commit that the revision is at now.
        hardware: as the Hub names it, for example cpu-basic; None leaves the Space's own.
        private: create it as a private one.
        mcp: make the Space an MCP server too.
        dry_run: only print what would be sent.

    Raises:
        ModelError: the model is unavailable.
        HubError: what the Hub said and what to do.
    """
    if not dry_run:
        space = check_write_access(space, kind="space")
    bundle, restricted = _served(model)
    pinned = f"{bundle.source}@{bundle.revision}" if bundle.revision else model
    wanted = {"AGE_GENDER_MODEL": pinned, "GRADIO_MCP_SERVER": "true" if mcp else None}
    variables = {name: value for name, value in wanted.items() if value}
    if restricted:
        _check_space_token(bundle.source)
    # A build has no token: a model that needs one is downloaded at startup instead.
    files = space_files(space, bundle, preload=not restricted, mcp=mcp)
    _note_untracked("space")
    if dry_run:
        _print(files)
        secrets = ["HF_TOKEN"] if restricted else []
        print(f"variables: {variables}; secrets: {secrets}; hardware: {hardware or 'unchanged'}")
        return ""
    return _publish(space, files, private=private, hardware=hardware, variables=variables, secret=restricted)


def deploy_static(space: str, *, model: str | None = None, private: bool = False, dry_run: bool = False) -> str:
    """Create or update a static Space; returns its URL.

    Args:
        space: `user/name`, or `name` under the token's user.
        model: see `static.site_files`.
        private: create it as a private one.
        dry_run: only print what would be sent.

    Raises:
        ModelError: a model is unavailable.
        SiteError: a file that the site needs is unavailable.
        HubError: a public Space would contain a private or gated model, or the Hub refused the request.
    """
    if not dry_run:
        space = check_write_access(space, kind="space")
    if (match := on_hub(model or "")) and not private and _is_restricted(match["repo"]):
        raise HubError(
            f"The model {match['repo']} is private or gated, but a public static Space lets everyone download it: add "
            "--private to publish a private Space."
        )
    files = _static_files(space, model)
    if dry_run:
        _print(files)
        return ""
    return _publish(space, files, private=private)


def _static_files(space: str, model: str | None) -> Files:
    files = static.site_files(space, model)
    _note_untracked("browser", "space/examples")
    return files


def _publish(
    space: str,
    files: Files,
    *,
    private: bool,
    hardware: str | None = None,
    variables: dict[str, str] | None = None,
    secret: bool = False,
) -> str:
    """Create or update a Space. It is static if `variables` is None."""
    api, sdk = HfApi(), "static" if variables is None else "gradio"
    try:
        _check_existing(api, space, sdk, private=private)
        url = api.create_repo(
            space,
            repo_type="space",
            space_sdk=sdk,
            space_hardware=hardware,  # type: ignore[arg-type]  # there may be newer kinds than the client's
            private=private or None,
            exist_ok=True,
        )
        if variables is not None:
            _configure(api, space, variables, secret=secret)
        _commit(api, space, files, _OURS[sdk])
        if hardware and api.get_space_runtime(space).requested_hardware != hardware:
            api.request_space_hardware(space, hardware)  # type: ignore[arg-type]
    except Exception as error:
        if sdk == "gradio" and isinstance(error, HfHubHTTPError) and error.response.status_code == 402:
            raise HubError(_UNPAID) from error
        raise to_hub_error(error, space) from error
    return str(url)


def _check_existing(api: HfApi, space: str, sdk: str, *, private: bool) -> None:
    """Refuse to overwrite another app or a Space of another kind, and to treat a public Space as private."""
    try:
        info = api.space_info(space)
    except RepositoryNotFoundError:
        return
    if info.sdk not in (None, sdk):
        raise HubError(f"{space} is a {info.sdk} Space, not a {sdk} one: choose another name with --space.")
    files, (page, own) = api.list_repo_files(space, repo_type="space"), _APP[sdk]
    if page in files and own not in files and not _is_template(api, space, set(files)):
        raise HubError(
            f"{space} already contains another app: choose another name with --space, or delete its {page} first."
        )
    if private and not info.private:
        raise HubError(PUBLIC.format(space))


def _is_template(api: HfApi, space: str, files: set[str]) -> bool:
    """Whether a static Space holds only the page that the Hub puts into a new one."""
    if "index.html" not in files or files - {".gitattributes", "README.md", "index.html", "style.css"}:
        return False
    file = api.hf_hub_download(space, "index.html", repo_type="space")
    page = Path(file).read_text(encoding="utf-8", errors="replace")
    return "Welcome to your static Space" in page or "My static Space" in page


def _served(model: str | None) -> tuple[Bundle, bool]:
    """The model that a Space serves, downloaded and verified, and whether it is private or gated on the Hub."""
    if model is None or model in embedded():
        return open_bundle(model), False
    if not (match := on_hub(model)):
        raise ModelError(
            f"{model} can't be served: choose {', '.join(embedded())} or a Hub model (user/name). To publish your own "
            "bundle, run python -m training.push FOLDER."
        )
    repo = match["repo"]
    revision, _ = hub_file(repo, CARD, match["revision"])
    return open_bundle(f"{repo}@{revision}"), _is_restricted(repo)


def _is_restricted(repo: str) -> bool:
    """Whether a model is private or gated: not everyone may download it."""
    try:
        info = HfApi().model_info(repo)
    except Exception as error:
        raise to_hub_error(error, repo) from error
    return bool(info.private or info.gated)


def _space_token() -> str:
    """What SPACE_HF_TOKEN contains; files of secrets end with a newline."""
    return os.environ.get("SPACE_HF_TOKEN", "").strip()


def _check_space_token(repo: str) -> None:
    """Make sure that SPACE_HF_TOKEN can read a model. Raises HubError."""
    token = _space_token()
    if not token:
        raise HubError(
            f"The model {repo} is private or gated, so the Space needs a token to download it. Set SPACE_HF_TOKEN to a "
            "read-only token (huggingface.co/settings/tokens); it becomes the Space's secret HF_TOKEN."
        )
    api = HfApi(token=token)
    try:
        api.auth_check(repo)
        role = ((api.whoami().get("auth") or {}).get("accessToken") or {}).get("role")
    except Exception as error:
        if is_denied(error):
            raise HubError(f"SPACE_HF_TOKEN can't read {repo}: set it to a token that can read this model.") from error
        raise to_hub_error(error, repo) from error
    if role == "write":
        print("warning: SPACE_HF_TOKEN has write permission. Use a read-only token.", file=sys.stderr)


def _note_untracked(*folders: str) -> None:
    names = untracked(*folders)
    if names:
        text = f"note: {counted(len(names), 'file')} that git doesn't track will not be uploaded: {some_of(names)}"
        print(text, file=sys.stderr)


def _print(files: Files) -> None:
    sizes = {name: len(c) if isinstance(c, bytes) else c.stat().st_size for name, c in files.items()}
    for name, size in sizes.items():
        print(f"{size:>10,}  {name}")
    print(f"{sum(sizes.values()):>10,}  total")


def _configure(api: HfApi, space: str, variables: dict[str, str], *, secret: bool) -> None:
    """Set variables and the secret, and delete earlier ones. Before the files: the first build needs them."""
    before = api.get_space_variables(space)
    for key, value in variables.items():
        if key not in before or before[key].value != value:  # each change restarts the Space
            api.add_space_variable(space, key, value)
    for key in {"AGE_GENDER_MODEL", "GRADIO_MCP_SERVER"} & set(before) - set(variables):
        api.delete_space_variable(space, key)
    if secret:
        api.add_space_secret(space, "HF_TOKEN", _space_token())
        return
    served = before.get("AGE_GENDER_MODEL")
    if served and "/" in served.value and "HF_TOKEN" in api.get_space_secrets(space):  # perhaps of a private model
        api.delete_space_secret(space, "HF_TOKEN")


def _commit(api: HfApi, space: str, files: Files, ours: re.Pattern) -> None:
    """Upload `files` in one commit, and delete remote files that match `ours` and aren't among `files`."""

    def attempt():
        head = api.space_info(space).sha
        gone = [n for n in api.list_repo_files(space, repo_type="space") if ours.match(n) and n not in files]
        return api.create_commit(
            space,
            [CommitOperationAdd(n, c if isinstance(c, bytes) else str(c)) for n, c in files.items()]
            + [CommitOperationDelete(n) for n in gone],
            commit_message="Deploy the app",
            repo_type="space",
            parent_commit=head,
        )

    with_retries(attempt)


@command(ModelError, static.SiteError, HubError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.out and not options.static:
        parser.error("--out is for static Spaces: add --static")
    if options.static and (options.hardware or options.mcp or options.wait):
        parser.error("--hardware, --mcp and --wait don't apply to a static Space, which has no server")
    if options.space and options.out:
        parser.error("--out writes the files instead of publishing them: specify either --space or --out")
    if not (options.space or options.out):
        parser.error("specify --space USER/NAME, or --static with --out FOLDER")
    url = _static(options) if options.static else _gradio(options)
    if url:
        print(f"Space: {url}", flush=True)
        if options.wait:
            wait(url.split("/spaces/")[-1])
            print("The Space is running.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m space.hub.deploy", description="Publish the app as a Space.")
    parser.add_argument("--space", metavar="USER/NAME", help="the Space, created if needed")
    parser.add_argument(
        "--model",
        metavar="NAME|USER/NAME[@REVISION]",
        help="the model to serve, embedded or from the Hub (default: compact; with --static, visitors choose from all "
        "embedded models)",
    )
    parser.add_argument(
        "--hardware", help="Space hardware, for example cpu-basic, cpu-upgrade, zero-a10g (default: unchanged)"
    )
    parser.add_argument("--private", action="store_true", help="create the Space as private")
    parser.add_argument("--mcp", action="store_true", help="also run an MCP server in the Space")
    parser.add_argument("--dry-run", action="store_true", help="list the files to upload, without uploading")
    parser.add_argument("--wait", action="store_true", help="wait until the Space is running; show the log if it fails")
    group = parser.add_argument_group("static Space, which runs in the visitor's browser and needs no server")
    group.add_argument("--static", action="store_true", help="publish the static Space")
    group.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write the files to this folder, for any web server, instead of uploading them",
    )
    return parser


def _gradio(options: argparse.Namespace) -> str:
    return deploy(
        options.space,
        model=options.model,
        hardware=options.hardware,
        private=options.private,
        mcp=options.mcp,
        dry_run=options.dry_run,
    )


def _static(options: argparse.Namespace) -> str:
    if options.space:
        return deploy_static(options.space, model=options.model, private=options.private, dry_run=options.dry_run)
    static.check_target(options.out)
    files = _static_files("USER/NAME", options.model)
    if options.dry_run:
        _print(files)
        return ""
    static.write(files, options.out)
    server = command_line("python", "-m", "http.server", "--directory", options.out, "8000")
    print(f"Try it: {server}, then open http://localhost:8000")
    return ""


if __name__ == "__main__":
    sys.exit(main())
