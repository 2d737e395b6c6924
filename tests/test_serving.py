"""Serving without the page: photos of every kind, detection, crops, the estimator, bundles and their faults."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
from conftest import EXAMPLES, ROOT, SHARED, shared
from PIL import Image, ImageCms

from space import detector as detector_module
from space import photo
from space.analyzer import FaceAnalyzer
from space.annotate import blur, draw, label
from space.bundle import CARD, DEFAULT, MODELS, open_bundle
from space.crop import crop, load_template, similarity
from space.detector import Haar, YuNet, load_detector, shrink, suppress
from space.download import BundleError, sha256_of
from space.estimator import Estimator
from space.face import Face, whole_years
from space.photo import MAX_PIXELS, PhotoError, open_photo, read_photo
from space.web.tabs.folder import cells
from training.data.decode import decode
from training.data.load import load_utkface

EMBEDDED = MODELS / DEFAULT


PORTRAITS = sorted(EXAMPLES.glob("age-*.jpg"))


@pytest.fixture(scope="module")
def haar() -> FaceAnalyzer:
    return FaceAnalyzer.load(detector="haar")


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# Photos


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255
    turn = Image.Transpose
    store = {  # what a camera writes for each value
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_90,
        7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }  # fmt: skip
    stored = Image.fromarray(upright)
    if orientation in store:
        stored = stored.transpose(store[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encode(stored, exif=exif))
    np.testing.assert_array_equal(photo, upright)


def test_grey_alpha_palette_cmyk_and_16_bit_become_rgb():
    grey = np.linspace(0, 255, 50 * 40).reshape(40, 50).astype(np.uint8)
    expected = np.repeat(grey[..., None], 3, 2)
    np.testing.assert_array_equal(read_photo(encode(Image.fromarray(grey))), expected)
    deep = read_photo(encode(Image.fromarray(grey.astype(np.uint16) * 257)))
    assert np.abs(deep.astype(int) - expected).max() <= 1
    clear = Image.new("RGBA", (50, 40), (255, 0, 0, 0))
    assert (read_photo(encode(clear)) == 255).all()  # transparent: the white page shows
    assert read_photo(encode(Image.fromarray(grey).convert("P"), "GIF")).shape == (40, 50, 3)
    assert read_photo(encode(Image.new("CMYK", (50, 40)), "TIFF")).shape == (40, 50, 3)
    assert read_photo(encode(Image.new("1", (50, 40)))).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "readable image"),
        (b"<html>hello</html>", "readable image"),
        (PORTRAITS[0].read_bytes()[:100], "damaged"),
    ],
)
def test_files_that_are_no_picture(content, words):
    with pytest.raises(PhotoError, match=words):
        read_photo(content)


def test_photos_as_phones_and_computers_write_them():
    face = Image.open(PORTRAITS[0]).convert("RGB")
    whole, expected = encode(face, "JPEG"), np.asarray(face, int)
    motion = whole + np.random.default_rng(0).bytes(3_000_000)  # a video behind the photo
    np.testing.assert_array_equal(read_photo(motion), read_photo(whole))
    cut = open_photo(whole[: len(whole) // 2])
    assert cut.incomplete and cut.rgb.shape == expected.shape and not open_photo(whole).incomplete
    height = len(expected)
    assert np.abs(cut.rgb[: height // 4].astype(int) - expected[: height // 4]).mean() < 10
    grey12 = read_photo(encode(Image.fromarray((np.arange(64 * 64).reshape(64, 64)).astype(np.uint16)), "TIFF"))
    assert grey12.max() > 250 and 120 < grey12.mean() < 135


def test_heic_is_read():
    pillow_heif = pytest.importorskip("pillow_heif")
    face, file = Image.open(PORTRAITS[0]).convert("RGB"), io.BytesIO()
    pillow_heif.from_pillow(face).save(file, quality=90)
    assert np.abs(read_photo(file.getvalue()).astype(int) - np.asarray(face, int)).mean() < 6


def test_heic_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(photo, "pillow_heif", None)
    monkeypatch.setattr(photo, "FORMATS", ("JPEG",))
    with pytest.raises(PhotoError, match="HEIC: export as JPEG"):
        read_photo(b"\0\0\0\x18ftypheic" + bytes(100))


def test_pngs_with_a_broken_chunk_or_a_cut_end_are_read():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    whole, expected = encode(picture), np.asarray(picture)
    body = b"note\0\x07" + zlib.compress(b"text")  # a compression method that does not exist
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    broken = open_photo(whole[:33] + chunk + whole[33:])
    assert not broken.incomplete
    np.testing.assert_array_equal(broken.rgb, expected)
    cut = open_photo(whole[: len(whole) // 2])
    assert cut.incomplete
    np.testing.assert_array_equal(cut.rgb[:10], expected[:10])


@pytest.mark.parametrize(("depth", "color"), [(16, 6), (255, 6), (8, 9)])
def test_a_tiny_png_that_claims_much_is_refused_at_once(depth, color):
    """Found by a review: 8,000 x 8,000 at 16 bits took a gigabyte and ten seconds, 255 bits would have taken 30."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, depth, color, 0, 0, 0))
    started = time.monotonic()
    with pytest.raises(PhotoError):
        read_photo(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")[:2]) + chunk(b"IEND", b""))
    assert time.monotonic() - started < 2


def test_color_profiles_are_applied():
    red = Image.new("RGB", (8, 8), (200, 60, 60))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    same = read_photo(encode(red, "JPEG", icc_profile=lab.tobytes(), quality=100))
    assert np.abs(same.astype(int) - [200, 60, 60]).max() <= 3
    cmyk = Image.new("CMYK", (8, 8), (0, 200, 200, 30))
    assert read_photo(encode(cmyk, "JPEG", icc_profile=b"no profile")).shape == (8, 8, 3)  # a broken one is ignored


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "MPO"])
def test_a_file_is_what_its_content_says(kind):
    assert photo.is_image(encode(Image.new("RGB", (8, 8)), kind)[:32])
    assert not photo.is_image(b"%PDF-1.7") and not photo.is_image(b"")


