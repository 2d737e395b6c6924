"""YuNet and Haar: who is found, and what it costs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from space import detector as detector_module
from space.detector import Haar, YuNet, load_detector, shrink, suppress
from space.download import ModelError
from space.face import Face
from space.photo import read_photo
from tests.support import EXAMPLES, SHARED, shared
from tests.support.app import python

PORTRAITS = sorted(EXAMPLES.glob("age-*.jpg"))


@pytest.mark.parametrize("path", [*PORTRAITS, EXAMPLES / "group.jpg"], ids=lambda p: p.stem)
@pytest.mark.parametrize("name", ["haar", "yunet"])
def test_detectors_find_every_face_of_the_examples(path, name, request):
    detector = Haar() if name == "haar" else YuNet(request.getfixturevalue("yunet"))
    faces = detector.detect(read_photo(path))
    assert len(faces) == (8 if path.stem == "group" else 1)
    assert all((face.landmarks is None) == (name == "haar") for face in faces)


def test_nothing_is_found_where_nothing_is(yunet):
    blank = np.full((300, 400, 3), 127, np.uint8)
    for detector in (Haar(), YuNet(yunet)):
        assert detector.detect(blank) == []


@pytest.mark.parametrize(
    ("name", "count"),
    [("12", 6), ("15", 16), ("18", 6), ("19", 5), ("2", 4), ("3", 5), ("6", 14), ("9", 8), ("24", 10), ("5", 1)],
)
def test_real_group_photos(name, count, yunet):
    faces = YuNet(yunet).detect(read_photo(shared(f"photos/{name}.jpg")))
    assert abs(len(faces) - count) <= max(1, count // 8)


def test_yunet_finds_what_opencv_finds(yunet):
    """In ONNX Runtime the same boxes, landmarks and scores as in cv2.FaceDetectorYN."""
    detector, opencv = YuNet(yunet), cv2.FaceDetectorYN.create(str(yunet), "", (320, 320), 0.7, 0.3, 5000)
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


def test_images_that_hold_no_face_cost_little(yunet, monkeypatch):
    detector, runs = YuNet(yunet), []
    run = detector._run
    monkeypatch.setattr(detector, "_run", lambda rgb: runs.append(rgb.shape) or run(rgb))
    for shape in ((1, 32000), (9, 5000), (32000, 2)):
        assert detector.detect(np.zeros((*shape, 3), np.uint8)) == [] and not runs
    detector.detect(np.zeros((12, 32000, 3), np.uint8))
    assert len(runs) <= 130


def test_a_wallpaper_of_faces_is_bounded(yunet, monkeypatch):
    monkeypatch.setattr(detector_module, "MAX_FACES", 50)
    face = Image.open(EXAMPLES / "age-20-26-male.jpg").convert("RGB").resize((48, 48))
    wall = np.tile(np.asarray(face), (20, 20, 1))
    assert len(YuNet(yunet).detect(wall)) == 50


def test_a_panorama_is_searched_in_tiles(yunet):
    portrait = np.asarray(Image.open(PORTRAITS[0]).convert("RGB").resize((140, 140)))
    panorama = np.full((1000, 8000, 3), 128, np.uint8)
    places = [300, 1900, 3300, 4700, 6100, 7700]
    for x in places:
        panorama[400:540, x : x + 140] = portrait
    faces = YuNet(yunet).detect(panorama)
    assert sorted(round(f.center[0], -2) for f in faces) == [round(x + 70, -2) for x in places]


def test_large_photos_are_searched_small_and_answered_in_their_own_pixels(yunet):
    photo = read_photo(EXAMPLES / "group.jpg")
    large = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    for detector in (YuNet(yunet), Haar()):
        small_faces, large_faces = (
            sorted(detector.detect(p), key=lambda f: (round(f.box[1] / 200 / s), f.box[0]))
            for p, s in ((photo, 1), (large, 4))
        )
        assert len(small_faces) == len(large_faces) == 8
        for a, b in zip(small_faces, large_faces, strict=True):
            np.testing.assert_allclose(np.array(b.box) / 4, a.box, atol=0.2 * a.box[2])


def test_small_faces_of_a_large_photo_get_a_second_look(yunet):
    photos = [cv2.resize(read_photo(shared(f"photos/{n}.jpg")), (1024, 768)) for n in (15, 6, 24, 12, 9, 3)]
    crowd = np.concatenate([np.concatenate(photos[:3], axis=1), np.concatenate(photos[3:], axis=1)])
    detector = YuNet(yunet)
    alone = sum(len(detector.detect(photo)) for photo in photos)
    assert len(detector.detect(crowd, side=1024)) < len(detector.detect(crowd)) <= alone + 1
    assert len(detector.detect(crowd)) >= 0.97 * alone


def test_the_detector_asked_for_is_used_or_refused(tmp_path):
    with pytest.raises(ModelError, match="No detector at"):
        load_detector("missing.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match="not a YuNet model"):
        load_detector(str(tmp_path / "bad.onnx"))
    detector = load_detector("haar")
    assert detector.name == "haar" and detector.note == ""


def used(env) -> list[str]:
    code = "from space.detector import load_detector; d = load_detector(); print(d.name, '|', d.note)"
    result = python("-c", code, env=env | {"AGE_GENDER_DETECTOR": ""})
    assert result.returncode == 0, result.stderr
    return result.stdout.split("|")


@pytest.mark.slow
def test_yunet_comes_from_the_hub_and_is_checked(hub, reader, yunet, tmp_path):
    name, note = used(reader)
    assert name.strip() == "haar" and "The model opencv/face_detection_yunet doesn't exist" in note
    hub.add("opencv/face_detection_yunet", {yunet.name: yunet.read_bytes()[:-1] + b"x"})
    name, note = used(reader)
    assert name.strip() == "haar" and "SHA-256 differs" in note
    hub.add("opencv/face_detection_yunet", {yunet.name: yunet.read_bytes()})
    for _ in range(2):
        name, note = used(reader)
        assert name.strip() == "yunet" and not note.strip()
        hub.stop()  # the second time from the cache
    hub.start()
