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

from space.face import AGES
from training.model.files import quiet_loading

INPUT_SIZE = 200  # pixels, height and width of a UTKFace crop
NETWORKS = ("compact", "vgg16")
AGE_HEADS = ("distribution", "regression")

# Mean of ImageNet in BGR order, what the published VGG16 weights were trained with
# (Simonyan & Zisserman 2014, arXiv 1409.1556; same numbers as keras.applications.vgg16).
_IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)


def build(
    network: str,
    *,
    age_head: str = "distribution",
    init: str = "none",
    dropout: float = 0.5,
    mirror: bool = False,
):
    """Build a network.

    Args:
        network: "vgg16" or "compact".
        age_head: "distribution" (102 ages, expected value; after DEX, Rothe et al. 2018) or
            "regression" (one linear unit, the published head).
        init: "imagenet" (vgg16 only: the convolutional base from keras.applications) or "none" (random); see
            `load_weights` for files.
        dropout: rate between the layers of the heads, 0 to 1.
        mirror: answer with the mean of the answers for the face and for its mirror image. The same weights; twice the
            time, so not for training.

    Returns:
        keras.Model with outputs as in the module's description.

    Raises:
        ValueError: unknown network, head or init, or weights that do not fit.
    """
    if network not in NETWORKS:
        raise ValueError(f"Unknown network {network!r}: choose one of {', '.join(NETWORKS)}.")
    if age_head not in AGE_HEADS:
        raise ValueError(f"Unknown age head {age_head!r}: choose one of {', '.join(AGE_HEADS)}.")
    if init == "imagenet" and network != "vgg16":
        raise ValueError("There are no ImageNet weights for the compact network: use --init none.")

    face = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), dtype="uint8", name="face")
    seen = ops.concatenate([face, face[:, :, ::-1]], axis=0) if mirror else face
    if network == "vgg16":
        age, gender = _vgg16(seen, dropout, imagenet=init == "imagenet")
    else:
        age, gender = _compact(seen, dropout)
    outputs = _heads(age, gender, age_head)
    if mirror:
        outputs = {name: ops.mean(ops.reshape(v, (2, -1, *v.shape[1:])), axis=0) for name, v in outputs.items()}
    return keras.Model(face, outputs, name=network)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Load a weights file into `model`, or into its convolutional base if that is all the file has.

    Raises:
        ValueError: there is no such file, or its weights do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"No weights at {path}: give 'imagenet', 'none', or a .weights.h5, .h5 or .keras file.")
    try:
        with quiet_loading():
            model.load_weights(str(path))
        return
    except Exception as error:  # h5py, zipfile and Keras raise a dozen kinds for a damaged or foreign file
        reason = str(error).splitlines()[0][:200]
    if model.name == "vgg16":
        base = keras.applications.VGG16(include_top=False, weights=None)
        try:
            with quiet_loading():
                base.load_weights(str(path))
        except Exception:
            pass  # the first reason says more
        else:
            for layer in base.layers:
                if layer.weights:
                    model.get_layer(layer.name).set_weights(layer.get_weights())
            return
    raise ValueError(
        f"The weights in {path} do not fit the network {model.name!r} or are damaged ({reason}). Choose other "
        "weights, or a recipe with this network and age_head."
    )


