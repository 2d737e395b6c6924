"""Web page and API that estimate the apparent age and gender of faces in photos, live camera streams and videos."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import space  # noqa: F401  disables the telemetry of libraries before they are imported
from space.console import tolerate_console
from space.text import missing_package

PREFIX, LOCK = "age-gender-", ".lock"  # of temporary folders, and of the file in each that its process locks
MIN_FREE_BYTES = 100_000_000  # that must be free for a temporary folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model",
        metavar="NAME|FOLDER|USER/NAME[@REVISION]",
        help="an included model (compact, open, vgg16), a bundle folder or a Hub model (default: $AGE_GENDER_MODEL, "
        "else compact)",
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all interfaces)")
    parser.add_argument("--port", type=_port, help="port to listen on (default: the first free port from 7860)")
    parser.add_argument(
        "--root-path",
        metavar="PATH|URL",
        help="path or, preferably, full URL at which a reverse proxy serves the app (default: $GRADIO_ROOT_PATH)",
    )
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let pages of this site call the app and read the results, for example https://example.org, or * for all "
        "sites; can be repeated (default: no other site; on Spaces: *)",
    )
    parser.add_argument(
        "--allow-urls",
        action="store_true",
        help="let visitors and programs pass images by URL: up to 20 MB each, from public addresses only "
        "(default: files must be uploaded)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="create a public link through Gradio's servers, valid for up to 1 week",
    )
    parser.add_argument(
        "--mcp", action="store_true", help='also run an MCP server, for language models (pip install "gradio[mcp]")'
    )
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="require this username and password (default: $AGE_GENDER_AUTH, which, unlike an option, is hidden from "
        "other users of the machine)",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the app until it is stopped; returns the exit status."""
    tolerate_console()
    parser = _parser()
    options = parser.parse_args(arguments)
    options.mcp = options.mcp or os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"
    if options.mcp and importlib.util.find_spec("mcp") is None:
        parser.error('--mcp needs an extra package: pip install "gradio[mcp]"')

    if os.environ.get("SPACES_ZERO_GPU"):  # ZeroGPU stops a Space that declares no GPU function; this one needs none
        import spaces

        spaces.GPU(lambda: None)
    # At startup, Gradio requests its own address, which no proxy can reach.
    for name in ("no_proxy", "NO_PROXY"):
        own = ("localhost", "127.0.0.1", "::1", options.host)
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), *own)))
    try:
        folder = temporary_folder()
    except OSError as error:
        print(f"error: No usable folder for temporary files ({error}): set TMPDIR.", file=sys.stderr)
        return 1
    try:
        return serve(options)
    finally:
        if not interactive():  # else the server goes on, and the folder with it until the kernel ends
            _remove(folder)


@functools.cache
def temporary_folder() -> str:
    """The folder of everything that visitors send and get, deleted at exit. One per process: Gradio keeps its path.

    Folders of processes that were killed are deleted. Raises OSError if there is no room for a folder.
    """
    from filelock import FileLock

    place = tempfile.gettempdir()
    for left in Path(place).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError, TimeoutError):  # it is in use, or somebody else's
            FileLock(left, timeout=0).acquire()
            _remove(left.parent)
    if shutil.disk_usage(place).free < MIN_FREE_BYTES:
        raise OSError(f"{place} is full")
    folder = os.path.realpath(tempfile.mkdtemp(prefix=PREFIX))  # uploads are opened without following links
    lock = FileLock(f"{folder}/{LOCK}")  # held until this process ends, however it does
    lock.acquire()
    atexit.register(_remove, folder)
    atexit.register(lock.release)
    # Set before Gradio is imported: it makes folders.
    tempfile.tempdir = folder
    os.environ["GRADIO_TEMP_DIR"] = f"{folder}/gradio"
    return folder


