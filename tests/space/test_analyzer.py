"""From photo to estimates."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from space.analyzer import FaceAnalyzer
from space.batch.analyze import analyze_pictures
from space.batch.pictures import Picture
from space.estimator import Estimator
from space.face import Face
from space.hub.card import CARD
from space.hub.download import ModelError
from space.photo import PhotoError, open_photo, read_photo
from space.turns import InTurns
from tests.support import EXAMPLES, shared

PORTRAITS = sorted(EXAMPLES.glob("age-*.jpg"))


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
def test_a_turned_photo_gives_the_same_answers(quarters):
    pairs = same_when_turned(FaceAnalyzer.load(), read_photo(EXAMPLES / "group.jpg"), quarters)
    assert len(pairs) == 8
    assert all(abs(one.age - other.age) < 1 and one.gender == other.gender for one, other in pairs)


def test_turned_group_photos_give_the_same_answers():
    analyzer, pairs, faces = FaceAnalyzer.load(), [], 0
    for path in sorted(shared("photos").glob("*.jpg")):
        rgb = read_photo(path)
        faces += 3 * len(analyzer.detect(rgb))
        for quarters in (1, 2, 3):
            pairs += same_when_turned(analyzer, rgb, quarters)
    assert faces == 222 and len(pairs) >= 0.98 * faces
    assert np.mean([abs(one.age - other.age) for one, other in pairs]) < 1
    assert np.mean([one.gender == other.gender for one, other in pairs]) >= 0.97


def test_boxes_of_a_very_large_jpeg_are_in_full_size_pixels(analyzer, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as group:
        factor = 16_000 / group.width
        large = group.convert("RGB").resize((16_000, round(group.height * factor)))
    large.save(tmp_path / "large.jpg", quality=80)
    assert open_photo(tmp_path / "large.jpg").reduction == 2
    expected = analyzer.analyze(EXAMPLES / "group.jpg")
    detected = analyzer.detect(tmp_path / "large.jpg")
    (row,) = analyze_pictures(analyzer, [Picture("large.jpg", lambda: open_photo(tmp_path / "large.jpg"))])
    assert (row["width"], row["height"]) == large.size
    for faces in (detected, analyzer.analyze(tmp_path / "large.jpg"), row["faces"]):
        boxes = [face["box"] if isinstance(face, dict) else face.box for face in faces]
        assert len(boxes) == len(expected) == 8
        for face in expected:  # boxes differ by a few pixels, so their order by size can differ too
            box = np.multiply(face.box, factor)
            assert min(np.abs(box - other).max() for other in boxes) < 0.05 * box[2]


def test_analyze_checks_its_input(analyzer):
    rgb = np.zeros((40, 40, 3), np.uint8)
    for wrong in ({"threshold": None}, {"threshold": "high"}, {"threshold": 2}, {"threshold": float("nan")}):
        with pytest.raises(ValueError, match="threshold"):
            analyzer.analyze(rgb, **wrong)
    with pytest.raises(ValueError, match="quarters"):
        analyzer.detect(rgb, quarters=4)


def test_pillow_images_and_bytes_are_read_like_files(analyzer):
    with Image.open(EXAMPLES / "group.jpg") as image:
        gray = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        clear = image.convert("RGBA")
    clear.putalpha(0)
    assert len(analyzer.analyze(gray)) == 8 == len(analyzer.analyze((EXAMPLES / "group.jpg").read_bytes()))
    assert analyzer.analyze(clear) == []  # white, as the file


def test_faces_come_largest_first_in_pixels_of_the_photo(analyzer):
    photo = read_photo(EXAMPLES / "group.jpg")
    faces = analyzer.analyze(photo)
    assert len(faces) == 8
    assert [f.area for f in faces] == sorted((f.area for f in faces), reverse=True)
    for face in faces:
        x, y, width, height = face.box
        assert 0 <= x + width / 2 <= photo.shape[1] and 0 <= y + height / 2 <= photo.shape[0]
        assert 0 <= face.age <= 116 and face.gender in ("female", "male")
        assert 0.5 <= face.gender_probability <= 1
        assert 0 <= face.age_low < face.age_high
    assert json.dumps([f.as_dict() for f in faces])


def test_a_batch_gives_the_same_results_as_single_faces(analyzer):
    photo = read_photo(EXAMPLES / "group.jpg")
    together = analyzer.analyze(photo)
    alone = [analyzer.estimate(photo, [face])[0] for face in together]
    np.testing.assert_allclose([f.age for f in together], [f.age for f in alone], atol=1e-3)
    assert len({round(f.age, 2) for f in together}) > 3


def test_longer_sides_than_opencv_takes_are_refused(analyzer):
    for source in (np.zeros((4, 33_000, 3), np.uint8), Image.new("RGB", (33_000, 4))):
        with pytest.raises(ValueError, match="too large: the limit is 32,000 pixels per side"):
            analyzer.analyze(source)


def test_wrong_arrays_are_refused(analyzer):
    shapes = ((10, 10), np.uint8), ((10, 10, 4), np.uint8), ((10, 10, 3), np.float64), ((0, 5, 3), np.uint8)
    for wrong in (np.zeros(*shape) for shape in shapes):
        with pytest.raises(ValueError, match="uint8"):
            analyzer.analyze(wrong)
    estimator = analyzer.estimator
    with pytest.raises(ValueError, match="uint8"):
        estimator.predict(np.zeros((1, 100, 100, 3), np.uint8))
    empty = estimator.predict(np.zeros((0, 200, 200, 3), np.uint8))
    assert empty["age"].shape == (0,)


@pytest.mark.parametrize("most", [-1, 2.5, "3"])
def test_an_invalid_number_of_faces_is_refused(analyzer, most):
    with pytest.raises(ValueError, match=r"most must be a whole number \(0 or more\) or None"):
        analyzer.analyze(np.zeros((64, 64, 3), np.uint8), most=most)


def network(path, batch="N", **axes):
    """Write a network whose outputs are means of the image: of each output, the axes and whether they are kept."""
    from onnx import TensorProto, helper, save

    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)]
    for name, (dims, keep) in axes.items():
        nodes.append(helper.make_node("ReduceMean", ["float"], [name], axes=dims, keepdims=keep))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 8, 8, 3])
    outputs = [helper.make_value_info(name, helper.make_tensor_type_proto(TensorProto.FLOAT, None)) for name in axes]
    graph = helper.make_graph(nodes, "means", [image], outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("batch", "axes", "fits"),
    [
        ("N", {"age": ([1, 2, 3], 0), "p_female": ([1, 2, 3], 0)}, True),
        (1, {"age": ([1, 2, 3], 0), "p_female": ([1, 2, 3], 0)}, False),  # one face at a time
        ("N", {"age": ([1, 2], 0), "p_female": ([1, 2, 3], 0)}, False),  # [N, 3]
        ("N", {"age": ([1, 2, 3], 0), "p_female": ([1, 2, 3], 0), "age_probs": ([1, 3], 0)}, False),  # [N, 8]
        ("N", {"age": ([1, 2, 3], 0)}, False),
    ],
)
def test_networks_that_would_fail_later_are_refused_at_once(tmp_path, batch, axes, fits):
    path = network(tmp_path / "model.onnx", batch, **axes)
    if fits:
        assert Estimator(path).predict(np.zeros((2, 8, 8, 3), np.uint8))["age"].shape == (2,)
    else:
        with pytest.raises(ModelError, match="isn't an age and gender network"):
            Estimator(path)


def test_age_rises_with_the_band_of_the_examples(analyzer):
    """The averaged faces look as old as the faces they were made of."""
    means = {}
    for path in PORTRAITS:
        _, low, high, gender = path.stem.split("-")
        faces = analyzer.analyze(read_photo(path))
        means.setdefault((int(low), int(high)), []).append(faces[0].age)
        assert faces[0].gender == gender, path.stem
    ages = [np.mean(means[band]) for band in sorted(means)]
    assert ages == sorted(ages), means
    assert ages[0] < 16 and ages[-1] > 50, means


def edit(folder, **changes) -> None:
    card = json.loads((folder / CARD).read_text())
    card.update(changes)
    (folder / CARD).write_text(json.dumps(card))


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


def test_a_pillow_image_and_a_path_are_analyzed_like_an_array(analyzer):
    expected = [face.as_dict() for face in analyzer.analyze(read_photo(PORTRAITS[0]))]
    for source in (PORTRAITS[0], str(PORTRAITS[0]), Image.open(PORTRAITS[0])):
        assert [face.as_dict() for face in analyzer.analyze(source)] == expected
    with pytest.raises(PhotoError, match="There is no file"):
        analyzer.analyze("gone.jpg")


@pytest.mark.parametrize(("score", "found"), [(0.86, 0), (0.89, 1)])
def test_faces_of_a_turned_image_count_only_if_one_of_them_is_sure(analyzer, monkeypatch, score, found):
    """Animals and things that are searched in four orientations look like a face in one of them."""

    def detect(self, rgb, threshold, side, least=None):
        return [Face((1.0, 2.0, 30.0, 40.0), score)] if rgb.shape[0] > rgb.shape[1] else []  # only turned by a quarter

    monkeypatch.setattr(type(analyzer.detector), "detect", detect)
    assert len(analyzer.detect(np.zeros((100, 200, 3), np.uint8))) == found


def test_another_model_of_the_same_app():
    """With the detector and the turns of the first one."""
    analyzer = FaceAnalyzer.load("compact")
    assert analyzer.with_model(None) is analyzer is analyzer.with_model("compact")
    assert analyzer.with_model("open").bundle.card["name"] == "open"
    in_turns = analyzer.taking_turns()
    other = in_turns.with_model("open")
    assert other.lock is in_turns.lock and other.detector is in_turns.detector
    assert isinstance(other.estimator._session, InTurns) and not isinstance(analyzer.estimator._session, InTurns)


@pytest.mark.parametrize(
    ("score", "options", "searches", "rotation"),
    [
        (0.95, {}, 1, 0),  # sure
        (0.8, {"quarters": 0, "side": 320}, 1, 0),  # the orientation is known
        (0.89, {"side": 320}, 4, 0),  # no other orientation is surer
    ],
)
def test_other_orientations_are_searched_only_if_that_may_help(
    analyzer, monkeypatch, score, options, searches, rotation
):
    searched = []

    def detect(rgb, *_, **__):
        searched.append(rgb.shape)
        return [Face((1.0, 2.0, 30.0, 40.0), score)]

    monkeypatch.setattr(analyzer.detector, "detect", detect)
    found = analyzer.detect(np.zeros((100, 200, 3), np.uint8), **options)
    assert len(searched) == searches and [face.rotation for face in found] == [rotation]
