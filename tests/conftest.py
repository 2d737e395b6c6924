"""Fixtures that several tests share: made-up faces, a briefly trained run, a loopback Hub, ../shared."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.support import EMBEDDED, EXAMPLES, shared
from tests.support.app import App
from tests.support.faces import face_files, jpeg, write_folder
from tests.support.training import SHORT
from tests.tiny import make_tiny


def pytest_collection_modifyitems(items) -> None:
    """Tests that drive Chromium are marked as such, by what they use."""
    for item in items:
        fixtures = {"browser", "page", "modules", "firefox"} & set(item.fixturenames)
        if fixtures or "chromium(" in inspect.getsource(item.function):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    """A running app.py with default options, shared by tests that don't modify it."""
    running = App(env={"TMPDIR": str(tmp_path_factory.mktemp("tmp"))})
    yield running
    running.stop()


@pytest.fixture(scope="session")
def utkface() -> Path:
    return shared("data/UTKFace-Cropped/UTKFace.tar.gz").parent


@pytest.fixture(scope="session")
def made_up(tmp_path_factory) -> Path:
    """A folder of 480 made-up faces."""
    return write_folder(face_files(480), tmp_path_factory.mktemp("data") / "faces")


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


@pytest.fixture
def tiny(monkeypatch):
    """For tests that train small networks, or build `trained`'s again."""
    make_tiny(monkeypatch.setattr)


@pytest.fixture(scope="session")
def trained(made_up, tmp_path_factory) -> Path:
    """The folder of a finished run of a tiny network on made-up faces; workers of pytest-xdist share it."""
    from training import train

    base = tmp_path_factory.getbasetemp()
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    words = f"--recipe {SHORT} --dataset {made_up} --out {out}".split()
    with FileLock(f"{out}.lock"):
        if not (out / "output.txt").exists():
            with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
                make_tiny(patch.setattr)
                assert train.main(words) == 0
            (out / "output.txt").write_text(printed.getvalue())
    return out


@pytest.fixture(scope="session")
def analyzer():
    """An analyzer with the embedded network."""
    from space.analyzer import FaceAnalyzer

    return FaceAnalyzer.load()


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A copy of the embedded bundle that tests can modify."""
    return shutil.copytree(EMBEDDED, tmp_path / "bundle")


@pytest.fixture
def writer(hub, tmp_path) -> dict:
    """The environment of a user with write access to the loopback Hub."""
    return hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}


@pytest.fixture
def reader(hub, tmp_path) -> dict:
    """The environment of a user without a token on the loopback Hub."""
    return hub.environment(tmp_path / "reader") | {"HF_HUB_OFFLINE": "0"}


@pytest.fixture
def hub():
    from tests.support.hub_server import Hub

    with Hub() as server:
        yield server


@pytest.fixture(scope="session")
def files() -> dict:
    """The files of the static Space, as `space.hub.static.site_files` returns them."""
    from space.hub import static

    if not shutil.which("npm"):
        pytest.skip("needs npm (Node.js), from which onnxruntime-web comes")
    return static.site_files("tester/live")
