"""A running app.py, and this Python in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.support import ROOT


def python(*arguments: str | Path, env: dict | None = None, timeout: float = 600, **kwargs):
    """Run this Python from the project's root; returns the finished process with its output as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        **kwargs,
    )


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class App:
    """A running app.py, or a `program` that runs it; `printed` returns its output."""

    def __init__(self, *arguments, env=None, folder=ROOT, program: str | None = None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.temporary = (env or {}).get("TMPDIR") or tempfile.gettempdir()
        self.log = tempfile.NamedTemporaryFile("w", suffix=".log", delete=False)  # noqa: SIM115 a pipe would fill up
        what = ["-c", program] if program else ["app.py"]
        self.process = subprocess.Popen(
            [sys.executable, *what, "--port", str(self.port), *map(str, arguments)],
            cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"} | (env or {}),
            stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            # A shell's background jobs ignore Ctrl-C, and so would the app that they test.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.process.kill()
                    raise AssertionError(self.printed()) from None
                time.sleep(0.1)

    def client(self, folder):
        from gradio_client import Client

        return Client(self.url, verbose=False, download_files=str(folder))

    def printed(self, since: int = 0) -> str:
        """The app's output, starting at character `since`."""
        return Path(self.log.name).read_text(encoding="utf-8", errors="replace")[since:]

    def stop(self) -> str:
        """End it as Ctrl-C does; returns what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.printed()


def assert_clear_error(result, *words: str) -> None:
    """One sentence for a person, non-zero exit, no traceback."""
    assert result.returncode not in (0, -11), result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
