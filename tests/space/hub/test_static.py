"""The static Space's files, and their deployment."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from space.detector import THRESHOLD_RANGE
from space.estimator import open_session
from space.hub import deploy, static
from space.hub.bundle import MODELS, open_bundle
from tests.support import EMBEDDED, ROOT, files_of
from tests.support.app import assert_clear_error, python

SPACE = "tester/live"


def model_file(files: static.Files, network: str, name: str = "model.onnx"):
    """A model's file, whose folder has a hash in its name."""
    (found,) = (c for path, c in files.items() if re.fullmatch(rf"models/{network}-\w{{12}}/{re.escape(name)}", path))
    return found


def test_the_networks_take_one_look_and_its_mean_over_mirror_images_is_the_bundles_answer(files):
    bundle = open_session(str(MODELS / "compact" / "model.int8.onnx"))
    single = open_session(model_file(files, "compact"))
    crops = np.random.default_rng(0).integers(0, 256, (3, 200, 200, 3), np.uint8)
    whole, straight, mirrored = (
        session.run(["age", "p_female", "age_probs"], {"face": np.ascontiguousarray(faces)})
        for session, faces in ((bundle, crops), (single, crops), (single, crops[:, :, ::-1]))
    )
    for expected, a, b in zip(whole, straight, mirrored, strict=True):
        np.testing.assert_allclose((a + b) / 2, expected, atol=1e-4)
    assert json.loads(model_file(files, "compact", "age_gender.json"))["mirror"] is True
    assert json.loads(model_file(files, "vgg16", "age_gender.json"))["mirror"] is False
    assert model_file(files, "vgg16") == (MODELS / "vgg16" / "model.int8.onnx").read_bytes()


def test_a_dry_run_lists_the_files_that_a_deployment_uploads_in_one_commit(hub, tmp_path, files):
    env = hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}
    command = ("-m", "space.hub.deploy", "--static", "--space", SPACE)
    listed = python(*command, "--dry-run", env=env)
    assert listed.returncode == 0, listed.stderr
    names = {line.split()[1] for line in listed.stdout.splitlines()} - {"total"}
    published = python(*command, env=env)
    assert published.returncode == 0, published.stderr
    repo = hub.repos["space", SPACE]
    assert repo.create["sdk"] == "static" and len(repo.commits) == 2
    there = repo.commits[repo.refs["main"]]
    assert set(there) - {".gitattributes"} == names == set(files)
    assert all(there[name] == (c if isinstance(c, bytes) else c.read_bytes()) for name, c in files.items())
    card = there["README.md"].decode()
    assert "sdk: static" in card and "cross-origin-opener-policy: same-origin" in card
    # What a browser loads for the first answer, compressed.

    first = [there[name] for name in names if not name.startswith("models/vgg16-")]
    assert sum(len(gzip.compress(content)) for content in first) < 12_000_000


def test_the_command_writes_a_folder_once_and_refuses_what_does_not_fit(tmp_path, files, monkeypatch, capsys):
    assert deploy.main(["--static", "--out", str(tmp_path / "site"), "--model", "compact"]) == 0
    assert "python -m http.server" in capsys.readouterr().out
    assert (tmp_path / "site" / "index.html").is_file() and len(list((tmp_path / "site" / "models").iterdir())) == 1
    assert deploy.main(["--static", "--out", str(tmp_path / "site")]) == 1
    assert "isn't empty" in capsys.readouterr().err
    refused = "--static", "--out x --space a/b", "--static --space a/b --wait", "--static --space a/b --out x"
    for arguments in map(str.split, refused):
        with pytest.raises(SystemExit):
            deploy.main(arguments)
    monkeypatch.setattr(static, "_version", lambda package: None)  # nothing is installed
    monkeypatch.setenv("PATH", "")
    assert deploy.main(["--static", "--out", str(tmp_path / "other")]) == 1
    assert "Node.js" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_other_files_of_a_space_stay_and_a_gradio_space_is_refused(hub, tmp_path, files):
    env = hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}
    command = ("-m", "space.hub.deploy", "--static", "--space")
    before = {"notes.md": b"mine", "data/photo.zip": b"mine", "models/compact-0123456789ab/model.onnx": b"old"}
    hub.add(SPACE, before, type="space").create = {"sdk": "static"}
    assert python(*command, SPACE, env=env).returncode == 0
    repo = hub.repos["space", SPACE]
    there = set(repo.commits[repo.refs["main"]])
    assert there == set(files) | {"notes.md", "data/photo.zip"}  # an earlier deployment's model goes
    hub.add("tester/gradio", before, type="space").create = {"sdk": "gradio"}
    assert_clear_error(python(*command, "tester/gradio", env=env), "tester/gradio is a gradio Space")
    assert_clear_error(python("-m", "space.hub.deploy", "--space", SPACE, env=env), f"{SPACE} is a static Space")
    assert set(hub.repos["space", "tester/gradio"].commits[hub.repos["space", "tester/gradio"].refs["main"]]) == set(
        before
    )


