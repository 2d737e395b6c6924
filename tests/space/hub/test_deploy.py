"""The Space: what is sent, what is refused, and a rehearsal of what the builder does with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path

import pytest
import yaml
from gradio_client import Client, handle_file

from space.hub import deploy, repository
from space.hub.bundle import open_bundle
from space.hub.download import ModelError
from space.hub.upload import HubError
from tests.support import EMBEDDED, EXAMPLES, ROOT, files_of
from tests.support.app import assert_clear_error, free_port, python

SPACE = "tester/faces"


def publish(env, *more, timeout=120):
    return python("-m", "space.hub.deploy", "--space", SPACE, *more, env=env, timeout=timeout)


def add_model(hub, name="tester/model", **kwargs) -> str:
    files = files_of(EMBEDDED)
    return hub.add(name, files, **kwargs).refs["main"]


def front_matter(readme: bytes) -> dict:
    return yaml.safe_load(readme.decode().split("---")[1])


def test_the_card_is_complete_and_agrees_with_the_requirements():
    card = front_matter(deploy.space_files(SPACE, open_bundle())["README.md"])
    for key in (
        "title emoji colorFrom colorTo sdk sdk_version python_version app_file short_description license models "
        "datasets tags startup_duration_timeout suggested_hardware"
    ).split():
        assert card.get(key), key
    assert card["sdk"] == "gradio" and isinstance(card["python_version"], str)
    assert len(card["short_description"]) <= 60  # the Hub's limit
    pinned = re.search(r"gradio~=(\S+)", (ROOT / "space" / "requirements.txt").read_text())[1]
    assert card["sdk_version"] == pinned
    assert (ROOT / card["app_file"]).is_file()


@pytest.mark.parametrize(
    ("model", "license", "datasets", "text"),
    [
        ("compact", "utkface-non-commercial-research", 2, "non-commercial research only"),
        ("open", "cc-by-4.0", 1, "CC BY 4.0"),
    ],
)
def test_the_card_has_the_license_and_the_datasets_of_the_model_that_is_served(model, license, datasets, text):
    readme = deploy.space_files(SPACE, open_bundle(model))["README.md"].decode()
    card = front_matter(readme.encode())
    assert card["license_name"] == f"mit-code-{license}-weights" and len(card["datasets"]) == datasets
    assert text in readme and "{" not in readme and ("UTKFace" in readme) == (model != "open")


@pytest.mark.parametrize(
    ("sdk", "existing_is_private", "words"),
    [
        ("static", True, "a static Space, not a gradio one"),
        ("gradio", False, "exists and is public"),
        ("gradio", True, ""),
    ],
)
def test_an_existing_space_keeps_its_kind_and_its_visibility(sdk, existing_is_private, words):
    info = types.SimpleNamespace(sdk=sdk, private=existing_is_private)
    api = types.SimpleNamespace(space_info=lambda space: info, list_repo_files=lambda *_, **__: ["README.md"])
    if words:
        with pytest.raises(deploy.HubError, match=words):
            deploy._check_existing(api, SPACE, "gradio", private=True)
    else:
        deploy._check_existing(api, SPACE, "gradio", private=True)


def test_only_what_git_tracks_is_uploaded(tmp_path, monkeypatch, capsys):
    """Secrets, notes and links that lie in the folders stay where they are."""
    (tmp_path / "space" / "web").mkdir(parents=True)
    for name in ("space/a.py", "space/web/b.css", "space/.hidden.py", "space/token.env", "space/web/me.jpg"):
        (tmp_path / name).write_text("x")
    (tmp_path / "space" / "passwd").symlink_to("/etc/passwd")
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    for words in ("init -q", "add space/a.py space/web/b.css space/.hidden.py space/passwd"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    assert [path.name for path in repository.own_files("space")] == ["a.py", "b.css"]
    deploy._note_untracked("space")
    assert "2 files that git doesn't track will not be uploaded: space/token.env, space/web/me.jpg" in (
        capsys.readouterr().err
    )
    shutil.rmtree(tmp_path / ".git")  # a downloaded archive
    (tmp_path / "space" / "__pycache__").mkdir()
    (tmp_path / "space" / "__pycache__" / "a.cpython-311.pyc").write_text("x")
    assert len(repository.own_files("space")) == 4 and not repository.untracked("space")
    (tmp_path / ".git").write_text("a checkout that git can't read")
    with pytest.raises(deploy.HubError, match="git can't list the files"):
        repository.own_files("space")


def test_a_model_that_the_hub_does_not_have_is_refused_before_it_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, "hub_file", lambda *_: pytest.fail("asked"))
    for model in ("comapct", str(tmp_path), "a/b/c", "./you/model"):
        with pytest.raises(ModelError, match=r"choose compact, open, vgg16 or a Hub model.*training\.push"):
            deploy._served(model)


def test_a_deployment_is_one_commit_with_the_model_pinned(hub, writer):
    sha = add_model(hub)
    result = publish(writer, "--model", "tester/model", "--hardware", "cpu-basic", "--wait")
    assert result.returncode == 0, result.stderr
    assert f"{hub.url}/spaces/{SPACE}" in result.stdout and "is running" in result.stdout
    # The first look sees the build before this commit.
    assert sum(request.startswith("GET ") and request.endswith("/runtime") for request in hub.requests) >= 2
    repo = hub.repos["space", SPACE]
    assert repo.create["sdk"] == "gradio" and len(repo.commits) == 2
    assert repo.variables == {"AGE_GENDER_MODEL": f"tester/model@{sha}"} and not repo.secrets
    files = repo.commits[repo.refs["main"]]
    assert {"app.py", "README.md", "requirements.txt", "space/web/page.py"} <= set(files)
    assert not any(name.startswith("space/models") or name in deploy._TOOLS for name in files)
    assert not [name for name in files if re.search(r"^training|^tests|\.pyi$|__pycache__|space/README", name)]
    assert files["requirements.txt"] == (ROOT / "space" / "requirements.txt").read_bytes()
    card = front_matter(files["README.md"])
    assert card["models"][0] == "tester/model"
    assert card["preload_from_hub"] == [f"tester/model age_gender.json,config.json,model.int8.onnx {sha}"]
    assert SPACE in files["README.md"].decode() and "USER/NAME" not in files["README.md"].decode()


def test_a_workflow_deploys_without_a_user(hub, reader):
    """With a trusted publisher's token: no /whoami, no new repositories."""
    sha = add_model(hub)
    env = reader | {"HF_OIDC_RESOURCE": f"spaces/{SPACE}", "HF_OIDC_ID_TOKEN": "workflow"}
    assert_clear_error(publish(env), f"{SPACE} doesn't exist")
    repo = hub.add(SPACE, {"README.md": b"as the Hub makes it"}, type="space")
    for _ in range(2):
        result = publish(env, "--model", "tester/model", "--wait")
        assert result.returncode == 0, result.stderr
    assert "space/web/page.py" in repo.commits[repo.refs["main"]]
    assert repo.variables == {"AGE_GENDER_MODEL": f"tester/model@{sha}"}
    assert sum(request.startswith("POST") and request.endswith("/variables") for request in hub.requests) == 1
    refused = publish(env | {"HF_OIDC_ID_TOKEN": "another"})
    assert_clear_error(refused, "gave this workflow no token", "trusted publisher")


