"""The command age-gender, and the package that pip installs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile

import cv2
import pytest
from packaging.requirements import Requirement

from space import cli
from tests.support import EXAMPLES, ROOT
from tests.support.videos import write_video

GROUP = EXAMPLES / "group.jpg"


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


@pytest.mark.slow
def test_a_video_becomes_an_annotated_one(tmp_path, capsys):
    picture = cv2.cvtColor(cv2.imread(str(GROUP)), cv2.COLOR_BGR2RGB)
    video = write_video(tmp_path / "clip.mp4", [picture[:480, :640]] * 30)
    assert cli.main([str(video), "--annotated", str(tmp_path / "out")]) == 0
    assert "clip.mp4: " in capsys.readouterr().out
    assert (tmp_path / "out" / "clip.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_the_commands_of_the_readme_run_as_printed(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^age-gender .*$", text, re.MULTILINE)
    assert len(commands) == 3
    shutil.copy(GROUP, tmp_path / "photo.jpg")
    shutil.copytree(EXAMPLES, tmp_path / "holiday")
    picture = cv2.cvtColor(cv2.imread(str(GROUP)), cv2.COLOR_BGR2RGB)
    write_video(tmp_path / "video.mp4", [picture[:480, :640]] * 30)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
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
    for words in (["clip.mp4"], ["a.jpg", "--csv", "x.csv", "--json"], []):
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
