"""The networks: uint8 faces in, apparent age and gender out.

Every network maps `face`, uint8 [N, 200, 200, 3] RGB in UTKFace framing, to a dict of
    age        float32 [N], years
    p_female   float32 [N], probability that the apparent gender is female
    age_probs  float32 [N, 102], one probability a year of age 0..101 (distribution head only)
Scaling and channel order are part of the graph, so training, evaluation and serving cannot differ in
them. Backend-agnostic Keras 3: nothing here names TensorFlow or JAX.

Knows nothing of data, losses or files other than initial weights.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

INPUT_SIZE = 200  # pixels, height and width of a UTKFace chip
AGES = 102  # the distribution head's support: 0, 1, ..., 101 years
NETWORKS = ("compact", "vgg16")
AGE_HEADS = ("distribution", "regression")

# Mean of ImageNet in BGR order, what the published VGG16 weights were trained with
# (Simonyan & Zisserman 2014, arXiv 1409.1556; same numbers as keras.applications.vgg16).
_IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)


def build(
    network: str,
    *,
    age_head: str = "distribution",
    init: str | None = "none",
    dropout: float = 0.5,
    batch_norm: bool = False,
    mirror: bool = False,
    faces: np.ndarray | None = None,
):
    """Build a network.

    Args:
        network: "vgg16" or "compact".
        age_head: "distribution" (102 ages, expected value; after DEX, Rothe et al. 2018) or
            "regression" (one linear unit, the published head).
        init: "imagenet" (vgg16 only: the convolutional base from keras.applications), "none"
            (random), or the path of a `.weights.h5` or `.keras` file of the same network, or of compact's `.onnx`.
        dropout: rate between the layers of the heads, 0 to 1.
        batch_norm: vgg16 only: normalise after each convolution, without which it hardly learns from random weights;
            `fold_norms` brings the trained network back to the published layers.
        mirror: answer with the mean of the answers for the face and for its mirror image. The same weights; twice the
            time, so not for training.
        faces: uint8 [N, 200, 200, 3], some hundred to learn from; needed with an `.onnx` file only.

    Returns:
        keras.Model with outputs as in the module's description.

    Raises:
        ValueError: unknown network, head or init, or weights that do not fit.
    """
    if network not in NETWORKS:
        raise ValueError(f"Unknown network {network!r}: choose one of {', '.join(NETWORKS)}.")
    if age_head not in AGE_HEADS:
        raise ValueError(f"Unknown age head {age_head!r}: choose one of {', '.join(AGE_HEADS)}.")
    init = init or "none"
    if init == "imagenet" and network != "vgg16":
        raise ValueError("There are no ImageNet weights for the compact network: use --init none.")

    face = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), dtype="uint8", name="face")
    seen = ops.concatenate([face, face[:, :, ::-1]], axis=0) if mirror else face
    if network == "vgg16":
        if batch_norm and init == "imagenet":
            raise ValueError("ImageNet's weights are for convolutions without batch normalisation: use --init none.")
        age, gender = _vgg16(seen, dropout, imagenet=init == "imagenet", batch_norm=batch_norm)
    else:
        age, gender = _compact(seen, dropout)
    outputs = _heads(age, gender, age_head)
    if mirror:
        outputs = {name: ops.mean(ops.reshape(v, (2, -1, *v.shape[1:])), axis=0) for name, v in outputs.items()}
    model = keras.Model(face, outputs, name=network)
    if init not in ("imagenet", "none"):
        load_onnx(model, init, faces) if str(init).endswith(".onnx") else load_weights(model, init)
    return model


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load `.weights.h5`, or the weights of a `.keras` file, into `model`; ValueError if they do not fit."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"No weights at {path}: give 'imagenet', 'none', or a .weights.h5 or .keras file.")
    try:
        model.load_weights(str(path))
    except Exception as error:  # h5py, zipfile and Keras raise a dozen kinds for a damaged or foreign file
        raise ValueError(
            f"The weights in {path} do not fit the network {model.name!r} or are damaged "
            f"({str(error).splitlines()[0][:200]}). Check --network and --age-head."
        ) from error


def load_onnx(model: keras.Model, path: str | Path, faces: np.ndarray) -> None:
    """Load the weights of an exported compact network into `model`, so that training can go on from what is served.

    The export has folded each batch normalisation into its convolution. Its mean and variance are measured again on
    `faces`, uint8 [N, 200, 200, 3], and its scale and shift set so that the answers stay the same.

    Raises:
        ValueError: there is no such file, or it holds another network.
    """
    import onnx

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf has kinds of its own
        raise ValueError(f"No ONNX network can be read from {path} ({str(error).splitlines()[0][:200]}).") from error
    constants = {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}

    def constant(word: str, shape: tuple) -> np.ndarray:
        """The one of a name and a shape; the converter renames some, but those have shapes of their own."""
        fitting = {name: values for name, values in constants.items() if values.shape == shape}
        named = [values for name, values in fitting.items() if f"/{word}" in name]
        renamed = [values for name, values in fitting.items() if name.startswith("const_fold")]
        if len(named or renamed) != 1:
            raise ValueError(f"{path} is no export of the network {model.name!r}: there is no {word} {shape} in it.")
        return (named or renamed)[0]

    biases = {}
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            height, width, channels, _ = layer.kernel.shape
            layer.set_weights([constant(layer.name, (channels, 1, height, width)).transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.Conv2D):
            height, width, inputs, outputs = layer.kernel.shape
            layer.set_weights([constant(f"{layer.name}_1/", (outputs, inputs, height, width)).transpose(2, 3, 1, 0)])
            biases[f"{layer.name}_norm"] = (1.0, constant(f"{layer.name}_norm_", (outputs,)))
        elif isinstance(layer, layers.Dense):
            inputs, outputs = layer.kernel.shape
            layer.set_weights([constant(f"{layer.name}_", (inputs, outputs)), constant(f"{layer.name}_", (outputs,))])
        elif layer.name == "pool_norm":
            shape = (1, layer.gamma.shape[0], 1, 1)
            scale = constant("pool_norm_", shape)
            biases[layer.name] = (
                scale.ravel(),
                next(v for n, v in constants.items() if v.shape == shape and v is not scale).ravel(),
            )
    norms = [layer for layer in model.layers if layer.name in biases]
    for layer in norms:
        scale, shift = biases[layer.name]
        ones = np.ones(layer.gamma.shape, "float32")
        layer.set_weights([scale * ones, shift, 0 * ones, ones - layer.epsilon])
    seen = keras.Model(model.input, [layer.input for layer in norms])
    parts = [
        [np.asarray(v, np.float32) for v in seen.predict_on_batch(faces[i : i + 64])] for i in range(0, len(faces), 64)
    ]
    for layer, values in zip(norms, zip(*parts, strict=True), strict=True):
        scale, shift = biases[layer.name]
        values = np.concatenate([v.reshape(-1, v.shape[-1]) for v in values])
        mean, variance = values.mean(axis=0, dtype=np.float64), values.var(axis=0, dtype=np.float64)
        layer.set_weights([scale * np.sqrt(variance + layer.epsilon), shift + scale * mean, mean, variance])


def convolutional_base(model: keras.Model, block: str = "") -> list:
    """The layers of vgg16's convolutional base, or of one of its blocks (`block="block5"`)."""
    return [layer for layer in model.layers if layer.name.startswith(block or "block")]


