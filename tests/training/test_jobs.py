"""Training on Hugging Face Jobs: all of it that can be seen without the Hub."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from space.hub.bundle import open_bundle
from tests.support import ROOT
from tests.support.app import python
from tests.support.training import SHORT

BIN = Path(sys.executable).parent


def header() -> dict:
    """The script block of training/train.py, read as PEP 723 says."""
    text = (ROOT / "training" / "train.py").read_text(encoding="utf-8")
    block = re.search(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", text)["content"]
    return tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in block.splitlines(True)))


def required(name: str) -> dict[str, Requirement]:
    """The requirements of a file and of those it names."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            found |= required(str((Path(name).parent / line[3:]).as_posix()))
        elif line:
            found[Requirement(line).name] = Requirement(line)
    return found


def test_the_script_asks_for_what_the_requirements_ask_for():
    script = {r.name: r for r in map(Requirement, header()["dependencies"])}
    page = {"gradio", "av", "websockets"}  # which training does not import
    assert {name: r.specifier for name, r in script.items()} == {
        name: r.specifier for name, r in required("requirements.txt").items() if name not in page
    }
    assert not script["tensorflow"].extras  # 3.7 GB that only GPUs on Linux need


@pytest.mark.slow
def test_the_dependencies_resolve(tmp_path):
    uv = BIN / "uv"
    if not uv.exists():
        pytest.skip("needs uv, from tests/requirements.txt")
    (tmp_path / "in.txt").write_text("\n".join(header()["dependencies"]))
    for version in ("3.11", "3.13"):
        result = subprocess.run(
            [uv, "pip", "compile", "-q", "--system-certs", "--python-version", version, tmp_path / "in.txt"],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if "Failed to fetch" in result.stderr:
            pytest.skip("needs PyPI, which does not answer")
        assert result.returncode == 0, result.stderr
        assert "tensorflow==2.2" in result.stdout and "nvidia-" not in result.stdout


def command() -> list[str]:
    """The command that training/README.md gives."""
    text = (ROOT / "training/README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return shlex.split(next(line for line in text.splitlines() if line.startswith("hf jobs uv run")))


def test_the_client_understands_the_command():
    hf = BIN / "hf"
    words = command()
    script = words.index("training/train.py")
    result = subprocess.run(
        [hf, *words[1:script], "--dry-run", *words[script:]],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env=os.environ | {"HF_TOKEN": "hf_made_up", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = ["training/train.py", "./training:/kit/training", "./space:/kit/space", "a10g", "HF_TOKEN=***", "8h"]
    told += ["KERAS_BACKEND=jax", "PYTHONPATH=/kit", "hf://buckets/you/runs:/runs", "jax[cuda12]"]
    for words in told:
        assert words in result.stdout


@pytest.mark.slow
def test_the_entry_runs_as_a_job_runs_it(made_up, tmp_path):
    """The script alone in a folder, the kit's packages mounted elsewhere and named by PYTHONPATH."""
    (tmp_path / "mount" / "job").mkdir(parents=True)
    for package in ("space", "training"):
        shutil.copytree(ROOT / package, tmp_path / "kit" / package, ignore=shutil.ignore_patterns("__pycache__"))
    script = shutil.copy(ROOT / "training" / "train.py", tmp_path / "mount" / "job" / "train.py")
    result = python(
        script, "--recipe", SHORT, "--dataset", made_up, "--limit", "16", "--batch-size", "8", "--epochs", "1",
        "--out", tmp_path / "run", env={"PYTHONPATH": str(tmp_path / "kit")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert open_bundle(str(tmp_path / "run" / "bundle")).card["provenance"]["commit"] is None
