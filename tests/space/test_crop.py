"""Crops in the framing of UTKFace."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from space.crop import crop, load_template, similarity, warp
from space.detector import YuNet
from space.face import Face
from training.data.decode import decode
from training.data.load import load_samples


def test_similarity_recovers_a_known_transform():
    points = np.random.default_rng(0).uniform(0, 100, (5, 2))
    angle, scale, shift = 0.4, 1.7, np.array([12.0, -5.0])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(points, scale * points @ rotation.T + shift)
    np.testing.assert_allclose(matrix, np.column_stack([scale * rotation, shift]), atol=1e-9)
    assert np.isfinite(similarity(np.ones((5, 2)), points)).all()  # all points in one place


@pytest.mark.parametrize("scale", [0.2, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("angle", [0, 25, -40])
def test_a_crop_undoes_how_the_face_lies_in_the_photo(scale, angle):
    """A face laid into a photo at any size and turn comes out as it was."""
    template = load_template()
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8), (0, 0), 12)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    matrix = cv2.getRotationMatrix2D((100, 100), angle, scale)
    matrix[:, 2] += 500
    photo = cv2.warpAffine(image, matrix, (1200, 1200), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    landmarks = template.landmarks @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
    found = crop(photo, Face((0, 0, 1, 1), 1.0, landmarks), template)
    assert found.shape == (200, 200, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - image)[20:-20, 20:-20].mean() < 6


def test_large_faces_are_averaged_and_others_sampled():
    board = np.indices((1200, 1200)).sum(0) % 2 * 255  # black and white pixels: a face's finest detail
    photo = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    for scale in (0.1, 0.2, 0.45):
        assert warp(photo, np.array([[scale, 0, -20.0], [0, scale, -20.0]]), 80).std() < 25, scale
    for scale in (0.5, 0.7, 1.5):
        matrix = np.array([[scale, 0, 5.5], [0, scale, -7.25]])
        sampled = cv2.warpAffine(photo, matrix, (80, 80), borderMode=cv2.BORDER_REPLICATE)
        np.testing.assert_array_equal(warp(photo, matrix, 80), sampled, str(scale))


@pytest.mark.parametrize("axis", [0, 1])
def test_large_faces_are_not_shifted_when_averaged(axis):
    slope = np.round(np.indices((1200, 1200))[axis] * 0.2)
    photo = np.repeat(slope[..., None], 3, axis=2).astype(np.uint8)
    found = warp(photo, np.array([[0.1, 0, -20.0], [0, 0.1, -20.0]]), 80).astype(float)
    expected = np.repeat((np.indices((80, 80))[axis] * 2 + 40)[..., None], 3, axis=2)
    assert np.abs((found - expected).mean()) < 0.1  # a pixel of the smaller photo is one level


def test_a_face_over_the_edge_is_cropped_all_the_same():
    photo, template = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8), load_template()
    for x, y, side in ((-50, -50, 120), (90, 90, 60), (400, 400, 50)):
        landmarks = (template.landmarks * side / 200 + [x, y]).astype(np.float32)
        assert crop(photo, Face((x, y, side, side), 1.0, landmarks), template).shape == (200, 200, 3)


def test_utkface_s_faces_are_framed_as_the_template_says(utkface):
    """The template brings test faces back to themselves: the framing that the network learned."""
    from training.data import cropping

    _, images = decode(load_samples(utkface)[0].split("validation").limit(60))
    template, offsets = load_template(), []
    for face in cropping.largest_faces(YuNet(), images, 1.0):
        if face:
            matrix = similarity(face.landmarks - cropping.MARGIN, template.landmarks)
            offsets.append(np.abs(matrix @ [100, 100, 1] - 100).max())
    assert len(offsets) > 0.8 * len(images) and np.median(offsets) < 8
