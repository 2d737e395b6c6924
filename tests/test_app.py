"""The app as people meet it: the process, and the API through `gradio_client`."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image

from tests.support import EXAMPLES, ROOT
from tests.support.app import App, assert_clear_error, free_port, python
from tests.support.videos import moving, write_video


@pytest.fixture
def client(app, tmp_path):
    return app.client(tmp_path)


def test_the_api_answers_the_group_example(client):
    picture, result = client.predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
    assert list(result) == ["faces", "rotation", "incomplete", "model", "detector", "elapsed_ms"]
    assert len(result["faces"]) == 8
    keys = ["box", "score", "age", "age_low", "age_high", "gender", "gender_probability", "gender_label"]
    keys += ["sharpness", "yaw", "roll", "cut_off", "quality"]
    assert all(list(face) == keys for face in result["faces"])
    areas = [face["box"][2] * face["box"][3] for face in result["faces"]]
    assert areas == sorted(areas, reverse=True)
    assert result["model"] == {
        "name": "compact", "source": "embedded", "revision": None, "license": "utkface-non-commercial-research"
    }  # fmt: skip
    assert result["detector"] == "yunet" and result["elapsed_ms"] > 0
    with Image.open(EXAMPLES / "group.jpg") as photo, Image.open(picture) as annotated:
        assert annotated.size == photo.size
        change = np.abs(np.asarray(annotated.convert("RGB"), int) - np.asarray(photo.convert("RGB"), int)).sum(2)
        assert 0.01 < (change > 60).mean() < 0.5  # boxes and labels, and the rest untouched


def test_the_api_explains_a_face(client):
    photo = handle_file(EXAMPLES / "group.jpg")
    picture, text = client.predict(photo, 2, api_name="/explain_age")
    with Image.open(picture) as explained:
        assert explained.size == (400, 200)
        face, colored = np.split(np.asarray(explained.convert("RGB"), int), 2, axis=1)
    assert np.abs(face - colored).mean() > 5
    assert text.startswith("Face 2, estimated age ") and "older" in text
    with pytest.raises(Exception, match="no face 9: 8 faces were"):
        client.predict(photo, 9, api_name="/explain_age")


def test_a_turned_photo_is_answered_upright(client, tmp_path):
    with Image.open(EXAMPLES / "age-20-29-male.jpg") as photo:
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    picture, result = client.predict(handle_file(tmp_path / "turned.jpg"), api_name="/analyze_photo")
    assert len(result["faces"]) == 1
    with Image.open(picture) as annotated:
        assert annotated.size == (400, 400)


def test_threshold_and_blur(app, client):
    from space.detector import YuNet

    _, strict = client.predict(handle_file(EXAMPLES / "group.jpg"), 0.95, api_name="/analyze_photo")
    assert len(strict["faces"]) < 8
    picture, result = client.predict(handle_file(EXAMPLES / "group.jpg"), 0.7, True, api_name="/analyze_photo")
    assert len(result["faces"]) == 8
    with Image.open(picture) as blurred:
        assert len(YuNet().detect(np.asarray(blurred.convert("RGB")))) <= 1
    _, detailed = client.predict(handle_file(EXAMPLES / "group.jpg"), 0.7, False, True, api_name="/analyze_photo")
    assert all(len(face["age_probs"]) == 102 and 0.98 < sum(face["age_probs"]) < 1.02 for face in detailed["faces"])
    before = len(app.printed())
    with pytest.raises(Exception, match="greater than maximum"):
        client.predict(handle_file(EXAMPLES / "group.jpg"), 7, api_name="/analyze_photo")
    assert "Traceback" not in app.printed(before)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "Größe 👋.mp4", moving(45), sound="aac")


def test_the_api_answers_a_video(client, video, tmp_path):
    shown, result, text = client.predict(handle_file(video), api_name="/analyze_video")
    path = shown["video"] if isinstance(shown, dict) else shown
    assert Path(path).read_bytes()[4:8] == b"ftyp"
    keys = "people faces_over_time frames analyzed seconds model detector elapsed_ms"
    assert list(result) == keys.split() and result["frames"] == 45 and len(result["people"]) == 2
    assert {person["gender"] for person in result["people"]} == {"female", "male"} and "2 people" in text
    (tmp_path / "video.mp4").write_bytes(b"no video")
    with pytest.raises(Exception, match="readable video"):
        client.predict(handle_file(tmp_path / "video.mp4"), api_name="/analyze_video")


def test_the_api_answers_many_pictures(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        archive.write(EXAMPLES / "group.jpg", "deep/group.jpg")
        archive.writestr("broken.jpg", b"not an image")
    files = [handle_file(tmp_path / "album.zip"), handle_file(EXAMPLES / "age-20-29-male.jpg")]
    spreadsheet, jsonl, text, _ = client.predict(files, api_name="/analyze_batch")
    rows = [json.loads(line) for line in Path(jsonl).read_text().splitlines()]
    assert [(row["file"], len(row["faces"])) for row in rows] == [
        ("album.zip/broken.jpg", 0), ("album.zip/deep/group.jpg", 8), ("age-20-29-male.jpg", 1),
    ]  # fmt: skip
    assert rows[0]["error"] and len(Path(spreadsheet).read_text().splitlines()) == 1 + 10 and "9 faces" in text
    (tmp_path / "album.zip").write_bytes(b"no zip")
    with pytest.raises(Exception, match="not a readable zip"):
        client.predict([handle_file(tmp_path / "album.zip")], api_name="/analyze_batch")
    with pytest.raises(Exception, match="Choose images"):
        client.predict([], api_name="/analyze_batch")


def snippets(language: str) -> list[str]:
    text = (ROOT / "space" / "web" / "tabs" / "api.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def desk(video, tmp_path):
    """A folder with the files that the examples for programs name."""
    shutil.copy(EXAMPLES / "group.jpg", tmp_path / "photo.jpg")
    shutil.copy(video, tmp_path / "video.mp4")
    return tmp_path


def test_the_python_example_runs(app, desk):
    (code,) = snippets("python")
    code = (
        code.replace("http://127.0.0.1:7860", app.url) + "\nprint(len(result['faces']), people['frames'], csv, jsonl)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=desk, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^8 45 .*faces\.csv .*faces\.jsonl$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_curl_example_runs(app, desk):
    (code,) = snippets("bash")
    code = code.replace("http://127.0.0.1:7860", app.url)
    done = subprocess.run(["bash", "-c", code], cwd=desk, capture_output=True, text=True, timeout=120)
    assert "event: complete" in done.stdout, done.stdout + done.stderr
    picture, result = json.loads(done.stdout.split("data: ")[-1])
    assert len(result["faces"]) == 8 and picture["url"].startswith(app.url)


def upload_to(app) -> str:
    """Upload the group example as Gradio documents it; returns its path on the server."""
    import httpx

    with open(EXAMPLES / "group.jpg", "rb") as file:
        return httpx.post(f"{app.url}/gradio_api/upload", files={"files": file}).json()[0]


@pytest.mark.slow
def test_language_models_find_the_tools(tmp_path):
    mcp = pytest.importorskip("mcp", reason='needs pip install "gradio[mcp]"')
    from mcp.client.streamable_http import streamablehttp_client

    running = App("--mcp")

    async def talk():
        async with (
            streamablehttp_client(f"{running.url}/gradio_api/mcp/") as (receive, send, _),
            mcp.ClientSession(receive, send) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            url = "data:image/jpeg;base64," + base64.b64encode((EXAMPLES / "group.jpg").read_bytes()).decode()
            uploaded = f"{running.url}/gradio_api/file={upload_to(running)}"
            calls = [await session.call_tool("analyze_photo", {"photo": address}) for address in (url, uploaded)]
            elsewhere = f"{running.url}/gradio_api/file=/etc/hostname"
            refused = await session.call_tool("analyze_photo", {"photo": elsewhere})
            bare = await session.call_tool("analyze_photo", {"photo": url.partition(",")[2]})
            number = await session.call_tool("analyze_photo", {"photo": [url] * 3})
            # What is not listed is not called either: nothing else would check its arguments.
            own = {"path": str(EXAMPLES / "group.jpg"), "meta": {"_type": "gradio.FileData"}}
            unlisted = await session.call_tool("analyze_batch", {"files": [own]})
            return tools, calls, refused, bare, number, unlisted

    try:
        # In a thread: the browser tests' loop runs in this one.
        with ThreadPoolExecutor(1) as pool:
            tools, answers, refused, bare, number, unlisted = pool.submit(lambda: asyncio.run(talk())).result(
                timeout=120
            )
    finally:
        running.stop()
    assert set(tools) == {"analyze_photo", "explain_age", "analyze_video"}
    assert "apparent age" in tools["analyze_photo"].description
    for answer in answers:
        image, url, text = answer.content
        assert not answer.isError and (image.type, image.mimeType) == ("image", "image/jpeg")
        with (
            Image.open(io.BytesIO(base64.b64decode(image.data))) as annotated,
            Image.open(EXAMPLES / "group.jpg") as photo,
        ):
            assert annotated.size == photo.size
        assert url.text.startswith(running.url)
        assert len(json.loads(text.text)["faces"]) == 8 and answer.structuredContent == json.loads(text.text)
    for answer, words in ((bare, "data: URL"), (number, "is not of type")):
        (part,) = answer.content
        assert answer.isError and words in part.text and len(part.text) <= 300
    assert refused.isError or "fetch files from URLs" in str(refused.content)
    assert unlisted.isError and "Unknown tool" in str(unlisted.content)
    assert "data: URL" in str(tools["analyze_photo"].inputSchema) + tools["analyze_photo"].description


def test_uploads_work_below_a_linked_temporary_folder(tmp_path):
    """As on macOS, whose /var is a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    code = (
        "import app, os; folder = app.temporary_folder(); os.makedirs(f'{folder}/gradio')\n"
        "path = f\"{os.environ['GRADIO_TEMP_DIR']}/a.jpg\"; open(path, 'w').close()\n"
        "from space.web import uploads; os.close(uploads.open_upload(path))"
    )
    result = python("-c", code, env={"TMPDIR": str(tmp_path / "link")})
    assert result.returncode == 0, result.stderr


