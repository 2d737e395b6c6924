"""Outputs of a Keras network, batch by batch."""

from __future__ import annotations

import numpy as np
import pytest

from training.model import prediction


class Mean:
    """Answers with the mean of each image; `sizes` are the batches that it was given."""

    def __init__(self):
        self.sizes = []

    def predict_on_batch(self, images):
        self.sizes.append(len(images))
        mean = images.reshape(len(images), -1).mean(axis=1)
        return {"age": mean, "age_probs": np.stack([mean, -mean], axis=1)}


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(10, 4, [4, 4, 4]), (10, 32, [10]), (8, 4, [4, 4]), (1, 4, [1])]
)
def test_every_image_gets_its_answer_and_all_batches_one_size(count, batch_size, sizes):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    network = Mean()
    found = prediction.predict(network, images, batch_size)
    assert network.sizes == sizes
    assert found["age"].tolist() == list(range(count)) and found["age"].dtype == np.float32
    assert found["age_probs"].shape == (count, 2) and (found["age_probs"][:, 1] == -found["age"]).all()
