"""Files and folders that are whole or not there."""

from __future__ import annotations

import os
import stat

import pytest

from training import atomic


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_its_place_when_it_is_complete(tmp_path):
    target = tmp_path / "all" / "runs" / "bundle"
    for content in ("first", "second"):
        with atomic.new_folder(target) as folder:
            (folder / content).write_text(content)
            assert not (target / content).exists()
        assert names(target) == [content] and names(target.parent) == ["bundle"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_a_failure_leaves_the_old_folder_alone(tmp_path):
    target = tmp_path / "bundle"
    for was_there in (False, True):
        if was_there:
            target.mkdir()
            (target / "old").touch()
        with pytest.raises(ZeroDivisionError), atomic.new_folder(target) as folder:
            (folder / "new").touch()
            raise ZeroDivisionError
        assert names(tmp_path) == (["bundle"] if was_there else [])
    assert names(target) == ["old"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    target, rename = tmp_path / "bundle", type(tmp_path).rename
    target.mkdir()
    (target / "old").touch()

    def refuse(self, other):
        if other == target and not self.name.endswith("-old"):
            raise OSError("no")
        return rename(self, other)

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with pytest.raises(OSError, match="no"), atomic.new_folder(target) as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["bundle"] and names(target) == ["old"]


def test_leftovers_of_killed_programs_are_removed_and_nothing_else(tmp_path):
    for name in ("b[1]", ".b[1]-x", ".b[1]-x-old", ".b1-x", ".other-x", "b[1]-x"):
        (tmp_path / name).mkdir()
    atomic.clear(tmp_path / "b[1]")
    assert names(tmp_path) == [".b1-x", ".other-x", "b[1]", "b[1]-x"]


@pytest.mark.parametrize("content", ["né", b"\x00\xff"])
def test_a_file_is_replaced_at_once(tmp_path, monkeypatch, content):
    path, replace = tmp_path / "state.json", os.replace
    path.write_text("old")

    def watched(new, target):
        assert path.read_text() == "old"
        replace(new, target)

    monkeypatch.setattr(os, "replace", watched)
    atomic.write_beside(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert names(tmp_path) == ["state.json"]
