"""Images → rows of faces: the same as each image gives alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from space.batch import analyze
from space.batch.analyze import analyze_pictures
from space.batch.pictures import Picture, find_pictures
from space.photo import Photo, PhotoError, open_photo
from tests.support import EXAMPLES
from tests.support.batch import GROUP, MAN, WOMAN


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(13, "Permission denied"), "The file can't be read (Permission denied)."),
        (OSError("odd"), "The file can't be read (odd)."),
        (MemoryError(), "The image needs more memory than is available."),
        (PhotoError("Not a photo."), "Not a photo."),
    ],
)
def test_an_image_that_fails_is_a_row_with_the_reason(analyzer, error, words):
    def fail():
        raise error

    good = find_pictures([EXAMPLES / "age-20-29-male.jpg"])[0]
    first, second, third = analyze_pictures(analyzer, [good, Picture("bad", fail), good])
    assert second["error"] == words and second["faces"] == [] and second["width"] is None
    assert len(first["faces"]) == len(third["faces"]) == 1 and first["error"] is None


def test_a_crowd_is_estimated_without_keeping_its_crops(analyzer, monkeypatch):
    monkeypatch.setattr(analyze, "BATCH", 3)
    pictures = [Picture(name, lambda: open_photo(EXAMPLES / "group.jpg")) for name in "ab"]
    row, other = analyze.analyze_pictures(analyzer, pictures)
    assert len(row["faces"]) == 8 and row["faces"] == other["faces"]
    assert "thumbnails" not in row
    row, _ = analyze.analyze_pictures(analyzer, pictures, thumbnails=True)
    assert len(row["thumbnails"]) == 3


def test_images_without_faces_are_written_as_they_are_read():
    opened = []

    def blank(number):
        opened.append(number)
        return Photo(np.zeros((20, 20, 3), np.uint8), (20, 20))

    nobody = SimpleNamespace(
        template=SimpleNamespace(size=200), detect=lambda *_, **__: [], estimate_crops=lambda *_, **__: []
    )
    steps = analyze.analyze_pictures(nobody, [Picture(f"{i}.jpg", lambda i=i: blank(i)) for i in range(40)])
    next(steps)
    assert len(opened) <= 15
    assert len(list(steps)) == 39


def test_rows_have_what_the_analyzer_says_of_each_face(analyzer, tmp_path):
    """Also of faces that the border cuts off; in images with few faces and with many."""
    with Image.open(EXAMPLES / "group.jpg") as group:
        few = group.convert("RGB").crop((80, 40, group.width, group.height))
        many = Image.new("RGB", (2 * few.width, few.height))
        many.paste(few, (0, 0))
        many.paste(few, (few.width, 0))
    for name, image in (("few.png", few), ("many.png", many)):
        image.save(tmp_path / name)
        (row,) = analyze_pictures(analyzer, [Picture(name, lambda name=name: open_photo(tmp_path / name))])
        faces = [face.as_dict() for face in analyzer.analyze(tmp_path / name)]
        assert max(face["cut_off"] for face in faces) > 0
        for one, other in zip(row["faces"], faces, strict=True):
            assert one.keys() == other.keys()
            assert (one["cut_off"], one["quality"], one["box"]) == (other["cut_off"], other["quality"], other["box"])


def test_each_row_has_the_thumbnails_of_its_own_faces(analyzer):
    pictures = [Picture(path.name, lambda path=path: open_photo(path)) for path in (MAN, GROUP, WOMAN)]
    for row, picture in zip(analyze_pictures(analyzer, pictures, thumbnails=True), pictures, strict=True):
        (alone,) = analyze_pictures(analyzer, [picture], thumbnails=True)
        assert len(row["thumbnails"]) == len(row["faces"]) > 0
        for here, there in zip(row["thumbnails"], alone["thumbnails"], strict=True):
            assert abs(here.astype(int) - there).max() <= 2
