"""What the benchmark measures: stages of serving, start-up and the machine."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from ..analyzer import FaceAnalyzer
from ..crop import crops
from ..face import EXAMPLES
from ..live.stream import LiveStream
from ..photo import FRAMES, open_photo
from ..text import counted
from .timing import median_ms

ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGES = ("onnxruntime", "opencv-python-headless", "gradio", "numpy")


def machine() -> dict:
    """The machine and the versions that the figures were measured with."""
    try:
        named = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    processor = named[1] if named else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    a, b = np.random.default_rng(0).random((2, 2048, 2048), np.float32)
    return {
        "processor": processor,
        "cores": cores,
        "gflops": round(2 * 2048**3 / median_ms(lambda: a @ b) / 1e6, 1),  # float32, what a matrix product reaches
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def scene(count: int, width: int, height: int, side: int) -> np.ndarray:
    """uint8 [H, W, 3] with `count` of the example faces, `side` pixels each."""
    pictures = sorted(EXAMPLES.glob("age-*.jpg"))
    image = Image.new("RGB", (width, height), (128, 132, 138))
    columns = width // side
    for i in range(count):
        with Image.open(pictures[i % len(pictures)]) as face:
            image.paste(face.resize((side, side)), (i % columns * side, i // columns * side))
    return np.asarray(image)


SCENES = {1: (640, 480, 320), 5: (1024, 768, 256), 20: (1024, 768, 192)}


def serving(analyzer: FaceAnalyzer) -> dict:
    """Milliseconds of each stage."""
    photos = {count: scene(count, *size) for count, size in SCENES.items()}
    found = {count: analyzer.detect(photo) for count, photo in photos.items()}
    faces = np.repeat(crops(photos[1], found[1][:1], analyzer.template), 300, axis=0)
    result: dict = {"faces found": {count: len(faces) for count, faces in found.items()}}
    for count, photo in photos.items():
        size = f"{photo.shape[1]}x{photo.shape[0]}"
        result[f"detection, {size}, {counted(count, 'face')}"] = median_ms(partial(analyzer.detect, photo))
    result["detection, live (320)"] = median_ms(lambda: analyzer.detect(photos[1], side=320))
    result["crop, one face"] = median_ms(lambda: crops(photos[1], found[1][:1], analyzer.template))
    for n in (1, 4, 16, 20, 300):
        took = median_ms(partial(analyzer.estimator.predict, faces[:n]))
        result[f"prediction, batch of {n}, per face"] = took / n
    one_by_one = median_ms(lambda: [analyzer.estimator.predict(faces[i : i + 1]) for i in range(20)])
    result["prediction, 20 separate calls, per face"] = one_by_one / 20
    for count, photo in photos.items():
        result[f"whole photo, {counted(count, 'face')}"] = median_ms(partial(analyzer.analyze, photo))
    frames, stream = [], LiveStream(analyzer)
    for shift in range(0, 60, 4):
        buffer = io.BytesIO()
        Image.fromarray(np.roll(photos[1], shift, axis=1)).save(buffer, "JPEG", quality=85)
        frames.append(buffer.getvalue())
    frames += frames[::-1]
    turn = iter(range(10**9))

    def live():
        i = next(turn)
        return stream.answer(open_photo(frames[i % len(frames)], FRAMES).rgb, i / 15)

    result["live, one frame of 640x480"] = median_ms(live)
    return result


def start_up(options: list[str]) -> dict:
    """Seconds from `python app.py` to the page and to the first answer, and megabytes then."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}/gradio_api/call/analyze_photo"
    photo = "data:image/jpeg;base64," + base64.b64encode((EXAMPLES / "age-20-29-male.jpg").read_bytes()).decode()
    body = json.dumps({"data": [{"url": photo, "meta": {"_type": "gradio.FileData"}}, 0.7, False, False]}).encode()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *options], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    event = json.load(answer)["event_id"]
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - started > 120:
                    raise RuntimeError("The app did not start: run python app.py to see why.") from None
                time.sleep(0.02)
        page = time.perf_counter() - started
        with urllib.request.urlopen(f"{url}/{event}", timeout=60) as answer:
            if b"gender_probability" not in answer.read():
                raise RuntimeError("The app did not answer.")
        first = time.perf_counter() - started
        status = Path(f"/proc/{process.pid}/status")
        used = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
        memory = int(used[1]) / 1000 if used else None
    finally:
        process.terminate()
        process.wait()
    return {"page, s": page, "first answer, s": first, "resident, MB": memory}
