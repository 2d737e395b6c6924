"""How fast all this is on this machine: one command, one table.

    python -m space.bench                                  the embedded model
    python -m space.bench --model runs/vgg16/bundle --model untrained/vgg16 --json bench.json
    python -m space.bench --peers                          beside other engines and programs

Every figure is a median of repeated calls after a warm-up; compare figures of one run only. Speed does not depend on
what a network has learned, so random weights will do (`python -m training.export vgg16 untrained/vgg16`).
"""

from __future__ import annotations

import argparse
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
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from space.analyzer import FaceAnalyzer
from space.bundle import CARD, Bundle, BundleError, open_bundle
from space.crop import crops
from space.estimator import Estimator
from space.live import LiveStream
from space.tabs.photo import EXAMPLES
from space.timing import median_ms

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("onnxruntime", "opencv-python-headless", "gradio", "numpy")


def machine() -> dict:
    """What the figures hold for."""
    try:
        processor = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]
    except (OSError, TypeError):
        processor = platform.processor() or platform.machine()
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


def gflop_a_face(path: Path) -> float | None:
    """Arithmetic of a network, a multiplication and an addition each counted as one; None without the package onnx."""
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*graph.value_info, *graph.output]}
    shapes |= {w.name: list(w.dims) for w in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "QLinearConv"):
            weights = shapes[node.input[1 if node.op_type == "Conv" else 3]]
            total += 2 * np.prod(shapes[node.output[0]]) * np.prod(weights[1:])
        elif node.op_type in ("MatMul", "Gemm") and node.input[1] in shapes:
            total += 2 * np.prod(shapes[node.input[1]]) * np.prod(shapes[node.output[0]][:-1])
    return float(total) / 1e9


def serving(analyzer: FaceAnalyzer) -> dict:
    """Milliseconds of each stage."""
    photos = {count: scene(count, *size) for count, size in SCENES.items()}
    found = {count: analyzer.detect(photo) for count, photo in photos.items()}
    chips = np.repeat(crops(photos[1], found[1][:1], analyzer.template), 300, axis=0)
    result = {"faces found": {count: len(faces) for count, faces in found.items()}}
    for count, photo in photos.items():
        size = f"{photo.shape[1]}x{photo.shape[0]}"
        result[f"detection, {size}, {count} faces"] = median_ms(lambda p=photo: analyzer.detect(p))
    result["detection, live (320)"] = median_ms(lambda: analyzer.detect(photos[1], side=320))
    result["crop, one face"] = median_ms(lambda: crops(photos[1], found[1][:1], analyzer.template))
    for n in (1, 4, 16, 20, 300):
        took = median_ms(lambda n=n: analyzer.estimator.predict(chips[:n]))
        result[f"prediction, {n} at once, each"] = took / n
    one_by_one = median_ms(lambda: [analyzer.estimator.predict(chips[i : i + 1]) for i in range(20)])
    result["prediction, 20 one by one, each"] = one_by_one / 20
    for count, photo in photos.items():
        result[f"whole photo, {count} faces"] = median_ms(lambda p=photo: analyzer.analyze(p))
    frames, stream = [], LiveStream(analyzer)
    for shift in range(0, 60, 4):
        buffer = io.BytesIO()
        Image.fromarray(np.roll(photos[1], shift, axis=1)).save(buffer, "JPEG", quality=85)
        frames.append(buffer.getvalue())
    frames += frames[::-1]
    turn = iter(range(10**9))

    def live():
        i = next(turn)
        return stream.answer(frames[i % len(frames)], i / 15)

    result["live, one frame of 640x480"] = median_ms(live)
    return result


