"""The static Space beside face-api.js in one browser, as in space/BENCHMARKS.md: size, speed, and accuracy on FairFace.

python -m tests.tools.measure_static [--photos 300]

Needs Chromium, npm and, for the accuracy, ../shared. face-api.js is the maintained fork @vladmandic/face-api with SSD
MobileNet, 68 landmarks, its age and gender network and TensorFlow.js's WebAssembly backend.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from space.bench.measure import SCENES, scene
from space.hub import static
from space.text import counted
from tests.support.browser import FAKE_CAMERA, READY, analyze, chromium, serve
from tests.support.faces import held_out
from tests.support.videos import WOMAN, moving, write_camera
from tests.tools.scores import score

PEER, BACKEND = "@vladmandic/face-api@1.7.15", "@tensorflow/tfjs-backend-wasm@4.22.0"
PEER_PAGE = """<!doctype html><input type="file" id="file"><script type="module">
import * as faceapi from "./dist/face-api.esm.js";
const started = performance.now();
faceapi.tf.setWasmPaths(new URL("wasm/", location.href).href);
await faceapi.tf.setBackend("wasm");
await faceapi.tf.ready();
for (const net of ["ssdMobilenetv1", "faceLandmark68Net", "ageGenderNet"]) await faceapi.nets[net].loadFromUri("model");
window.answer = async (address) => {
  const image = new Image();
  await new Promise((done) => { image.onload = done; image.src = address; });
  const started = performance.now();
  const options = new faceapi.SsdMobilenetv1Options();
  const found = await faceapi.detectAllFaces(image, options).withFaceLandmarks().withAgeAndGender();
  const plain = ({age, gender, detection: {box: {x, y, width, height}}}) => ({age, gender, box: [x, y, width, height]});
  const faces = found.map(plain);
  return {ms: performance.now() - started, faces};
};
document.body.dataset.ready = faceapi.tf.getBackend();
</script>"""

# Median time from a chosen file to the drawn result.
WHOLE = """async (content) => {
  const times = [];
  for (let i = 0; i < 12; i++) {
    const [input, result] = ["#file", "#result"].map((one) => document.querySelector(one)), chosen = new DataTransfer();
    chosen.items.add(new File([new Uint8Array(content)], `whole-${i}.jpg`, {type: "image/jpeg"}));
    input.files = chosen.files;
    const started = performance.now();
    input.dispatchEvent(new Event("change"));
    const drawn = () => result.dataset.photo === `whole-${i}` && !result.hasAttribute("aria-busy");
    while (!drawn()) await new Promise(requestAnimationFrame);
    times.push(performance.now() - started);
  }
  return times.slice(2).sort((a, b) => a - b)[5];
}"""


def peer(folder: Path) -> Path:
    """A page with face-api.js."""
    for package, target in ((PEER, folder), (BACKEND, folder / "wasm-package")):
        packed = subprocess.run(["npm", "pack", package], cwd=folder, capture_output=True, text=True, check=True)
        with tarfile.open(folder / packed.stdout.split()[-1]) as tar:
            for member in tar.getmembers():
                member.name = member.name.removeprefix("package/")
                tar.extract(member, target, filter="data")
    (folder / "wasm").mkdir()
    for path in (folder / "wasm-package").glob("**/*.wasm"):
        path.rename(folder / "wasm" / path.name)
    (folder / "index.html").write_text(PEER_PAGE)
    return folder


def loaded(page, visit) -> tuple[float, int]:
    """Seconds until `visit` returns, and the bytes of all that it fetched, each compressed by gzip."""
    sizes, started = [], time.perf_counter()
    page.on("response", lambda response: sizes.append(response) if response.url.startswith("http") else None)
    visit()
    elapsed = time.perf_counter() - started
    return elapsed, sum(len(gzip.compress(response.body())) for response in sizes)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        static.write(static.site_files("you/live"), folder / "site")
        camera = write_camera(folder / "camera.mjpeg", moving(240, names=[WOMAN]))
        photos = {}
        for count_of, (width, height, side) in SCENES.items():
            name = f"{width}x{height}, {counted(count_of, 'face')}"
            photos[name] = folder / f"{count_of}.jpg"
            Image.fromarray(scene(count_of, width, height, side)).save(photos[name], quality=92)
        labeled = held_out(count, folder) if count else []
        (folder / "peer").mkdir()
        peer(folder / "peer")
        ours, theirs = serve(folder / "site"), serve(folder / "peer")
        with chromium(FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera}") as browser:
            one_thread(browser, f"http://localhost:{ours.server_port}", photos)
            found = {
                "static Space": measure_ours(browser, f"http://localhost:{ours.server_port}", photos, labeled),
                "face-api.js": measure_theirs(browser, f"http://localhost:{theirs.server_port}", photos, labeled),
            }
    if not labeled:
        return
    both = [i for i in range(len(labeled)) if all(answers[i] for answers in found.values())]
    for name, answers in found.items():
        print(f"{name}: {sum(map(bool, answers))} of {len(labeled)} FairFace photos with a face", end="; ")
        print("where both found one:", score([answers[i] for i in both], [labeled[i] for i in both]))
    print("static Space, all:", score(found["static Space"], labeled))


def one_thread(browser, address: str, photos: dict[str, Path]) -> None:
    """Measure with one thread. Without the service worker, the page isn't isolated and gets no threads."""
    page = browser.new_context(service_workers="block").new_page()
    page.goto(address)
    page.wait_for_selector(READY, timeout=60_000)
    for name, path in photos.items():
        print(f"static Space, one thread: {name}: {measured(page, path)}")
    page.close()


