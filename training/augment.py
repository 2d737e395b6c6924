"""Random variations of faces while training, as Keras ops on the device.

The geometric jitter stands for the spread between detectors, the photometric one for cameras and light.
Backend-agnostic Keras 3; knows nothing of networks or data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
from keras import ops


@dataclass(frozen=True)
class Strength:
    """How far a face is varied; every draw is uniform in ± the value."""

    shift: float  # of the width
    scale: float  # of the size
    rotation: float  # degrees
    brightness: float  # of the value
    contrast: float  # of the deviation from the mean
    saturation: float  # of the deviation from grey
    grey: float  # share of faces turned grey, 0 to 1


STRENGTHS = {
    "published": Strength(0.1, 0.1, 15.0, 0.2, 0.0, 0.0, 0.0),
    "default": Strength(0.05, 0.10, 12.0, 0.25, 0.25, 0.3, 0.1),
}


class Augment(keras.layers.Layer):
    """Flip, move, scale, turn and recolour faces; the identity outside of training.

    Input and output: uint8 [N, H, W, 3] RGB. Pixels from outside the picture repeat its border.
    """

    def __init__(self, strength: Strength, seed: int, **kwargs):
        # uint8 out whatever the policy: a network must train on what it will be served.
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.strength = strength
        self.seed_generator = keras.random.SeedGenerator(seed)

    def compute_output_spec(self, images, training=None):
        return keras.KerasTensor(images.shape, dtype="uint8")

    def call(self, images, training=None):
        if not training:
            return images
        count, (height, width) = ops.shape(images)[0], images.shape[1:3]
        limit = self.strength

        def uniform(low, high):
            return keras.random.uniform((count,), low, high, seed=self.seed_generator)

        # One affine map from output to input pixels, about the centre: a single interpolation.
        angle = uniform(-1.0, 1.0) * math.radians(limit.rotation)
        scale = ops.exp(uniform(-1.0, 1.0) * math.log1p(limit.scale))
        mirror = ops.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)
        cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
        cx, cy = (width - 1) / 2, (height - 1) / 2
        tx = cx + uniform(-1.0, 1.0) * limit.shift * width
        ty = cy + uniform(-1.0, 1.0) * limit.shift * height
        a, b, d, e = mirror * cos, -sin, mirror * sin, cos
        zero = ops.zeros_like(a)
        transform = ops.stack([a, b, tx - a * cx - b * cy, d, e, ty - d * cx - e * cy, zero, zero], axis=-1)
        x = ops.image.affine_transform(
            ops.cast(images, "float32"),
            transform,
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )

        def each(values):
            return ops.reshape(values, (-1, 1, 1, 1))

        grey = ops.sum(x * ops.convert_to_tensor([0.299, 0.587, 0.114], "float32"), axis=-1, keepdims=True)
        saturation = 1 + uniform(-1.0, 1.0) * limit.saturation
        saturation = ops.where(uniform(0.0, 1.0) < limit.grey, 0.0, saturation)
        x = grey + (x - grey) * each(saturation)
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = mean * each(1 + uniform(-1.0, 1.0) * limit.brightness) + (x - mean) * each(
            1 + uniform(-1.0, 1.0) * limit.contrast
        )
        return ops.cast(ops.clip(ops.round(x), 0, 255), "uint8")