def test_too_many_pixels_are_refused_before_they_are_decoded():
    side = int(MAX_PIXELS**0.5) + 100
    bomb = encode(Image.new("1", (side, side)))
    assert len(bomb) < 100_000
    with pytest.raises(PhotoError, match="megapixels"):
        read_photo(bomb)


def test_a_jpeg_that_repeats_itself_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    Image.new("L", (1900, 1080), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    _, second, third = [i for i in range(len(content)) if content.startswith(b"\xff\xda", i)][:3]
    assert read_photo(content).shape == (1080, 1900, 3)
    scan = content[second:third]
    with pytest.raises(PhotoError, match="too many layers"):
        read_photo(content[:third] + scan * 20_000 + b"\xff\xd9")  # 34 bytes each


def test_one_long_side_is_refused_too():
    with pytest.raises(PhotoError, match="per side"):
        read_photo(encode(Image.new("1", (40_000, 10))))


def test_no_upload_starts_another_program(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, where there is one."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PhotoError, match="readable image"):
        read_photo(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n")
    assert not (tmp_path / "called").exists()


# Detection and crops


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


def same_when_turned(analyzer: FaceAnalyzer, rgb: np.ndarray, quarters: int) -> list[tuple[Face, Face]]:
    """Each face of an upright photo with the face in its place in the turned photo."""
    height, width = rgb.shape[:2]
    turned, pairs = analyzer.analyze(np.ascontiguousarray(np.rot90(rgb, quarters))), []
    for face in analyzer.analyze(rgb):
        x, y = face.center
        middle = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[quarters]
        same = min(turned, key=lambda f: float(np.linalg.norm(f.center - middle)), default=None)
        if same is not None and np.linalg.norm(same.center - middle) < 0.3 * max(face.box[2:]):
            assert face.rotation == 0 and same.rotation == 360 - 90 * quarters
            pairs.append((face, same))
    return pairs


@pytest.mark.parametrize("quarters", [1, 3])  # averaged faces are as sure upside down as upright
def test_a_turned_photo_gives_the_same_answers(quarters, yunet):
    pairs = same_when_turned(FaceAnalyzer.load(detector=str(yunet)), read_photo(EXAMPLES / "group.jpg"), quarters)
    assert len(pairs) == 8
    assert all(abs(one.age - other.age) < 1 and one.gender == other.gender for one, other in pairs)


def test_turned_group_photos_give_the_same_answers(yunet):
    analyzer, pairs, faces = FaceAnalyzer.load(detector=str(yunet)), [], 0
    for path in sorted(shared("photos").glob("*.jpg")):
        rgb = read_photo(path)
        faces += 3 * len(analyzer.detect(rgb))
        for quarters in (1, 2, 3):
            pairs += same_when_turned(analyzer, rgb, quarters)
    assert faces == 222 and len(pairs) >= 0.98 * faces
    assert np.mean([abs(one.age - other.age) for one, other in pairs]) < 1
    assert np.mean([one.gender == other.gender for one, other in pairs]) >= 0.97


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


def test_what_analyze_takes_is_checked():
    analyzer = FaceAnalyzer.load(detector="haar")
    rgb = np.zeros((40, 40, 3), np.uint8)
    for wrong in ({"threshold": None}, {"threshold": "high"}, {"threshold": 2}, {"threshold": float("nan")}):
        with pytest.raises(ValueError, match="threshold"):
            analyzer.analyze(rgb, **wrong)
    with pytest.raises(ValueError, match="quarters"):
        analyzer.detect(rgb, quarters=4)


def test_pillow_images_are_read_like_files():
    analyzer = FaceAnalyzer.load(detector="haar")
    with Image.open(EXAMPLES / "group.jpg") as image:
        grey = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        clear = image.convert("RGBA")
    clear.putalpha(0)
    assert len(analyzer.analyze(grey)) == 8
    assert analyzer.analyze(clear) == []  # white, as the file


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
    """A chip laid into a photo at any size and turn comes out as it was."""
    template = load_template()
    chip = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8), (0, 0), 12)
    chip = cv2.normalize(chip, None, 0, 255, cv2.NORM_MINMAX)
    matrix = cv2.getRotationMatrix2D((100, 100), angle, scale)
    matrix[:, 2] += 500
    photo = cv2.warpAffine(chip, matrix, (1200, 1200), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    landmarks = template.landmarks @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
    found = crop(photo, Face((0, 0, 1, 1), 1.0, landmarks), template)
    assert found.shape == (200, 200, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - chip)[20:-20, 20:-20].mean() < 6


def test_a_face_over_the_edge_is_cropped_all_the_same():
    photo = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    for box in ((-50, -50, 120, 120), (90, 90, 60, 60), (400, 400, 50, 50)):
        assert crop(photo, Face(box, 1.0), load_template()).shape == (200, 200, 3)


def test_chips_are_framed_alike_by_both_detectors(utkface, yunet):
    """The templates bring test chips back to themselves: the framing that the network learned."""
    from training.data import framing

    _, chips = decode(load_utkface(utkface, split="validation")[0].limit(60))
    template = load_template()
    for detector, limit in ((YuNet(yunet), 8.0), (Haar(), 16.0)):
        offsets = []
        for face in framing.seen(detector, chips, 1.0):
            if face is None:
                continue
            if face.landmarks is not None:
                here = face.landmarks - framing.MARGIN
                matrix = similarity(here, template.landmarks)
                offsets.append(np.abs(matrix @ [100, 100, 1] - 100).max())
            else:
                center = np.array(face.box[:2]) + np.array(face.box[2:]) / 2 - framing.MARGIN
                expected = np.array(template.box[:2]) + np.array(template.box[2:]) / 2
                offsets.append(np.abs(center - expected).max())
        assert len(offsets) > 0.8 * len(chips)
        assert np.median(offsets) < limit, detector.name


def test_the_detector_asked_for_is_used_or_refused(tmp_path):
    with pytest.raises(BundleError, match="No detector at"):
        load_detector("missing.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(BundleError, match="not a YuNet model"):
        load_detector(str(tmp_path / "bad.onnx"))
    detector = load_detector("haar")
    assert detector.name == "haar" and detector.note == ""


# From photo to answer


def test_faces_come_largest_first_in_pixels_of_the_photo(haar):
    photo = read_photo(EXAMPLES / "group.jpg")
    faces = haar.analyze(photo)
    assert len(faces) == 8
    assert [f.area for f in faces] == sorted((f.area for f in faces), reverse=True)
    for face in faces:
        x, y, width, height = face.box
        assert 0 <= x + width / 2 <= photo.shape[1] and 0 <= y + height / 2 <= photo.shape[0]
        assert 0 <= face.age <= 116 and face.gender in ("female", "male")
        assert 0.5 <= face.gender_probability <= 1
        assert 0 <= face.age_low < face.age_high
    assert json.dumps([f.as_dict() for f in faces])


def test_one_batch_answers_as_single_faces_do(haar):
    photo = read_photo(EXAMPLES / "group.jpg")
    together = haar.analyze(photo)
    alone = [haar.estimate(photo, [face])[0] for face in together]
    np.testing.assert_allclose([f.age for f in together], [f.age for f in alone], atol=1e-3)
    assert len({round(f.age, 2) for f in together}) > 3


def test_wrong_arrays_are_refused(haar):
    shapes = ((10, 10), np.uint8), ((10, 10, 4), np.uint8), ((10, 10, 3), np.float64), ((0, 5, 3), np.uint8)
    for wrong in (np.zeros(*shape) for shape in shapes):
        with pytest.raises(ValueError, match="uint8"):
            haar.analyze(wrong)
    estimator = haar.estimator
    with pytest.raises(ValueError, match="uint8"):
        estimator.predict(np.zeros((1, 100, 100, 3), np.uint8))
    empty = estimator.predict(np.zeros((0, 200, 200, 3), np.uint8))
    assert empty["age"].shape == (0,)


def test_age_rises_with_the_band_of_the_examples(haar):
    """The averaged faces look as old as the faces they were made of."""
    means = {}
    for path in PORTRAITS:
        _, low, high, gender = path.stem.split("-")
        faces = haar.analyze(read_photo(path))
        means.setdefault((int(low), int(high)), []).append(faces[0].age)
        # Children are left out: the network calls the averaged boy a girl, as it does many children (RESULTS.md).
        assert faces[0].gender == gender or int(high) < 10, path.stem
    ages = [np.mean(means[band]) for band in sorted(means)]
    assert ages == sorted(ages), means
    assert ages[0] < 16 and ages[-1] > 50, means


def test_drawing_leaves_the_photo_alone_and_marks_each_face(haar):
    photo = read_photo(EXAMPLES / "group.jpg")
    before = photo.copy()
    faces = haar.analyze(photo)
    drawn = draw(photo, faces)
    np.testing.assert_array_equal(photo, before)
    assert drawn.shape == photo.shape and drawn.dtype == np.uint8
    for face in faces:
        x, y, width, _ = (int(v) for v in face.box)
        line = drawn[max(0, y), max(0, x) : x + width].astype(int) - photo[max(0, y), max(0, x) : x + width]
        assert (np.abs(line).sum(1) > 20).mean() > 0.5
    assert draw(photo, []).shape == photo.shape


def test_serving_imports_no_tensorflow_and_nothing_of_training():
    code = (
        "import sys; import space.web.page; from space.analyzer import FaceAnalyzer; import numpy as np; "
        "FaceAnalyzer.load(detector='haar').analyze(np.zeros((90, 90, 3), np.uint8)); "
        "print([m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'keras', 'training', 'jax', 'torch')])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stderr


def test_without_calibration_nothing_is_made_up(copy):
    edit(copy, calibration=None)
    face = FaceAnalyzer.load(str(copy), detector="haar").analyze(read_photo(PORTRAITS[0]))[0]
    assert face.age_low is None and face.age_high is None and face.age > 0
    assert face.as_dict()["age_low"] is None


def test_picture_and_table_show_the_same_age():
    for age in (3.46, 18.54, 29.449, 40.5, 61.95):
        face = Face((0.0, 0.0, 9.0, 9.0), 1.0, age=age, age_low=1.0, age_high=9.0, p_female=0.1)
        assert label(face) == f"male, {cells({'file': '', 'faces': [face.as_dict()]})[0][2]}"
        assert abs(int(label(face).split()[1]) - age) <= 0.55
    assert [whole_years(age) for age in (2.5, 3.5, 18.54, 0.0, 61.44)] == ["3", "4", "19", "0", "61"]


def test_an_uncertain_gender_is_shown_as_such():
    photo = np.full((100, 100, 3), 255, np.uint8)
    box = (20.0, 20.0, 50.0, 50.0)
    sure, unsure = (Face(box, 1.0, age=30.0, p_female=p) for p in (0.9, 0.6))
    assert label(sure) == "female, 30" and label(unsure) == "uncertain, 30"
    assert not np.array_equal(draw(photo, [sure]), draw(photo, [unsure]))


# Bundles


@pytest.fixture
def copy(tmp_path):
    """A copy of the embedded bundle, to be broken."""
    return shutil.copytree(EMBEDDED, tmp_path / "bundle")


def test_the_embedded_bundle_is_whole_and_small():
    bundle = open_bundle()
    assert bundle.source == "embedded"
    assert sum(p.stat().st_size for p in EMBEDDED.rglob("*") if p.is_file()) <= 12_000_000
    assert all(path.stat().st_size <= 8_500_000 for path in EMBEDDED.rglob("*.onnx"))
    assert bundle.model_path.name == "model.int8.onnx" and bundle.model_path.stat().st_size < 2_500_000
    assert set(bundle.card["files"]) == {
        p.relative_to(EMBEDDED).as_posix() for p in EMBEDDED.rglob("*") if p.is_file() and p.name != CARD
    }
    assert Estimator(bundle.model_path).size == bundle.card["input"]["size"][0] == 200


def edit(folder, **changes) -> None:
    card = json.loads((folder / CARD).read_text())
    card.update(changes)
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda f: (f / "model.onnx").write_bytes(b"x" * 1000), "model.onnx is damaged"),
        (lambda f: (f / "model.int8.onnx").unlink(), "model.int8.onnx is missing"),
        (lambda f: (f / "metrics.json").write_text("{}"), "metrics.json is damaged"),
        (lambda f: (f / CARD).unlink(), "a model bundle"),
        (lambda f: (f / CARD).write_text("{"), "cannot be read"),
        (lambda f: (f / CARD).write_text("[]"), "not the card"),
        (lambda f: edit(f, format=99), "update the app"),
        (lambda f: edit(f, serve="other.onnx"), "does not list it"),
        (lambda f: edit(f, files={"../../etc/passwd": {"sha256": "0"}}, serve="../../etc/passwd"), "outside"),
        (lambda f: edit(f, serve=["a"]), "wrong type"),
        (lambda f: edit(f, files={"a\0b": {"sha256": "0"}}), "wrong type"),
        (lambda f: edit(f, crop={"size": 200}), "crop template"),
        (lambda f: edit(f, calibration={"age": {}}), "calibration"),
    ],
)
def test_broken_bundles_are_named(copy, breaks, words):
    breaks(copy)
    with pytest.raises(BundleError, match=words):
        FaceAnalyzer.load(str(copy), detector="haar")


def test_a_file_that_is_no_network_is_told(copy):
    (copy / "model.int8.onnx").write_bytes(b"garbage")
    card = json.loads((copy / CARD).read_text())
    card["files"]["model.int8.onnx"]["sha256"] = sha256_of(copy / "model.int8.onnx")
    edit(copy, files=card["files"])
    with pytest.raises(BundleError, match="cannot be opened"):
        FaceAnalyzer.load(str(copy), detector="haar")


def test_what_is_neither_folder_nor_hub_id():
    for wrong in ("no/such/folder", "nowhere", "a b/c", str(ROOT / "README.md")):
        with pytest.raises(BundleError, match="No model at"):
            open_bundle(wrong)


def test_shared_is_not_needed_and_not_in_the_repository():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no git checkout")
    assert not [name for name in tracked if "yunet" in name.lower() and name.endswith(".onnx")]
    if SHARED.exists():
        ours = {sha256_of(ROOT / n) for n in tracked if n.endswith((".jpg", ".png")) and (ROOT / n).exists()}
        assert not ours & {sha256_of(p) for p in (SHARED / "photos").glob("*.jpg")}


def test_an_explanation_shows_where_the_answer_comes_from():
    """A made-up network that looks at one corner only: nothing but that corner must be colored."""
    from space.explain import occlusion_map, overlay

    class Corner:
        def predict(self, crops):
            return {"age": 50 + crops[:, 20:60, 140:180].astype(np.float32).std(axis=(1, 2, 3))}

    crop = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    years, older, younger = occlusion_map(Corner(), crop)
    assert years.shape == (200, 200) and years[40, 160] > 5
    assert older >= years.max() and 0 <= younger < 1
    assert np.abs(years[120:, :100]).max() < 0.01
    colored = overlay(crop, years)
    red = colored[..., 0].astype(int) - colored[..., 2]
    assert colored.dtype == np.uint8 and red[40, 160] > 60 and abs(red[150, 50]) < 3


def test_blurred_faces_have_no_detail_and_the_rest_is_untouched():
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    before = photo.copy()
    box = (150.0, 100.0, 100.0, 100.0)
    blurred = blur(photo, [Face(box, 0.9)])
    assert np.array_equal(photo, before) and photo[100:200, 150:250].std() > 70
    assert blurred[120:180, 170:230].std() < 8  # of 36 patches of some hundred pixels each
    assert np.array_equal(blurred[:70], photo[:70]) and np.array_equal(blurred[:, 280:], photo[:, 280:])
    outside = [Face((-50.0, -50.0, 80.0, 80.0), 0.9), Face((5000.0, 5000.0, 10.0, 10.0), 0.9)]
    assert blur(photo, outside).shape == photo.shape


@pytest.mark.parametrize("name", sorted(path.parent.name for path in MODELS.glob("*/predict.py")))
def test_the_bundle_s_own_predict_answers_as_the_app(name, yunet):
    """`predict.py` stands alone: its answers are those of FaceAnalyzer."""
    specification = importlib.util.spec_from_file_location("predict", MODELS / name / "predict.py")
    alone = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(alone)
    predictor, analyzer = alone.Predictor(MODELS / name, yunet), FaceAnalyzer.load(name, detector=str(yunet))
    for path in (EXAMPLES / "group.jpg", shared("photos/18.jpg")):
        rgb = read_photo(path)
        ours, theirs = analyzer.analyze(rgb), predictor.predict(rgb)
        assert len(ours) == len(theirs)
        for face, other in zip(ours, theirs, strict=True):
            # The app also looks for large faces in a smaller image, whose landmarks differ by a pixel.
            assert abs(face.age - other["age"]) < 1.5 and face.gender == other["gender"]
            assert abs(face.age_low - other["age_low"]) <= 3 and abs(face.age_high - other["age_high"]) <= 3
            assert face.gender_probability == pytest.approx(other["gender_probability"], abs=0.06)


def test_a_pillow_image_and_a_path_are_analyzed_like_an_array(haar):
    expected = [face.as_dict() for face in haar.analyze(read_photo(PORTRAITS[0]))]
    for source in (PORTRAITS[0], str(PORTRAITS[0]), Image.open(PORTRAITS[0])):
        assert [face.as_dict() for face in haar.analyze(source)] == expected
    with pytest.raises(PhotoError, match="There is no file"):
        haar.analyze("gone.jpg")


def test_a_photo_s_table_holds_no_formula():
    from space.web.tabs.photo import as_csv

    assert "'=HYPERLINK" in as_csv({"faces": [], "incomplete": False}, "=HYPERLINK(1)")
