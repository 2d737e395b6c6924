"""Augmentation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from training.model.augment import STRENGTHS, Augment, Strength, _compressed, _warp

FIELDS = [field.name for field in dataclasses.fields(Strength)]


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_used_by_a_preset(name):
    assert any(getattr(strength, name) for strength in STRENGTHS.values())


@pytest.mark.parametrize("name", FIELDS)
def test_each_kind_of_augmentation_changes_faces_by_itself(name):
    """With one field above 0 pictures differ from those of a plain flip; with none they don't."""
    fields = dict.fromkeys(FIELDS, 0.0)
    sizes = {"rotation": 20.0, "grain": 20.0, "gray": 1.0, "blur": 1.0, "defocus": 1.0, "jpeg": 1.0, "erase": 1.0}
    generator = np.random.default_rng(0)
    face = generator.integers(0, 256, (1, 25, 25, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8).repeat(4, 0)
    flips = {face[0].tobytes(), face[0, :, ::-1].tobytes()}

    def changed(**values) -> int:
        made = np.asarray(Augment(Strength(**fields | values), seed=1)(face, training=True))
        return sum(picture.tobytes() not in flips for picture in made)

    assert changed() == 0 and changed(**{name: sizes.get(name, 0.3)}) >= 3


def test_augmentation_varies_faces_and_leaves_them_alone_outside_of_training():
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


def test_moved_faces_are_those_of_an_affine_transform():
    import keras

    generator = np.random.default_rng(0)
    faces = generator.integers(0, 256, (3, 40, 60, 3), np.uint8)
    maps = np.array([[0.9, 0.1, 5, -0.1, 0.95, 8], [-1, 0, 59, 0, 1, 0], [1.3, -0.4, -9, 0.4, 1.3, 3]], np.float32)
    expected = keras.ops.image.affine_transform(
        faces.astype(np.float32), np.concatenate([maps, np.zeros((3, 2), np.float32)], axis=1), fill_mode="nearest",
        data_format="channels_last",
    )  # fmt: skip
    moved = _warp(keras.ops.convert_to_tensor(faces), keras.ops.convert_to_tensor(maps))
    np.testing.assert_allclose(np.asarray(moved), np.asarray(expected), atol=0.01)
    np.testing.assert_array_equal(np.asarray(moved)[1], faces[1, :, ::-1])  # a mirror image has the same pixels