def _remove(folder: str | Path) -> None:
    """Delete a folder, also if somebody still writes into it."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return


def interactive() -> bool:
    """Whether this runs in a notebook or an interactive shell, which Gradio does not block."""
    return "ipykernel" in sys.modules or bool(getattr(sys, "ps1", sys.flags.interactive))


def serve(options: argparse.Namespace) -> int:
    """Load model and page and run until stopped; returns the exit status."""
    # Imported after the options: --help and wrong options answer at once.
    from space.hub.download import ModelError

    try:
        page = _start(options, _login(options))
    except (StartError, ModelError, OSError) as error:
        text = str(error)
        if "empty port" in text:  # Gradio's text names its own functions
            text = (
                f"Port {options.port or '7860 (and later ports)'} on {options.host or '127.0.0.1'} is unavailable. "
                "Choose another port with --port, or another address of this machine with --host."
            )
        print(f"error: {text}", file=sys.stderr)
        return 1
    if not interactive():
        # So that everything is cleaned up. Until here, the signal ends the process at once, even in a model's code.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        page.block_thread()
    return 0


class StartError(ValueError):
    """Options that the app can't start with; the message is for the user."""


def _login(options: argparse.Namespace) -> tuple[str, str] | None:
    """Username and password that visitors need, if any."""
    from space.web.access import credentials

    text = options.auth or os.environ.get("AGE_GENDER_AUTH")
    if not text:
        return None
    if options.mcp:  # Gradio's MCP server lists its tools to everybody and can call none of them then
        raise StartError("--mcp doesn't support login: remove --auth and AGE_GENDER_AUTH, or --mcp.")
    try:
        return credentials(text)
    except ValueError as error:
        raise StartError(f"--auth and AGE_GENDER_AUTH {error}.") from None


def _start(options: argparse.Namespace, login: tuple[str, str] | None):
    """Load the model and launch the page, a `gradio.Blocks`."""
    from space.analyzer import FaceAnalyzer
    from space.sandbox.client import open_sandbox
    from space.web.page import build, launch_options, sweep_regularly

    analyzer = FaceAnalyzer.load(options.model)
    model = analyzer.bundle.as_dict()
    revision = f"@{model['revision']}" if model["revision"] else ""
    print(f"model: {model['name']}, {model['source']}{revision}; detector: {analyzer.detector.name}", flush=True)
    threading.Thread(target=analyzer.warm_up, daemon=True).start()  # while the page is built
    sandbox = open_sandbox()
    if not sandbox.isolated:
        print("note: Visitors are not isolated from each other on this system. Use the app for your own files only.")
    if not interactive():
        atexit.register(sandbox.close)
    analyzer = analyzer.taking_turns()
    page = build(analyzer, sandbox, allow_urls=options.allow_urls)
    on_space, shared = "SPACE_ID" in os.environ, options.share or _shares_by_itself()
    host = options.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    name = f"[{options.host}]" if ":" in (options.host or "") and "[" not in options.host else options.host  # IPv6
    page.launch(
        server_name=name,
        server_port=options.port,
        share=shared,
        mcp_server=options.mcp,
        auth=login,
        prevent_thread_lock=True,
        **launch_options(
            analyzer,
            sandbox,
            root_path=options.root_path or os.environ.get("GRADIO_ROOT_PATH", ""),
            # A public link and a Space have names of their own.
            hosts=None if shared or on_space else frozenset((host,)),
            allowed=frozenset(options.allow_origin or (["*"] if on_space else [])),
        ),
    )
    sweep_regularly(page)
    return page


def _shares_by_itself() -> bool:
    """Whether Gradio creates a public link without being asked."""
    from gradio import utils

    asked = os.environ.get("GRADIO_SHARE", "").lower() == "true"
    return asked or utils.colab_check() or utils.is_hosted_notebook()


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("must be a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    try:
        status = main()
    except ModuleNotFoundError as missing:
        print(f"error: {missing_package(missing)}", file=sys.stderr)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)  # without waiting for threads that still serve visitors
