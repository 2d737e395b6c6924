"""The command age-gender, and the package that pip installs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from packaging.requirements import Requirement

from space import cli
from space.batch.pictures import Picture
from space.photo import Photo, open_photo
from space.video import annotator
from space.video.result import VideoResult
from tests.support import EXAMPLES, ROOT
from tests.support.videos import moving, write_video

GROUP, MAN = EXAMPLES / "group.jpg", EXAMPLES / "age-20-29-male.jpg"

GROUP, MAN = EXAMPLES / "group.jpg", EXAMPLES / "age-20-29-male.jpg"


def test_a_photo_gives_a_line_per_face(capsys):
    assert cli.main([str(GROUP)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{GROUP}: 8 faces" and len(lines) == 8
    assert all(" age " in line and "likely" in line and "%" in line for line in lines)


def test_json_and_annotated_copies(tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):  # the second time, nothing is overwritten
        assert cli.main([str(GROUP), "--json", "--annotated", str(out), "--blur"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2 and len(rows[0]["faces"]) == 8 and rows[0]["faces"][0]["age_low"] > 0
    assert sorted(path.name for path in out.iterdir()) == ["group-2.jpg", "group.jpg"]
    before, after = cv2.imread(str(GROUP)), cv2.imread(str(out / "group.jpg"))
    assert before.shape == after.shape and cv2.absdiff(before, after).mean() > 3


def test_tables_are_those_of_the_batch(tmp_path, capsys):
    assert cli.main([str(EXAMPLES), "--csv", str(tmp_path / "faces.csv")]) == 0
    assert "faces" in capsys.readouterr().out
    assert (tmp_path / "faces.csv").read_text().count("\n") > 10


def test_the_help_names_the_models_and_the_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "compact, open, vgg16" in text and "(default: compact)" in text and "(default: 0.7)" in text


def clip(path, frames: int = 6):
    picture = cv2.cvtColor(cv2.imread(str(GROUP)), cv2.COLOR_BGR2RGB)
    return write_video(path, [picture[:480, :640]] * frames)


@pytest.fixture
def holiday(tmp_path, monkeypatch):
    """A folder with an image, a video, a damaged one of each, and a text; it is beside the current folder's files."""
    folder = tmp_path / "holiday"
    folder.mkdir()
    shutil.copy(MAN, folder / "man.jpg")
    (folder / "broken.jpg").write_text("no image")
    clip(folder / "clip.mp4")
    (folder / "broken.mp4").write_text("no video")
    (folder / "notes.txt").write_text("notes")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_folder_s_images_and_videos_are_annotated_and_unusable_ones_named(holiday, capsys):
    assert cli.main(["holiday", "--annotated", "out"]) == 0
    out, err = capsys.readouterr()
    assert "holiday/man.jpg: 1 face, out/man.jpg" in out and re.search(
        r"holiday/clip.mp4: \d people, out/clip.mp4", out
    )
    assert "holiday/broken.jpg: This file isn't a readable image" in err
    assert "holiday/broken.mp4: This file isn't a readable video" in err
    assert "1 file skipped: holiday/notes.txt" in err
    assert sorted(path.name for path in (holiday.parent / "out").iterdir()) == ["clip.mp4", "man.jpg"]
    # Without --annotated, videos are named as skipped.
    assert cli.main(["holiday"]) == 0
    assert "3 files skipped: holiday/broken.mp4, holiday/clip.mp4, holiday/notes.txt" in capsys.readouterr().err
    (holiday / "man.jpg").unlink()
    (holiday / "broken.jpg").unlink()
    assert cli.main(["holiday"]) == 1
    assert "Videos require --annotated FOLDER" in capsys.readouterr().err


