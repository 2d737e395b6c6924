"""Models from the Hub: files, cache, faults."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from space.hub import download
from space.hub.card import CARD
from tests.support import EMBEDDED, ROOT, files_of
from tests.support.app import assert_clear_error, python


def opened(model: str, env, timeout=60):
    """What `open_bundle` makes of a model, in a process of its own: source, revision, files there."""
    code = (
        "import sys, json, time; from space.hub.bundle import open_bundle, ModelError\n"
        "start = time.monotonic()\n"
        f"try: b = open_bundle({model!r})\n"
        "except ModelError as e: print(json.dumps({'error': str(e), 'seconds': time.monotonic()-start})), sys.exit()\n"
        "print(json.dumps({'source': b.source, 'revision': b.revision, 'files': sorted(p.name for p in "
        "b.folder.iterdir()), 'mae': b.card['metrics']['age_mae']['value'], 'seconds': time.monotonic() - start}))"
    )
    result = python("-c", code, env=env, timeout=timeout)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def published(hub, bundle):
    """The bundle as a repository; returns its first commit."""
    repo = hub.add("me/model", files_of(bundle))
    return repo.refs["main"]


@pytest.mark.slow
def test_only_what_serving_needs_is_fetched_and_the_revision_known(hub, published, reader):
    hub.repos["model", "me/model"].refs["v1"] = published
    for model in ("me/model", "me/model@v1", f"me/model@{published}"):
        found = opened(model, reader)
        assert found["source"] == "me/model" and found["revision"] == published
    # config.json isn't needed, but the Hub counts downloads by it.
    assert found["files"] == ["age_gender.json", "config.json", "model.int8.onnx"]
    gets = [r for r in hub.requests if r.startswith("GET") and "/resolve/" in r]
    assert len(gets) == 3  # and only once


@pytest.mark.slow
def test_without_the_network_the_cache_answers(hub, published, reader):
    opened("me/model", reader)
    hub.stop()
    for model in ("me/model", f"me/model@{published}"):
        found = opened(model, reader)
        assert found["revision"] == published and found["seconds"] < 10
    missing = opened("me/other", reader)
    assert "cannot be downloaded" in missing["error"] and missing["seconds"] < 10
    uncached = opened(f"me/model@{'0' * 40}", reader)
    assert "cannot be downloaded" in uncached["error"] and uncached["seconds"] < 10


@pytest.mark.parametrize("fault", [{"hang": 30}, {"status": 500}, {"status": 429}, {"drop": True}])
@pytest.mark.parametrize("pattern", ["GET /api/models", "(HEAD|GET) /me/model/resolve"])
@pytest.mark.slow
def test_a_hub_in_trouble_costs_ten_seconds_at_most(hub, published, reader, pattern, fault):
    hub.fail(pattern, **fault)
    found = opened("me/model", reader)
    assert "cannot be downloaded" in found["error"], found
    assert found["seconds"] < 10


@pytest.mark.parametrize("fault", [{"truncate": 1000, "times": 1}, {"truncate": 1000}])
@pytest.mark.slow
def test_a_truncated_download_is_no_model(hub, published, reader, fault):
    hub.fail("GET .*model.int8.onnx", **fault)
    found = opened("me/model", reader)
    assert ("error" in found) == ("times" not in fault), found
    hub.faults.clear()
    assert opened("me/model", reader)["revision"] == published


@pytest.mark.slow
def test_a_damaged_download_is_refused(hub, published, reader):
    hub.fail("GET .*model.int8.onnx", damage=True)
    assert "damaged" in opened("me/model", reader)["error"]
    hub.faults.clear()
    assert opened("me/model", reader)["revision"] == published  # and fetched anew as soon as it is whole


@pytest.mark.parametrize(
    ("model", "make", "words"),
    [
        ("me/nothing", lambda hub: None, "The model me/nothing doesn't exist"),
        ("me/model@v9", lambda hub: None, "has no revision v9"),
        ("me/gated", lambda hub: hub.add("me/gated", {"a": b""}, gated=True), "gated"),
        ("me/private", lambda hub: hub.add("me/private", {"a": b""}, private=True), "private"),
        ("me/other", lambda hub: hub.add("me/other", {"config.json": b"{}"}), "has no file age_gender.json"),
        ("me/json", lambda hub: hub.add("me/json", {CARD: b"[1]"}), "not the card"),
        ("me/newer", lambda hub: hub.add("me/newer", {CARD: b'{"format": 9, "serve": "m", "files": {}}'}), "update"),
        (
            "me/half",
            lambda hub: hub.add("me/half", {CARD: (EMBEDDED / CARD).read_bytes()}),
            "has no file config.json",
        ),
    ],
)
@pytest.mark.slow
def test_what_is_wrong_with_a_hub_model_is_told(hub, published, reader, model, make, words):
    make(hub)
    assert words in opened(model, reader)["error"]


@pytest.mark.slow
def test_the_app_stops_rather_than_serve_another_model(hub, reader):
    result = python("app.py", "--model", "me/nothing", env=reader)
    assert_clear_error(result, "The model me/nothing doesn't exist")


@pytest.mark.slow
def test_a_card_that_is_damaged_in_the_cache_is_fetched_again(hub, published, reader):
    opened("me/model", reader)
    (card,) = Path(reader["HF_HOME"]).rglob(CARD)
    card.resolve().write_text('{"format": ')
    found = opened("me/model", reader)
    assert found["revision"] == published and "error" not in found


def test_a_download_that_falls_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(download, "STALL", 0.5)

    def slow(*arguments, tqdm_class, etag_timeout, **options):
        assert (arguments, options, etag_timeout) == (("me/model", "x"), {"revision": None}, 0.5)
        bar = tqdm_class(total=10, disable=True)
        for _ in range(5):  # longer than STALL in all, but never silent for so long
            time.sleep(0.25)
            bar.update(1)
        return "path"

    def silent(*arguments, **options):
        time.sleep(2)

    def failing(*arguments, **options):
        raise OSError("refused")

    assert download._download_unless_stalled(slow, "me/model", "x", revision=None) == "path"
    with pytest.raises(TimeoutError, match="no data"):
        download._download_unless_stalled(silent, "me/model", "x")
    with pytest.raises(OSError, match="refused"):
        download._download_unless_stalled(failing, "me/model", "x")


def test_downloads_of_other_processes_count_as_progress(monkeypatch, tmp_path):
    """A file that grows, appears or is deleted; one that another process has left isn't waited for."""
    monkeypatch.setattr(download, "STALL", 0.6)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    blobs = tmp_path / "models--me--model" / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / "a.incomplete"

    def waiting(*arguments, **options):
        for size in range(4):
            part.write_bytes(bytes(size))
            time.sleep(0.4)
        part.unlink()
        time.sleep(0.4)
        return "path"

    assert download._download_unless_stalled(waiting, "me/model", "x") == "path"
    part.write_bytes(b"left")
    os.utime(part, (time.time() + 3600,) * 2)
    with pytest.raises(TimeoutError, match="no data"):
        download._download_unless_stalled(lambda *_, **__: time.sleep(3), "me/model", "x")