def test_no_constant_is_missing(files):
    """What the modules read of `limits` is what the kit has, to the name."""
    kit = json.loads(files["kit.json"])
    elsewhere = {"detector": {"threshold"}}  # read by the page
    for part in ("detector", "tracker", "analyzer", "tilt"):
        script = (ROOT / "browser" / f"{part}.js").read_text()
        groups = re.findall(r"\{([a-z_, ]+)\}(?: = this\.limits|\) \{\n  const (?:kept|pairs|side)\b)", script)
        names = {name for group in groups for name in group.split(", ")}
        names |= set(re.findall(r"(?<!detector\.)limits\.([a-z_]+)", script))
        assert names == set(kit[part]) - elsewhere.get(part, set()), part
    page = files["index.html"].decode()
    assert not re.search(r"\{[A-Z]+\}|PRIVACY", page)
    lowest, highest = THRESHOLD_RANGE
    assert page.count('type="range"') == page.count(f'min="{lowest}" max="{highest}"') == 3


@pytest.mark.parametrize("kind", ["private", "gated"])
def test_a_private_or_gated_model_is_not_published_in_a_public_space(hub, tmp_path, monkeypatch, kind, capsys):
    model = SimpleNamespace(private=kind == "private", gated="auto" if kind == "gated" else False)
    published = []
    monkeypatch.setattr(deploy, "HfApi", lambda: SimpleNamespace(model_info=lambda repo: model))
    monkeypatch.setattr(deploy, "check_write_access", lambda space, kind: space)
    monkeypatch.setattr(static, "site_files", lambda space, model: {})
    monkeypatch.setattr(deploy, "_publish", lambda space, files, private: published.append(private) or "url")
    with pytest.raises(deploy.HubError, match="private or gated"):
        deploy.deploy_static(SPACE, model="tester/model")
    words = ["--static", "--space", SPACE, "--model", "tester/model@main"]
    assert deploy.main(words) == 1 and not published
    assert "tester/model is private or gated" in capsys.readouterr().err
    assert deploy.main([*words, "--private"]) == 0 and published == [True]
    model.private, model.gated = False, False
    assert deploy.main(words) == 0 and published == [True, False]


def test_a_model_of_the_hub_in_a_static_space(hub, tmp_path, monkeypatch):
    if not shutil.which("npm"):
        pytest.skip("needs npm (Node.js), from which onnxruntime-web comes")
    hub.add("tester/model", files_of(EMBEDDED))
    env = hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}
    done = python("-m", "space.hub.deploy", "--static", "--space", SPACE, "--model", "tester/model", env=env)
    assert done.returncode == 0, done.stderr
    repo = hub.repos["space", SPACE]
    there = repo.commits[repo.refs["main"]]
    models = [name for name in there if name.startswith("models/")]
    assert len(models) == 2 and all(name.startswith("models/compact-") for name in models)
    assert "- tester/model" in there["README.md"].decode()
    missing = python("-m", "space.hub.deploy", "--static", "--space", SPACE, "--model", "tester/none", env=env)
    assert_clear_error(missing, "tester/none")


def test_a_model_is_offered_with_its_figures():
    assert static._title(open_bundle("compact")) == "age error 4.18 years, gender 94.9%, 2 MB"


def test_a_first_visit_loads_one_model(files):
    kept = json.loads(re.search(r"^const FILES = (.*);$", files["service-worker.js"].decode(), re.MULTILINE)[1])
    assert not [name for name in kept if name.startswith(("models/open-", "models/vgg16-"))]
    assert not {"video/two-people.mp4", "LICENSE", "index.html"} & set(kept)
    assert "kit.json" in kept and any(name.startswith("models/compact-") for name in kept)
