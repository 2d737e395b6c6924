"""Folders and zips → tables, from the command line, also after a kill."""

from __future__ import annotations

import csv
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from space import cli
from space.batch import run
from space.batch.tables import COLUMNS
from space.photo import read_photo
from tests.support import EXAMPLES, ROOT
from tests.support.app import assert_clear_error, python
from tests.support.batch import GROUP, MAN, batch, command, files_in, rows


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
    target.touch()
    link.symlink_to(target.name)
    assert batch(photo, "--csv", link).returncode == 0
    assert link.is_symlink() and files_in(target) == {photo.name}
    for place in ("/dev/null", "-"):
        for option in ("--csv", "--jsonl"):
            assert_clear_error(batch(photo, option, place), "can't be an output file")
    assert Path("/dev/null").is_char_device()


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


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path):
    (tmp_path / "\x1b]0;name\x07.jpg").write_bytes(b"no image")
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path)
    result = batch(tmp_path, "--csv", tmp_path.parent / "names.csv")
    assert result.returncode == 0 and "\x1b" not in result.stderr and "]0;name" in result.stderr


def test_the_first_ten_unreadable_images_are_named(tmp_path, capsys):
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").write_bytes(b"no image")
    assert cli.main([str(tmp_path), "--csv", str(tmp_path / "faces.csv")]) == 1
    named = [line for line in capsys.readouterr().err.splitlines() if "isn't a readable image" in line]
    assert len(named) == 10 and "09.jpg" in named[-1]


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


def test_files_beside_the_outputs_are_not_touched(tmp_path):
    mine = tmp_path / "t.csv.part"
    mine.write_text("mine")
    assert batch(MAN, "--csv", tmp_path / "t.csv").returncode == 0 and mine.read_text() == "mine"
    jsonl = tmp_path / "u.csv.part"
    for _ in range(2):
        assert batch(MAN, "--csv", tmp_path / "u.csv", "--jsonl", jsonl).returncode == 0
        assert len(rows(jsonl)) == 1 and files_in(tmp_path / "u.csv") == {MAN.name}


def test_redirected_output_is_no_table(tmp_path):
    with open(tmp_path / "log.txt", "w") as log:
        log.write("old\n")
    with open(tmp_path / "log.txt", "a") as log:
        words = [sys.executable, "-m", "space.cli", EXAMPLES / "age-20-29-male.jpg", "--csv", "/dev/stdout"]
        assert subprocess.run(words, stdout=log, cwd=ROOT).returncode == 1
    assert (tmp_path / "log.txt").read_text() == "old\n"


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


def test_the_speed_of_a_run_is_in_images_per_second(tmp_path, monkeypatch):
    clock = itertools.count(0, 2)
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    paths = [str(shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / f"{i}.jpg")) for i in range(11)]
    text = run.write_tables(paths, csv=tmp_path / "faces.csv", jsonl=None, model=None, threshold=0.7)
    seconds = int(re.search(r"in (\d+) s", text)[1])
    assert f"({11 / seconds:.1f} images per second" in text


def test_a_file_that_is_no_table_is_not_replaced(tmp_path):
    target = tmp_path / "photo"
    shutil.copy(MAN, target)
    for photo in (target, MAN):
        assert_clear_error(batch(photo, "--csv", target), "isn't a table of this command", "choose another file")
        assert target.read_bytes() == MAN.read_bytes()
    target.write_bytes(b"")
    for _ in range(2):
        assert batch(MAN, "--csv", target).returncode == 0 and files_in(target) == {MAN.name}
