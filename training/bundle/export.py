"""Export a trained network as a model bundle: ONNX, verified against Keras, with card and hashes.

A bundle is written atomically: into a temporary folder that is then renamed. Knows nothing of how the
network was trained; that comes in as plain values for the card.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from space.console import command
from space.crop import load_template
from space.estimator import Estimator
from space.face import EXAMPLES
from space.hub.bundle import embedded, open_bundle, verify
from space.hub.card import CARD, FORMAT, read_card
from space.hub.download import ModelError, sha256_of
from space.text import some_of
from training import programs
from training.atomic import new_folder
from training.bundle import model_card
from training.data.samples import GENDERS
from training.model.files import load_keras, save_keras

MAX_EMBEDDED = 50_000_000  # bytes of a file in the repository
RUNTIMES = (".onnx", ".tflite", ".xml")  # suffixes of what `export` writes
TOLERANCE = 0.01  # years, largest age difference allowed between ONNX and Keras
FLOAT16_TOLERANCE = 0.1  # the same for the Keras file, whose weights are in float16
_ROLES = {
    "model.onnx": "onnx-float32",
    "model.int8.onnx": "onnx-int8",
    "config.json": "keras-config",
    "metadata.json": "keras-metadata",
    "model.weights.h5": "keras-weights",
    "recipe.toml": "recipe",
}
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "datasets", "tf2onnx", "onnx", "onnxruntime")


class ExportError(RuntimeError):
    """The network cannot be exported faithfully; the message says why."""


def write_model(network, folder: Path, *, faces: np.ndarray) -> None:
    """Write the Keras files and model.onnx, and prove ONNX equal to Keras.

    `config.json`, `metadata.json` and `model.weights.h5` are the members of a `.keras` archive: what
    `keras.saving.load_model("hf://user/name")` downloads from a repository.

    Args:
        network: from `networks.build`, float32 policy.
        folder: an existing folder.
        faces: uint8 [N, 200, 200, 3], real ones, for the proof.

    Raises:
        ExportError: the conversion failed, or a file's outputs differ from the network's.
    """
    import keras

    from training.model.prediction import predict

    save_keras(network, folder)
    if keras.backend.backend() == "tensorflow":
        convert(network, folder / "model.onnx")
    else:
        # Only TensorFlow's converter keeps the batch dynamic without further packages.
        program = (
            "import sys; from pathlib import Path; from training.bundle.export import export; "
            "export(*map(Path, sys.argv[1:]))"
        )
        result = subprocess.run(
            [sys.executable, "-c", program, str(folder), str(folder / "model.onnx")],
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            cwd=Path(__file__).resolve().parent.parent.parent,
            capture_output=True,
            text=True,
        )
        if result.returncode:
            said = result.stderr.strip().splitlines() or [f"status {result.returncode}, perhaps too little memory"]
            raise ExportError(f"The ONNX conversion failed: {said[-1]}")
    outputs = predict(network, faces)
    _compare("model.onnx", Estimator(folder / "model.onnx").predict(np.asarray(faces)), outputs, TOLERANCE)
    # Its weights are in float16, which can't hold every number.
    _compare("model.weights.h5", predict(load_keras(folder), faces), outputs, FLOAT16_TOLERANCE)


def _compare(file: str, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], years: float) -> None:
    """ExportError if a file's ages differ by `years` or more, or the genders' probabilities by a tenth of that."""
    age, gender = (float(np.max(np.abs(found[name] - wanted[name]))) for name in ("age", "p_female"))
    if not (age < years and gender < years / 10):  # NaN fails too
        raise ExportError(
            f"{file} and the trained network differ on real faces: by {age:.4f} years and {gender:.4f} in the "
            f"gender's probability; the limits are {years} and {years / 10:g}."
        )
    print(
        f"{file} matches the trained network on {len(wanted['age'])} faces: ages within {age:.6f} years, gender "
        f"within {gender:.6f}"
    )


def convert(network, path: Path) -> None:
    """Write `network` as ONNX with a dynamic batch. Needs Keras on TensorFlow."""
    import onnx

    network(np.zeros((1, *network.input.shape[1:]), np.uint8))  # export() wants a model that was called
    network.export(path, format="onnx", verbose=False)
    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def export(bundle: Path, target: Path) -> None:
    """Write a bundle's network for another runtime, by the suffix of `target`; inputs and outputs stay the same.

    Args:
        bundle: a folder; `.onnx` and `.tflite` need its Keras files.
        target: `.onnx` (float32), `.tflite` (LiteRT, float32, by Keras on TensorFlow) or `.xml` (OpenVINO, from the
            served ONNX network, int8 where that is).

    Raises:
        ExportError: an unknown suffix, or OpenVINO is missing.
        ModelError: `bundle` isn't a complete bundle, or has no Keras files.
    """
    if target.suffix == ".xml":
        try:
            import openvino
        except ImportError:
            raise ExportError("OpenVINO files need the package openvino: run `pip install openvino`.") from None
        openvino.save_model(openvino.convert_model(bundle / verify(bundle)["serve"]), target, compress_to_fp16=False)
    elif target.suffix == ".onnx":
        convert(load_keras(bundle), target)
    elif target.suffix == ".tflite":
        load_keras(bundle).export(str(target), format="litert", verbose=False)
    else:
        raise ExportError(f"{target} has an unknown suffix: use {', '.join(RUNTIMES)}, or a folder without a suffix.")


def write_card(
    folder: Path,
    network,
    age_head: str,
    *,
    name: str,
    calibration: dict,
    metrics: dict,
    provenance: dict,
    served: dict,
    license: dict,
    mirror: bool,
) -> None:
    """Write README.md and age_gender.json; called last, since that lists all other files.

    Args:
        name: of the model.
        served: what `quantize.quantize` returned.
        license: what `licenses.of` returned.
        mirror: whether the network averages a face and its mirror image.
    """
    from training.model import networks

    card = {
        "format": FORMAT,
        "name": name,
        "network": network.name,
        "age_head": age_head,
        "parameters": network.count_params(),
        "input": {"name": "face", "dtype": "uint8", "size": [networks.INPUT_SIZE] * 2, "channels": "RGB"},
        "crop": load_template().as_dict(),
        "genders": list(GENDERS),
        "ages": [0, networks.AGES - 1] if age_head == "distribution" else None,
        "mirror": mirror,
        "license": license,
        "calibration": calibration,
        "metrics": metrics,
        "provenance": {
            **provenance,
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "packages": _versions(),
        },
        "serve": served["serve"],
        "quantization": {name: value for name, value in served.items() if name != "serve"},
    }
    for filename, content in programs.files(card, (folder / programs.CONFIG).read_bytes()).items():
        (folder / filename).write_bytes(content)
    shutil.copy(EXAMPLES / "age-20-29-female.jpg", folder / model_card.EXAMPLE)
    _list_files(folder, card)


def _list_files(folder: Path, card: dict) -> None:
    """Write README.md and age_gender.json for the files that are in `folder`."""
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != CARD}
    names = sorted({*present, "README.md"})
    readme = model_card.render({**card, "files": dict.fromkeys(names)})
    (folder / "README.md").write_text(readme, encoding="utf-8", newline="\n")
    files = {
        name: {
            "sha256": sha256_of(folder / name),
            "bytes": (folder / name).stat().st_size,
            "role": _ROLES.get(name, "figure" if name.startswith("figures/") else "document"),
        }
        for name in names
    }
    (folder / CARD).write_text(json.dumps({**card, "files": files}, indent=1, allow_nan=False) + "\n")
    read_card(folder)  # nobody should find out after hours of training that it can't be read


def embed(bundle: Path, target: Path) -> None:
    """Copy the files of a bundle that this repository embeds: the served network and, up to MAX_EMBEDDED, Keras's.

    Raises:
        ModelError: `bundle` isn't a complete bundle.
        ExportError: `target` has files that the copy would not have, so they would be lost.
    """
    card = verify(bundle)
    large = any(e["role"] == "keras-weights" and e["bytes"] > MAX_EMBEDDED for e in card["files"].values())
    names = [name for name, entry in card["files"].items() if _is_embedded(name, entry, card, large=large)]
    there = {path.relative_to(target).as_posix() for path in target.rglob("[!.]*") if path.is_file()}
    others = [target.name] if target.is_file() else sorted(there - {*names, "README.md", CARD})
    if others:
        raise ExportError(f"{target} contains other files: {some_of(others)}. Choose another folder.")
    with new_folder(target) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(bundle / name, folder / name)
        _list_files(folder, card)


def _is_embedded(name: str, entry: dict, card: dict, *, large: bool) -> bool:
    keras, onnx = (entry["role"].startswith(kind) for kind in ("keras", "onnx"))
    return not ((keras and large) or (onnx and name != card["serve"]) or name in programs.ADDED)


def checkout() -> dict:
    """This checkout, for a bundle's provenance.

    Returns:
        "commit": the full SHA; "modified": whether tracked files differ from it; "repository": the public URL, for the
        model card. None, False and None if this folder isn't the root of a Git repository.
    """
    root = Path(__file__).resolve().parent.parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or not root.samefile(top):  # a copy within another project
        return {"commit": None, "modified": False, "repository": None}
    address = _git(root, "remote", "get-url", "origin")
    # Host and path of https://user:token@host/path.git or git@host:path.git.
    found = re.fullmatch(r"(?:https?://(?:[^@/]*@)?|(?:ssh://)?git@)([\w.-]+\.\w+)[:/]([\w./-]+?)(?:\.git)?/?", address)
    return {
        "commit": _git(root, "rev-parse", "HEAD") or None,
        "modified": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        "repository": f"https://{found[1]}/{found[2]}" if found else None,
    }


def _git(root: Path, *words: str) -> str:
    """The output of a git command, or an empty string if it fails."""
    try:
        result = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@command(ExportError, ModelError, ImportError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.bundle.export",
        description="Convert a bundle's network for another runtime, or copy the files needed for serving to a folder.",
    )
    parser.add_argument("source", help=f"{', '.join(embedded())}, a bundle folder or a Hub id user/name")
    parser.add_argument("target", type=Path, help=".onnx, .tflite (LiteRT) or .xml (OpenVINO) file, or a folder")
    options = parser.parse_args(arguments)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the only backend that exports to all of these
    bundle = open_bundle(options.source, keras=True).folder
    if options.target.suffix:
        export(bundle, options.target)
    else:
        embed(bundle, options.target)
    print(f"Wrote {options.target}.")


if __name__ == "__main__":
    sys.exit(main())