def test_a_static_space_with_another_page_is_kept():
    info = types.SimpleNamespace(sdk="static", private=False)
    for files, kept in (
        (["index.html", "style.css"], True),
        (["index.html", "kit.json"], False),
        (["README.md"], False),
    ):
        api = types.SimpleNamespace(space_info=lambda space: info, list_repo_files=lambda *_, f=files, **__: f)
        api.hf_hub_download = lambda *_, **__: str(ROOT / "browser" / "index.html")
        if kept:
            with pytest.raises(deploy.HubError, match=r"already contains another app.*delete its index\.html"):
                deploy._check_existing(api, SPACE, "static", private=False)
        else:
            deploy._check_existing(api, SPACE, "static", private=False)


@pytest.mark.parametrize(("page", "kept"), [("<h1>Welcome to your static Space!</h1>", False), ("<h1>Me</h1>", True)])
def test_the_page_of_a_new_static_space_is_replaced(tmp_path, page, kept):
    (tmp_path / "index.html").write_text(page)
    api = types.SimpleNamespace(
        space_info=lambda space: types.SimpleNamespace(sdk="static", private=False),
        list_repo_files=lambda *_, **__: [".gitattributes", "README.md", "index.html", "style.css"],
        hf_hub_download=lambda *_, **__: str(tmp_path / "index.html"),
    )
    if kept:
        with pytest.raises(deploy.HubError, match="already contains another app"):
            deploy._check_existing(api, SPACE, "static", private=False)
    else:
        deploy._check_existing(api, SPACE, "static", private=False)


def test_again_without_a_model_and_without_a_file(hub, writer):
    add_model(hub)
    assert publish(writer, "--model", "tester/model").returncode == 0
    repo = hub.repos["space", SPACE]
    head = repo.commits[repo.refs["main"]]
    repo.commit({**head, "space/old.py": b"", "notes.md": b"by hand"})
    assert publish(writer).returncode == 0
    files = repo.commits[repo.refs["main"]]
    assert "space/old.py" not in files and files["notes.md"] == b"by hand"
    assert repo.variables == {}