def count_parameters(variables) -> int:
    """Number of values in `variables`."""
    return int(sum(np.prod(v.shape, dtype=np.int64) for v in variables))


def _heads(age, gender, age_head: str) -> dict:
    # float32 whatever the policy: expected age over 102 probabilities needs more than bfloat16's 8 bits.
    p_female = layers.Dense(1, activation="sigmoid", dtype="float32", name="gender")(gender)
    outputs = {"p_female": ops.squeeze(p_female, -1)}
    if age_head == "regression":
        outputs["age"] = ops.squeeze(layers.Dense(1, dtype="float32", name="age")(age), -1)
    else:
        probs = layers.Dense(AGES, activation="softmax", dtype="float32", name="age")(age)
        years = np.arange(AGES, dtype="float32")
        outputs["age_probs"] = probs
        outputs["age"] = ops.sum(probs * years, axis=-1)
    return outputs


def _vgg16(face, dropout: float, imagenet: bool, batch_norm: bool):
    x = layers.Rescaling(1.0, offset=[-mean for mean in _IMAGENET_BGR_MEAN], name="imagenet_mean")(face[..., ::-1])
    if batch_norm:
        x = _normalised_base(x)
    else:
        try:
            x = keras.applications.VGG16(
                include_top=False, weights="imagenet" if imagenet else None, input_tensor=x, pooling=None
            ).output
        except Exception as error:  # Keras's downloader raises a bare Exception
            if not imagenet:
                raise
            raise ValueError(
                f"The ImageNet weights cannot be downloaded ({str(error).splitlines()[0][:200]}): check the network, "
                "or start from random weights with --init none or from a file with --init FILE."
            ) from error
    features = layers.Flatten(name="flatten")(x)

    def branch(name: str):
        x = layers.Dense(512, activation="relu", name=f"{name}_dense1")(features)
        x = layers.Dropout(dropout, name=f"{name}_dropout1")(x)
        x = layers.Dense(512, activation="relu", name=f"{name}_dense2")(x)
        x = layers.Dropout(dropout, name=f"{name}_dropout2")(x)
        x = layers.Dense(32, activation="relu", name=f"{name}_dense3")(x)
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    return branch("age"), branch("gender")


