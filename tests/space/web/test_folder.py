"""The Folder tab's files."""

from __future__ import annotations

import contextlib
import json
import math
import re
import zipfile

import numpy as np

from space.batch.pictures import BatchError, Picture
from space.photo import Photo, PhotoError, open_photo
from space.web.tabs import folder
from space.web.tabs.folder import write_annotated
from tests.support import EXAMPLES

FACE = {"box": [10, 10, 50, 50], "score": 0.9, "age": 30.0, "gender": "female", "gender_probability": 0.9}


def too_slow():
    raise PhotoError("It takes too long.")


def test_annotated_images_keep_their_folders_and_lead_nowhere(tmp_path):
    kept = {
        "album/b.jpg": "album/b.jpg",
        "a.zip/../../up.jpg": "a.zip/up.jpg",
        "a.zip/....//x.jpg": "a.zip/..../x.jpg",
        "/etc/c.jpg": "etc/c.jpg",
        "a\\..\\d.jpg": "a/d.jpg",
        "a/./d.jpg": "a/d.jpg (2)",
        "C:\\x.jpg": "C/x.jpg",
    }
    pictures = [Picture(name, lambda: open_photo(EXAMPLES / "age-20-29-male.jpg")) for name in kept]
    pictures += [Picture("slow.jpg", too_slow), Picture("nobody.jpg", too_slow)]
    rows = [{"file": picture.name, "faces": [FACE] if picture.name != "nobody.jpg" else []} for picture in pictures]
    (tmp_path / "faces.jsonl").write_text("\n".join(map(json.dumps, rows)))
    missing = write_annotated(pictures, tmp_path / "faces.jsonl", tmp_path / "annotated.zip", {}, math.inf)
    with zipfile.ZipFile(tmp_path / "annotated.zip") as archive:
        assert archive.namelist() == [f"{name}.faces.jpg" for name in kept.values()]
    assert missing == 1  # slow.jpg
    assert write_annotated(pictures, tmp_path / "faces.jsonl", tmp_path / "late.zip", {}, 0) == len(kept) + 1


def test_a_run_ends_in_time_with_what_it_has(tmp_path, monkeypatch):
    rows = [{"file": f"{i}.jpg", "faces": [], "error": None, "incomplete": False} for i in range(5)]
    monkeypatch.setattr(folder, "settings", lambda *_: {})
    monkeypatch.setattr(folder, "write_csv", lambda *_: None)
    monkeypatch.setattr(folder, "analyze_pictures", lambda *_, **__: iter(rows))
    clock = iter(range(0, 10_000, 250))
    monkeypatch.setattr(folder, "monotonic", lambda: next(clock))
    first, second, third, *_, text, found = folder._analyze(None, [None] * 5, [], 0.7, str(tmp_path), thumbnails=False)
    assert first == "0 of 5 images"
    assert second == "1 of 5 images, about 17 minutes left" and third == "2 of 5 images, about 12 minutes left"
    assert found.images == len(found.rows) == (tmp_path / "faces.jsonl").read_text().count("\n") == 3
    assert text.startswith("⚠️ 2 images not analyzed: a run is limited to 10 minutes.\n\n**0 faces** in 3 images")


def test_names_and_errors_of_files_are_text_on_the_page(tmp_path, analyzer):
    def bad():
        raise PhotoError("<b>bad</b>")

    man = EXAMPLES / "age-20-29-male.jpg"
    pictures = [Picture("<img src=x onerror=1>.jpg", bad), Picture("<i>.jpg", lambda: open_photo(man))]
    *_, found = folder._analyze(analyzer, pictures, [], 0.7, str(tmp_path), thumbnails=True)
    html = folder.report(found)
    assert html.count("data:image/jpeg") == 1
    assert not any(tag in html for tag in ("<img src=x", "<i>", "<b>"))