def test_a_private_model_needs_a_token_of_its_own(hub, writer):
    sha = add_model(hub, private=True)
    result = publish(writer, "--model", "tester/model", "--private")
    assert_clear_error(result, "SPACE_HF_TOKEN", "read-only")
    assert ("space", SPACE) not in hub.repos
    result = publish(writer | {"SPACE_HF_TOKEN": "hf_reader"}, "--model", "tester/model", "--private")
    assert result.returncode == 0, result.stderr
    repo = hub.repos["space", SPACE]
    assert repo.private and repo.secrets == {"HF_TOKEN": "hf_reader"} and "HF_TOKEN" not in repo.variables
    card = front_matter(repo.commits[repo.refs["main"]]["README.md"])
    assert "tester/model" in card["models"] and "preload_from_hub" not in card
    assert repo.variables == {"AGE_GENDER_MODEL": f"tester/model@{sha}"}
    # A public one after it: the token goes.
    assert publish(writer, "--model", "vgg16", "--mcp").returncode == 0
    assert repo.secrets == {} and repo.variables == {"AGE_GENDER_MODEL": "vgg16", "GRADIO_MCP_SERVER": "true"}
    files = repo.commits[repo.refs["main"]]
    assert b"gradio[mcp]~=" in files["requirements.txt"]
    networks = [name for name in files if name.endswith(".onnx")]
    assert networks == ["space/models/vgg16/model.int8.onnx"]


def test_a_gated_model_needs_a_token_that_can_read_it(hub, writer):
    add_model(hub, gated=True)
    assert_clear_error(publish(writer, "--model", "tester/model"), "private or gated", "SPACE_HF_TOKEN")
    wrong = publish(writer | {"SPACE_HF_TOKEN": "hf_wrong"}, "--model", "tester/model")
    assert_clear_error(wrong, "SPACE_HF_TOKEN can't read tester/model: set it")
    assert ("space", SPACE) not in hub.repos
    result = publish(writer | {"SPACE_HF_TOKEN": "hf_writer"}, "--model", "tester/model")
    assert result.returncode == 0 and "warning: SPACE_HF_TOKEN has write permission" in result.stderr, result.stderr
    repo = hub.repos["space", SPACE]
    assert repo.secrets == {"HF_TOKEN": "hf_writer"}
    assert "preload_from_hub" not in front_matter(repo.commits[repo.refs["main"]]["README.md"])


def test_another_app_and_its_secret_are_kept(hub, writer):
    repo = hub.add(SPACE, {"app.py": b"mine", "README.md": b"mine", "space/notes.md": b"mine"}, type="space")
    repo.secrets = {"HF_TOKEN": "mine"}
    head = repo.refs["main"]
    assert_clear_error(publish(writer), f"{SPACE} already contains another app")
    assert repo.refs["main"] == head and repo.secrets == {"HF_TOKEN": "mine"}
    repo.commit({"README.md": b"as the Hub makes it"})
    assert publish(writer).returncode == 0
    assert repo.secrets == {"HF_TOKEN": "mine"}  # set by hand: not ours to delete


