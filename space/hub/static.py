"""The static Space: the same analysis in the visitor's browser, as files that any web server can serve.

`browser/` has the page's modules. This adds what they read: the constants of `space/`, models, detector, examples and
ONNX Runtime's WebAssembly build from npm.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from .. import analyzer, calibration, detector, quality, tilt, tracker
from ..annotate import COLORS
from ..batch.tables import COLUMNS
from ..face import EXAMPLES, UNCERTAIN
from ..live import stream
from ..photo import open_photo
from ..text import CAUTION, TITLE
from ..video import annotator, reader, scenes
from ..web.about import about_html
from ..web.modules import BROWSER
from ..web.result import example_photos, page_result
from .bundle import Bundle, embedded, open_bundle
from .card import CARD
from .repository import ROOT, THUMBNAIL, own_files, space_card

# Files of npm packages. Mediabunny's license is a file of its own.
_SCRIPT = "onnxruntime-web/dist/ort.wasm.bundle.min.mjs"
_BINARY = "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
_VIDEO = ("mediabunny/dist/bundles/mediabunny.min.mjs", "mediabunny/LICENSE")
_SERVED = (
    "*.js",
    "languages/*.json",
    "*.css",
    "icon.svg",
    "manifest.webmanifest",
    "yunet.LICENSE.txt",
)  # of browser/, as they are
VIDEO = "video/"  # the folder of what only the Video tab reads
Files = dict[str, Path | bytes]


class SiteError(RuntimeError):
    """The site can't be built or written; the message says what to do."""


def site_files(space: str, model: str | None = None) -> Files:
    """Everything that the site consists of: path → file or bytes.

    Args:
        space: `user/name`, for the card.
        model: as for `open_bundle`; None for all embedded ones, of which visitors choose.

    Raises:
        ModelError: a model or the detector is unavailable.
        SiteError: `onnx`, npm or onnxruntime-web is unavailable.
    """
    names = [model] if model else embedded()
    bundles, modules = [open_bundle(name) for name in names], _node_modules()
    served = [path for path in own_files("browser") if any(path.match(f"browser/{pattern}") for pattern in _SERVED)]
    files: Files = {path.relative_to(BROWSER).as_posix(): path for path in served}
    files["LICENSE"] = ROOT / "LICENSE"
    files["ort/ort.wasm.bundle.min.mjs"] = modules / _SCRIPT
    # Most static servers send such files as they are: 14 MB instead of 4.
    packed = gzip.compress((modules / _BINARY).read_bytes(), 9, mtime=0)
    runtime = f"ort/ort-{hashlib.sha256(packed).hexdigest()[:12]}.wasm.gz"
    files[runtime] = packed
    files["yunet.onnx"] = detector.resizable(detector.yunet_file().read_bytes())
    folders = []
    for bundle in bundles:
        network, mirror = single_look(bundle.model_path.read_bytes())
        card = _card(bundle, mirror)
        # A name for each version: a page that is open while the site changes never mixes two.
        folders.append(f"models/{bundle.card['name']}-{hashlib.sha256(network + card).hexdigest()[:12]}")
        files |= {f"{folders[-1]}/model.onnx": network, f"{folders[-1]}/{CARD}": card}
    own = own_files("space/examples")
    examples = [path for path in example_photos() if path in own]
    files |= {f"examples/{path.name}": path for path in examples}
    files |= {f"{VIDEO}{Path(name).name}": modules / name for name in _VIDEO}
    files[f"{VIDEO}two-people.mp4"] = EXAMPLES / "two-people.mp4"
    files["kit.json"] = json.dumps(_kit(bundles, folders, files) | {"runtime": runtime}, indent=1).encode()
    files["index.html"] = _page(bundles, examples, _example(names[0], examples[0]))
    files["service-worker.js"] = _service_worker(files, folders)
    files["README.md"] = str(space_card(BROWSER / "README.md", space, bundles)).encode()
    files[THUMBNAIL] = ROOT / ".github" / "photo.jpg"
    return files