def test_the_summary_counts_what_was_analyzed_and_what_was_not():
    found = folder.Found(12, lines=folder.SHOWN + 1, faces=30, unreadable=2, incomplete=1)
    assert folder._summary(found, 3, 4.4).split("\n\n") == [
        "**30 faces** in 12 images, analyzed in 4 seconds.",
        "2 images could not be read. The table gives the reason.",
        "1 image file is incomplete (parts of the image are missing).",
        "3 files skipped (not a supported image format).",
        f"The table shows the first {folder.SHOWN} rows. The downloads contain all rows.",
    ]
    assert folder._summary(folder.Found(1, faces=1), 0, 1.2) == "**1 face** in 1 image, analyzed in 1 second."


def test_the_threshold_holds(tmp_path, analyzer):
    group = Picture("group.jpg", lambda: open_photo(EXAMPLES / "group.jpg"))
    *_, found = folder._analyze(analyzer, [group], [], 1.0, str(tmp_path), thumbnails=False)
    assert found.faces == 0


def test_boxes_lie_at_their_place_in_a_photo_that_was_reduced(tmp_path, monkeypatch):
    drawn, rgb = [], open_photo(EXAMPLES / "group.jpg").rgb
    monkeypatch.setattr(folder, "draw", lambda image, faces, *_: drawn.append(faces[0].box) or image)
    reduced = Picture("a.jpg", lambda: Photo(rgb, (2 * rgb.shape[1], 2 * rgb.shape[0])))
    (tmp_path / "faces.jsonl").write_text(json.dumps({"file": "a.jpg", "faces": [FACE]}))
    write_annotated([reduced], tmp_path / "faces.jsonl", tmp_path / "annotated.zip", {}, math.inf)
    assert drawn == [(5, 5, 25, 25)]


def face(age: float, gender: str) -> dict:
    return {"age": age, "age_low": age, "age_high": age, "gender_label": gender, "gender_probability": 0.9}


def test_figures_and_charts_count_what_the_table_shows():
    found = folder.Found()
    people = [face(9.4, "female"), face(9.6, "male"), face(75.0, "male")]
    for file, faces, error, incomplete in (
        ("a.jpg", people, None, False),
        ("b.jpg", [], "broken", False),
        ("c.jpg", [], None, True),
    ):
        found.add({"file": file, "faces": faces, "error": error, "incomplete": incomplete})
    assert (found.lines, found.faces, found.unreadable, found.incomplete) == (5, 3, 1, 1)
    html = folder.report(found)
    assert re.findall("<dd>(.*?)</dd>", html) == ["3", "3", "1"]
    bars = dict(re.findall(r'"bar-row"><span>(.*?)</span>.*?<span>(\d+)</span>', html))
    ages = {f"{low}–{low + 9}": "0" for low in range(0, 70, 10)}
    assert bars == ages | {"0–9": "1", "10–19": "1", "70+": "1", "female": "1", "male": "2", "uncertain": "0"}


class Reader:
    """Stands for a reader whose folder has these pictures, or fails."""

    def __init__(self, *pictures, error=None):
        self.found, self.error = pictures, error

    @contextlib.contextmanager
    def pictures(self, *_):
        if self.error:
            raise self.error
        yield list(self.found)


def shown(analyzer, reader, uploads=("upload",), *, annotate=False) -> list[tuple]:
    steps = folder._shower(analyzer, reader)(list(uploads), 0.7, annotate, "en")
    return [(step[0], *(button.visible for button in step[2:])) for step in steps]


def test_downloads_appear_for_what_there_is(analyzer):
    man = Picture("man.jpg", lambda: open_photo(EXAMPLES / "age-20-29-male.jpg"))
    blank = Picture("blank.jpg", lambda: Photo(np.zeros((60, 80, 3), np.uint8), (80, 60)))
    assert shown(analyzer, Reader(man))[-1][1:] == (True, True, False)
    *_, writing, last = shown(analyzer, Reader(man), annotate=True)
    assert writing == ("Writing annotated images…", False, False, False) and last[1:] == (True, True, True)
    assert shown(analyzer, Reader(blank), annotate=True)[-1][1:] == (True, True, False)
    assert shown(analyzer, Reader(error=BatchError("odd"))) == [("⚠️ odd", False, False, False)]
    assert shown(analyzer, Reader(), []) == [("⚠️ Choose images or a zip first.", False, False, False)]
