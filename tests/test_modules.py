"""Every module imports, and what serves needs nothing of training."""

from __future__ import annotations

import importlib

import pytest

from tests.support import ROOT
from tests.support.app import python

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("space", "training")
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in ("__init__.py", "modeling_age_gender.py") and "models" not in path.parts  # which needs torch
)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    importlib.import_module(name)


def test_the_commands_need_no_page():
    """A training job and a batch import neither Gradio nor FastAPI nor PyAV."""
    program = (
        "import sys, space.cli, training.train, training.bundle.build\n"
        "print([m for m in ('gradio', 'fastapi', 'av', 'tensorflow') if m in sys.modules])"
    )
    result = python("-c", program)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]", result.stdout


def test_imports_go_downwards():
    """The contracts of pyproject.toml: who may import whom."""
    result = python("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())")
    assert result.returncode == 0, result.stdout
