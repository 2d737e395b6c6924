"""Random variations of faces while training, as Keras ops on the device.

The geometric jitter stands for the spread between detectors, the photometric one for cameras and light.
Backend-agnostic Keras 3; knows nothing of networks or data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops


@dataclass(frozen=True)
class Strength:
    """How far a face is varied: uniform draws in ± the value, unless the field says something else."""

    shift: float  # of the width
    scale: float  # of the size
    rotation: float  # degrees
    brightness: float  # of the value
    contrast: float  # of the deviation from the mean
    saturation: float  # of the deviation from gray
    gray: float  # share of faces turned gray, 0 to 1
    color: float = 0.0  # of each channel's value, as light of another color does
    blur: float = 0.0  # share of faces blended with an eighth of their resolution, by 30 to 100%
    defocus: float = 0.0  # share of faces out of focus, as by a Gaussian of 5 to 12 of 200 pixels
    jpeg: float = 0.0  # share of faces compressed
    sharpness: float = 0.0  # of the deviation from a local mean: softer or sharper
    gamma: float = 0.0  # of the exponent of the brightness curve
    grain: float = 0.0  # largest standard deviation of a sensor's noise, in gray levels of 255
    erase: float = 0.0  # share of faces with a rectangle covered


STRENGTHS = {
    "published": Strength(0.1, 0.1, 15.0, 0.2, 0.0, 0.0, 0.0),
    "mild": Strength(0.05, 0.10, 12.0, 0.25, 0.25, 0.3, 0.1),
    "medium": Strength(
        0.05, 0.12, 15.0, 0.3, 0.3, 0.3, 0.1, color=0.05, blur=0.15, defocus=0.05, jpeg=0.15, sharpness=1.0, gamma=0.2,
        grain=6.0, erase=0.1,
    ),
}  # fmt: skip

_COARSE = 8  # pixels that a blurred face's worst pixel spans
_DEFOCUS = (20, 10, 8)  # cells across a face out of focus: like Gaussians of 5, 10 and 12 of 200 pixels
_BLOCK = 8  # pixels, JPEG's blocks
# The orthonormal discrete cosine transform of JPEG's blocks, row k the k-th frequency.
_DCT = np.array(
    [
        [
            math.sqrt((2 if k else 1) / _BLOCK) * math.cos(math.pi * (2 * n + 1) * k / (2 * _BLOCK))
            for n in range(_BLOCK)
        ]
        for k in range(_BLOCK)
    ],
    "float32",
)
# Steps that grow with the frequency, as in the tables of the JPEG standard (ITU-T T.81, annex K) at quality 50.
_STEPS = np.array([[10 + 7 * (i + j) for j in range(_BLOCK)] for i in range(_BLOCK)], "float32")


class Augment(keras.layers.Layer):
    """Flip, move, scale, turn, recolor, blur, sharpen, compress and cover faces; the identity outside of training.

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
        x = self._moved(images)
        for step in (self._recolored, self._degraded, self._erased):
            x = step(x)
        return ops.cast(ops.clip(ops.round(x), 0, 255), "uint8")

    def _uniform(self, x, low, high):
        """float32 [N, 1, 1, 1], one number for each face of `x`."""
        return keras.random.uniform((ops.shape(x)[0], 1, 1, 1), low, high, seed=self.seed_generator)

    def _varied(self, x, limit):
        """A factor between 1 - limit and 1 + limit for each face."""
        return 1 + self._uniform(x, -1.0, 1.0) * limit

    def _moved(self, x):
        """Flipped, scaled, turned and shifted: one affine map from output to input pixels, about the center."""
        limit, (height, width) = self.strength, x.shape[1:3]

        def uniform(low, high):
            return self._uniform(x, low, high)[:, 0, 0, 0]

        angle = uniform(-1.0, 1.0) * math.radians(limit.rotation)
        scale = ops.exp(uniform(-1.0, 1.0) * math.log1p(limit.scale))
        mirror = ops.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)
        cos, sin = ops.cos(angle) * scale, ops.sin(angle) * scale
        cx, cy = (width - 1) / 2, (height - 1) / 2
        tx = cx + uniform(-1.0, 1.0) * limit.shift * width
        ty = cy + uniform(-1.0, 1.0) * limit.shift * height
        a, b, d, e = mirror * cos, -sin, mirror * sin, cos
        return _warp(x, ops.stack([a, b, tx - a * cx - b * cy, d, e, ty - d * cx - e * cy], axis=-1))

    def _recolored(self, x):
        """Other saturation, brightness, contrast, color cast and gamma."""
        limit = self.strength
        gray = ops.sum(x * ops.convert_to_tensor([0.299, 0.587, 0.114], "float32"), axis=-1, keepdims=True)
        saturation = self._varied(x, limit.saturation)
        x = gray + (x - gray) * ops.where(self._uniform(x, 0.0, 1.0) < limit.gray, 0.0, saturation)
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        x = mean * self._varied(x, limit.brightness) + (x - mean) * self._varied(x, limit.contrast)
        if limit.color:
            x = x * ops.concatenate([self._varied(x, limit.color) for _ in range(3)], axis=-1)
        if limit.gamma:
            exponent = ops.exp(self._uniform(x, -1.0, 1.0) * math.log1p(limit.gamma))
            x = 255.0 * ops.power(ops.clip(x, 0.5, 255.0) / 255.0, exponent)
        return x

    def _degraded(self, x):
        """Sharpened or softened, blurred, out of focus, compressed and grainy, as photos are."""
        limit, (height, width) = self.strength, x.shape[1:3]
        if limit.sharpness:
            local = ops.average_pool(x, 3, 1, padding="same", data_format="channels_last")
            x = local + (x - local) * self._varied(x, limit.sharpness)
        if limit.blur:
            coarse = ops.average_pool(x, _COARSE, _COARSE, data_format="channels_last")
            coarse = ops.image.resize(coarse, (height, width), "bilinear", data_format="channels_last")
            share = ops.where(self._uniform(x, 0.0, 1.0) < limit.blur, self._uniform(x, 0.3, 1.0), 0.0)
            x = x + (coarse - x) * share
        if limit.defocus:
            drawn = self._uniform(x, 0.0, 1.0) / (limit.defocus / len(_DEFOCUS))
            for number, cells in enumerate(_DEFOCUS):
                side = (height // cells, width // cells)
                coarse = ops.average_pool(x, side, side, data_format="channels_last")
                coarse = ops.image.resize(coarse, (height, width), "bilinear", data_format="channels_last")
                x = ops.where(ops.floor(drawn) == number, coarse, x)
        if limit.jpeg:
            strength = ops.where(self._uniform(x, 0.0, 1.0) < limit.jpeg, self._uniform(x, 0.5, 3.0), 0.0)
            x = _compressed(x, strength)
        if limit.grain:
            noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
            # Squared: most photos have little noise.
            x = x + noise * limit.grain * ops.square(self._uniform(x, 0.0, 1.0))
        return x

    def _erased(self, x):
        """Random erasing (Zhong et al. 2017, arXiv 1708.04896), with one gray."""
        limit, (height, width) = self.strength, x.shape[1:3]
        if not limit.erase:
            return x
        rows = ops.reshape(ops.arange(height), (1, -1, 1, 1))
        columns = ops.reshape(ops.arange(width), (1, 1, -1, 1))
        inside = self._uniform(x, 0.0, 1.0) < limit.erase
        for places, side in ((rows, height), (columns, width)):
            middle, half = self._uniform(x, 0.0, side), self._uniform(x, 0.05, 0.22) * side
            inside = ops.logical_and(inside, ops.abs(ops.cast(places, "float32") - middle) < half)
        return ops.where(inside, self._uniform(x, 0.0, 255.0), x)


def _warp(x, transform):
    """uint8 images [N, H, W, 3] moved by affine maps [N, 6] from output to input pixels, as float32; borders repeat.

    Bilinear, by gathering the four neighbors of each point: unlike `keras.ops.image.affine_transform`, XLA compiles it.
    """
    height, width = x.shape[1:3]
    a, b, tx, d, e, ty = (transform[:, i, None, None] for i in range(6))
    row = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1))
    column = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1))
    at_x = ops.clip(a * column + b * row + tx, 0, width - 1)
    at_y = ops.clip(d * column + e * row + ty, 0, height - 1)
    left, top = ops.floor(at_x), ops.floor(at_y)
    right_share, bottom_share = (at_x - left)[..., None], (at_y - top)[..., None]
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    right, bottom = ops.minimum(left + 1, width - 1), ops.minimum(top + 1, height - 1)
    pixels = ops.reshape(x, (-1, 3))
    first = ops.reshape(ops.arange(ops.shape(x)[0], dtype="int32") * (height * width), (-1, 1, 1))

    def line(y):
        near, far = (ops.cast(ops.take(pixels, first + y * width + at, axis=0), "float32") for at in (left, right))
        return near + (far - near) * right_share

    upper, lower = line(top), line(bottom)
    return upper + (lower - upper) * bottom_share


def _compressed(x, strength):
    """Faces as JPEG leaves them: the cosine transform of 8x8 blocks, rounded to steps.

    x: float [N, H, W, 3]; strength: float [N, 1, 1, 1], 1 for quality 50, 0 for none. Only the brightness is rounded:
    what is lost of the colors is hardly seen. Sides must be multiples of 8.
    """
    height, width = x.shape[1:3]
    gray = ops.mean(x, axis=-1)
    blocks = ops.reshape(gray, (-1, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK))
    frequencies = ops.einsum("ki,nhiwj,lj->nhkwl", _DCT, blocks, _DCT)
    steps = ops.multiply(ops.maximum(ops.reshape(strength, (-1, 1, 1, 1, 1)), 1e-3), _STEPS[:, None, :])
    rounded = ops.einsum("ki,nhkwl,lj->nhiwj", _DCT, ops.round(frequencies / steps) * steps, _DCT)
    return x + ops.reshape(rounded - blocks, (-1, height, width, 1))