@pytest.mark.slow
def test_a_slow_download_is_not_given_up(hub, published, reader):
    """Of 2.5 MB at 320 kB per second, the client alone reports nothing before the end."""
    hub.fail("GET .*/model.int8.onnx", pause=0.1)
    found = opened("me/model", reader)
    assert found.get("revision") == published and found["seconds"] > download.STALL, found


@pytest.mark.slow
def test_processes_that_start_together_all_get_the_model(hub, published, reader):
    code = "from space.hub.bundle import open_bundle; print(open_bundle('me/model').model_path)"
    hub.fail("GET .*/model.int8.onnx", pause=0.13)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | reader, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    ended = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended


def test_an_invalid_token_is_not_blamed_on_the_network(hub, published, reader):
    told = opened("me/model", reader | {"HF_TOKEN": "hf_wrong"})["error"]
    assert "the token is invalid" in told and "network" not in told


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_network(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/cache")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(download.ModelError, match="set HF_HUB_CACHE to a folder that you can write to"):
        download.hub_file("me/model", CARD)


def test_the_commit_is_in_the_path_of_the_cache(tmp_path):
    folder = tmp_path / "models--me--model" / "snapshots" / ("a" * 40)
    assert download._with_commit(str(folder / "model.onnx"), "model.onnx") == ("a" * 40, folder / "model.onnx")
    assert download._with_commit(str(folder / "figures/a.png"), "figures/a.png")[0] == "a" * 40


def test_a_commit_in_the_cache_asks_nothing(monkeypatch, tmp_path):
    import huggingface_hub

    file = tmp_path / "x"
    file.write_bytes(b"x")
    asked = []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(file))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: asked.append(1))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    right = download.sha256_of(file)
    for revision, sha256, questions in (
        ("a" * 40, right, 0),
        ("a" * 40, None, 0),
        ("main", None, 1),
        ("a" * 40, "0", 1),
    ):
        asked.clear()
        download.hub_file("me/model", "x", revision, sha256=sha256)
        assert len(asked) == questions, (revision, sha256)


def test_a_download_that_was_damaged_is_fetched_again(monkeypatch, tmp_path):
    import huggingface_hub

    file, forced = tmp_path / "snap" / ("a" * 40) / "x", []
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")

    def download_(*_, force_download=False, **__):
        forced.append(force_download)
        if force_download:
            file.write_bytes(b"whole")
        return str(file)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(file))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download_)
    whole = hashlib.sha256(b"whole").hexdigest()
    download.hub_file("me/model", "x", "a" * 40, sha256=whole)
    assert forced == [False, True] and file.read_bytes() == b"whole"
    forced.clear()
    download.hub_file("me/model", "x", "main", sha256=whole)
    assert forced == [False]