def measured(page, path: Path) -> str:
    """How long a photo takes in the static page."""
    answers = [analyze(page, shutil.copy(path, path.with_name(f"{path.stem}-{i}.jpg"))) for i in range(12)]
    ms = statistics.median(answer["elapsed_ms"] for answer in answers[2:])
    whole = page.evaluate(WHOLE, list(path.read_bytes()))
    return f"{ms:.0f} ms, {whole:.0f} ms with decoding and drawing, {len(answers[-1]['faces'])} found"


def measure_ours(browser, address: str, photos: dict[str, Path], labeled: list) -> list[list[dict]]:
    context = browser.new_context()
    context.grant_permissions(["camera"])
    page = context.new_page()

    def visit():
        page.goto(address)
        page.wait_for_selector(READY, timeout=60_000)

    seconds, size = loaded(page, visit)
    print(f"static Space: {size / 1e6:.1f} MB compressed, first answer after {seconds:.2f} s", end="")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(1500)
    started = time.perf_counter()
    visit()
    print(f", at the next visit {time.perf_counter() - started:.2f} s, threads: {page.evaluate('crossOriginIsolated')}")
    for name, path in photos.items():
        print(f"static Space: {name}: {measured(page, path)}")
    found = [analyze(page, path)["faces"] for path, *_ in labeled]
    page.click("#tab-live")
    page.click(".live-start")
    page.wait_for_timeout(6000)
    rates = []
    for _ in range(10):
        page.wait_for_timeout(1500)
        rates.append([float(word) for word in page.inner_text(".live-rate").split() if word[0].isdigit()])
    rate, latency = np.median(rates, axis=0)
    print(f"static Space: live, one face: {rate:.1f} frames per second, {latency:.0f} ms latency")
    context.close()
    return found


def measure_theirs(browser, address: str, photos: dict[str, Path], labeled: list) -> list[list[dict]]:
    page = browser.new_page()

    def visit():
        page.goto(address)
        page.wait_for_selector("body[data-ready]", timeout=60_000)
        ask(photos["1024x768, 5 faces"])

    def ask(path: Path) -> dict:
        page.set_input_files("#file", str(path))
        return page.evaluate("window.answer(URL.createObjectURL(document.querySelector('#file').files[0]))")

    seconds, size = loaded(page, visit)
    print(f"face-api.js: {size / 1e6:.1f} MB compressed, first answer after {seconds:.2f} s")
    for name, path in photos.items():
        answers = [ask(path) for _ in range(12)]
        ms = statistics.median(answer["ms"] for answer in answers[2:])
        print(f"face-api.js: {name}: {ms:.0f} ms, {len(answers[-1]['faces'])} found")
    return [ask(path)["faces"] for path, *_ in labeled]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300, help="FairFace test photos for the accuracy; 0: none")
    options = parser.parse_args()
    main(options.photos)