def start_up(options: list[str]) -> dict:
    """Seconds from `python app.py` to the page and to the first answer, and megabytes then."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}/gradio_api/call/analyze_photo"
    photo = "data:image/jpeg;base64," + base64.b64encode((EXAMPLES / "age-20-26-male.jpg").read_bytes()).decode()
    body = json.dumps({"data": [{"url": photo, "meta": {"_type": "gradio.FileData"}}, 0.7, False]}).encode()
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
        memory = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1000 if status.exists() else None
    finally:
        process.terminate()
        process.wait()
    return {"page, s": page, "first answer, s": first, "resident, MB": memory}


def table(report: dict) -> str:
    """The report as Markdown."""
    about = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        f"{about['processor']}, {about['cores']} cores, {about['gflops']} GFLOP/s in a float32 matrix product; Python "
        f"{about['python']}, {versions}; detector {report['detector']}.",
        "",
        f"| | {' | '.join(report['models'])} |",
        "| --- |" + " --- |" * len(report["models"]),
    ]
    names = dict.fromkeys(name for values in report["models"].values() for name in values)
    for name in names:
        cells = []
        for values in report["models"].values():
            value = values.get(name, "–")
            if isinstance(value, dict):
                value = ", ".join(f"{found} of {count}" for count, found in value.items())
            cells.append(f"{value:.2f}" if isinstance(value, float) else "–" if value is None else str(value))
        unit = "" if name.endswith((", s", ", MB", "%", "found")) or name.startswith("GFLOP") else ", ms"
        lines.append(f"| {name}{unit} | {' | '.join(cells)} |")
    if report["peers"]:
        lines += ["", "| other programs, whole photo | ms |", "| --- | --- |"]
        lines += [
            f"| {name} | {f'{value:.1f}' if isinstance(value, float) else value} |"
            for name, value in report["peers"].items()
        ]
    return "\n".join(lines)


def _networks(model: str | None) -> list[tuple[str, Path, Bundle | None]]:
    """Name, file and bundle of each network that `--model` names: both kinds of a bundle, the served one first."""
    path = Path(model) if model else None
    if path and path.suffix == ".onnx":
        return [(path.stem, path, None)]
    if path and (path / "model.onnx").is_file() and not (path / CARD).exists():
        bundle, name, files = None, path.name, ["model.int8.onnx", "model.onnx"]
    else:
        bundle = open_bundle(model)
        path, name = bundle.folder, bundle.card["network"]
        files = dict.fromkeys([bundle.card["serve"], "model.onnx"])
    return [
        (f"{name}, {'int8' if 'int8' in file else 'float32'}", path / file, bundle)
        for file in files
        if (path / file).is_file()
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m space.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        action="append",
        help="as for app.py, or an .onnx file or a folder with some; may be repeated (default: the embedded one)",
    )
    parser.add_argument("--detector", help="as for app.py")
    parser.add_argument("--peers", action="store_true", help="other engines and programs too, where installed")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(arguments)
    try:
        report = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "models": {}, "peers": {}}
        vgg16 = None
        for model in options.model or [None]:
            for name, path, bundle in _networks(model):
                analyzer = FaceAnalyzer.load(model if bundle else None, detector=options.detector)
                analyzer = replace(analyzer, estimator=Estimator(path))
                report["detector"] = analyzer.detector.name
                values = serving(analyzer)
                work = gflop_a_face(path)
                if work:
                    share = 100 * work / values["prediction, 1 at once, each"] * 1000 / report["machine"]["gflops"]
                    values |= {"GFLOP a face": work, "of the matrix product's rate, one face, %": share}
                if bundle and path == bundle.model_path:
                    given = [f"--{k}={v}" for k, v in (("model", model), ("detector", options.detector)) if v]
                    values |= start_up(given)
                if options.peers:
                    from space import peers

                    values |= {f"{engine}, one face": took for engine, took in peers.engines(path).items()}
                    vgg16 = path if "vgg16" in name else vgg16
                report["models"][name] = values
        if options.peers:
            report["peers"] = peers.programs(scene(1, *SCENES[1]), scene(5, *SCENES[5]), vgg16)
    except (BundleError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
