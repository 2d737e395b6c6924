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
    face = np.linspace(0, 255, 200 * 200 * 3).reshape(1, 200, 200, 3).astype(np.uint8).repeat(24, 0)
    layer = Augment(STRENGTHS["medium"], seed=3)
    np.testing.assert_array_equal(np.asarray(layer(face)), face)
    varied = np.asarray(layer(face, training=True))
    assert varied.dtype == np.uint8 and varied.shape == face.shape
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


COUNT, SIDE = 400, 64
NOTHING = dict.fromkeys(FIELDS, 0.0)


def augmented(face: np.ndarray, **values) -> np.ndarray:
    """float64 [COUNT, SIDE, SIDE, 3]: copies of a face under some fields of Strength alone."""
    faces = np.repeat(face.astype(np.uint8)[None], COUNT, axis=0)
    return np.asarray(Augment(Strength(**NOTHING | values), seed=7)(faces, training=True)).astype(np.float64)


def smooth() -> np.ndarray:
    """A face of soft colors in the middle of the range."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.stack([100 + 40 * x, 110 + 30 * y, 120 - 30 * x * y], axis=-1)


def fine() -> np.ndarray:
    """A face of fine detail."""
    return np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3))


def fills(values: np.ndarray, low: float, high: float, slack: float) -> bool:
    """Whether values lie between two limits, and come near to both."""
    near = 0.1 * (high - low)
    return bool(
        low - slack <= values.min() <= low + near + slack and high - near - slack <= values.max() <= high + slack
    )


def deviation(faces: np.ndarray) -> np.ndarray:
    """Standard deviation of each face."""
    return faces.reshape(len(faces), -1).std(axis=1)


def test_faces_are_moved_as_far_as_the_strength_says():
    dots = np.zeros((SIDE, SIDE, 3))
    dots[31:33, 15:17, 0] = dots[31:33, 47:49, 1] = 255  # red on the left, green on the right
    grid = np.arange(SIDE)

    def places(**values):
        faces = augmented(dots, **values)
        weights = [faces[..., channel] for channel in (0, 1)]
        return [
            np.stack([(w.sum(1) @ grid) / w.sum((1, 2)), (w.sum(2) @ grid) / w.sum((1, 2))], axis=1) for w in weights
        ]

    red, green = places()
    mirrored = red[:, 0] > green[:, 0]
    assert 0.4 < mirrored.mean() < 0.6  # half of them
    red, green = places(shift=0.1)
    moved = (red + green) / 2 - 31.5
    assert fills(moved[:, 0], -6.4, 6.4, 0.3) and fills(moved[:, 1], -6.4, 6.4, 0.3)
    red, green = places(scale=0.25)
    assert fills(np.linalg.norm(red - green, axis=1) / 32, 1 / 1.25, 1.25, 0.02)
    red, green = places(rotation=20.0)
    across, down = np.abs(red - green)[:, 0], (red - green)[:, 1] * np.sign((red - green)[:, 0])
    assert fills(np.degrees(np.arctan2(down, across)), -20, 20, 0.5)


def test_colors_change_as_much_as_the_strength_says():
    face = smooth()
    means = augmented(face, brightness=0.2).mean(axis=(1, 2, 3)) / face.mean()
    assert fills(means, 0.8, 1.2, 0.01)
    assert fills(deviation(augmented(face, contrast=0.3)) / face.std(), 0.7, 1.3, 0.02)
    chroma = np.ptp(augmented(face, saturation=0.3), axis=-1).mean(axis=(1, 2)) / np.ptp(face, axis=-1).mean()
    assert fills(chroma, 0.7, 1.3, 0.05)
    gray = np.ptp(augmented(face, gray=0.3), axis=-1).max(axis=(1, 2)) < 2
    assert 0.22 < gray.mean() < 0.38
    channels = augmented(face, color=0.1).mean(axis=(1, 2)) / face.mean(axis=(0, 1))
    assert all(fills(channel, 0.9, 1.1, 0.01) for channel in channels.T)
    assert np.abs(np.corrcoef(channels.T)[[0, 0, 1], [1, 2, 2]]).max() < 0.2  # each by itself
    middle = augmented(np.full_like(face, 128), gamma=0.25).mean(axis=(1, 2, 3)) / 255
    assert fills(np.log(middle) / np.log(128 / 255), 1 / 1.25, 1.25, 0.02)


def test_faces_are_degraded_as_often_and_as_much_as_the_strength_says():
    face, plain = fine(), deviation(augmented(fine()))
    detail = deviation(augmented(face, sharpness=0.5)) / plain
    assert 0.5 < detail.min() < 0.65 and 1.35 < detail.max() < 1.5
    blurred = deviation(augmented(face, blur=0.3)) / plain
    assert 0.22 < (blurred < 0.95).mean() < 0.38 and blurred.min() < 0.3 and blurred[blurred < 0.95].max() > 0.6
    defocused = deviation(augmented(face, defocus=0.6)) / plain
    assert 0.54 < (defocused < 0.5).mean() < 0.66
    levels, _ = np.histogram(defocused, (0.08, 0.1, 0.15, 0.3))
    assert levels.sum() == (defocused < 0.5).sum() and levels.min() > 0.27 * levels.sum()  # each of three as often
    compressed = (augmented(face, jpeg=0.3) != augmented(face)).mean(axis=(1, 2, 3))
    assert 0.22 < (compressed > 0.3).mean() < 0.38
    grain = deviation(augmented(np.full_like(face, 128), grain=20.0))
    assert 17 < grain.max() < 21 and np.median(grain) < 20 * 0.35  # squared: most have little


def test_erased_rectangles_have_the_size_that_is_drawn():
    face = augmented(np.full((SIDE, SIDE, 3), 128), erase=0.5)
    changed = (face != 128).any(axis=-1)
    erased = changed.any(axis=(1, 2))
    assert 0.4 < erased.mean() < 0.6
    for sides in (changed.any(axis=1).sum(axis=1)[erased], changed.any(axis=2).sum(axis=1)[erased]):
        assert sides.max() <= 2 * 0.22 * SIDE + 1 and sides.max() > 0.3 * SIDE and sides.min() >= 1
    values = np.array([picture[where][0] for picture, where in zip(face[erased], changed[erased], strict=True)])
    assert (np.ptp(values, axis=1) == 0).all() and np.ptp(values[:, 0]) > 200  # one gray, any
