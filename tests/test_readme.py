"""The Python of the README runs as it stands. That of model cards and the API tab: `test_push.py` and `test_app.py`."""

from __future__ import annotations

import re
import shutil

import pytest

from space.detector import FILE, yunet_file
from tests.support import EMBEDDED, EXAMPLES, ROOT, files_of
from tests.support.app import python

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
EXPECTED = {"space.analyzer": 8, "snapshot_download": 8}  # what tells a block from the others, and faces that it prints


@pytest.mark.parametrize(
    "block", BLOCKS, ids=lambda block: next((word for word in EXPECTED if word in block), "unknown")
)
def test_the_python_of_the_readme_runs(block, hub, reader, tmp_path):
    hub.add("opencv/face_detection_yunet", {FILE: yunet_file().read_bytes()})
    program = (ROOT / "training" / "programs" / "predict.py").read_bytes()
    hub.add("you/age-gender-compact", files_of(EMBEDDED) | {"predict.py": program})
    shutil.copy(EXAMPLES / "group.jpg", tmp_path / "photo.jpg")
    program = block.replace('"photo.jpg"', repr(str(tmp_path / "photo.jpg")))
    result = python("-c", program, env=reader)
    assert result.returncode == 0, result.stderr
    (faces,) = (count for word, count in EXPECTED.items() if word in block)
    assert len(re.findall(r"\b(?:fe)?male\b", result.stdout)) == faces, result.stdout


def test_every_use_that_the_readme_shows_is_tested():
    assert len(BLOCKS) == len(EXPECTED)
