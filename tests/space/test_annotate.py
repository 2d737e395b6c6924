"""Faces drawn, labeled, blurred and listed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageDraw, ImageFont

from space.annotate import _free_place, blur, draw, in_font, label
from space.face import Face, confidence, whole_years
from space.photo import read_photo
from space.web.modules import label_words
from space.web.tabs.folder import cells
from tests.support import EXAMPLES


def test_drawing_leaves_the_photo_alone_and_marks_each_face(analyzer):
    photo = read_photo(EXAMPLES / "group.jpg")
    before = photo.copy()
    faces = analyzer.analyze(photo)
    drawn = draw(photo, faces)
    np.testing.assert_array_equal(photo, before)
    assert drawn.shape == photo.shape and drawn.dtype == np.uint8
    for face in faces:
        x, y, width, _ = (int(v) for v in face.box)
        line = drawn[max(0, y), max(0, x) : x + width].astype(int) - photo[max(0, y), max(0, x) : x + width]
        assert (np.abs(line).sum(1) > 20).mean() > 0.5
    assert draw(photo, []).shape == photo.shape


def test_picture_and_table_show_the_same_age():
    for age in (3.46, 18.54, 29.449, 40.5, 61.95):
        face = Face((0.0, 0.0, 9.0, 9.0), 1.0, age=age, age_low=1.0, age_high=9.0, p_female=0.02)
        assert label(face) == f"male, {cells({'file': '', 'faces': [face.as_dict()]})[0][2]}"
        assert abs(int(label(face).split()[1]) - age) <= 0.55
    assert [whole_years(age) for age in (2.5, 3.5, 18.54, 0.0, 61.44)] == ["3", "4", "19", "0", "61"]


def test_photos_and_annotated_images_are_writable():
    photo = read_photo(EXAMPLES / "group.jpg")
    assert photo.flags.writeable and draw(photo, []).flags.writeable


def test_an_uncertain_gender_is_shown_as_such():
    photo = np.full((100, 100, 3), 255, np.uint8)
    box = (20.0, 20.0, 50.0, 50.0)
    sure, unsure = (Face(box, 1.0, age=30.0, p_female=p) for p in (0.9, 0.6))
    assert label(sure) == "female, 30" and label(unsure) == "uncertain, 30"
    assert not np.array_equal(draw(photo, [sure]), draw(photo, [unsure]))
    for age, p, shown in ((2, 0.96, "uncertain"), (2, 0.98, "female"), (9, 0.92, "uncertain"), (19, 0.9, "female"),
                          (20, 0.76, "female"), (20, 0.24, "male"), (115, 0.74, "uncertain")):  # fmt: skip
        face = Face(box, 1.0, age=float(age), p_female=p)
        assert face.gender_label == shown == face.as_dict()["gender_label"]
    assert Face(box, 1.0).gender_label == "uncertain"  # without an estimate
    assert confidence("uncertain", "female", 0.62) == "uncertain (62% female)"
    assert confidence("male", "male", 0.97) == "male · 97%"
    assert confidence("uncertain", "female", 0.7499) == "uncertain (74% female)"  # below 75%
    assert confidence("female", "female", 0.7551) == "female · 76%"
    assert confidence("uncertain", "male", 0.57) == "uncertain (57% male)"


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


@pytest.mark.parametrize(
    "box", [(150.0, 100.0, 100.0, 100.0), (-20.0, -30.0, 120.0, 160.0), (330.0, 200.0, 90.0, 140.0)]
)
def test_the_blur_covers_the_whole_face_with_forehead_and_chin(box):
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    changed = (blur(photo, [Face(box, 0.9)]) != photo).any(2)
    x, y, width, height = box
    rows, columns = np.mgrid[:300, :400] + 0.5
    across, down = (columns - x - width / 2) / width, (rows - y - height / 2) / height
    face = (across / 0.6) ** 2 + (down / 0.6) ** 2 <= 1  # an oval a fifth larger than the box's
    assert changed[face].mean() > 0.999  # a few patches have the color of what they cover
    assert not changed[(np.abs(across) > 0.7) | (np.abs(down) > 0.75)].any()


@pytest.mark.parametrize("size", [(40, 400), (44, 80)])
def test_labels_of_narrow_images_are_not_cut_off(size):
    """Where a label doesn't fit, it is shorter: white letters end before the edge."""
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    face = Face((size[0] - 28, 2, 26, 26), 0.9, age=31.0, p_female=0.9)
    drawn = draw(rgb, [face])
    white = (drawn > 200).all(axis=2)
    assert white.any() and not white[:, [0, -1]].any() and not white[[0, -1]].any()


