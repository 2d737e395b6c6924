"""The Folder tab's files."""

from __future__ import annotations

import json
import math
import zipfile

from space.batch.pictures import Picture
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
    *_, text, found = folder._analyze(None, [None] * 5, [], 0.7, str(tmp_path), thumbnails=False)
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
