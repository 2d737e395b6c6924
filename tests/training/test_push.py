"""Push and pull with the real client against the loopback Hub, on good days and bad ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from gradio_client import handle_file
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError, RevisionNotFoundError

from space.detector import FILE, yunet_file
from space.hub.card import CARD
from space.hub.download import ModelError, sha256_of
from space.hub.upload import HubError
from tests.support import EXAMPLES, files_of
from tests.support.app import App, assert_clear_error, python
from tests.support.training import SHORT
from training import programs
from training import push as module
from training.model.files import load_keras

NAME = "tester/age-gender-compact"


def push(folder, env, *more, timeout=120):
    return python("-m", "training.push", folder, *more, env=env, timeout=timeout)


def rewrite(folder, name: str, content: bytes) -> None:
    """Another content for one file of a bundle, listed as it should be."""
    (folder / name).write_bytes(content)
    card = json.loads((folder / CARD).read_text())
    card["files"][name]["sha256"] = sha256_of(folder / name)
    (folder / CARD).write_text(json.dumps(card))


# Push


@pytest.mark.slow
def test_a_push_is_one_commit_with_everything(hub, bundle, writer):
    result = push(bundle, writer)
    assert result.returncode == 0, result.stderr
    repo = hub.repos["model", NAME]
    head = repo.refs["main"]
    files = {name: content for name, content in repo.commits[head].items() if name != ".gitattributes"}
    assert head in result.stdout and f"{hub.url}/{NAME}" in result.stdout
    assert len(repo.commits) == 2 and not repo.private  # the empty one that makes a repository, and ours
    local = files_of(bundle)
    assert set(files) == set(local) | set(programs.ADDED)  # which an embedded bundle lacks
    assert all(files[n] == local[n] for n in local if n not in ("README.md", "config.json", CARD))
    listed = json.loads(files[CARD])["files"]
    assert all(sha256(content).hexdigest() == listed[n]["sha256"] for n, content in files.items() if n != CARD)
    card = ModelCard(files["README.md"].decode())
    assert card.data.model_name == "age-gender-compact" and card.data.license == "other"
    recorded = json.loads(local[CARD])["metrics"]
    figures = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert figures["mae"] == round(recorded["age_mae"]["value"], 3)
    assert NAME in card.text and "USER/NAME" not in card.text
    assert json.loads(files[CARD])["provenance"] == json.loads(local[CARD])["provenance"]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.slow
def test_keras_loads_a_pushed_network_without_the_kit(hub, trained, writer, tmp_path, backend):
    pytest.importorskip(backend)
    assert push(trained / "bundle", writer, "--repo-id", NAME).returncode == 0
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import keras, numpy as np\n"
            f"network = keras.saving.load_model('hf://{NAME}')\n"
            "print(keras.ops.convert_to_numpy(network(np.full((1, 200, 200, 3), 90, np.uint8))['age']).item())",
        ],
        cwd=tmp_path,
        env={**os.environ, **writer, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert loaded.returncode == 0, loaded.stderr
    expected = load_keras(trained / "bundle")(np.full((1, 200, 200, 3), 90, np.uint8))["age"]
    assert float(loaded.stdout.split()[-1]) == pytest.approx(float(expected[0]), abs=0.01)


@pytest.mark.slow
def test_what_is_there_already_is_not_sent_again(hub, bundle, writer):
    assert push(bundle, writer).returncode == 0
    repo, sent = hub.repos["model", NAME], len(hub.requests)
    assert push(bundle, writer).returncode == 0
    assert len(repo.commits) == 2
    assert not [r for r in hub.requests[sent:] if r.startswith("PUT") or "/commit/" in r]


@pytest.mark.slow
def test_a_second_push_replaces_and_removes(hub, bundle, writer):
    assert push(bundle, writer).returncode == 0
    repo = hub.repos["model", NAME]
    first = repo.refs["main"]
    repo.commit({**repo.commits[first], "notes.txt": b"by hand"})
    rewrite(bundle, "groups.csv", b"new")
    card = json.loads((bundle / CARD).read_text())
    del card["files"]["figures/ages.png"]
    (bundle / CARD).write_text(json.dumps(card))
    sent = len(hub.requests)
    assert push(bundle, writer).returncode == 0
    files = repo.commits[repo.refs["main"]]
    assert files["groups.csv"] == b"new" and "figures/ages.png" not in files
    assert files["notes.txt"] == b"by hand"  # not ours to remove
    assert "figures/ages.png" in repo.commits[first]
    assert not [r for r in hub.requests[sent:] if r.startswith("PUT")]  # the network has not changed


@pytest.mark.slow
def test_private_branch_and_pull_request(hub, bundle, writer):
    assert push(bundle, writer, "--private", "--repo-id", "tester/secret").returncode == 0
    assert hub.repos["model", "tester/secret"].private
    assert push(bundle, writer, "--revision", "trial").returncode == 0
    repo = hub.repos["model", NAME]
    assert CARD in repo.commits[repo.refs["trial"]] and CARD not in repo.commits[repo.refs["main"]]
    result = push(bundle, writer, "--pr")
    assert result.returncode == 0 and "discussions/1" in result.stdout
    assert CARD in repo.commits[repo.refs["refs/pr/1"]] and CARD not in repo.commits[repo.refs["main"]]


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"HF_TOKEN": ""}, [], ["hf auth login"]),
        ({"HF_TOKEN": "hf_wrong"}, [], ["rejected the token"]),
        ({"HF_TOKEN": "hf_reader"}, [], ["is read-only"]),
        ({}, ["--repo-id", "google/model"], ["write to google/model", "tester"]),
        ({}, ["--repo-id", "bad name!"], ["a valid repository name"]),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, [], ["can't be reached"]),
    ],
)
@pytest.mark.slow
def test_what_will_not_work_is_told_before_training(bundle, writer, made_up, tmp_path, change, options, words):
    env = writer | change
    assert_clear_error(push(bundle, env, *options), *words)
    train = ["training/train.py", "--network", "compact", "--dataset", made_up, "--out", tmp_path / "run", "--push"]
    result = python(*train, *options, env=env)
    assert_clear_error(result, *words)
    assert "rows" not in result.stdout and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pattern", "fault", "words"),
    [
        ("POST .*/commit/", {"status": 403}, "can't write"),
        ("POST .*/commit/", {"status": 401}, "token"),
        ("POST .*/commit/", {"status": 500, "headers": {"Retry-After": "0"}}, "server error"),
        ("POST .*/commit/", {"status": 429, "headers": {"Retry-After": "0"}}, "rate limit"),
        ("POST .*/commit/", {"status": 412}, "at the same time"),
        ("POST .*/commit/", {"status": 404}, "doesn't exist"),
        ("POST .*/commit/", {"drop": True}, "closed the connection"),
        ("POST /api/repos/create", {"status": 403}, "can't write"),
        ("PUT /lfs/", {"status": 403}, "can't write"),
    ],
)
@pytest.mark.slow
def test_a_failed_push_changes_nothing(hub, bundle, writer, pattern, fault, words):
    before = files_of(bundle)
    hub.fail(pattern, **fault)
    assert_clear_error(push(bundle, writer), words)
    assert files_of(bundle) == before
    repo = hub.repos.get(("model", NAME))
    assert repo is None or len(repo.commits) == 1
    hub.faults.clear()
    assert push(bundle, writer).returncode == 0  # and later it works


@pytest.mark.slow
def test_the_server_dies_half_way(hub, bundle, writer):
    before = files_of(bundle)

    def die():
        while not any(r.startswith("PUT /lfs/") for r in hub.requests):
            time.sleep(0.01)
        hub.stop()

    hub.fail("PUT /lfs/", hang=0.5)
    threading.Thread(target=die, daemon=True).start()
    assert_clear_error(push(bundle, writer), "can't be reached or closed the connection")
    assert files_of(bundle) == before
    hub.faults.clear()
    hub.start()
    assert push(bundle, writer).returncode == 0


@pytest.mark.slow
def test_a_silent_server_is_given_up_on(hub, bundle, writer):
    hub.fail("POST .*/commit/", hang=8)
    code = "import sys, training.push as h; from space.hub import upload; upload.TIMEOUT = 1.0; "
    code += f"sys.exit(h.main([{str(bundle)!r}]))"
    assert_clear_error(python("-c", code, env=writer, timeout=60), "can't be reached or closed the connection")


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "headers": {"Retry-After": "1"}}])
@pytest.mark.slow
def test_a_passing_trouble_is_waited_for(hub, bundle, writer, fault):
    hub.fail("POST .*/commit/", times=1, **fault)
    assert push(bundle, writer).returncode == 0
    assert len(hub.repos["model", NAME].commits) == 2


@pytest.mark.slow
def test_an_overtaken_push_goes_on_top(hub, bundle, writer):
    assert push(bundle, writer).returncode == 0
    repo = hub.repos["model", NAME]
    rewrite(bundle, "groups.csv", b"new")

    def overtake():
        done = sum("/preupload/" in r for r in hub.requests)
        while sum("/preupload/" in r for r in hub.requests) == done:
            time.sleep(0.001)
        repo.commit({**repo.commits[repo.refs["main"]], "theirs.txt": b"x"})

    hub.fail("POST .*/preupload/", times=1, status=0)
    thread = threading.Thread(target=overtake, daemon=True)
    thread.start()
    result = push(bundle, writer)
    assert result.returncode == 0, result.stderr
    head = repo.commits[repo.refs["main"]]
    assert head["theirs.txt"] == b"x" and head["groups.csv"] == b"new"


@pytest.mark.slow
def test_a_bundle_that_is_not_whole_is_not_pushed(hub, bundle, writer):
    (bundle / "figures" / "ages.png").unlink()
    assert_clear_error(push(bundle, writer), "is missing figures/ages.png")
    (bundle / "model.weights.h5").write_bytes(b"")
    assert_clear_error(push(bundle, writer), "model.weights.h5 is damaged")
    assert_clear_error(push(bundle.parent, writer), "a model bundle")
    assert not hub.repos


@pytest.mark.slow
def test_a_fault_on_this_side_is_not_blamed_on_the_network():
    from space.hub.upload import to_hub_error

    assert "before it reached the Hub: KeyError" in str(to_hub_error(KeyError("faces"), NAME))
    assert "can't be reached" in str(to_hub_error(ConnectionError("refused"), NAME))


# All of it


def answer_of(env, folder, *arguments) -> dict:
    running = App(*arguments, env=env)
    try:
        client = running.client(folder)
        answer = client.predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")[1]
    finally:
        printed = running.stop()
    return answer | {"printed": printed}


def check_code_of_card(hub, card: str, env: dict, folder: Path) -> None:
    """Run the Python of a model card as a reader pastes it, who has the card, the packages and a photo."""
    folder.mkdir()
    shutil.copy(EXAMPLES / "group.jpg", folder / "photo.jpg")
    hub.add("opencv/face_detection_yunet", {FILE: yunet_file().read_bytes()})
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    known = ("from predict import Predictor", "from transformers import pipeline", "hf://tester/faces")
    assert len(blocks) == 3 and all(words in block for words, block in zip(known, blocks, strict=True))
    environment = os.environ | {"KERAS_BACKEND": "jax"} | env | {"PYTHONPATH": ""}
    for block in (blocks[0], blocks[2]):  # that of transformers: test_transformers.py
        result = subprocess.run(
            [sys.executable, "-c", block], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr
    requested = [request for request in hub.requests if "resolve" in request and "config.json" in request]
    assert requested  # the Hub counts downloads by it


@pytest.mark.slow
def test_train_push_pull_serve(hub, made_up, writer, reader, tmp_path):
    train = [
        "-m", "tests.tiny", "--recipe", SHORT, "--dataset", made_up, "--limit", "32", "--epochs", "1", "--push",
        "--repo-id", "tester/faces",
    ]  # fmt: skip
    result = python(*train, "--out", tmp_path / "one", env=writer)
    assert result.returncode == 0, result.stderr
    repo = hub.repos["model", "tester/faces"]
    first = repo.refs["main"]
    assert {"model.onnx", "config.json", "metadata.json", "model.weights.h5", "predict.py", "README.md", CARD} <= set(
        repo.commits[first]
    )
    check_code_of_card(hub, repo.commits[first]["README.md"].decode(), reader, tmp_path / "reader's folder")
    one = answer_of(reader, tmp_path, "--model", "tester/faces")
    assert one["printed"].startswith(f"model: short, tester/faces@{first}; detector: yunet")
    assert [one["model"][key] for key in ("name", "source", "revision")] == ["short", "tester/faces", first]
    hub.stop()
    cached = answer_of(reader, tmp_path, "--model", "tester/faces")
    assert cached["faces"] == one["faces"] and cached["model"] == one["model"]
    hub.start()

    hub.fail("POST .*/commit/", status=500, headers={"Retry-After": "0"})
    failed = python(*train, "--out", tmp_path / "two", "--seed", "5", env=writer)
    assert_clear_error(failed, "python -m training.push", str(tmp_path / "two" / "bundle"))
    hub.faults.clear()
    command = next(line for line in failed.stderr.splitlines() if "training.push" in line).split()
    assert python(*command[1:], env=writer).returncode == 0
    second = repo.refs["main"]
    assert second != first
    two = answer_of(reader, tmp_path, "--model", "tester/faces")
    assert two["model"]["revision"] == second and two["faces"] != one["faces"]
    pinned = answer_of(reader, tmp_path, "--model", f"tester/faces@{first}")
    assert pinned["faces"] == one["faces"] and pinned["model"]["revision"] == first


def test_the_card_of_a_repository_names_it_and_lists_what_is_there(bundle):
    card = json.loads((bundle / CARD).read_text())
    contents = module._contents(bundle, card, "you/kit")
    published = json.loads(contents[CARD])
    assert published["provenance"] == card["provenance"]
    assert set(published["files"]) == set(contents) - {CARD} >= {"predict.py", "README.md", "config.json"}
    for name, entry in published["files"].items():
        content = contents[name] if isinstance(contents[name], bytes) else Path(contents[name]).read_bytes()
        assert entry["sha256"] == sha256(content).hexdigest() and entry["bytes"] == len(content), name
    readme = contents["README.md"].decode()
    assert "you/kit" in readme and "USER/NAME" not in readme and "- name: kit\n" in readme


def test_a_bundle_that_lacks_a_listed_file_is_refused_before_the_hub_is_asked(bundle, monkeypatch):
    monkeypatch.setattr(module, "check", lambda target: pytest.fail("asked"))
    (bundle / "README.md").unlink()
    with pytest.raises(ModelError, match=r"is missing README\.md, which its age_gender\.json lists"):
        module.push(bundle, module.Target("you/kit"))
    card = json.loads((bundle / CARD).read_text())
    del card["files"]["README.md"]
    (bundle / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"has no README\.md, the model card"):
        module.push(bundle, module.Target("you/kit"))


def test_a_bundle_that_cannot_be_prepared_leaves_no_empty_repository(bundle, monkeypatch):
    made = []
    api = SimpleNamespace(create_repo=lambda *_, **__: made.append(1))
    monkeypatch.setattr(module, "check", lambda target: target)
    monkeypatch.setattr(module, "HfApi", lambda: api)
    monkeypatch.setattr(module, "verify", lambda folder: json.loads((bundle / CARD).read_text()))
    (bundle / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(HubError, match="before it reached the Hub"):
        module.push(bundle, module.Target("you/kit"))
    assert not made


def test_a_temporary_hub_error_is_not_taken_for_a_repository_without_a_bundle(monkeypatch):
    def fails(error):
        def download(*_, **__):
            raise error

        return SimpleNamespace(hf_hub_download=download)

    response = httpx.Response(404, request=httpx.Request("GET", "/"))
    assert module._listed(fails(RemoteEntryNotFoundError("no card", response=response)), "you/kit", "head") == set()
    with pytest.raises(LocalEntryNotFoundError):
        module._listed(fails(LocalEntryNotFoundError("the Hub answered 503")), "you/kit", "head")


@pytest.mark.parametrize(
    ("public", "private", "refused"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_public_repository_does_not_become_private_by_a_push(monkeypatch, public, private, refused):
    info = SimpleNamespace(private=not public, siblings=[])
    monkeypatch.setattr(module, "check_write_access", lambda repo_id, others: f"me/{repo_id}")
    monkeypatch.setattr(module, "HfApi", lambda: SimpleNamespace(model_info=lambda repo_id, revision=None: info))
    target = module.Target("kit", private)
    if refused:
        with pytest.raises(HubError, match="me/kit exists and is public"):
            module.check(target)
    else:
        assert module.check(target).repo_id == "me/kit"


@pytest.mark.parametrize(
    ("files", "pull_request", "refused"),
    [
        ([".gitattributes", "README.md"], False, False),
        ([".gitattributes", "README.md", "config.json", CARD], False, False),
        (["README.md", "config.json", "model.safetensors"], False, True),
        (["README.md", "config.json", "model.safetensors"], True, False),  # which people look at first
    ],
)
def test_another_model_is_not_replaced(monkeypatch, files, pull_request, refused):
    info = SimpleNamespace(private=False, siblings=[SimpleNamespace(rfilename=name) for name in files])
    monkeypatch.setattr(module, "check_write_access", lambda repo_id, others: repo_id)
    monkeypatch.setattr(module, "HfApi", lambda: SimpleNamespace(model_info=lambda repo_id, revision=None: info))
    target = module.Target("me/kit", pull_request=pull_request)
    if refused:
        with pytest.raises(HubError, match="me/kit contains another model: choose another name"):
            module.check(target)
    else:
        assert module.check(target) == target


def test_the_command_line_tells_what_was_pushed_and_why_not(bundle, monkeypatch, capsys):
    asked = []

    def made(folder, target):
        asked.append((folder, target.repo_id, target.private, target.revision, target.pull_request))
        return SimpleNamespace(pr_url=None, commit_url="https://hub/you/kit", oid="abc")

    monkeypatch.setattr(module, "push", made)
    assert module.main([str(bundle), "--repo-id", "you/kit", "--private", "--revision", "v2"]) == 0
    assert capsys.readouterr().out == "Pushed: https://hub/you/kit\nCommit: abc\n"
    assert module.main([str(bundle), "--pr"]) == 0
    assert "no pull request was opened" in capsys.readouterr().out
    assert asked == [(bundle, "you/kit", True, "v2", False), (bundle, "age-gender-compact", False, None, True)]
    assert module.main([str(bundle / "gone")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    words = module.push_command(bundle, module.Target("you/kit", True, "v2", True))
    assert words.startswith(f"python -m training.push {bundle} ") and module.main(words.split()[3:]) == 0
    assert asked[-1] == (bundle, "you/kit", True, "v2", True)


def test_a_commit_deletes_only_what_a_bundle_listed(bundle, monkeypatch):
    asked = {}
    api = SimpleNamespace(
        model_info=lambda *_, **__: SimpleNamespace(sha="head"),
        list_repo_files=lambda *_, **__: ["theirs.txt", "old.csv"],
        create_commit=lambda repo_id, operations, **more: asked.update(more, operations=operations),
    )
    monkeypatch.setattr(module, "_listed", lambda *_: {"old.csv", "README.md"})
    contents = {"README.md": b"new", CARD: b"{}"}
    module._commit(api, module.Target("you/kit", revision="trial"), contents, module.verify(bundle))
    deleted = [one.path_in_repo for one in asked["operations"] if isinstance(one, module.CommitOperationDelete)]
    assert deleted == ["old.csv"] and (asked["parent_commit"], asked["revision"]) == ("head", "trial")


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (
            {"private": True, "revision": "trial"},
            [("repo", {"private": True}), ("branch", {"branch": "trial"}), "commit"],
        ),
        ({}, [("repo", {"private": None}), "commit"]),
        ({"revision": "x", "pull_request": True}, ["commit"]),
    ],
)
def test_a_push_creates_what_it_commits_to(bundle, monkeypatch, options, calls):
    done = []

    def noted(name):
        def call(repo_id, *, exist_ok, **values):
            assert repo_id == "you/kit" and exist_ok
            done.append((name, values))

        return call

    monkeypatch.setattr(module, "check", lambda target: target)
    monkeypatch.setattr(
        module, "HfApi", lambda: SimpleNamespace(create_repo=noted("repo"), create_branch=noted("branch"))
    )
    monkeypatch.setattr(module, "_commit", lambda *_: done.append("commit"))
    module.push(bundle, module.Target("you/kit", **options))
    assert done == calls


def test_a_pushed_bundle_has_keras_s_config_as_such(bundle):
    contents = module._contents(bundle, json.loads((bundle / CARD).read_text()), "you/kit")
    files = json.loads(contents[CARD])["files"]
    assert files["config.json"]["role"] == "keras-config" and files["predict.py"]["role"] == "document"
    assert json.loads(contents["config.json"])["class_name"] == "Functional"


@pytest.mark.parametrize(
    ("branches", "refused"),
    [
        ({None: ["model.safetensors"], "kit": [CARD]}, False),
        ({None: [CARD], "kit": ["model.safetensors"]}, True),
        ({None: ["model.safetensors"]}, True),  # a new branch begins with these
    ],
)
def test_the_branch_that_is_pushed_to_is_checked(monkeypatch, branches, refused):
    def model_info(repo_id, revision=None):
        if revision not in branches:
            raise RevisionNotFoundError("no branch", response=httpx.Response(404, request=httpx.Request("GET", "/")))
        return SimpleNamespace(private=False, siblings=[SimpleNamespace(rfilename=name) for name in branches[revision]])

    monkeypatch.setattr(module, "check_write_access", lambda repo_id, others: repo_id)
    monkeypatch.setattr(module, "HfApi", lambda: SimpleNamespace(model_info=model_info))
    target = module.Target("me/kit", revision="kit")
    if refused:
        with pytest.raises(HubError, match="contains another model"):
            module.check(target)
    else:
        assert module.check(target) == target
