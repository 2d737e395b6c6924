"""A Keras network's outputs for images."""

from __future__ import annotations

import keras
import numpy as np

from training.images import Images


def predict(network: keras.Model, images: Images, batch_size: int = 32) -> dict[str, np.ndarray]:
    """The network's outputs for uint8 images [N, H, W, 3], in float32, without keeping more than a batch."""
    parts = []
    size = min(batch_size, len(images))
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        # The last batch is filled up: one shape, one compilation.
        filled = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.uint8)])
        outputs = network.predict_on_batch(filled)
        parts.append({name: np.asarray(values, np.float32)[: len(batch)] for name, values in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
