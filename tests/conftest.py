"""What tests share: made-up UTKFace chips in every layout, a briefly trained run, a loopback Hub, ../shared."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
EXAMPLES = ROOT / "space" / "examples"
CHROMIUM = Path("/usr/bin/chromium")
FAKE_CAMERA = "--use-fake-device-for-media-stream"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# What this machine has cached or set must not decide a test: a cached YuNet would be used where Haar is expected.
_HOME = tempfile.mkdtemp(prefix="age-gender-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {"HF_HOME": _HOME, "AGE_GENDER_CACHE": f"{_HOME}/pictures"}
for _name in (
    "AGE_GENDER_MODEL",
    "AGE_GENDER_DETECTOR",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
):
    os.environ.pop(_name, None)


def shared(path: str) -> Path:
    """A file of ../shared, or the test is skipped."""
    if not (SHARED / path).exists():
        pytest.skip(f"needs ../shared/{path}, which is not on this machine")
    return SHARED / path


@contextlib.contextmanager
def chromium(*flags: str):
    """Debian's Chromium, driven by Playwright; without it the test is skipped."""
    if not CHROMIUM.exists():
        pytest.skip("needs /usr/bin/chromium (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    common = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*common.split(), *flags])
        try:
            yield running
        finally:
            running.close()


def pytest_collection_modifyitems(items) -> None:
    """Tests that drive Chromium are marked as such, by what they use."""
    for item in items:
        fixtures = {"browser", "page"} & set(item.fixturenames)
        if fixtures or "chromium(" in inspect.getsource(item.function):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def utkface() -> Path:
    return shared("data/UTKFace-Cropped/UTKFace.tar.gz").parent


@pytest.fixture(scope="session")
def yunet() -> Path:
    return shared("models/face_detection_yunet/face_detection_yunet_2023mar.onnx")


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def chip(seed: int, age: int, gender: int) -> bytes:
    """A made-up chip that a network can learn from: brightness tells the age, color the gender."""
    generator = np.random.default_rng(seed)
    base = np.full((200, 200, 3), 50 + 1.6 * age)
    base += (45, 0, -45) if gender else (-45, 0, 45)
    noise = generator.normal(0, 12, (25, 25, 3)).repeat(8, 0).repeat(8, 1)
    return jpeg(np.clip(base + noise, 0, 255).astype(np.uint8))


def chips(count: int) -> dict[str, bytes]:
    """UTKFace file name -> content."""
    generator = np.random.default_rng(1)
    files = {}
    for i in range(count):
        age, gender, race = int(generator.integers(1, 90)), int(generator.integers(2)), int(generator.integers(5))
        files[f"{age}_{gender}_{race}_2017{i:013d}.jpg.chip.jpg"] = chip(i, age, gender)
    return files


def write_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tar_bytes(files: dict[str, bytes]) -> bytes:
    """A .tar.gz as the Hub dataset has it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"UTKFace/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


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
    """A running app.py."""

    def __init__(self, *arguments, env=None, folder=ROOT):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.temporary = (env or {}).get("TMPDIR") or tempfile.gettempdir()
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(self.port), *map(str, arguments)],
            cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"} | (env or {}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
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
                    raise AssertionError(self.process.communicate()[0]) from None
                time.sleep(0.1)

    def client(self, folder):
        from gradio_client import Client

        return Client(self.url, verbose=False, download_files=str(folder))

    def stop(self) -> str:
        """End it as Ctrl-C does; returns what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def assert_clear_error(result, *words: str) -> None:
    """One sentence for a person, non-zero exit, no traceback."""
    assert result.returncode not in (0, -11), result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.fixture(scope="session")
def made_up(tmp_path_factory) -> Path:
    """A folder of 480 made-up chips."""
    return write_folder(chips(480), tmp_path_factory.mktemp("data") / "chips")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """FairFace's layout: 60 photographs of no real person, whose ages are bands of years, as one parquet file."""
    import datasets

    bands = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
    races = ["East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian"]
    pictures = sorted(EXAMPLES.glob("age-*.jpg"))
    rows = []
    for i in range(60):
        path = pictures[i % len(pictures)]
        years = int(path.stem.split("-")[1])
        with Image.open(path) as photo:
            side = 112 + 2 * (i // len(pictures))  # another size, so other bytes
            encoded = jpeg(np.asarray(photo.convert("RGB").resize((side, side))))
        band = max(b for b, name in enumerate(bands) if int(name.split("-")[0].split()[-1]) <= years)
        rows.append(
            {"image": {"bytes": encoded, "path": f"{i}.jpg"}, "age": band, "gender": int("female" in path.stem)}
        )
        rows[-1] |= {"race": i % len(races), "service_test": False}
    features = datasets.Features(
        image=datasets.Image(), age=datasets.ClassLabel(names=bands), race=datasets.ClassLabel(names=races),
        gender=datasets.ClassLabel(names=["Male", "Female"]), service_test=datasets.Value("bool"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("fairface") / "0.25"
    folder.mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "train-00000-of-00001.parquet")
    return folder.parent


@pytest.fixture(scope="session")
def trained(made_up, tmp_path_factory) -> Path:
    """The folder of a finished run of the compact network on made-up chips, by the command line."""
    from training import train

    out, printed = tmp_path_factory.mktemp("runs") / "compact", io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = train.main(
            [
                "--network",
                "compact",
                "--dataset",
                str(made_up),
                "--epochs",
                "6",
                "--batch-size",
                "16",
                "--out",
                str(out),
            ]
        )
    assert status == 0
    (out / "output.txt").write_text(printed.getvalue())
    return out


@pytest.fixture
def hub():
    from hub_server import Hub

    with Hub() as server:
        yield server