def test_labels_cover_nothing_and_stay_in_the_image():
    random = np.random.default_rng(0)
    for _ in range(300):
        corner, sides = random.uniform(-20, 180, (6, 2)), random.uniform(5, 60, (6, 2))
        box, *taken = np.concatenate([corner, corner + sides], axis=1)
        size, taken = random.uniform(5, 60, 2), np.array(taken)
        place = _free_place(box, size, (200, 150), taken)
        near = [box[1] - size[1], box[3], max(0, box[1])]
        free = [
            y
            for y in near
            if 0 <= y <= 150 - size[1] and not _covers(np.clip(box[0], 0, 200 - size[0]), y, size, taken)
        ]
        assert (place is None) == (not free)
        if place is not None:
            np.testing.assert_allclose(place[2:] - place[:2], size)
            assert place[1] == free[0] and place[0] >= 0 and place[2] <= 200


def _covers(x, y, size, taken) -> bool:
    """Whether a label hides a part of something, by the area that they share."""
    shared = [min(x + size[0], x1) - max(x, x0) for x0, _, x1, _ in taken]
    return any(
        wide > 0 and min(y + size[1], y1) - max(y, y0) > 0 for wide, (_, y0, _, y1) in zip(shared, taken, strict=True)
    )


def test_blur_takes_its_colors_from_the_face_alone():
    """With a margin of 15% to the sides, 20% above and 15% below."""
    photo = np.zeros((400, 400, 3), np.uint8)
    photo[80:216, 85:216] = 255  # the box with its margin; black around it
    blurred = blur(photo, [Face((100.0, 100.0, 100.0, 100.0), 0.9)])
    assert blurred[90:205, 145:155].min() > 200 and blurred[140:155, 90:210].min() > 200


@pytest.mark.parametrize("language", ["de", "es", "fr", "zh"])
def test_labels_contain_only_letters_of_the_font(language):
    font = ImageFont.load_default(40)
    box = bytes(font.getmask("\uffff"))  # what it draws for letters that it lacks
    for word in label_words(language).values():
        drawn = in_font(word)
        assert len(drawn) >= len(word) and [letter for letter in drawn if bytes(font.getmask(letter)) == box] == []
    image, words = np.zeros((200, 400, 3), np.uint8), label_words(language)
    plain = {name: in_font(word) for name, word in words.items()}
    for p_female in (0.0, 0.5, 1.0):
        face = Face((60, 60, 80, 80), 0.9, age=30.0, p_female=p_female)
        assert np.array_equal(draw(image, [face], words), draw(image, [face], plain))


def test_numbers_and_colors_are_those_of_the_people(monkeypatch):
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, xy, text, *_, **__: texts.append(text))
    photo = np.zeros((200, 300, 3), np.uint8)
    small = Face((10, 60, 30, 30), 0.9, age=20.0, p_female=0.0)
    large = Face((100, 60, 80, 80), 0.9, age=30.0, p_female=1.0)
    drawn = draw(photo, [small, large])
    assert texts == ["#2 female, 30", "#1 male, 20"]  # the largest is drawn first
    assert tuple(drawn[100, 100]) == (196, 78, 0) and tuple(drawn[75, 10]) == (0, 104, 168)
    assert tuple(draw(photo, [replace(large, p_female=0.5)])[100, 100]) == (90, 90, 90)
    texts.clear()
    draw(photo, [replace(large, track_id=7)])
    assert texts == ["#7 female, 30"]