def at_size(model: keras.Model, size: int) -> keras.Model:
    """The network for faces that are shrunk to `size` pixels, with the same layers and so the same weights.

    Smaller faces take less time, and the first epochs learn as much from them (progressive resizing). The heads keep
    their shape: vgg16 leaves out block5's last pooling, which at 100 pixels gives the same 6x6x512 values; compact
    enlarges its last feature map.
    """
    if size == INPUT_SIZE:
        return model
    last = model.get_layer("pool").input.shape[1:3] if model.name == "compact" else None

    def call(layer, *inputs, **options):
        if layer.name == "block5_pool":
            return inputs[0]
        if layer.name == "pool":
            return layer(ops.image.resize(inputs[0], last, "bilinear", data_format="channels_last"))
        outputs = layer(*inputs, **options)
        if layer.name in ("to_float", "imagenet_mean"):
            if INPUT_SIZE % size == 0:
                return ops.average_pool(outputs, INPUT_SIZE // size, data_format="channels_last")
            return ops.image.resize(outputs, (size, size), "bilinear", antialias=True, data_format="channels_last")
        return outputs

    face = keras.Input(model.input.shape[1:], dtype="uint8", name="face")
    return keras.models.clone_model(model, input_tensors=face, clone_function=lambda layer: layer, call_function=call)


def sharpen_ages(model: keras.Model, factor: float) -> None:
    """Multiply the logits of the age distribution, in the weights of its layer.

    The expected value of a wide distribution is pulled towards the middle of all ages; a factor above 1 brings it
    closer to the median, which is what the absolute error asks for. `build_bundle` chooses it on validation.
    """
    layer = model.get_layer("age")
    layer.set_weights([factor * w for w in layer.get_weights()])


def restore_norms(model: keras.Model, faces: np.ndarray) -> None:
    """Give merged batch normalizations (see `files.read_onnx`) the statistics of `faces`, uint8 [N, 200, 200, 3].

    The outputs stay the same. Without it, training would normalize by statistics that the weights don't expect.
    """
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    seen = keras.Model(model.input, [norm.input for norm in norms])
    sums, squares = [0.0] * len(norms), [0.0] * len(norms)
    for start in range(0, len(faces), 32):
        for i, values in enumerate(seen.predict_on_batch(faces[start : start + 32])):
            flat, count = np.asarray(values, np.float64).reshape(-1, values.shape[-1]), len(values)
            sums[i], squares[i] = sums[i] + flat.mean(axis=0) * count, squares[i] + (flat**2).mean(axis=0) * count
    for norm, total, square in zip(norms, sums, squares, strict=True):
        gamma, beta, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
        scale = gamma / np.sqrt(variance + norm.epsilon)
        shift, new_mean = beta - mean * scale, total / len(faces)
        new_variance = np.maximum(square / len(faces) - new_mean**2, 1e-6)
        norm.set_weights(
            [scale * np.sqrt(new_variance + norm.epsilon), shift + scale * new_mean, new_mean, new_variance]
        )


def head_norms(model: keras.Model) -> list:
    """The batch normalizations of vgg16's heads. They follow dropout, which shifts the statistics that they keep."""
    return [layer for layer in model.layers if layer.name in ("age_norm", "gender_norm")]


def head_inputs(model: keras.Model) -> keras.Model | None:
    """The network up to the inputs of `head_norms`, for `measure_norms`; None if it has none."""
    norms = head_norms(model)
    return keras.Model(model.input, [norm.input for norm in norms]) if norms else None


def measure_norms(model: keras.Model, seen: keras.Model | None, faces: np.ndarray) -> None:
    """Set the statistics of `head_norms` to those of `faces`, uint8 [N, 200, 200, 3], without dropout.

    Dropout in training changes the variance that batch normalization sees (Li et al. 2018, arXiv 1801.05134), and
    averaged weights have other statistics than the last ones.

    Args:
        seen: `head_inputs(model)`. It is compiled at its first use, so it should be made once.
    """
    norms = head_norms(model)
    if seen is None:
        return
    faces = faces[np.arange(-(-len(faces) // 64) * 64) % len(faces)]  # full batches: one shape, one compilation
    parts = [seen.predict_on_batch(faces[i : i + 64]) for i in range(0, len(faces), 64)]
    for norm, seen_parts in zip(norms, zip(*parts, strict=True), strict=True):
        values = np.concatenate([np.asarray(part, np.float32) for part in seen_parts])
        gamma, beta, _, _ = norm.get_weights()
        norm.set_weights([gamma, beta, values.mean(axis=0), values.var(axis=0)])


def convolutional_base(model: keras.Model, block: str = "") -> list:
    """The layers of vgg16's convolutional base, or of one of its blocks (`block="block5"`)."""
    return [layer for layer in model.layers if layer.name.startswith(block or "block")]


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


def _vgg16(face, dropout: float, imagenet: bool):
    x = layers.Rescaling(1.0, offset=[-mean for mean in _IMAGENET_BGR_MEAN], name="imagenet_mean")(_bgr(face))
    try:
        x = keras.applications.VGG16(
            include_top=False, weights="imagenet" if imagenet else None, input_tensor=x, pooling=None
        ).output
    except Exception as error:  # Keras's downloader raises a bare Exception
        if not imagenet:
            raise
        raise ValueError(
            f"The ImageNet weights cannot be downloaded ({str(error).splitlines()[0][:200]}). Check the network, or "
            "download vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 elsewhere and pass it with --init FILE."
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


def _bgr(face):
    return ops.take(face, [2, 1, 0], axis=-1)  # a slice with a negative step is more than PyTorch has


def _compact(face, dropout: float, widths=(32, 64, 128, 192), blocks=(1, 2, 2, 2), features=512):
    """A small residual network (He et al. 2015, arXiv 1512.03385)."""
    x = layers.Rescaling(1 / 64.0, offset=-2.0, name="to_float")(face)
    x = _conv_norm(x, widths[0] // 2, 3, stride=2, name="stem1")
    x = layers.ReLU(name="stem1_relu")(x)
    x = _conv_norm(x, widths[0], 3, stride=2, name="stem2")
    x = layers.ReLU(name="stem2_relu")(x)
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
        for block in range(1, count + 1):
            x = _residual(x, width, stride=2 if block == 1 and stage > 1 else 1, name=f"stage{stage}_{block}")
    x = _conv_norm(x, features, 1, stride=1, name="features")
    x = layers.ReLU(name="features_relu")(x)
    # Faces are aligned, so where a feature sits means something: a learned weight for each place instead
    # of a plain average (global depthwise convolution; Chen et al. 2018, MobileFaceNets, arXiv 1804.07573).
    x = layers.DepthwiseConv2D(x.shape[1], use_bias=False, name="pool")(x)
    x = layers.BatchNormalization(name="pool_norm")(x)
    x = layers.Flatten(name="flatten")(x)
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


def _conv_norm(x, width: int, kernel: int, stride: int, name: str):
    x = layers.Conv2D(width, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(
        x
    )
    return layers.BatchNormalization(name=f"{name}_norm")(x)