def test_public_links_that_gradio_creates_by_itself_are_known(monkeypatch):
    import app as entry

    monkeypatch.delenv("GRADIO_SHARE", raising=False)
    assert not entry._shares_by_itself()
    monkeypatch.setenv("GRADIO_SHARE", "True")
    assert entry._shares_by_itself()


def test_a_machine_without_a_temporary_folder_is_told(monkeypatch, capsys):
    import app as entry

    def refuse(**_):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(entry.tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(entry.signal, "signal", lambda *_: None)
    entry.temporary_folder.cache_clear()
    assert entry.main([]) == 1
    assert "error: No usable folder for temporary files" in capsys.readouterr().err


NOTEBOOK = """
import os, sys
sys.ps1 = ">>> "  # as in a notebook: Gradio does not block there
import app
from gradio_client import Client, handle_file
for port in {ports}:
    assert app.main(["--port", str(port)]) == 0
for port in {ports}:
    client = Client(f"http://127.0.0.1:{{port}}", verbose=False, download_files={target!r})
    assert len(client.predict(handle_file({photo!r}), api_name="/analyze_photo")[1]["faces"]) == 8
folder = app.temporary_folder()
assert os.path.isdir(folder)
print("FOLDER", folder)
"""


@pytest.mark.slow
def test_a_notebook_starts_it_twice_and_leaves_nothing(tmp_path):
    program = NOTEBOOK.format(ports=[free_port(), free_port()], target=str(tmp_path), photo=str(EXAMPLES / "group.jpg"))
    result = python("-c", program, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = re.search("FOLDER (.*)", result.stdout)[1]
    assert not Path(folder).exists()


def test_data_urls_are_read_like_files(client):
    url = "data:image/jpeg;base64," + base64.b64encode((EXAMPLES / "group.jpg").read_bytes()).decode()
    _, result = client.predict(
        {"url": url, "path": None, "meta": {"_type": "gradio.FileData"}}, api_name="/analyze_photo"
    )
    assert len(result["faces"]) == 8


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_no_face_is_an_answer_not_an_error(client, tmp_path):
    (tmp_path / "blank.png").write_bytes(png(Image.new("RGB", (300, 200), "grey")))
    _, result = client.predict(handle_file(tmp_path / "blank.png"), api_name="/analyze_photo")
    assert result["faces"] == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"hello", "readable image"),
        ("photo.jpg", b"not a jpeg", "readable image"),
        ("cut.jpg", (EXAMPLES / "group.jpg").read_bytes()[:300], "damaged"),
        ("bomb.png", png(Image.new("1", (20000, 20000))), "megapixels"),
    ],
)
def test_what_is_no_photo_gets_a_plain_message(client, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Exception, match=words):
        client.predict(handle_file(tmp_path / name), api_name="/analyze_photo")


