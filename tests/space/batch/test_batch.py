"""Folders and zips → tables: nothing lost, nothing twice, also after a kill; and the same as a Ray Data pipeline."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from space import cli
from space.batch import analyze, run
from space.batch.analyze import analyze_pictures
from space.batch.pictures import MAX_MEMBERS, BatchError, Picture, _name, find_pictures, open_zip
from space.batch.ray_pipeline import write_parquet
from space.batch.tables import COLUMNS, no_faces, settings, spreadsheet_safe, table, write_csv
from space.photo import Photo, PhotoError, open_photo, read_photo
from tests.support import EXAMPLES, ROOT
from tests.support.app import assert_clear_error, python

GROUP, MAN, WOMAN = (EXAMPLES / f"{name}.jpg" for name in ("group", "age-20-29-male", "age-20-29-female"))


@pytest.fixture
def album(tmp_path) -> Path:
    """Four pictures that can be read, one that cannot, and what is none."""
    folder = tmp_path / "album"
    (folder / "deeper" / "still").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    shutil.copy(EXAMPLES / "group.jpg", folder / "group.jpg")
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", folder / "deeper" / "Grüße 👋 مرحبا.JPG")
    shutil.copy(EXAMPLES / "age-40-49-male.jpg", folder / "deeper" / "still" / "=HYPERLINK(1).jpg")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".DS_Store").write_bytes(b"no picture")
    shutil.copy(EXAMPLES / "group.jpg", folder / ".hidden" / "group.jpg")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(EXAMPLES / "age-60-99-female.jpg", "inside/old.jpg")
        archive.writestr("__MACOSX/inside/._old.jpg", "x")
        archive.writestr("../../escape.txt", "x")
    return folder


def command(*arguments, **kwargs):
    return python("-m", "space.cli", *arguments, **kwargs)


def batch(*arguments):
    """The same without a new process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # of wrong options
            status = stop.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def rows(jsonl: Path) -> list[dict]:
    return [json.loads(line) for line in jsonl.read_text().splitlines()]


def test_a_folder_becomes_two_tables(album, tmp_path, analyzer):
    tables = tmp_path / "new" / "tables"
    result = command(album, "--csv", tables / "faces.csv", "--jsonl", tables / "faces.jsonl")
    assert result.returncode == 0, result.stderr
    assert (
        re.search("5 images, 11 faces, 1 unreadable image, in [0-9]{1,2} s;", result.stdout)
        and "broken.png" in result.stderr
    )
    # notes.txt, .DS_Store, and in the zip __MACOSX/inside/._old.jpg and escape.txt
    assert "4 files skipped" in result.stdout
    found = rows(tables / "faces.jsonl")
    assert [Path(row["file"]).name for row in found] == [
        "broken.png", "group.jpg", "old.jpg", "Grüße 👋 مرحبا.JPG", "=HYPERLINK(1).jpg",
    ]  # fmt: skip
    assert list(found[0]) == [
        "file",
        "width",
        "height",
        "incomplete",
        "faces",
        "error",
        "model",
        "detector",
        "threshold",
        "method",
        "fingerprint",
        "folder",
    ]
    assert "readable image" in found[0]["error"] and found[0]["faces"] == []
    assert found[2]["file"].endswith("album/more.zip/inside/old.jpg")
    # What many pictures in a batch get is what each gets alone.
    alone = [face.as_dict() for face in analyzer.analyze(read_photo(EXAMPLES / "group.jpg"))]
    for one, many in zip(alone, found[1]["faces"], strict=True):
        assert one["box"] == many["box"] and one["gender"] == many["gender"] and abs(one["age"] - many["age"]) < 0.11
    with open(tables / "faces.csv", newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS) and len(lines) == 11 + 1
    assert lines[0]["error"] and not lines[0]["face"]
    assert [line["face"] for line in lines if line["file"].endswith("group.jpg")] == [str(n) for n in range(1, 9)]
    assert sorted(path.name for path in tables.iterdir()) == ["faces.csv", "faces.jsonl"]


