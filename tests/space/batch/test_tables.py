"""JSONL and CSV tables: nothing lost, nothing twice, also when a run is repeated or resumed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from space import cli
from space.batch.analyze import analyze_pictures
from space.batch.pictures import Picture
from space.batch.tables import settings, spreadsheet_safe, table, write_csv
from space.photo import open_photo
from tests.support import EXAMPLES, ROOT
from tests.support.app import assert_clear_error
from tests.support.batch import GROUP, MAN, WOMAN, batch, files_in, rows


def test_a_table_numbers_the_faces_of_each_image(analyzer):
    (row,) = analyze_pictures(analyzer, [Picture("group.jpg", lambda: open_photo(GROUP))])
    assert [line["face"] for line in table(row)] == [1, 2, 3, 4, 5, 6, 7, 8]
    made = settings(analyzer, 0.6)
    digest = analyzer.bundle.card["files"]["model.int8.onnx"]["sha256"]
    assert made["model"] == f"compact-{digest[:12]}" and made["threshold"] == 0.6


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


def test_an_image_that_was_incomplete_is_tried_again(tmp_path):
    content = (EXAMPLES / "group.jpg").read_bytes()
    (tmp_path / "p.jpg").write_bytes(content[: len(content) // 2])
    jsonl = tmp_path / "faces.jsonl"
    assert cli.main([str(tmp_path / "p.jpg"), "--jsonl", str(jsonl)]) == 0
    assert [row["incomplete"] for row in rows(jsonl)] == [True]
    (tmp_path / "p.jpg").write_bytes(content)
    assert cli.main([str(tmp_path / "p.jpg"), "--jsonl", str(jsonl)]) == 0
    assert [(row["incomplete"], len(row["faces"])) for row in rows(jsonl)] == [(False, 8)]


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


def test_a_run_killed_in_its_first_line_is_resumed(tmp_path):
    rows, words = (
        tmp_path / "faces.jsonl",
        [str(EXAMPLES / "age-20-29-male.jpg"), "--jsonl", str(tmp_path / "faces.jsonl")],
    )
    assert cli.main(words) == 0
    whole = rows.read_bytes()
    rows.write_bytes(whole[:40])
    assert cli.main(words) == 0 and rows.read_bytes() == whole


def test_a_half_written_line_is_written_again(tmp_path):
    target = tmp_path / "faces.jsonl"
    words = [str(shutil.copy(MAN, tmp_path / name)) for name in ("a.jpg", "b.jpg")]
    assert cli.main([*words, "--jsonl", str(target)]) == 0
    first, second = target.read_bytes().splitlines(keepends=True)
    target.write_bytes(first + second[:40])
    for _ in range(2):
        assert cli.main([*words, "--jsonl", str(target)]) == 0
        assert [json.loads(line)["file"] for line in target.read_bytes().splitlines()] == words


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


@pytest.mark.parametrize("name", ['["a.jpg"]', "{}", "[" * 100_000])
def test_rows_with_other_values_are_told(tmp_path, name):
    """A row of the right keys, whose file isn't a text; nested so deep that reading it fails."""
    (tmp_path / "t.jsonl").write_bytes(b"")
    batch(MAN, "--jsonl", tmp_path / "t.jsonl")
    row = (tmp_path / "t.jsonl").read_text()
    (tmp_path / "t.jsonl").write_text(row.replace(json.dumps(json.loads(row)["file"]), name))
    result = batch(MAN, "--jsonl", tmp_path / "t.jsonl")
    assert_clear_error(result, "wasn't written by this version of the command (line 1)")


def test_a_table_stays_its_owner_s_alone(tmp_path):
    tables = ("--jsonl", tmp_path / "t.jsonl", "--csv", tmp_path / "t.csv")
    batch(MAN, *tables)
    (tmp_path / "t.csv").chmod(0o600)
    batch(WOMAN, *tables)
    assert (tmp_path / "t.csv").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3


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