def check_target(folder: Path) -> None:
    """Raise SiteError unless `write` can use a folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SiteError(f"{folder} isn't empty: choose another folder, or delete it first.")


def write(files: Files, folder: Path) -> None:
    """Write the site into a folder that doesn't exist yet, or is empty.

    Raises:
        SiteError: it isn't empty.
    """
    check_target(folder)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            shutil.copyfile(content, target)


def single_look(network: bytes) -> tuple[bytes, bool]:
    """An ONNX network without the averaging over each face's mirror image, and whether it had that.

    The browser averages by itself for photos; the live stream takes one look, in half the time.
    """
    try:
        import onnx  # of requirements.txt: the app itself needs none
        from onnx import numpy_helper
    except ImportError:
        raise SiteError(
            "Building the static Space needs the package onnx: run `pip install onnx`, then try again."
        ) from None
    model = onnx.load_from_string(network)
    graph = model.graph
    face = graph.input[0].name
    both = next((node for node in graph.node if node.op_type == "Concat" and node.input[0] == face), None)
    if both is None:
        return network, False
    # The answers, first of all faces, then of all mirror images, are reshaped to [2, N, …] and averaged.
    averaged = {node.input[0] for node in graph.node if node.op_type == "ReduceMean"}
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape" and node.output[0] in averaged}
    for value in graph.initializer:
        if value.name in shapes:
            shape = numpy_helper.to_array(value)
            value.CopyFrom(numpy_helper.from_array(np.concatenate([[1], shape[1:]]), value.name))
    _bypass(graph, both, face)
    del graph.value_info[:]  # it notes the shapes of before
    return model.SerializeToString(), True


def _bypass(graph, both, face: str) -> None:
    """Let what reads the concatenation `both` read the face alone, and remove what made the mirror image."""
    flip = next(node for node in graph.node if both.input[1] in node.output)
    for node in graph.node:
        node.input[:] = [face if name == both.output[0] else name for name in node.input]
    for node in (both, flip):
        graph.node.remove(node)
    for value in [value for value in graph.initializer if value.name in flip.input]:
        graph.initializer.remove(value)


def _node_modules() -> Path:
    """The folder of npm's packages, at the versions of package-lock.json, which npm checks by hash."""
    modules = BROWSER / "node_modules"
    wanted = json.loads((BROWSER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    if any(_version(modules / name / "package.json") != version for name, version in wanted.items()):
        npm = shutil.which("npm")
        if npm is None:
            raise SiteError(
                f"Building the static Space needs npm once, for {' and '.join(wanted)}: install Node.js (nodejs.org) "
                "and try again."
            )
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=BROWSER, capture_output=True, text=True
        )
        if done.returncode:
            raise SiteError(f"npm could not install {' and '.join(wanted)}:\n{done.stderr.strip()[-500:]}")
    return modules


def _version(package: Path) -> str | None:
    return json.loads(package.read_text(encoding="utf-8"))["version"] if package.is_file() else None


def _example(model: str, path: Path) -> str:
    """The result of an example, so that visitors see one before any model has been loaded."""
    result = page_result(analyzer.FaceAnalyzer.load(model), path.stem, open_photo(path), detector.THRESHOLD)
    result["image"] = f"examples/{path.name}"
    result["answer"]["elapsed_ms"] = None  # of another machine
    return json.dumps(result)


def _example_name(path: Path) -> str:
    """`Example: woman, 20 to 29 years`, from a name like age-20-29-female.jpg; 99 stands for all that are older."""
    match path.stem.split("-"):
        case ["age", low, high, gender]:
            who = "child" if int(low) < 13 else {"female": "woman", "male": "man"}[gender]
            return f"Example: {who}, " + (f"over {low}" if high == "99" else f"{int(low)} to {int(high)} years")
    return f"Example: {path.stem}"


def _card(bundle: Bundle, mirror: bool) -> bytes:
    """What the browser reads of a bundle's card, and whether to average over mirror images."""
    values = {key: bundle.card[key] for key in ("network", "crop", "calibration")}
    return json.dumps(values | {"mirror": mirror}).encode()


def _kit(bundles: list[Bundle], folders: list[str], files: Files) -> dict:
    """The constants of `space/` that the modules of the same names read: none is written twice."""

    def of(module, *names: str) -> dict:
        return {name.lower(): getattr(module, name) for name in names}

    return {
        "models": [
            {"name": bundle.card["name"], "title": _title(bundle), "folder": folder, "about": bundle.as_dict()}
            for bundle, folder in zip(bundles, folders, strict=True)
        ],
        "detector": of(
            detector, "STRIDES", "THRESHOLD", "MAX_SIDE", "CLOSE_UP", "MIN_SIDE", "MAX_FACES", "PANORAMA", "NESTED",
            "SMALL", "LARGE", "SURE", "OVERLAP", "CANDIDATES",
        ),
        "analyzer": of(analyzer, "MARGIN"),
        "tilt": of(
            tilt, "PROPOSED", "UPRIGHT", "NEARLY", "LEANING", "ANY", "TURNED", "MARGIN", "SIZE", "WIDTH", "MOST",
        ),
        "calibration": of(calibration, "LEAST") | of(quality, "SOFT", "WIDER"),
        "face": {"uncertain": UNCERTAIN} | of(
            quality, "DOUBTFUL", "SOFT", "BLURRED_GENDER", "TURNED", "SMALL", "CUT_OFF",
        ),
        "tracker": of(
            tracker, "MEMORY", "SEARCH_GROWTH", "HOLD_SECONDS", "CONFIRM", "WINDOW", "SWAP_SECONDS", "SWAP_ANSWERS",
            "OTHER_AGE", "OTHER_GENDER", "CALM_AGE", "CALM_GENDER", "CUTOFF", "CUTOFF_SPEED",
        ),
        "video": of(
            annotator, "RATE", "EARLY", "PATIENCE", "MAX_CUTS", "MIN_DETECTIONS", "VOTES", "UNSURE", "MAX_ANSWERS",
        )
        | of(scenes, "CUT", "FLASH_FRAMES")
        | of(reader, "SIDE"),
        "live": {"side": stream.SIDE, "most_estimates": stream.MAX_ESTIMATES_PER_FRAME},
        "colors": {name: "rgb({} {} {})".format(*rgb) for name, rgb in COLORS.items()},
        "csv": COLUMNS,
        "bytes": {name: _size(content) for name, content in files.items()},
    }  # fmt: skip


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _title(bundle: Bundle) -> str:
    """What visitors choose a model by, beside its name."""
    metrics = bundle.card["metrics"]
    ages = [f"age error {metrics['age_mae']['value']:.2f} years"] if "age_mae" in metrics else []
    gender, size = 100 * metrics["gender_accuracy"]["value"], bundle.model_path.stat().st_size / 1e6
    return ", ".join([*ages, f"gender {gender:.1f}%", f"{size:.0f} MB"])


def _page(bundles: list[Bundle], photos: list[Path], example: str) -> bytes:
    live_html = (BROWSER / "live.html").read_text(encoding="utf-8")
    examples = "".join(
        f'<button type="button" aria-label="{_example_name(path)}"><img src="examples/{path.name}" alt=""></button>'
        for path in photos
    )
    values = {
        "TITLE": escape(TITLE),
        "DESCRIPTION": "Estimate the apparent age and gender of every face in photos, videos or a live camera stream.",
        "ICON": "data:image/svg+xml," + quote((BROWSER / "icon.svg").read_text(encoding="utf-8").strip()),
        "EXAMPLES": examples,
        "RESULT": example.replace("<", "\\u003c"),  # nothing in it ends the script element
        "THRESHOLD": f"{detector.THRESHOLD:.2f}",
        "LIVE": live_html.replace("PRIVACY", "Frames stay on this device."),
        "ABOUT": about_html(bundles, (BROWSER / "privacy.html").read_text(encoding="utf-8")),
        "CAUTION": CAUTION,
    }
    text = (BROWSER / "index.html").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text.encode()


def _service_worker(files: Files, folders: list[str]) -> bytes:
    """Kept for offline use from the first visit: all but the example video and models that nobody has chosen yet."""
    later = (f"{VIDEO}two-people.mp4", *(f"{folder}/" for folder in folders[1:]))
    kept = [
        "./",
        *(name for name in files if not name.startswith(later) and name not in ("LICENSE", "index.html", THUMBNAIL)),
    ]
    digest = hashlib.sha256((BROWSER / "service-worker.js").read_bytes())
    for name, content in sorted(files.items()):
        digest.update(name.encode() + (content if isinstance(content, bytes) else content.read_bytes()))
    values = {"VERSION": digest.hexdigest()[:12], "FILES": kept, "MODELS": folders}
    head = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    return head.encode() + (BROWSER / "service-worker.js").read_bytes()