def test_names_that_a_spreadsheet_would_run_are_defused(album, tmp_path):
    os.rename(album / "group.jpg", album / "@group.jpg")
    result = subprocess.run(
        [sys.executable, "-m", "space.cli", "@group.jpg", "--csv", str(tmp_path / "t.csv")],
        cwd=album, env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "\n'@group.jpg,1," in (tmp_path / "t.csv").read_text()
    assert [spreadsheet_safe(text) for text in ("=1", "+1", "-1", "@a", "\t=1", "a=1", "a;=1")] == [
        "'=1", "'+1", "'-1", "'@a", "'\t=1", "a=1", "a;'=1",
    ]  # fmt: skip


def test_more_of_the_same_goes_into_the_same_table(album, tmp_path):
    out = ("--csv", tmp_path / "faces.csv", "--jsonl", tmp_path / "faces.jsonl")
    batch(album / "group.jpg", *out)
    result = batch(album, *out)
    assert "4 images, 3 faces" in result.stdout and "1 already done" in result.stdout
    assert len(rows(tmp_path / "faces.jsonl")) == 5
    with open(tmp_path / "faces.csv", newline="", encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 12


def files_in(csv_file: Path) -> set[str]:
    with open(csv_file, newline="", encoding="utf-8-sig") as file:
        return {Path(line["file"]).name for line in csv.DictReader(file)}


def test_what_a_stopped_run_left_is_in_no_other_table(album, tmp_path):
    """Without --jsonl, rows wait beside the CSV until the run is complete."""
    target, left = tmp_path / "faces.csv", tmp_path / "faces.csv.part.jsonl"
    photo = EXAMPLES / "age-20-29-male.jpg"
    for threshold in ("0.7", "0.5"):
        assert batch(EXAMPLES / "group.jpg", album / "broken.png", "--jsonl", left).returncode == 0
        result = batch(photo, "--csv", target, "--threshold", threshold)
        assert result.returncode == 0 and "1 image, 1 face" in result.stdout, result.stderr
        assert files_in(target) == {photo.name} and not left.exists()
    left.write_text('{"name": "mine"}\n')
    assert_clear_error(batch(photo, "--csv", target), "choose another file")
    assert left.read_text() == '{"name": "mine"}\n'


def test_images_that_could_not_be_read_are_tried_again(tmp_path):
    folder, tables = tmp_path / "folder", ("--jsonl", tmp_path / "t.jsonl", "--csv", tmp_path / "t.csv")
    folder.mkdir()
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", folder / "a.jpg")
    (folder / "b.jpg").write_bytes(b"")  # still copied by another program
    assert "1 unreadable image" in batch(folder, *tables).stdout
    assert "1 image, 0 faces, 1 unreadable image" in batch(folder, *tables).stdout
    shutil.copy(EXAMPLES / "age-20-29-female.jpg", folder / "b.jpg")
    result = batch(folder, *tables)
    assert "1 image, 1 face, 0 unreadable images" in result.stdout and "1 already done" in result.stdout
    assert [(Path(row["file"]).name, row["error"]) for row in rows(tmp_path / "t.jsonl")] == [
        ("a.jpg", None),
        ("b.jpg", None),
    ]
    assert files_in(tmp_path / "t.csv") == {"a.jpg", "b.jpg"}


def test_rows_of_images_that_are_not_tried_again_are_kept(tmp_path):
    tables, content = ("--jsonl", tmp_path / "t.jsonl", "--csv", tmp_path / "t.csv"), GROUP.read_bytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(MAN, tmp_path / folder)
    (tmp_path / "a" / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "a" / "bad.jpg").write_text("no image")
    (tmp_path / "a" / "c.zip").write_text("no zip")
    assert batch(tmp_path / "a", *tables).returncode == 0
    assert batch(tmp_path / "b", *tables).returncode == 0
    names = {"bad.jpg", "cut.jpg", "c.zip", MAN.name}
    assert files_in(tmp_path / "t.csv") == names and len(rows(tmp_path / "t.jsonl")) == 5
    with zipfile.ZipFile(tmp_path / "a" / "c.zip", "w") as archive:
        archive.write(MAN, "man.jpg")
    assert batch(tmp_path / "a", *tables).returncode == 0
    assert files_in(tmp_path / "t.csv") == names - {"c.zip"} | {"man.jpg"} and len(rows(tmp_path / "t.jsonl")) == 5


def test_images_that_differ_only_in_the_middle_are_different(tmp_path):
    prints = set()
    for gray in (10, 20):
        image = Image.new("RGB", (640, 480))
        image.paste((gray, gray, gray), (200, 150, 440, 330))
        image.save(tmp_path / "frame.bmp")
        (picture,) = find_pictures([tmp_path / "frame.bmp"])
        prints.add(picture.fingerprint())
    assert len(prints) == 2


def test_the_exit_status_says_that_no_image_could_be_read(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.jpg").write_bytes(b"")
    result = batch(folder, "--csv", tmp_path / "t.csv")
    assert_clear_error(result, "No image could be read", "t.csv")
    assert files_in(tmp_path / "t.csv") == {"a.jpg", "b.jpg"} and list(tmp_path.glob("*.part*")) == []


def test_links_are_followed_and_devices_refused(tmp_path):
    photo, link, target = EXAMPLES / "age-20-29-male.jpg", tmp_path / "link.csv", tmp_path / "target.csv"
    target.write_text("old")
    link.symlink_to(target.name)
    assert batch(photo, "--csv", link).returncode == 0
    assert link.is_symlink() and files_in(target) == {photo.name}
    for place in ("/dev/null", "-"):
        for option in ("--csv", "--jsonl"):
            assert_clear_error(batch(photo, option, place), "can't be an output file")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_cannot_be_read_is_an_error_of_its_own(tmp_path, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / "a.jpg")
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    for folder, names in ((tmp_path, ["a.jpg", "closed"]), (tmp_path / "closed", ["closed"])):
        found = find_pictures([folder])
        assert [Path(picture.name).name for picture in found] == names
        with pytest.raises(PhotoError, match=r"This folder can't be read \(Permission denied\)"):
            found[-1].open()


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(tmp_path):
    album = tmp_path / "album"
    album.mkdir()
    for i in range(120):
        shutil.copy(EXAMPLES / ("group.jpg" if i % 10 == 0 else "age-20-29-male.jpg"), album / f"{i:03d}.jpg")
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    assert batch(album, "--jsonl", whole, "--csv", tmp_path / "whole.csv").returncode == 0
    words = [sys.executable, "-m", "space.cli", album, "--jsonl", part, "--csv", tmp_path / "part.csv"]
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(
            [*map(str, words)], cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        before = part.stat().st_size if part.exists() else 0
        while process.poll() is None and (not part.exists() or part.stat().st_size == before):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 3 and 0 < part.read_bytes().count(b"\n") < 120 and not (tmp_path / "part.csv").exists()
    with open(part, "ab") as file:
        file.write(b'{"file": "half a li')  # what a kill within a write leaves
    result = batch(album, "--jsonl", part, "--csv", tmp_path / "part.csv")
    assert result.returncode == 0 and "already done" in result.stdout, result.stderr

    def comparable(path):
        # Faces of other batches differ in the last digit.
        return [(r["file"], len(r["faces"]), [round(f["age"]) for f in r["faces"]]) for r in rows(path)]

    assert [name for name, *_ in comparable(part)] == [name for name, *_ in comparable(whole)]
    assert sum(a != b for a, b in zip(comparable(part), comparable(whole), strict=True)) <= 2
    assert len((tmp_path / "part.csv").read_text().splitlines()) == len(
        (tmp_path / "whole.csv").read_text().splitlines()
    )
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob("*.lock"))


@pytest.mark.slow
def test_a_thousand_pictures_take_no_more_memory_than_a_hundred(tmp_path):
    program = (
        "import resource, sys; from space.cli import main; assert main(sys.argv[1:]) == 0; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peak = {}
    with Image.open(EXAMPLES / "age-20-29-male.jpg") as photo:
        photo.resize((120, 120)).save(tmp_path / "face.png")
    for count in (100, 1000):
        album = tmp_path / str(count)
        album.mkdir()
        for i in range(count):
            (album / f"{i:04d}.png").symlink_to(tmp_path / "face.png")
        result = python("-c", program, album, "--csv", tmp_path / f"{count}.csv")
        assert result.returncode == 0, result.stderr
        assert f"{count:,} images, {count:,} faces, 0 unreadable" in result.stdout
        peak[count] = int(result.stdout.split()[-1])
    assert peak[1000] < peak[100] + 60, peak  # MB


def test_what_cannot_be_done_is_said_and_nothing_is_touched(album, tmp_path):
    jsonl = tmp_path / "faces.jsonl"
    assert_clear_error(batch(tmp_path / "gone", "--csv", tmp_path / "a.csv"), "doesn't exist")
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    assert_clear_error(batch(tmp_path / "bad.zip", "--csv", tmp_path / "a.csv"), "bad.zip", "not a readable zip")
    jsonl.write_text('{"name": "mine"}\n')
    assert_clear_error(batch(album, "--jsonl", jsonl), "choose a")
    assert jsonl.read_text() == '{"name": "mine"}\n'
    jsonl.unlink()
    assert batch(album / "group.jpg", "--jsonl", jsonl).returncode == 0
    before = jsonl.read_bytes()
    assert_clear_error(batch(album, "--jsonl", jsonl, "--threshold", "0.5"), "made with", "0.7")
    from filelock import FileLock

    with FileLock(f"{jsonl}.lock"):
        assert_clear_error(batch(album, "--jsonl", jsonl), "Another run")
    assert jsonl.read_bytes() == before
    for arguments in (
        (album, "--parquet", tmp_path / "p", "--csv", jsonl),
        (album, "--json", "--csv", jsonl),
        ("--csv", jsonl),
    ):
        result = batch(*arguments)
        assert result.returncode == 2 and "Traceback" not in result.stderr


def test_foreign_files_stay_and_names_are_checked_first(album, tmp_path):
    precious = tmp_path / "precious.json"
    precious.write_text('{"my": "precious data"}')  # without a newline, as json.dump leaves it
    assert_clear_error(batch(album, "--jsonl", precious), "choose a")
    assert precious.read_text() == '{"my": "precious data"}'
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty").mkdir()
    same = tmp_path / "same.csv"
    for arguments in (
        ("--csv", tmp_path / "folder.csv"),
        ("--csv", album / "group.jpg"),
        ("--csv", same, "--jsonl", same),
    ):
        assert_clear_error(batch(album, *arguments), "can't be an output file")
    assert_clear_error(batch(tmp_path / "empty", "--csv", same), "no images")
    assert not same.exists() and (album / "group.jpg").read_bytes() == (EXAMPLES / "group.jpg").read_bytes()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert_clear_error(batch(tmp_path / "pipe.jpg", "--csv", same), "isn't a readable file")


def test_folders_are_searched_whole_and_each_picture_once(album):
    (album / "link").symlink_to(album / "deeper", target_is_directory=True)
    (album / "circle").symlink_to(album, target_is_directory=True)
    (album / "bad.zip").write_bytes(b"PK no zip")
    found = [picture.name for picture in find_pictures([album, album / "group.jpg", album / "deeper"])]
    assert len(found) == len(set(found)) == 6 and f"{album}/bad.zip" in found
    with pytest.raises(PhotoError, match="not a readable zip"):
        next(p for p in find_pictures([album]) if p.name.endswith("bad.zip")).open()


def test_zips_are_read_in_place_and_bounded(tmp_path, analyzer, monkeypatch):
    from space.batch import pictures as module

    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../escape.jpg", (EXAMPLES / "group.jpg").read_bytes())
        archive.writestr("/absolute.jpg", (EXAMPLES / "age-20-29-male.jpg").read_bytes())
        archive.writestr("bomb.png", b"\0" * 3_000_000)
        archive.writestr("inner.zip", b"PK")
        archive.writestr("cut.jpg", (EXAMPLES / "group.jpg").read_bytes()[:9000])
    monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    found = {Path(row["file"]).name: row for row in analyze_pictures(analyzer, find_pictures([path]))}
    assert sorted(found) == ["absolute.jpg", "bomb.png", "cut.jpg", "escape.jpg"]
    assert len(found["escape.jpg"]["faces"]) == 8 and len(found["absolute.jpg"]["faces"]) == 1
    assert "too large" in found["bomb.png"]["error"] and found["cut.jpg"]["error"] is None
    assert {name for name, row in found.items() if row["incomplete"]} == {"cut.jpg"}
    assert table(found["cut.jpg"])[0]["incomplete"] and "incomplete" in no_faces(found["cut.jpg"] | {"faces": []})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures.zip"]
    monkeypatch.setattr(module, "MAX_MEMBERS", 2)
    with pytest.raises(BatchError, match="the limit is 2"):
        find_pictures([path])
    assert table(found["bomb.png"])[0]["error"]


def test_a_zip_whose_list_alone_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "huge.zip"
    entry = b"PK\x01\x02" + bytes(24) + b"\x05\x00" + bytes(16) + b"a.jpg"
    count = 1_000_000
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff" * 2 + (count * len(entry)).to_bytes(4, "little") + bytes(6)
    path.write_bytes(entry * count + end)
    with pytest.raises(BatchError, match=r"^huge\.zip lists too many files: the limit is 100,000 in one zip\.$"):
        find_pictures([path])
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(MAX_MEMBERS + 1):
            archive.writestr(f"{number}.jpg", b"")
    with pytest.raises(BatchError, match="100,001 images"):
        find_pictures([tmp_path / "many.zip"])


def test_names_in_a_zip_lead_nowhere(tmp_path):
    names = ["../../up.jpg", "/etc/root.jpg", "a/../../b.jpg", "C:\\win.jpg", "=cmd|calc.jpg", "\u202egpj.exe.jpg"]
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"no picture")
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16  # a symbolic link to what its content names
        archive.writestr(link, "/etc/passwd")
        archive.writestr("nameless", b"x")
        archive.infolist()[-1].filename = ""  # found by the fuzzer: zipfile's own is_dir() fails on it
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as nested:
            nested.writestr("deep.jpg", b"x")
        archive.writestr("inner.zip", inner.getvalue())
    before = set(tmp_path.parent.rglob("*"))
    assert len(find_pictures([tmp_path / "slip.zip"])) == len(names) + 1  # zips within zips are not opened
    members, _ = open_zip(tmp_path / "slip.zip", "slip.zip")
    contents = {member.name.rsplit("/", 1)[-1]: member.read() for member in members}
    assert contents.pop("link.jpg") == b"/etc/passwd"  # the link's own bytes, not what it points at
    assert set(contents.values()) == {b"no picture"}
    assert set(tmp_path.parent.rglob("*")) == before


@pytest.mark.slow
def test_ray_writes_the_same_as_parquet(album, tmp_path):
    pytest.importorskip("ray", reason='needs Ray Data: pip install "ray[data]"')
    import pyarrow.parquet

    (album / "more.zip").unlink()  # Ray reads files
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", album / "_DSC0001.JPG")  # as cameras name photos in Adobe RGB
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", album / "without-suffix")
    assert batch(album, "--csv", tmp_path / "faces.csv").returncode == 0
    invalid = shutil.copy(MAN, os.fsdecode(os.fsencode(album) + b"/b\xff.jpg"))
    result = command(album, "--parquet", tmp_path / "parquet", timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 image skipped (in a zip or an unreadable folder, or the name isn't UTF-8)" in result.stdout
    os.unlink(invalid)
    lines = pyarrow.parquet.read_table(tmp_path / "parquet").to_pylist()
    with open(tmp_path / "faces.csv", newline="", encoding="utf-8-sig") as file:
        expected = {(Path(line["file"]).name.lstrip("'"), line["face"]): line for line in csv.DictReader(file)}
    assert len(lines) == len(expected) == 13
    for line in lines:
        other = expected[Path(line["file"]).name, "" if line["face"] is None else str(line["face"])]
        assert (line["gender"] or "") == other["gender"] and bool(line["error"]) == bool(other["error"])
        assert line["age"] is None or abs(line["age"] - float(other["age"])) < 0.11
    assert_clear_error(command(album, "--parquet", tmp_path / "parquet", timeout=300), "not empty")
    nothing = command(album / "broken.png", "--parquet", tmp_path / "nothing", timeout=300)
    assert_clear_error(nothing, "No image could be read")
    gone = command(f"file://{tmp_path}/gone", "--parquet", tmp_path / "gone-parquet", timeout=300)
    assert_clear_error(gone, f"{tmp_path}/gone doesn't exist")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_zipfile_would_decompress_whole_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "many.zip", "w", method) as archive:
        archive.write(EXAMPLES / "group.jpg", "group.jpg")
        archive.writestr("unnamed", (EXAMPLES / "group.jpg").read_bytes())
    skipped: list[str] = []
    (picture,) = find_pictures([tmp_path / "many.zip"], skipped)
    with pytest.raises(PhotoError, match="Deflate"):
        picture.open()
    assert [Path(name).name for name in skipped] == ["unnamed"]


def test_members_of_one_name_are_all_analyzed(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.jpg", b"one")
        archive.writestr("a.jpg", b"two")
        archive.writestr("a.jpg (2)", (EXAMPLES / "group.jpg").read_bytes())
    members, _ = open_zip(tmp_path / "twice.zip", "twice.zip")
    assert [(member.name, member.read()[:3]) for member in members] == [
        ("twice.zip/a.jpg", b"one"), ("twice.zip/a.jpg (2)", b"two"), ("twice.zip/a.jpg (2) (2)", b"\xff\xd8\xff"),
    ]  # fmt: skip


def test_names_that_look_like_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("[a].jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert cli._expanded("[a].jpg") == ["[a].jpg"]
    assert cli._expanded("[ab].jpg") == ["a.jpg", "b.jpg"]
    assert cli._expanded("none*.jpg") == ["none*.jpg"]
    with pytest.raises(BatchError, match="empty"):
        find_pictures([""])


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path):
    (tmp_path / "\x1b]0;name\x07.jpg").write_bytes(b"no image")
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path)
    result = batch(tmp_path, "--csv", tmp_path.parent / "names.csv")
    assert result.returncode == 0 and "\x1b" not in result.stderr and "]0;name" in result.stderr


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


def test_a_table_numbers_the_faces_of_each_image(analyzer):
    (row,) = analyze_pictures(analyzer, [Picture("group.jpg", lambda: open_photo(GROUP))])
    assert [line["face"] for line in table(row)] == [1, 2, 3, 4, 5, 6, 7, 8]
    made = settings(analyzer, 0.6)
    digest = analyzer.bundle.card["files"]["model.int8.onnx"]["sha256"]
    assert made["model"] == f"compact-{digest[:12]}" and made["threshold"] == 0.6


def test_the_first_ten_unreadable_images_are_named(tmp_path, capsys):
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"no image")
    assert cli.main([str(tmp_path), "--csv", str(tmp_path / "faces.csv")]) == 1
    named = [line for line in capsys.readouterr().err.splitlines() if "isn't a readable image" in line]
    assert len(named) == 10 and "09.jpg" in named[-1]


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


def test_a_change_anywhere_in_a_large_file_is_noticed(tmp_path):
    file, found = tmp_path / "a.bmp", set()
    for place in (None, 0, 50_000, 100_000, 150_000, 199_999):
        content = bytearray(200_000)
        if place is not None:
            content[place] = 1
        file.write_bytes(content)
        (picture,) = find_pictures([str(file)])
        found.add(picture.fingerprint())
    assert len(found) == 6


def test_a_run_killed_in_its_first_line_is_resumed(tmp_path):
    rows, words = (
        tmp_path / "faces.jsonl",
        [str(EXAMPLES / "age-20-29-male.jpg"), "--jsonl", str(tmp_path / "faces.jsonl")],
    )
    assert cli.main(words) == 0
    whole = rows.read_bytes()
    rows.write_bytes(whole[:40])
    assert cli.main(words) == 0 and rows.read_bytes() == whole


def test_a_console_without_all_letters_is_no_reason_to_fail():
    code = "from space.console import tolerate_console; tolerate_console(); print('4.29 \u2192 4.24 \U0001f44b')"
    result = python("-c", code, env={"PYTHONIOENCODING": "cp1252"})
    assert result.returncode == 0 and "4.29 \\u2192 4.24" in result.stdout, result.stderr


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


def test_a_table_left_in_one_folder_is_not_continued_in_another(tmp_path, monkeypatch):
    """Names are relative to the folder in which a run was started."""
    for name, example in (("one", "group.jpg"), ("two", "age-20-29-male.jpg")):
        (tmp_path / name).mkdir()
        shutil.copy(EXAMPLES / example, tmp_path / name / "p.jpg")
    target, left = tmp_path / "faces.csv", tmp_path / "faces.csv.part.jsonl"

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr("space.batch.run.write_csv", stop)
        assert cli.main(["p.jpg", "--csv", str(target)]) == 130
    assert len(rows(left)) == 1
    monkeypatch.chdir(tmp_path / "two")
    assert cli.main(["p.jpg", "--csv", str(target)]) == 0
    with open(target, newline="", encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 1  # not the eight of the group


def test_images_that_changed_are_analyzed_again(tmp_path, monkeypatch):
    album, jsonl = tmp_path / "album", tmp_path / "faces.jsonl"
    album.mkdir()
    monkeypatch.chdir(album)
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(MAN, name)
    with zipfile.ZipFile("c.zip", "w") as archive:
        archive.write(MAN, "c.jpg")
    assert "3 images, 3 faces" in batch(".", "--jsonl", jsonl).stdout
    assert "0 images, 0 faces" in batch(".", "--jsonl", jsonl).stdout
    shutil.copy(GROUP, "a.jpg")
    with zipfile.ZipFile("c.zip", "w") as archive:
        archive.write(GROUP, "c.jpg")
    assert "2 images, 16 faces" in batch(".", "--jsonl", jsonl).stdout
    assert {row["file"]: len(row["faces"]) for row in rows(jsonl)} == {"a.jpg": 8, "b.jpg": 1, "c.zip/c.jpg": 8}
    monkeypatch.chdir(shutil.copytree(album, tmp_path / "moved"))  # the same images elsewhere
    assert "0 images, 0 faces" in batch(".", "--jsonl", jsonl).stdout
    assert str(tmp_path) not in jsonl.read_text()


def test_different_images_with_the_same_names_are_not_skipped(tmp_path, monkeypatch):
    jsonl = tmp_path / "all.jsonl"
    for year, source in (("2023", MAN), ("2024", WOMAN)):
        (tmp_path / year).mkdir()
        shutil.copy(source, tmp_path / year / "IMG_1.jpg")
    monkeypatch.chdir(tmp_path / "2023")
    assert batch(".", "--jsonl", jsonl).returncode == 0
    before = jsonl.read_bytes()
    monkeypatch.chdir(tmp_path / "2024")
    assert_clear_error(batch(".", "--jsonl", jsonl), "a different image named IMG_1.jpg", "choose another file")
    assert jsonl.read_bytes() == before
    for year in ("2023", "2024"):  # whole paths are never confused
        result = batch(tmp_path / year, "--jsonl", tmp_path / "whole.jsonl")
        assert "1 image, 1 face" in result.stdout, result.stderr
    assert len(rows(tmp_path / "whole.jsonl")) == 2


def test_files_beside_the_outputs_are_not_touched(tmp_path):
    mine = tmp_path / "t.csv.part"
    mine.write_text("mine")
    assert batch(MAN, "--csv", tmp_path / "t.csv").returncode == 0 and mine.read_text() == "mine"
    jsonl = tmp_path / "u.csv.part"
    for _ in range(2):
        assert batch(MAN, "--csv", tmp_path / "u.csv", "--jsonl", jsonl).returncode == 0
        assert len(rows(jsonl)) == 1 and files_in(tmp_path / "u.csv") == {MAN.name}


def test_an_image_that_was_incomplete_is_tried_again(tmp_path):
    content = (EXAMPLES / "group.jpg").read_bytes()
    (tmp_path / "p.jpg").write_bytes(content[: len(content) // 2])
    jsonl = tmp_path / "faces.jsonl"
    assert cli.main([str(tmp_path / "p.jpg"), "--jsonl", str(jsonl)]) == 0
    assert [row["incomplete"] for row in rows(jsonl)] == [True]
    (tmp_path / "p.jpg").write_bytes(content)
    assert cli.main([str(tmp_path / "p.jpg"), "--jsonl", str(jsonl)]) == 0
    assert [(row["incomplete"], len(row["faces"])) for row in rows(jsonl)] == [(False, 8)]


def test_a_folder_that_may_be_listed_but_not_entered_is_an_error_of_its_own(tmp_path, monkeypatch):
    is_file = Path.is_file

    def refuse(path):
        if path.name == "closed.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    for name in ("a.jpg", "closed.jpg"):
        shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / name)
    monkeypatch.setattr(Path, "is_file", refuse)
    good, closed = find_pictures([str(tmp_path)])
    assert Path(good.name).name == "a.jpg" and Path(closed.name).name == "closed.jpg"
    with pytest.raises(PhotoError, match=r"The file can't be read \(Permission denied\)"):
        closed.open()


def test_redirected_output_is_no_table(tmp_path):
    with open(tmp_path / "log.txt", "w") as log:
        log.write("old\n")
    with open(tmp_path / "log.txt", "a") as log:
        words = [sys.executable, "-m", "space.cli", EXAMPLES / "age-20-29-male.jpg", "--csv", "/dev/stdout"]
        assert subprocess.run(words, stdout=log, cwd=ROOT).returncode == 1
    assert (tmp_path / "log.txt").read_text() == "old\n"


def test_a_half_written_line_is_written_again(tmp_path):
    target = tmp_path / "faces.jsonl"
    words = [str(shutil.copy(MAN, tmp_path / name)) for name in ("a.jpg", "b.jpg")]
    assert cli.main([*words, "--jsonl", str(target)]) == 0
    first, second = target.read_bytes().splitlines(keepends=True)
    target.write_bytes(first + second[:40])
    for _ in range(2):
        assert cli.main([*words, "--jsonl", str(target)]) == 0
        assert [json.loads(line)["file"] for line in target.read_bytes().splitlines()] == words


def test_each_image_is_in_the_file_before_the_next_one_is_analyzed(tmp_path, monkeypatch):
    target, lines = tmp_path / "faces.jsonl", []

    def rows(analyzer, left, *, threshold):
        for picture in left:
            yield {"file": picture.name, "faces": [], "error": None, "incomplete": False}
            lines.append(target.read_text().count("\n"))

    monkeypatch.setattr(run, "analyze_pictures", rows)
    assert cli.main([str(GROUP), str(MAN), "--jsonl", str(target)]) == 0
    assert lines == [1, 2]


def test_a_csv_has_only_the_images_of_its_own_command(tmp_path, monkeypatch):
    target = tmp_path / "faces.csv"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_csv", stop)
        assert cli.main([str(GROUP), "--csv", str(target)]) == 130
    assert cli.main([str(MAN), "--csv", str(target)]) == 0
    assert MAN.name in target.read_text() and GROUP.name not in target.read_text()


def test_a_csv_takes_any_file_name_and_is_replaced_whole(tmp_path):
    source, target = tmp_path / "faces.jsonl", tmp_path / "faces.csv"
    row = json.dumps({"file": "a\udce9.jpg", "faces": [], "error": None, "incomplete": False})
    source.write_text(f"{row}\n")
    write_csv(source, target)
    written = target.read_text()
    assert "a\\udce9.jpg" in written
    source.write_text(f"{row}\n{{broken\n")
    with pytest.raises(ValueError):
        write_csv(source, target)
    assert target.read_text() == written


def test_a_member_with_a_password_is_named_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        archive.writestr("a.jpg", MAN.read_bytes())
    content = bytearray((tmp_path / "album.zip").read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    (tmp_path / "album.zip").write_bytes(content)
    (member,), _ = open_zip(tmp_path / "album.zip", "album.zip")
    with pytest.raises(PhotoError, match="password-protected"):
        member.read()


def test_hidden_members_are_skipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        for name in ("a.jpg", ".hidden/b.jpg", "._a.jpg"):
            archive.writestr(name, b"x")
    members, others = open_zip(tmp_path / "album.zip", "album.zip")
    assert [member.name for member in members] == ["album.zip/a.jpg"] and len(others) == 2


WESTERN = "é schön Straße Größe Köln Höhle Père Österreich MÜNCHEN Süß São_João GoProHöhle étés".split()
JAPANESE = "写真 テスト カメラ ひらがな 日本 家族 山 人 馬 IMG_写真 DSC馬 富士山 photo_山 holiday_東 img-空 ｶﾒﾗ".split()


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *((f"{name}.jpg", "utf-8") for name in ("é", "写真", "Größe")),
        *((f"{name}.jpg", "cp850") for name in (*WESTERN, "Urlaub Köln/Höhle 1")),
        *((f"{name}.jpg", "cp932") for name in (*JAPANESE, "新しいフォルダー/写真1", "family 家")),
    ],
)
def test_names_in_the_code_page_of_another_system(name, encoding):
    info = zipfile.ZipInfo("x")
    info.filename = name.encode(encoding).decode("cp437")  # as zipfile reads a name without the Unicode flag
    assert _name(info) == name
    info.filename, info.flag_bits = name, 0x800
    assert _name(info) == name


def test_an_image_without_a_suffix_is_found(tmp_path):
    shutil.copy(MAN, tmp_path / "photo")
    assert len(find_pictures([tmp_path])) == 1


def test_each_row_has_the_thumbnails_of_its_own_faces(analyzer):
    pictures = [Picture(path.name, lambda path=path: open_photo(path)) for path in (MAN, GROUP, WOMAN)]
    for row, picture in zip(analyze_pictures(analyzer, pictures, thumbnails=True), pictures, strict=True):
        (alone,) = analyze_pictures(analyzer, [picture], thumbnails=True)
        assert len(row["thumbnails"]) == len(row["faces"]) > 0
        for here, there in zip(row["thumbnails"], alone["thumbnails"], strict=True):
            assert abs(here.astype(int) - there).max() <= 2


@pytest.mark.parametrize(
    ("name", "words"), [("full", "is not empty"), ("zip", "not zips"), ("nothing", "no images in")]
)
def test_parquet_is_refused_before_ray_starts(tmp_path, monkeypatch, name, words):
    for module in ("ray", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    if name == "full":
        out.mkdir()
        (out / "mine.txt").touch()
    paths = {"full": [str(EXAMPLES)], "zip": ["a.zip"], "nothing": [str(empty)]}[name]
    with pytest.raises(BatchError, match=words):
        write_parquet(paths, out, model="compact", threshold=0.7)


def test_the_speed_of_a_run_is_in_images_per_second(tmp_path, monkeypatch):
    clock = itertools.count(0, 2)
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    paths = [str(shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / f"{i}.jpg")) for i in range(11)]
    text = run.write_tables(paths, csv=tmp_path / "faces.csv", jsonl=None, model=None, threshold=0.7)
    seconds = int(re.search(r"in (\d+) s", text)[1])
    assert f"({11 / seconds:.1f} images per second" in text
