"""A folder of images that the tests of batches share."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from tests.support import EXAMPLES


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
