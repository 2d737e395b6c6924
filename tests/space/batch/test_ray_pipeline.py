"""Ray Data writes the same table as Parquet."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow.parquet
import pytest

from space.batch.pictures import BatchError
from space.batch.ray_pipeline import write_parquet
from tests.support import EXAMPLES
from tests.support.app import assert_clear_error
from tests.support.batch import GROUP, MAN, batch, command


@pytest.mark.slow
def test_ray_writes_the_same_as_parquet(album, tmp_path):
    pytest.importorskip("ray", reason='needs Ray Data: pip install "ray[data]"')

    (album / "more.zip").unlink()  # Ray reads files
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", album / "_DSC0001.JPG")  # as cameras name photos in Adobe RGB
    shutil.copy(EXAMPLES / "age-20-29-male.jpg", album / "without-suffix")
    assert batch(album, "--csv", tmp_path / "faces.csv").returncode == 0
    invalid = shutil.copy(MAN, os.fsdecode(os.fsencode(album) + b"/b\xff.jpg"))
    result = command(album, "--parquet", tmp_path / "parquet", timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 image skipped (in a zip or an unreadable folder, or the name isn't UTF-8)" in result.stdout
    os.unlink(invalid)
    lines = pyarrow.parquet.read_table(tmp_path / "parquet").to_pylist()
    with open(tmp_path / "faces.csv", newline="", encoding="utf-8-sig") as file:
        expected = {(Path(line["file"]).name.lstrip("'"), line["face"]): line for line in csv.DictReader(file)}
    assert len(lines) == len(expected) == 13
    for line in lines:
        other = expected[Path(line["file"]).name, "" if line["face"] is None else str(line["face"])]
        assert (line["gender"] or "") == other["gender"] and bool(line["error"]) == bool(other["error"])
        assert line["age"] is None or abs(line["age"] - float(other["age"])) < 0.11
    assert_clear_error(command(album, "--parquet", tmp_path / "parquet", timeout=300), "not empty")
    nothing = command(album / "broken.png", "--parquet", tmp_path / "nothing", timeout=300)
    assert_clear_error(nothing, "No image could be read")
    gone = command(f"file://{tmp_path}/gone", "--parquet", tmp_path / "gone-parquet", timeout=300)
    assert_clear_error(gone, f"{tmp_path}/gone doesn't exist")


@pytest.mark.parametrize(
    ("name", "words"), [("full", "is not empty"), ("zip", "not zips"), ("nothing", "no images in")]
)
def test_parquet_is_refused_before_ray_starts(tmp_path, monkeypatch, name, words):
    for module in ("ray", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    if name == "full":
        out.mkdir()
        (out / "mine.txt").touch()
    paths = {"full": [str(EXAMPLES)], "zip": ["a.zip"], "nothing": [str(empty)]}[name]
    with pytest.raises(BatchError, match=words):
        write_parquet(paths, out, model="compact", threshold=0.7)


class FakeData:
    """Ray Data's part that the pipeline uses: records what it is asked, and runs in this process."""

    def __init__(self, asked, paths):
        self.asked, self.paths = asked, paths

    def union(self, *others):
        return FakeData(self.asked, sum((other.paths for other in others), self.paths))

    def map_batches(self, kind, **options):
        self.asked.append(options)
        contents = [Path(path.removeprefix("s3://bucket")).read_bytes() for path in self.paths]
        self.written = kind()(pyarrow.table({"path": self.paths, "bytes": contents}))
        return self

    def write_parquet(self, folder):
        Path(folder).mkdir()
        pyarrow.parquet.write_table(self.written, f"{folder}/part.parquet")


@pytest.mark.parametrize(("cores", "actors"), [(1, 1), (8, 4)])
@pytest.mark.parametrize("places", [["local"], ["remote"], ["local", "remote"]])
def test_files_and_object_storage_are_read_by_half_as_many_actors_as_cores(
    tmp_path, monkeypatch, places, cores, actors
):
    asked = []

    def read_binary_files(paths, **options):
        asked.append(options)
        return FakeData(asked, list(paths))

    ray = SimpleNamespace(
        init=lambda **_: None,
        shutdown=lambda: None,
        cluster_resources=lambda: {"CPU": float(cores)},
        data=SimpleNamespace(read_binary_files=read_binary_files),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    paths = [{"local": str(MAN), "remote": f"s3://bucket{GROUP}"}[place] for place in places]
    text = write_parquet(paths, tmp_path / "out", model=None, threshold=0.7)
    *read, mapped = asked
    assert [options.get("file_extensions") is not None for options in read] == [place == "remote" for place in places]
    if "remote" in places:
        assert {"jpg", "png", "webp"} <= set(read[-1]["file_extensions"])
    assert (mapped["concurrency"], mapped["batch_size"], mapped["batch_format"]) == (actors, 16, "pyarrow")
    lines = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
    assert [line["face"] for line in lines] == [1] * ("local" in places) + [*range(1, 9)] * ("remote" in places)
    assert text.startswith(f"{len(lines)} rows in ") and "skipped" not in text