def test_json_has_an_object_for_each_file(holiday, capsys):
    assert cli.main(["holiday", "--annotated", "out", "--json"]) == 0
    rows = {Path(row["file"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert sorted(rows) == ["broken.jpg", "broken.mp4", "clip.mp4", "man.jpg"]
    assert "readable image" in rows["broken.jpg"]["error"] and "readable video" in rows["broken.mp4"]["error"]
    man, video = rows["man.jpg"], rows["clip.mp4"]
    assert man["incomplete"] is False and man["annotated"] == "out/man.jpg" and len(man["faces"]) == 1
    assert video["damaged"] is False and video["seconds"] == 0.2 and video["annotated"] == "out/clip.mp4"


def test_an_unusable_video_stops_no_other_and_a_missing_one_is_told_first(holiday, capsys):
    words = ["holiday/broken.mp4", "holiday/clip.mp4", "--annotated", "out"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "clip.mp4: " in out and "broken.mp4: This file isn't a readable video" in err
    assert cli.main(["holiday/broken.mp4", "--annotated", "out"]) == 1
    assert cli.main([*words, "gone.mp4", "--annotated", "other"]) == 1
    assert "gone.mp4 doesn't exist" in capsys.readouterr().err and not (holiday.parent / "other").exists()
    (holiday / "old.wmv").write_text("video")
    assert cli.main(["holiday/old.wmv", "--annotated", "out"]) == 1
    assert "Use MP4, MOV, WebM or AVI" in capsys.readouterr().err


def test_damaged_files_are_said_to_be(tmp_path, capsys):
    (tmp_path / "cut.jpg").write_bytes(GROUP.read_bytes()[:60_000])
    video = write_video(tmp_path / "cut.avi", moving(75), codec="mpeg4")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    words = [str(tmp_path / "cut.jpg"), str(video), "--annotated", str(tmp_path / "out")]
    assert cli.main(words) == 0
    photo, other = (line for line in capsys.readouterr().out.splitlines() if not line.startswith("  "))
    assert ", the file is incomplete, " in photo and ", damaged: " in other
    assert cli.main([*words, "--json"]) == 0
    photo, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert photo["incomplete"] is True and other["damaged"] is True


def test_annotated_copies_are_not_annotated_again(holiday, capsys):
    for _ in range(3):
        assert cli.main(["holiday", "--annotated", "holiday/annotated"]) == 0
    names = sorted(path.name for path in (holiday / "annotated").iterdir())
    assert names == ["clip-2.mp4", "clip-3.mp4", "clip.mp4", "man-2.jpg", "man-3.jpg", "man.jpg"]
    capsys.readouterr()
    assert cli.main(["holiday/annotated/man.jpg", "--annotated", "holiday/annotated"]) == 0  # unless it's named
    assert "man-4.jpg" in capsys.readouterr().out


def test_images_left_out_as_annotated_copies_are_named(holiday, capsys):
    (holiday / "sub").mkdir()
    shutil.copy(MAN, holiday / "sub" / "original.jpg")
    assert cli.main(["holiday", "--annotated", "holiday/sub"]) == 0
    assert "2 files skipped: holiday/notes.txt, holiday/sub/original.jpg" in capsys.readouterr().err


def test_two_runs_at_once_never_share_an_annotated_copy(tmp_path):
    copies = [cli._unused(tmp_path, "GOPR.mp4", ".mp4") for _ in range(3)]
    names = [copy.__enter__().name for copy in copies]
    assert names == ["GOPR.mp4", "GOPR-2.mp4", "GOPR-3.mp4"]
    with pytest.raises(ValueError), cli._unused(tmp_path, "GOPR.mp4", ".mp4") as target:
        raise ValueError
    assert not target.exists() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("words", ["{photo}", "{photo} --json", "--help"])
def test_an_output_error_is_reported_once(words):
    command = f"{sys.executable} -m space.cli {words.format(photo=MAN)}"
    run = {"shell": True, "cwd": ROOT, "capture_output": True, "text": True}
    env = os.environ | {"PYTHONUNBUFFERED": ""}
    closed = subprocess.run(f"{command} | true", **run, env=env)
    assert closed.stderr == ""
    full = subprocess.run(f"{command} > /dev/full", **run, env=env)
    assert full.returncode == 1 and full.stderr == "error: [Errno 28] No space left on device\n"


def test_a_video_without_read_permission_is_reported(holiday, capsys, monkeypatch):
    def refuse(path, *how):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("space.video.annotator.open", refuse, raising=False)
    assert cli.main(["holiday/clip.mp4", "--annotated", "out"]) == 1
    assert "holiday/clip.mp4: The video can't be read (Permission denied)" in capsys.readouterr().err
    assert list(Path("out").iterdir()) == []


def test_a_folder_inside_of_the_annotated_one_is_searched(holiday, capsys):
    """Only a folder for copies that lies inside of what is searched holds copies."""
    for words in (["holiday", "--annotated", "."], ["holiday", "--annotated", "holiday"], [".", "--annotated", "."]):
        assert cli.main(words) == 0
        assert "man.jpg: 1 face" in capsys.readouterr().out, words
    (holiday / "out" / "more").mkdir(parents=True)
    for name in ("out/old.jpg", "out/more/new.jpg"):
        shutil.copy(MAN, holiday / name)
    assert cli.main(["holiday", "holiday/out/more", "--annotated", "holiday/out"]) == 0
    out = capsys.readouterr().out
    assert "holiday/out/more/new.jpg: 1 face" in out and "old.jpg" not in out


def test_hidden_files_and_typescript_are_no_videos_and_each_video_is_annotated_once(holiday, capsys):
    for name in ("._clip.mp4", "code.ts"):
        (holiday / name).write_text("no video")
    assert cli.main(["holiday/clip.mp4", "./holiday", "--annotated", "out"]) == 0
    out, err = capsys.readouterr()
    assert out.count("clip.mp4: ") == 1 and "_clip.mp4:" not in err and "code.ts:" not in err
    assert "code.ts" in err  # as a skipped file


def test_after_two_dashes_everything_is_a_file(tmp_path, monkeypatch, capsys):
    shutil.copy(MAN, tmp_path / "-man.jpg")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--annotated", "out", "--", "-man.jpg"]) == 0
    assert "-man.jpg: 1 face" in capsys.readouterr().out


def test_long_names_get_copies_too(tmp_path):
    name = "é" * 120 + ".jpg"
    shutil.copy(MAN, tmp_path / name)
    for _ in range(2):
        assert cli.main([str(tmp_path / name), "--annotated", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["é" * 100 + "-2.jpg", "é" * 100 + ".jpg"]


def test_a_terminated_run_leaves_no_half_written_video(tmp_path):
    video, out = write_video(tmp_path / "long.mp4", moving(400, size=(800, 600))), tmp_path / "out"
    command = [sys.executable, "-m", "space.cli", video, "--annotated", out]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        while not list(out.glob("*.part.mp4")):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.05)
        run.terminate()
        assert run.wait(30) == 143
    assert not list(out.iterdir())


def test_a_closed_pipe_is_no_error():
    words = f"{sys.executable} -m space.cli {EXAMPLES} {EXAMPLES} | head -1"
    ran = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.count("\n") == 1 and "roken" not in ran.stderr and "Error" not in ran.stderr


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_printed(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^age-gender .*$", text, re.MULTILINE)
    assert len(commands) == 5
    shutil.copy(GROUP, tmp_path / "photo.jpg")
    shutil.copytree(EXAMPLES, tmp_path / "holiday")
    picture = cv2.cvtColor(cv2.imread(str(GROUP)), cv2.COLOR_BGR2RGB)
    write_video(tmp_path / "video.mp4", [picture[:480, :640]] * 30)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        if "--parquet" in command:
            continue  # it starts Ray: test_ray_writes_the_same_as_parquet
        assert cli.main(shlex.split(command, comments=True)[1:]) == 0, capsys.readouterr().err
    assert (tmp_path / "faces.csv").stat().st_size > 500
    assert sorted(path.name for path in (tmp_path / "annotated").iterdir()) == ["photo.jpg", "video.mp4"]


def test_wrong_input_is_reported(tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no image")
    assert cli.main([str(tmp_path / "text.jpg")]) == 1
    assert "text.jpg" in capsys.readouterr().err
    assert cli.main([str(tmp_path / "gone.jpg")]) == 1
    assert "error: " in capsys.readouterr().err
    assert cli.main([str(GROUP), "--model", str(tmp_path)]) == 1
    assert "isn't a model bundle" in capsys.readouterr().err
    for words in (["clip.mp4"], ["a.jpg", "--csv", "x.csv", "--json"], ["a.jpg", "--blur"], []):
        with pytest.raises(SystemExit):
            cli.main(words)


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_package_dependencies_match_the_requirements():
    lines = (ROOT / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = {
        r.name: r for r in (Requirement(line.split("#")[0].strip()) for line in lines if line[:1] not in ("#", ""))
    }
    page = {"gradio", "websockets"}
    wanted = {r.name: r for r in map(Requirement, project()["project"]["dependencies"])}
    assert {name: r.specifier for name, r in wanted.items()} == {
        name: r.specifier for name, r in listed.items() if name not in page
    }


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(tmp_path):
    ignored = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "runs", "vgg16", "tests")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignored)  # pip builds in the folder
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, tmp_path / "source"]
    built = subprocess.run(words, capture_output=True, text=True)
    if "Could not find a version" in built.stderr:
        pytest.skip("needs PyPI, for setuptools")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "installed")
        names = files.namelist()
    assert wheel.stat().st_size < 25_000_000 and not [name for name in names if "vgg16" in name or "web/" in name]
    program = (
        "import sys; from age_gender import FaceAnalyzer; from age_gender import cli\n"
        f"faces = FaceAnalyzer.load('compact').analyze({str(GROUP)!r})\n"
        "assert len(faces) == 8 and not [m for m in sys.modules if m.split('.')[0] in ('space', 'gradio')]\n"
        f"sys.exit(cli.main([{str(GROUP)!r}]))"
    )
    env = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "8 faces" in ran.stdout
    words = [sys.executable, "-m", "age_gender", MAN]
    assert "1 face" in subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    assert not [name for name in names if name.endswith(".h5")]  # for TensorFlow, which the package doesn't use


def test_nobody_can_be_found_in_a_blurred_copy(tmp_path, analyzer):
    assert cli.main([str(MAN), "--annotated", str(tmp_path), "--blur"]) == 0
    assert analyzer.detect(open_photo(tmp_path / MAN.name).rgb) == []


def test_the_options_reach_the_video(tmp_path, monkeypatch):
    asked = {}

    def annotate(analyzer, path, target, **settings):
        asked.update(settings)
        yield VideoResult([], [], 1, 1, 1.0, False, 0.1)

    monkeypatch.setattr(annotator, "annotate_video", annotate)
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert cli.main([str(tmp_path / "a.mp4"), "--annotated", str(tmp_path), "--blur", "--threshold", "0.4"]) == 0
    assert asked == {"threshold": 0.4, "blurred": True}


def test_model_and_threshold_hold_for_lines_and_tables(tmp_path, capsys):
    table = tmp_path / "faces.jsonl"
    assert cli.main([str(GROUP), "--threshold", "1"]) == 0
    assert "0 faces" in capsys.readouterr().out
    assert cli.main([str(GROUP), "--threshold", "1", "--model", "open", "--jsonl", str(table)]) == 0
    row = json.loads(table.read_text())
    assert row["faces"] == [] and row["model"].startswith("open-")


def test_boxes_lie_at_their_place_in_a_photo_that_was_reduced(tmp_path, monkeypatch):
    drawn, rgb = [], open_photo(GROUP).rgb
    monkeypatch.setattr(cli, "draw", lambda image, faces, *_: drawn.append(faces[0].box) or image)
    face = {"box": [100, 100, 50, 50], "score": 0.9, "age": 30.0, "gender": "female", "gender_probability": 0.9}
    reduced = Picture("a.jpg", lambda: Photo(rgb, (2 * rgb.shape[1], 2 * rgb.shape[0])))
    cli._annotate(reduced, [face], SimpleNamespace(blur=False, annotated=tmp_path))
    assert drawn == [(50, 50, 25, 25)]


def test_an_image_that_is_removed_meanwhile_stops_no_other(tmp_path, monkeypatch, capsys):
    first, second = (shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / f"{name}.jpg") for name in "ab")
    annotate, removed = cli._annotate, []

    def remove(*arguments):
        if not removed:
            removed.append(os.unlink(first))
        return annotate(*arguments)

    monkeypatch.setattr(cli, "_annotate", remove)
    assert cli.main([str(first), str(second), "--annotated", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("age ") == 2 and f"{first}: There is no annotated copy." in printed.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.jpg"]


def test_an_annotated_image_that_does_not_fit_on_the_disk_is_an_error(tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cli.main([str(GROUP), "--annotated", str(tmp_path / "out")]) == 1
    assert "No space left on device" in capsys.readouterr().err and not list((tmp_path / "out").iterdir())


def test_a_name_without_readable_letters_has_an_annotated_copy(tmp_path):
    photo = shutil.copy(GROUP, os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"))
    assert cli.main([str(photo), "--annotated", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image.jpg"]
