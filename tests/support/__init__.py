"""What tests share. Importing it keeps what this machine has cached or set from deciding a test."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = ROOT.parent / "shared"
EXAMPLES = ROOT / "space" / "examples"
EMBEDDED = ROOT / "space" / "models" / "compact"  # the default bundle

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
_ROOT = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # where a failed test's files stay
_HOME = tempfile.mkdtemp(prefix="kit-tests-", dir=_ROOT)  # short: Ray's sockets are in there
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {"HF_HOME": _HOME, "AGE_GENDER_CACHE": f"{_HOME}/pictures", "TMPDIR": _HOME}
tempfile.tempdir = _HOME  # files left by browsers and gradio_client are deleted too
for _name in (
    "AGE_GENDER_MODEL",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
):
    os.environ.pop(_name, None)


def shared(path: str) -> Path:
    """A file of ../shared, or the test is skipped."""
    if not (SHARED / path).exists():
        pytest.skip(f"needs ../shared/{path}, which is not on this machine")
    return SHARED / path


def files_of(folder: Path) -> dict[str, bytes]:
    """The files in a folder, by their path in it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
