"""Atomic writes of files and folders."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill: it replaces `target` on success and is deleted on failure.

    No system swaps two folders in one step: a kill between the two renames leaves the old one beside its place, named
    `.TARGET-…-old`; any other kill leaves the new one, `.TARGET-…`. `clear` removes both.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        os.chmod(folder, 0o755)  # mkdtemp's 0700 would stay on the bundle
        yield folder
        old = folder.with_name(folder.name + "-old")
        if target.exists():
            target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(target: Path) -> None:
    """Remove what killed programs left beside `target`; only while no other program makes it anew."""
    for left in target.parent.glob(f".{glob.escape(target.name)}-*"):
        shutil.rmtree(left, ignore_errors=True)


def write_beside(path: Path, content: str | bytes) -> None:
    """Write a file so that a kill leaves either the old one or the new one, never a part."""
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
