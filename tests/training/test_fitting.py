"""Losses, augmentation, batches and optimizers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training.data.samples import Samples
from training.fitting.batches import Batches, Faces
from training.fitting.optimizers import build_optimizer
from training.model import losses
from training.model.augment import STRENGTHS


def faces(count: int, first: int = 0) -> Faces:
    """Faces whose every pixel is their number."""
    images = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    ages = np.arange(first, first + count, dtype=np.float32)
    return Faces(images, np.stack([ages, ages], 1), (ages % 2).astype(np.float32))


def test_losses_are_right_on_examples_by_hand():
    from training.model.losses import LabelDistribution, RangeError

    probabilities = np.zeros((2, 102), np.float32)
    probabilities[:, 30], probabilities[:, 50] = 0.75, 0.25
    ranges = np.array([[30, 39], [50, 59]], np.float32)
    within = np.asarray(LabelDistribution(reduction=None)(ranges, probabilities))
    np.testing.assert_allclose(within, [-np.log(0.75), -np.log(0.25)], atol=1e-4)
    known = LabelDistribution(reduction=None)
    close, far = np.zeros((2, 1, 102), np.float32)
    close[0, 40], far[0, 80] = 1, 1
    label = np.array([[41, 41]], np.float32)
    assert float(known(label, close)[0]) < float(known(label, far)[0])
    years = np.asarray(RangeError(reduction=None)(np.array([[30, 39], [30, 39], [5, 5]]), np.array([41.0, 33.0, 2.0])))
    np.testing.assert_allclose(years, [2, 0, 3])


@pytest.mark.parametrize(
    "name",
    "shift scale rotation brightness contrast saturation gray color blur jpeg sharpness gamma grain erase".split(),
)
def test_each_kind_of_augmentation_changes_faces_by_itself(name):
    """With one field above 0 pictures differ from those of a plain flip; with none they don't."""
    from training.model.augment import Augment, Strength

    fields = dict.fromkeys([field.name for field in dataclasses.fields(Strength)], 0.0)
    sizes = {"rotation": 20.0, "grain": 20.0, "gray": 1.0, "blur": 1.0, "jpeg": 1.0, "erase": 1.0}
    generator = np.random.default_rng(0)
    face = generator.integers(0, 256, (1, 25, 25, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8).repeat(4, 0)
    flips = {face[0].tobytes(), face[0, :, ::-1].tobytes()}

    def changed(**values) -> int:
        made = np.asarray(Augment(Strength(**fields | values), seed=1)(face, training=True))
        return sum(picture.tobytes() not in flips for picture in made)

    assert changed() == 0 and changed(**{name: sizes.get(name, 0.3)}) >= 3


def test_augmentation_varies_faces_and_leaves_them_alone_outside_of_training():
    from training.model.augment import Augment, _compressed

    chip = np.linspace(0, 255, 200 * 200 * 3).reshape(1, 200, 200, 3).astype(np.uint8).repeat(24, 0)
    layer = Augment(STRENGTHS["strong"], seed=3)
    np.testing.assert_array_equal(np.asarray(layer(chip)), chip)
    varied = np.asarray(layer(chip, training=True))
    assert varied.dtype == np.uint8 and varied.shape == chip.shape
    assert len({picture.tobytes() for picture in varied}) == 24
    noise = np.random.default_rng(0).uniform(0, 255, (1, 200, 200, 3)).astype(np.float32)
    lost = [
        float(np.abs(np.asarray(_compressed(noise, np.full((1, 1, 1, 1), s, np.float32))) - noise).mean())
        for s in (0, 1, 3)
    ]
    assert lost[0] < 0.1 < 3 < lost[1] < lost[2]


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


def test_the_losses_count_labels_and_teachers_by_their_weights():
    uniform = np.full((1, 102), 1 / 102, "float32")
    uniform[0, 30] = 0.5
    label, teacher = np.array([[30.0, 30.0]]), np.eye(102, dtype="float32")[[60]]
    alone = float(losses.LabelDistribution()(label, uniform))
    both = float(losses.LabelDistribution(teacher_weight=0.25)(label, np.hstack([uniform, teacher])))
    assert both == pytest.approx(0.75 * alone + 0.25 * np.log(102), rel=1e-3)
    female = np.array([[0.9, 0.5]], "float32")
    loss = float(losses.GenderCrossEntropy(teacher_weight=0.5)(np.array([1.0]), female))
    assert loss == pytest.approx(-(0.75 * np.log(0.9) + 0.25 * np.log(0.1)), rel=1e-4)
