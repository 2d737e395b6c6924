"""A network's files: the members of a `.keras` archive, which is what `hf://user/name` loads, and weights from ONNX."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from space.hub.download import ModelError

KERAS_FILES = ("config.json", "metadata.json", "model.weights.h5")


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Without Keras's warnings of containers that a file doesn't name: their layers are in it under other names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
        yield


def save_keras(network, folder: Path) -> None:
    """Write a network as the members of its `.keras` archive, with weights in float16: half the bytes, same answers."""
    import h5py

    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "model.keras"
        network.save(archive)
        with zipfile.ZipFile(archive) as members:
            members.extract("model.weights.h5", scratch)
            members.extract("metadata.json", folder)
            config = json.loads(members.read("config.json"))
        (folder / "config.json").write_text(json.dumps(_portable(config)), encoding="utf-8")
        with (
            h5py.File(Path(scratch) / "model.weights.h5") as source,
            h5py.File(folder / "model.weights.h5", "w") as target,
        ):

            def copy(name: str, item) -> None:
                if isinstance(item, h5py.Dataset):
                    values = item[()]
                    target[name] = values.astype(np.float16) if values.dtype == np.float32 else values
                else:
                    target.require_group(name)
                for key, value in item.attrs.items():
                    target[name].attrs[key] = value

            source.visititems(copy)


def _portable(config):
    """A network's config without initializers and without settings that have their default.

    Trained layers don't need them, and versions of Keras 3 that don't know a newer setting refuse the whole file.
    """
    import keras

    if isinstance(config, list):
        return [_portable(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: _portable(value) for key, value in config.items()}
    layer = getattr(keras.layers, str(config.get("class_name")), None)
    if layer is None or config.get("module") != "keras.layers":
        return config
    defaults = {name: argument.default for name, argument in inspect.signature(layer).parameters.items()}
    settings = {
        key: value
        for key, value in config["config"].items()
        if not key.endswith("_initializer") and (key not in defaults or value != defaults[key])
    }
    return config | {"config": settings}


def load_keras(folder: Path):
    """The network that `save_keras` wrote; ModelError if the folder has none."""
    import keras

    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "model.keras"
        try:
            with zipfile.ZipFile(archive, "w") as members:
                for name in KERAS_FILES:
                    members.write(folder / name, name)
            with quiet_loading():
                return keras.saving.load_model(archive, compile=False)
        except FileNotFoundError as error:
            raise ModelError(f"{folder} has no Keras weights ({Path(error.filename).name} is missing).") from error


def read_onnx(network, path: Path) -> None:
    """Set the weights of a vgg16 network to those of its ONNX export, float32 or int8.

    Its Keras weights are too large to embed. Exports of compact can't be read back: their bundles have Keras weights.

    The export merges batch normalizations into the convolutions before them. This function sets these normalizations so
    that they only add a shift.

    Args:
        network: from `networks.build`, with the layers that were exported.

    Raises:
        ModelError: the file has other layers.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    values = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    for node in graph.node:  # int8 weights, a scale for each channel
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            quantized, scale, zero = (values[name] for name in node.input)
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if i == axis else 1 for i in range(quantized.ndim)] if scale.ndim else ()
            values[node.output[0]] = (quantized.astype(np.float32) - zero.reshape(shape)) * scale.reshape(shape)
    found: dict[str, list[np.ndarray]] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul", "Mul", "Add"):
            for name in node.input:
                if name in values and (layer := re.search(r"/(\w+?)(_1)?/", f"/{name.split('/', 1)[-1]}")):
                    found.setdefault(layer[1], []).append(values[name])
    for layer in network.layers:
        if layer.weights:
            try:
                layer.set_weights(_weights(layer, found))
            except (KeyError, ValueError, StopIteration) as error:
                raise ModelError(
                    f"{path} has no weights for the layer {layer.name}. Use a bundle that contains Keras weights."
                ) from error


def _weights(layer, found: dict[str, list[np.ndarray]]) -> list[np.ndarray]:
    """A layer's weights in Keras's order, from the arrays of an ONNX file by layer."""
    kind, shapes = type(layer).__name__, [tuple(weight.shape) for weight in layer.weights]
    arrays = found.get(layer.name, [])
    if kind == "BatchNormalization":
        size = shapes[0]
        *scales, shift = arrays  # factors, where they aren't part of a convolution
        scale = scales[0] if scales else np.ones(size)
        return [scale.reshape(size) * np.sqrt(1 + layer.epsilon), shift.reshape(size), np.zeros(size), np.ones(size)]
    kernel = next(a for a in arrays if a.size == np.prod(shapes[0]))
    if len(shapes[0]) == 4:  # ONNX: output channels, input channels, height, width
        height, width, inputs, outputs = shapes[0]
        kernel = kernel.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)
    biases = [next(a for a in arrays if a is not kernel and a.size == np.prod(shape)) for shape in shapes[1:]]
    return [kernel.reshape(shapes[0]), *biases]