def _normalised_base(x):
    """VGG16's convolutions, named as in keras.applications, with batch normalisation before each activation."""
    for block, (count, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for conv in range(1, count + 1):
            name = f"block{block}_conv{conv}"
            # What inference uses must follow quickly: a lag compounds over thirteen layers without shortcuts.
            x = layers.ReLU(name=f"{name}_relu")(_conv_norm(x, width, 3, 1, name, momentum=0.9))
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x


def fold_norms(network: keras.Model, *, age_head: str, mirror: bool = False) -> keras.Model:
    """The published VGG16 that answers as `network`, a vgg16 with `batch_norm`, does after training.

    A batch normalisation that is not training is a scale and a shift for each channel, and so is part of the
    convolution before it.
    """
    plain = build(network.name, age_head=age_head, mirror=mirror)
    for layer in plain.layers:
        if isinstance(layer, layers.Conv2D):
            norm = network.get_layer(f"{layer.name}_norm")
            gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
            scale = gamma / np.sqrt(variance + norm.epsilon)
            kernel = np.asarray(network.get_layer(layer.name).kernel, np.float64)
            layer.set_weights([kernel * scale, beta - mean * scale])
        elif layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    return plain


def _compact(face, dropout: float, widths=(32, 64, 128, 192), blocks=(1, 2, 2, 2)):
    """A small residual network (He et al. 2015, arXiv 1512.03385) that looks at the face at half size."""
    x = layers.Rescaling(1 / 64.0, offset=-2.0, name="to_float")(face)
    x = layers.AveragePooling2D(2, name="half_size")(x)
    x = _conv_norm(x, widths[0], 3, stride=2, name="stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
        for block in range(1, count + 1):
            x = _residual(x, width, stride=2 if block == 1 and stage > 1 else 1, name=f"stage{stage}_{block}")
    # Faces are aligned, so where a feature sits means something: a learned weight for each place instead
    # of a plain average (global depthwise convolution; Chen et al. 2018, MobileFaceNets, arXiv 1804.07573).
    x = layers.DepthwiseConv2D(x.shape[1], use_bias=False, name="pool")(x)
    x = layers.BatchNormalization(name="pool_norm")(x)
    x = layers.Flatten(name="features")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return x, x


def _residual(x, width: int, stride: int, name: str):
    y = _conv_norm(x, width, 3, stride, name=f"{name}_a")
    y = layers.ReLU(name=f"{name}_a_relu")(y)
    y = _conv_norm(y, width, 3, 1, name=f"{name}_b")
    if stride != 1 or x.shape[-1] != width:
        if stride != 1:
            x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
        x = _conv_norm(x, width, 1, 1, name=f"{name}_shortcut")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def _conv_norm(x, width: int, kernel: int, stride: int, name: str, momentum: float = 0.99):
    x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(
        x
    )
    return layers.BatchNormalization(momentum=momentum, name=f"{name}_norm")(x)
