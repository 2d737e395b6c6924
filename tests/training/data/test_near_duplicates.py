"""Re-encoded copies of held-out faces."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support import shared
from tests.support.faces import LOADING, face_files, split_of, write_folder
from training.data import near_duplicates as module
from training.data.decode import decode, decode_picture
from training.data.faces import load_faces
from training.data.load import load_samples
from training.data.near_duplicates import near_duplicates


def test_copies_are_found_and_other_faces_are_not(utkface):
    samples = load_samples(utkface)[0].split("test").limit(300)
    _, faces = decode(samples)

    def encoded(face, quality):
        return cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)

    small = np.stack([cv2.resize(cv2.resize(face, (120, 120)), (200, 200)) for face in faces[:50]])
    copies = [
        np.stack([encoded(face, 40) for face in faces[:50]]),
        small,
        np.clip(faces[:50] * 0.9 + 12, 0, 255).astype(np.uint8),
    ]
    for changed in copies:
        assert near_duplicates(changed, [faces[:20], faces[20:]]).mean() >= 0.95
    assert near_duplicates(faces[:150], [faces[150:]]).sum() <= 2


@pytest.mark.parametrize("block", [2, 2048])
def test_each_image_is_compared_with_all_others(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (12, 6, 6, 3), np.uint8)
    images = np.stack([cv2.resize(one, (200, 200), interpolation=cv2.INTER_CUBIC) for one in coarse])
    others = [images[[7, 0]] // 2 + 40, images[9:]]  # less contrast; the same
    assert near_duplicates(images[:11], others).nonzero()[0].tolist() == [0, 7, 9, 10]
    assert not near_duplicates(images[:4], [images[4:]]).any()


def test_only_the_pattern_counts_not_the_brightness():
    generator = np.random.default_rng(1)
    coarse = generator.integers(60, 120, (40, 6, 6, 3), np.uint8)
    images = np.stack([cv2.resize(one, (200, 200), interpolation=cv2.INTER_CUBIC) for one in coarse])
    assert near_duplicates(images, [images + 100]).all()
    assert not near_duplicates(images[:20], [images[20:] + 100]).any()
    gray = np.full((2, 200, 200, 3), 128, np.uint8)  # without any pattern, nothing is a copy
    assert not near_duplicates(gray, [gray]).any()


@pytest.mark.slow
def test_no_training_face_of_utkface_is_a_copy_of_a_held_out_one(capsys):
    source = str(shared("data/UTKFace-Cropped/UTKFace.tar.gz").parent)
    faces = load_faces([source], [], **LOADING)
    train, validation, test = (faces[name][0] for name in ("train", "validation", "test"))
    assert "re-encoded copies of validation or test images" in capsys.readouterr().out
    count = train.report.dropped["re-encoded copies of validation or test images"]
    assert 140 < count < 250 and len(train) == len(train.images) == 18495 - count
    assert not near_duplicates(train.images, [validation.images, test.images]).any()


def copy_for_training(content: bytes) -> bytes:
    """The same image with other bytes, which make it a training face."""
    for quality in range(60, 100):
        file = io.BytesIO()
        Image.open(io.BytesIO(content)).save(file, "JPEG", quality=quality)
        if split_of(file.getvalue()) < 8:
            return file.getvalue()
    raise AssertionError


@pytest.mark.parametrize("held_out", [8, 9])
def test_copies_of_held_out_faces_are_left_out_and_the_others_keep_their_labels(tmp_path, held_out):
    files = face_files(60)
    name, content = next((name, content) for name, content in files.items() if split_of(content) == held_out)
    copy = name.replace("_2017", "_1999")
    files[copy] = copy_for_training(content)
    (train,) = load_faces([str(write_folder(files, tmp_path))], [], **LOADING)["train"]
    assert copy.split(".")[0] not in train.samples.name and sum(train.report.dropped.values()) == 1
    for image, encoded in zip(train.images, train.samples.encoded, strict=True):
        np.testing.assert_array_equal(image, decode_picture(encoded))
