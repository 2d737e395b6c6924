"""int8 beside float32: static quantisation of an exported network, served only where it is as good and faster.

Knows nothing of training; works on the ONNX file that is served.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np

from space.bench import median_ms
from space.estimator import Estimator

FACES = 512  # that the ranges of activations are measured on
MAE_RISE = 0.05  # years, what int8 may cost on validation
GENDER_FALL = 0.002  # share of faces, likewise
# Matrices of fewer weights stay float: next to nothing is gained there, and they are the nearest to the answer.
FEWEST = 100_000
# How many of the layers that int8 disturbs most stay float, until the answers are as good as they were.
KEPT = (0, 2, 4, 6)


def quantize(folder: Path, faces: np.ndarray, images: np.ndarray, age: np.ndarray, female: np.ndarray) -> dict:
    """Write model.int8.onnx beside a bundle's model.onnx, if that answers as well on validation faces and faster.

    Static, per channel, weights of 7 bits: with 8, processors without VNNI saturate sums of two products and answer
    something else (documented for ONNX Runtime as `reduce_range`).

    Args:
        folder: holds model.onnx.
        faces: uint8 [N, 200, 200, 3] training faces, which the ranges of activations are measured on.
        images: uint8 [V, 200, 200, 3] validation faces that decide, with their `age`, float [V] years, and `female`,
            bool [V].

    Returns:
        For the card: serve (the file to serve), reason, faces, kept_float (layers), and float32 and int8, each with
        age_mae (years), gender_accuracy and ms (one face).
    """
    plain = Estimator(folder / "model.onnx")

    def score(estimator: Estimator) -> dict:
        outputs = estimator.predict(images)
        return {
            "age_mae": round(float(np.mean(np.abs(outputs["age"] - age))), 4),
            "gender_accuracy": round(float(np.mean((outputs["p_female"] >= 0.5) == female)), 4),
            "ms": round(median_ms(lambda: estimator.predict(images[:1])), 2),
        }

    record = {"faces": len(faces), "float32": score(plain)}
    limit = record["float32"]
    with tempfile.TemporaryDirectory() as scratch:
        prepared = _prepare(folder / "model.onnx", Path(scratch) / "prepared.onnx")
        layers, ranked, target = _layers(prepared), [], Path(scratch) / "int8.onnx"
        for count in KEPT:
            if count >= len(layers):
                break
            if count and not ranked:
                ranked = _by_sensitivity(prepared, layers, faces)
            kept = ranked[:count]
            _write(prepared, target, [name for name in layers if name not in kept], faces)
            got = score(Estimator(target))
            record |= {"int8": got, "kept_float": kept}
            good = (
                got["age_mae"] <= limit["age_mae"] + MAE_RISE
                and got["gender_accuracy"] >= limit["gender_accuracy"] - GENDER_FALL
            )
            if good:
                break
        faster = got["ms"] < limit["ms"]
        if good and faster:
            shutil.copy(target, folder / "model.int8.onnx")
            return record | {"serve": "model.int8.onnx", "reason": "as good on validation faces, and faster"}
    return record | {"serve": "model.onnx", "reason": "int8 is less accurate" if not good else "int8 is not faster"}


def convert(source: Path, target: Path, faces: np.ndarray) -> None:
    """Quantise an ONNX network with ranges from uint8 faces [N, 200, 200, 3], however good it gets."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = _prepare(source, Path(scratch) / "prepared.onnx")
        _write(prepared, target, _layers(prepared), faces)


def sample(*sets: np.ndarray) -> np.ndarray:
    """FACES faces, or as many as there are, spread evenly over sets of uint8 [N, 200, 200, 3], as many of each."""
    parts = [faces[:: max(1, len(faces) * len(sets) // FACES)][: FACES // len(sets)] for faces in sets]
    return np.concatenate([np.asarray(part) for part in parts])


def _prepare(source: Path, target: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    return target


def _layers(path: Path) -> list[str]:
    """The names of the nodes worth quantising: convolutions, and matrix products of FEWEST weights and more."""
    import onnx

    graph = onnx.load(path).graph
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        or (node.op_type in ("MatMul", "Gemm") and max(sizes.get(name, 0) for name in node.input) >= FEWEST)
    ]


def _write(source: Path, target: Path, layers: list[str], faces: np.ndarray) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        batches = iter([faces[i : i + 16] for i in range(0, len(faces), 16)])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"face": np.ascontiguousarray(batch)}

    logging.getLogger().setLevel(logging.ERROR)  # it advises to prepare the network, which was done
    quantize_static(
        str(source),
        str(target),
        Reader(),
        nodes_to_quantize=layers,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def _by_sensitivity(source: Path, layers: list[str], faces: np.ndarray) -> list[str]:
    """The layers, first those that move the ages most when each alone is quantised."""
    few = faces[:32]
    ages, moved = Estimator(source).predict(few)["age"], {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in layers:
            _write(source, Path(scratch) / "one.onnx", [name], few)
            moved[name] = float(np.mean(np.abs(Estimator(Path(scratch) / "one.onnx").predict(few)["age"] - ages)))
    return sorted(layers, key=lambda name: -moved[name])
