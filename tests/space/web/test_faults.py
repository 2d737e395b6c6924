"""What goes wrong around a running app ends in a sentence for the one it concerns, and in nothing for the others."""

from __future__ import annotations

import io
import re
import resource
import shutil
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from websockets.sync.client import connect

from tests.support import EMBEDDED, EXAMPLES
from tests.support.app import App

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's"),
]


@contextmanager
def limited(app, kind: int, value: int):
    """The app may use no more than `value` of something meanwhile."""
    before = resource.prlimit(app.process.pid, kind)
    resource.prlimit(app.process.pid, kind, (value, before[1]))
    try:
        yield
    finally:
        resource.prlimit(app.process.pid, kind, before)


def status(app, name: str) -> int:
    """Bytes of memory, by the kernel's name for it."""
    text = Path(f"/proc/{app.process.pid}/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", text)[1])


def answer_for_the_group(app, folder) -> dict:
    return app.client(folder).predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")[1]


def faces_in_the_group(app, folder) -> int:
    return len(answer_for_the_group(app, folder)["faces"])


def test_no_room_for_an_upload_or_an_answer(app, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "Geheim.png")
    Image.fromarray(noise[:200]).resize((1800, 400)).save(tmp_path / "small.jpg", quality=10)
    assert (tmp_path / "small.jpg").stat().st_size < 100_000 < (tmp_path / "Geheim.png").stat().st_size
    before = len(app.printed())
    with limited(app, resource.RLIMIT_FSIZE, 100_000):  # writes fail there as on a full disk
        for name in ("Geheim.png", "small.jpg"):  # an upload that is too large, an answer that is
            with pytest.raises(Exception):  # noqa: B017 whoever it concerns is told
                app.client(tmp_path / "got").predict(handle_file(tmp_path / name), api_name="/analyze_photo")
    assert "Geheim" not in app.printed(before)
    assert faces_in_the_group(app, tmp_path / "got") == 8


def test_no_memory_for_one_request(app, tmp_path):
    assert faces_in_the_group(app, tmp_path / "got") == 8
    Image.new("RGB", (4900, 4900), "white").save(tmp_path / "large.png")  # 72 MB once decoded
    with limited(app, resource.RLIMIT_AS, status(app, "VmSize") + 30_000_000):
        with pytest.raises(Exception, match="memory"):
            app.client(tmp_path / "got").predict(handle_file(tmp_path / "large.png"), api_name="/analyze_photo")
        assert faces_in_the_group(app, tmp_path / "got") == 8  # meanwhile and afterwards others are served
    assert faces_in_the_group(app, tmp_path / "got") == 8


def test_memory_does_not_grow_with_visitors(app, tmp_path):
    """Gradio keeps something of each call's session; the app tells it for how many."""
    photo = handle_file(EXAMPLES / "age-20-29-male.jpg")
    sizes = []
    for count in range(200):
        if count % 10 == 0:
            client = app.client(tmp_path / "got")  # sessions of clients that stay are one each
        client.reset_session()
        client.predict(photo, api_name="/analyze_photo")
        if count in (109, 199):
            sizes.append(status(app, "VmRSS"))
    assert sizes[1] - sizes[0] < 9_000_000, sizes  # it was 18 MB before


def test_a_stream_that_breaks_off_leaves_the_others(app):
    frame = io.BytesIO()
    Image.open(EXAMPLES / "group.jpg").resize((640, 480)).save(frame, "JPEG")
    message = struct.pack("<I", 1) + frame.getvalue()
    url = app.url.replace("http", "ws") + "/live"
    with connect(url) as stays:
        for _ in range(5):
            goes = connect(url)
            goes.send(message)
            goes.socket.close()  # without a word, in the middle of an answer
            stays.send(message)
            assert b"faces" in stays.recv(timeout=30).encode()


def test_files_that_go_while_the_app_runs(tmp_path):
    bundle = shutil.copytree(EMBEDDED, tmp_path / "bundle")
    running = App("--model", bundle)
    try:
        answer = answer_for_the_group(running, tmp_path / "got")
        assert len(answer["faces"]) == 8 and answer["model"]["source"] == "bundle"
        for path in bundle.glob("*.onnx"):
            path.write_bytes(b"replaced")
        assert faces_in_the_group(running, tmp_path / "got") == 8  # it was read whole at the start
        shutil.rmtree(bundle)
        assert faces_in_the_group(running, tmp_path / "got") == 8
    finally:
        printed = running.stop()
    assert "note:" not in printed and "Traceback" not in printed


def test_a_home_that_cannot_be_written(tmp_path):
    home = {"HOME": "/proc/nobody", "HF_HOME": "/proc/nobody/hub", "XDG_CACHE_HOME": "/proc/nobody/cache"}
    home["MPLCONFIGDIR"] = str(tmp_path)  # not of the app: Gradio imports matplotlib where it finds it
    running = App(env=home | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"})
    try:
        assert faces_in_the_group(running, tmp_path / "got") == 8
    finally:
        printed = running.stop()
    assert "detector: yunet" in printed and "Traceback" not in printed, printed


def test_parallel_visitors_get_the_answer_for_their_own_photo(app, analyzer, tmp_path):
    """16 at once, each with a background color and faces of their own."""
    portraits, generator = sorted(EXAMPLES.glob("age-*.jpg")), np.random.default_rng(0)
    expected = {}
    for number in range(16):
        color = tuple(int(v) for v in generator.integers(30, 226, 3))
        scene, side = Image.new("RGB", (640, 480), color), 120 + 8 * number
        for place in range(1 + number % 3):
            with Image.open(portraits[(number + place) % len(portraits)]) as face:
                scene.paste(face.resize((side, side)), (10 + 200 * place, 40 + 10 * number))
        path = tmp_path / f"{number}.png"
        scene.save(path)
        boxes = [[round(v, 1) for v in face.box] for face in analyzer.analyze(path)]
        expected[path] = color, boxes
    assert len({str(boxes) for _, boxes in expected.values()}) == 16 and all(boxes for _, boxes in expected.values())

    def visit(path: Path) -> list[str]:
        wrong, (color, boxes) = [], expected[path]
        client = app.client(tmp_path / f"got-{path.stem}")
        for _ in range(6):
            image, result = client.predict(handle_file(path), api_name="/analyze_photo")
            with Image.open(image) as annotated:
                corner = np.asarray(annotated.convert("RGB"), int)[-20:, -20:].mean(axis=(0, 1))
            if [face["box"] for face in result["faces"]] != boxes or np.abs(corner - color).max() > 6:
                wrong.append(path.name)
        return wrong

    with ThreadPoolExecutor(16) as pool:
        assert [name for wrong in pool.map(visit, expected) for name in wrong] == []
