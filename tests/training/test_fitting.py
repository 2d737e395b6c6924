"""Batches, sampling and optimizers."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.samples import Samples
from training.fitting.batches import Batches, Faces
from training.fitting.optimizers import build_optimizer


def faces(count: int, first: int = 0) -> Faces:
    """Faces whose every pixel is their number."""
    images = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    ages = np.arange(first, first + count, dtype=np.float32)
    return Faces(images, np.stack([ages, ages], 1), (ages % 2).astype(np.float32))


def test_layers_take_steps_of_their_own_size():
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="deep"), keras.layers.Dense(1, name="top")])
    before = {layer.name: layer.get_weights()[0] for layer in model.layers}
    optimizer = build_optimizer("adam", 0.1, rates={"deep": 0.01, "": 1.0})
    model.compile(optimizer, loss="mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)) * 9, epochs=1, verbose=0)
    step = {layer.name: np.abs(layer.get_weights()[0] - before[layer.name]).max() for layer in model.layers}
    assert step["top"] == pytest.approx(0.1, rel=0.01) and step["deep"] == pytest.approx(0.001, rel=0.01)


def test_an_epoch_has_every_face_once_and_its_share_of_the_second_set():
    def batches(extra=1.0, epoch=0, outputs=("age", "p_female")):
        return Batches([*outputs], [faces(20), faces(100, 100)], extra=extra, batch_size=8, seed=1, epoch=epoch)

    both = batches()
    assert both.steps == 5
    epochs = []
    for epoch in range(2):
        seen = []
        for step in range(5):
            images, labels = both[5 * epoch + step]
            numbers = images[:, 0, 0, 0].astype(np.float32)
            np.testing.assert_array_equal(labels["age"], np.stack([numbers, numbers], 1))  # each image has its labels
            np.testing.assert_array_equal(labels["p_female"], numbers % 2)
            seen += numbers.tolist()
        assert sorted(n for n in seen if n < 100) == list(range(20))
        assert len({n for n in seen if n >= 100}) == 20
        epochs.append(seen)
    assert set(epochs[0]) != set(epochs[1])  # the second set is drawn anew
    np.testing.assert_array_equal(batches(epoch=1)[0][0], both[5][0])
    assert batches(extra=float("inf")).steps == 15


def test_rare_groups_are_sampled_more_often():
    from training.faces import sampling_weights

    ages = np.array([30.0] * 1600 + [1.0] * 100)
    samples = Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages], axis=1), gender=np.zeros(1700, np.int8),
        race=np.zeros(1700, np.int8), sha256=ages.astype(str), encoded=(b"",) * 1700,
    )  # fmt: skip
    weights = sampling_weights(samples)
    assert weights[-1] / weights[0] == pytest.approx(2.0)
    drawn = Batches(
        ["age"], [Faces(np.arange(1700), samples.age_range, samples.gender, weights)], extra=0, batch_size=1700, seed=0
    )
    share = np.mean([np.mean(drawn[i][1]["age"][:, 0] == 1.0) for i in range(20)])
    assert share == pytest.approx(200 / 1800, rel=0.1)