def test_nothing_sent_gets_a_plain_message(client):
    with pytest.raises(Exception, match="Choose a photo"):
        client.predict(None, api_name="/analyze_photo")
    with pytest.raises(Exception, match="base64"):
        bad = {"url": "data:image/png;base64,###", "path": None, "meta": {"_type": "gradio.FileData"}}
        client.predict(bad, api_name="/analyze_photo")


def test_only_documented_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/analyze_photo", "/explain_age", "/analyze_video", "/analyze_batch"]
    inputs = [endpoint["parameters"][0]["component"] for endpoint in endpoints.values()]
    assert inputs == ["Image", "Image", "Video", "File"]


@pytest.mark.slow
def test_the_environment_names_a_bundle_and_a_proxy_that_does_not_stop_the_start(trained, tmp_path):
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    running = App(env=dead | {"AGE_GENDER_MODEL": str(trained / "bundle")})
    try:
        _, result = running.client(tmp_path).predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
        assert (result["model"]["name"], result["model"]["source"]) == ("short", "bundle")
    finally:
        printed = running.stop()
    assert "note:" not in printed and "Traceback" not in printed


@pytest.mark.slow
def test_start_up_errors_are_a_sentence(tmp_path):
    assert_clear_error(python("app.py", "--model", tmp_path / "gone"), "No model at", "gone")
    assert_clear_error(python("app.py", "--model", tmp_path), "a model bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert_clear_error(python("app.py", "--port", str(taken.getsockname()[1])), "Port", "--port")
    assert python("app.py", "--help").returncode == 0
    for port in ("99999", "-1", "http"):
        result = python("app.py", "--port", port)
        assert result.returncode == 2 and "--port" in result.stderr and "Traceback" not in result.stderr


def test_nothing_of_visitors_is_left_when_the_app_is_terminated(tmp_path):
    """Nor after Ctrl-C: test_folders_of_killed_apps_are_deleted_and_those_of_running_ones_kept."""
    running = App(env={"TMPDIR": str(tmp_path)})
    running.client(tmp_path / "client").predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
    assert list(tmp_path.glob("age-gender-*/**/group.jpg"))
    running.process.send_signal(signal.SIGTERM)
    running.process.communicate(timeout=20)
    assert not list(tmp_path.glob("age-gender-*"))


@pytest.mark.parametrize("package", ["numpy", "gradio", "filelock", "huggingface_hub"])
def test_an_environment_without_the_requirements_is_told_what_to_install(package):
    code = "import runpy, sys; sys.modules[{!r}] = None; sys.argv = [{!r}]; runpy.run_{}({!r}, run_name='__main__')"
    if package != "huggingface_hub":  # the embedded model needs none
        result = python("-c", code.format(package, "app.py", "path", "app.py"))
        assert_clear_error(result, f"The package {package} is missing: run pip install -r space/requirements.txt")
    if package in ("numpy", "huggingface_hub"):
        result = python("-c", code.format(package, "deploy", "module", "space.hub.deploy"))
        assert_clear_error(result, f"The package {package} is missing: run pip install -r space/requirements.txt")
