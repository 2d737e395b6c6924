"""int8 beside float32: static quantization of an exported network, served only if it is as accurate and faster.

Knows nothing of training; works on the ONNX file that is served.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from space.estimator import Estimator
from training.evaluation.metrics import range_error
from training.images import Images

FACES = 128  # training faces on which the ranges of activations are measured
SCREENED = 500  # validation faces on which candidates are compared
RANKED = 16  # faces on which the sensitivity of each layer is measured
MAE_RISE = 0.03  # years that int8 may cost on validation
GENDER_FALL = 0.005  # share of faces, likewise; two of 500 faces are chance
MIN_WEIGHTS = 100_000  # smaller matrices stay float: little to gain there, and they are the nearest to the output
TIMINGS = 30  # calls of each network
FLOAT_LAYER_COUNTS = (0, 1, 2, 4)  # how many of the most sensitive layers stay float
PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Quantizer:
    """A network prepared for quantization, with the ranges of its activations."""

    prepared: Path
    ranges: object  # onnxruntime's TensorsData
    layers: tuple[str, ...]  # names of the nodes worth quantizing

    @classmethod
    def measure(cls, source: Path, faces: np.ndarray, scratch: Path) -> Quantizer:
        """Prepare `source` and measure ranges on uint8 faces [N, 200, 200, 3], once for all candidates."""
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = scratch / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        _fold_pools(prepared)
        calibrator = create_calibrator(
            prepared,
            [*PRODUCTS, "Relu"],
            augmented_model_path=str(scratch / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_reader(faces))
        return cls(prepared, calibrator.compute_data(), tuple(_layers(prepared)))

    def write(self, target: Path, layers: list[str]) -> None:
        """Write the network with `layers` in int8.

        Per channel, weights of 7 bits: with 8, processors without VNNI saturate sums of two products and give
        wrong results (documented for ONNX Runtime as `reduce_range`).
        """
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        logging.getLogger().setLevel(logging.ERROR)  # it advises to prepare the network, which was done
        model = onnx.load(self.prepared)
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[*layers, *_activations(model.graph, layers)],
            nodes_to_exclude=[],
            extra_options={},
            op_types_to_quantize=[*PRODUCTS, "Relu"],
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target), False)

    def by_sensitivity(self, faces: np.ndarray, scratch: Path) -> list[str]:
        """The layers, first those that move the ages most when each alone is quantized."""
        ages, moved = Estimator(self.prepared).predict(faces)["age"], {}
        for name in self.layers:
            self.write(scratch / "one.onnx", [name])
            moved[name] = float(np.mean(np.abs(Estimator(scratch / "one.onnx").predict(faces)["age"] - ages)))
        return sorted(self.layers, key=lambda name: -moved[name])


def quantize(folder: Path, faces: np.ndarray, images: Images, age_range: np.ndarray, female: np.ndarray) -> dict:
    """Write model.int8.onnx beside a bundle's model.onnx, if it is as accurate on validation faces and faster.

    Args:
        folder: holds model.onnx.
        faces: uint8 [N, 200, 200, 3] training faces, on which the ranges of activations are measured.
        images: uint8 [V, 200, 200, 3] validation faces that decide.
        age_range: their labels' first and last age, float [V, 2] years.
        female: their genders, bool [V].

    Returns:
        For the card: serve (the file to serve), reason, faces, validation_faces, kept_float (layers), and float32 and
        int8, each with age_mae (mean of the years outside the label's range), gender_accuracy and ms (one face).
    """
    every = max(1, len(images) // SCREENED)
    screened = (np.asarray(images[::every]), age_range[::every], female[::every])
    limit = _score(Estimator(folder / "model.onnx"), *screened)
    record = {"faces": len(faces), "validation_faces": len(screened[0]), "float32": limit}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        quantizer = Quantizer.measure(folder / "model.onnx", faces, scratch)
        target = scratch / "int8.onnx"
        ranked: list[str] = []
        for count in FLOAT_LAYER_COUNTS:
            if count and not ranked:
                ranked = quantizer.by_sensitivity(faces[:RANKED], scratch)
            kept = ranked[:count]
            quantizer.write(target, [layer for layer in quantizer.layers if layer not in kept])
            got = _score(Estimator(target), *screened)
            record |= {"int8": got, "kept_float": kept}
            good = (
                got["age_mae"] <= limit["age_mae"] + MAE_RISE
                and got["gender_accuracy"] >= limit["gender_accuracy"] - GENDER_FALL
            )
            if good:
                break
        limit["ms"], got["ms"] = _interleaved_ms(folder / "model.onnx", target, screened[0][:1])
        if good and got["ms"] < limit["ms"]:
            shutil.copy(target, folder / "model.int8.onnx")
            reason = f"it is as accurate as float32 on {len(screened[0])} validation faces, and faster"
            return record | {"serve": "model.int8.onnx", "reason": reason}
    return record | {"serve": "model.onnx", "reason": "int8 is less accurate" if not good else "int8 is not faster"}


def _score(estimator: Estimator, images: np.ndarray, age_range: np.ndarray, female: np.ndarray) -> dict:
    outputs = estimator.predict(images)
    return {
        "age_mae": round(float(np.mean(range_error(outputs["age"], age_range))), 4),
        "gender_accuracy": round(float(np.mean((outputs["p_female"] >= 0.5) == female)), 4),
    }


def _interleaved_ms(one: Path, other: Path, face: np.ndarray) -> list[float]:
    """Milliseconds that two networks take for a face: the shortest of TIMINGS calls each, in turns.

    Whatever else the machine does meanwhile slows both.
    """
    estimators = [Estimator(path) for path in (one, other)]
    rounds = [[call_ms(partial(e.predict, face)) for e in estimators] for _ in range(TIMINGS)]
    return [round(min(times), 2) for times in zip(*rounds, strict=True)]


def call_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def _reader(faces: np.ndarray):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        batches = iter([faces[i : i + 4] for i in range(0, len(faces), 4)])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"face": np.ascontiguousarray(batch)}

    return Reader()


def _fold_pools(path: Path) -> None:
    """Merge each 2x2 average pool and the 1x1 convolution after it into one convolution with the same outputs.

    In int8, ONNX Runtime's average pool takes as long as several convolutions.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    for pool in [node for node in graph.node if node.op_type == "AveragePool"]:
        settings = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
        conv, *others = (node for node in graph.node if pool.output[0] in node.input)
        if others or conv.op_type != "Conv" or settings["kernel_shape"] != [2, 2] or settings["strides"] != [2, 2]:
            continue
        kernel, name = numpy_helper.to_array(weights[conv.input[1]]), f"{conv.name}_pooled"
        if kernel.shape[2:] != (1, 1):
            continue
        # If a side is odd, the last window covers only half the pixels. Padding with edge values keeps their mean.
        pads = np.reshape(settings.get("pads", [0, 0, 0, 0]), (2, 2))
        made = {name: np.tile(kernel / 4, (1, 1, 2, 2)), f"{name}_pads": np.pad(pads, ((0, 0), (2, 0))).ravel()}
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in made.items())
        inputs = [f"{name}_in", name, *conv.input[2:]]
        at = list(graph.node).index(pool)
        outputs = list(conv.output)
        node = helper.make_node("Conv", inputs, outputs, conv.name, kernel_shape=[2, 2], strides=[2, 2])
        graph.node.insert(at, node)
        inputs = [pool.input[0], f"{name}_pads"]
        graph.node.insert(at, helper.make_node("Pad", inputs, [f"{name}_in"], f"{name}_pad", mode="edge"))
        graph.node.remove(pool)
        graph.node.remove(conv)
        graph.initializer.remove(weights[conv.input[1]])
    onnx.save(model, path)


def _activations(graph, layers: list[str]) -> list[str]:
    """The names of the ReLUs that follow `layers`. Quantized with them, they cost neither time nor accuracy."""
    made = {name: node for node in graph.node for name in node.output}
    follows = (node for node in graph.node if node.op_type == "Relu" and node.input[0] in made)
    return [node.name for node in follows if made[node.input[0]].name in layers]


def _layers(path: Path) -> list[str]:
    """The names of the nodes worth quantizing: convolutions, and matrix products of MIN_WEIGHTS weights and more."""
    import onnx

    graph = onnx.load(path).graph
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        or (node.op_type in ("MatMul", "Gemm") and max(sizes.get(name, 0) for name in node.input) >= MIN_WEIGHTS)
    ]