def test_a_dry_run_sends_nothing(hub, writer):
    result = publish({k: v for k, v in writer.items() if k != "HF_TOKEN"}, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "app.py" in result.stdout and "space/models/compact/age_gender.json" in result.stdout
    assert not hub.requests


@pytest.mark.parametrize(
    ("pattern", "status", "words"),
    [
        ("POST /api/repos/create", 402, "paid plan"),
        ("POST /api/repos/create", 403, "can't write"),
        ("POST .*/variables", 500, "server error"),
        ("POST .*/commit/", 412, "at the same time"),
        ("POST .*/commit/", 429, "rate limit"),
    ],
)
def test_refusals_are_explained(hub, writer, pattern, status, words):
    add_model(hub)
    hub.fail(pattern, status=status, headers={"Retry-After": "1"})
    assert_clear_error(publish(writer, "--model", "tester/model"), words)


def test_a_missing_model_or_token_stops_before_anything_is_made(hub, writer):
    assert_clear_error(publish(writer, "--model", "tester/gone"), "The model tester/gone doesn't exist")
    assert_clear_error(publish(writer | {"HF_TOKEN": "hf_reader"}), "is read-only")
    assert not hub.repos


@pytest.mark.parametrize(("stage", "line"), [("BUILD_ERROR", "pip install failed"), ("RUNTIME_ERROR", "'faces'")])
def test_a_failed_space_shows_the_end_of_its_log(hub, writer, stage, line):
    hub.stage = stage
    assert_clear_error(publish(writer, "--wait"), stage, line)


def test_zero_gpu_gets_a_function(tmp_path):
    """ZeroGPU's package is made up here; that the real one counts such functions is from its source."""
    (tmp_path / "spaces.py").write_text("import sys\ndef GPU(f): print('declared', file=sys.stderr); return f\n")
    env = {"SPACES_ZERO_GPU": "true", "PYTHONPATH": str(tmp_path)}
    result = python("app.py", "--model", tmp_path / "gone", env=env)
    assert_clear_error(result, "declared", "No model at")


@pytest.mark.slow
def test_the_rehearsal(hub, writer, tmp_path, capsys):
    """Deploy, fetch the Space as the builder does, install only what it asks for, start it, ask it."""
    sha = add_model(hub)
    assert publish(writer, "--model", "tester/model").returncode == 0
    repo = hub.repos["space", SPACE]
    folder = tmp_path / "space"
    for name, content in repo.commits[repo.refs["main"]].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    interpreter = tmp_path / "venv" / "bin" / "python"
    install = [interpreter, "-m", "pip", "install", "-q", "-r", folder / "requirements.txt"]
    subprocess.run(install, check=True, stdin=subprocess.DEVNULL)
    subprocess.run([interpreter, "-m", "pip", "check"], check=True)
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GRADIO_", "AGE_GENDER"))}
    env |= hub.environment(tmp_path / "space-home") | repo.variables | {"GRADIO_SERVER_PORT": str(port)}
    started = time.monotonic()
    process = subprocess.Popen(
        [interpreter, "app.py"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < started + 120, process.communicate()[0]
                time.sleep(0.05)
        up = time.monotonic() - started
        client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=str(tmp_path))
        _, result = client.predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
        answered = time.monotonic() - started
        status = Path(f"/proc/{process.pid}/status")
        memory = re.search(r"VmHWM:\s+(\d+)", status.read_text())[1] if status.exists() else "?"
    finally:
        process.terminate()
        printed = process.communicate(timeout=30)[0]
    assert len(result["faces"]) == 8
    assert [result["model"][key] for key in ("name", "source", "revision")] == ["compact", "tester/model", sha], printed
    with capsys.disabled():
        print(f"\nrehearsal: page up after {up:.1f} s, first answer after {answered:.1f} s, peak {memory} kB")


class FakeHub:
    """An API that notes its calls; the Space exists."""

    def __init__(self, sdk: str, *, private: bool):
        self.calls: dict[str, dict] = {}
        self.space = types.SimpleNamespace(sdk=sdk, private=private, sha="head", requested_hardware="cpu-basic")

    def __getattr__(self, name):
        def call(*_, **options):
            self.calls[name] = options
            return self.space if name in ("space_info", "get_space_runtime") else {}

        return call


def test_a_private_page_is_never_published(monkeypatch):
    public, private = FakeHub("static", private=False), FakeHub("static", private=True)
    monkeypatch.setattr(deploy, "check_write_access", lambda space, kind: space)
    monkeypatch.setattr(deploy.static, "site_files", lambda space, model: {})
    monkeypatch.setattr(deploy, "HfApi", lambda: public)
    with pytest.raises(deploy.HubError, match="is public"):
        deploy.deploy_static(SPACE, private=True)
    assert "create_repo" not in public.calls
    monkeypatch.setattr(deploy, "HfApi", lambda: private)
    deploy.deploy_static(SPACE, private=True)
    assert private.calls["create_repo"]["private"] is True and "create_commit" in private.calls


def test_the_first_build_has_its_settings_and_replaces_nothing_new(monkeypatch):
    hub = FakeHub("gradio", private=True)
    monkeypatch.setattr(deploy, "HfApi", lambda: hub)
    deploy._publish(SPACE, {}, private=True, hardware="zero-a10g", variables={"AGE_GENDER_MODEL": "open"})
    order = list(hub.calls)
    assert order.index("add_space_variable") < order.index("create_commit") < order.index("request_space_hardware")
    assert hub.calls["create_commit"]["parent_commit"] == "head"


def test_a_kit_in_another_repository_publishes_what_that_one_tracks(tmp_path, monkeypatch):
    kit = tmp_path / "kit"
    (kit / "space").mkdir(parents=True)
    for name in ("tracked.py", "secret.txt"):
        (kit / "space" / name).write_text("x")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(repository, "ROOT", kit)
    with pytest.raises(HubError, match="tracks no file"):
        repository.own_files("space")
    subprocess.run(["git", "-C", str(tmp_path), "add", "kit/space/tracked.py"], check=True)
    assert [path.name for path in repository.own_files("space")] == ["tracked.py"]


def test_the_newline_of_a_file_is_no_part_of_a_token(monkeypatch):
    monkeypatch.setenv("SPACE_HF_TOKEN", "hf_reader\n")
    assert deploy._space_token() == "hf_reader"
