"""The app as people meet it: the process, the API through `gradio_client`, the page in Chromium."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from conftest import CHROMIUM, EXAMPLES, App, assert_clear_error, python
from gradio_client import handle_file
from PIL import Image


@pytest.fixture(scope="module")
def app():
    running = App()
    yield running
    running.stop()


@pytest.fixture
def client(app, tmp_path):
    return app.client(tmp_path)


def test_the_api_answers_the_group_example(client):
    picture, result = client.predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
    assert list(result) == ["faces", "model", "detector", "elapsed_ms"]
    assert len(result["faces"]) == 8
    keys = ["box", "score", "age", "age_low", "age_high", "gender", "gender_probability"]
    assert all(list(face) == keys for face in result["faces"])
    areas = [face["box"][2] * face["box"][3] for face in result["faces"]]
    assert areas == sorted(areas, reverse=True)
    assert result["model"] == {"name": "compact", "source": "embedded", "revision": None}
    assert result["detector"] == "haar" and result["elapsed_ms"] > 0
    with Image.open(EXAMPLES / "group.jpg") as photo, Image.open(picture) as annotated:
        assert annotated.size == photo.size
        change = np.abs(np.asarray(annotated.convert("RGB"), int) - np.asarray(photo.convert("RGB"), int)).sum(2)
        assert 0.01 < (change > 60).mean() < 0.5  # boxes and labels, and the rest untouched


def test_the_api_explains_a_face(client):
    photo = handle_file(EXAMPLES / "group.jpg")
    picture, text = client.predict(photo, 2, api_name="/explain_age")
    with Image.open(picture) as explained:
        assert explained.size == (400, 200)
        face, coloured = np.split(np.asarray(explained.convert("RGB"), int), 2, axis=1)
    assert np.abs(face - coloured).mean() > 5
    assert text.startswith("Face 2, answer ") and "older" in text
    with pytest.raises(Exception, match="no face 9: faces 1 to 8"):
        client.predict(photo, 9, api_name="/explain_age")


def test_a_turned_photo_is_answered_upright(client, tmp_path):
    with Image.open(EXAMPLES / "age-20-26-male.jpg") as photo:
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif)
    picture, result = client.predict(handle_file(tmp_path / "turned.jpg"), api_name="/analyze_photo")
    assert len(result["faces"]) == 1
    with Image.open(picture) as annotated:
        assert annotated.size == (320, 320)


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
        ("notes.txt", b"hello", "no picture"),
        ("photo.jpg", b"not a jpeg", "no picture"),
        ("cut.jpg", (EXAMPLES / "group.jpg").read_bytes()[:5000], "damaged"),
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
    assert list(endpoints) == ["/analyze_photo", "/explain_age"]


def test_another_bundle_and_the_environment(trained):
    bundle = trained / "bundle"
    for arguments, env in (
        (["--model", bundle, "--detector", "haar"], {}),
        ([], {"AGE_GENDER_MODEL": str(bundle), "AGE_GENDER_DETECTOR": "haar"}),
    ):
        running = App(*arguments, env=env)
        try:
            _, result = running.client(trained / "downloads").predict(
                handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo"
            )
            assert result["model"] == {"name": "compact", "source": "bundle", "revision": None}
        finally:
            printed = running.stop()
        assert "note:" not in printed and "Traceback" not in printed


def test_yunet_from_a_file_and_from_the_hub(yunet, hub, tmp_path):
    hub.add("opencv/face_detection_yunet", {yunet.name: yunet.read_bytes()})
    for arguments, env in (
        (["--detector", yunet], {}),
        ([], hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "0"}),
    ):
        running = App(*arguments, env=env)
        try:
            _, result = running.client(tmp_path).predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
            assert result["detector"] == "yunet" and len(result["faces"]) == 8
        finally:
            running.stop()


def test_start_up_errors_are_a_sentence(tmp_path):
    assert_clear_error(python("app.py", "--model", tmp_path / "gone"), "No model at", "gone")
    assert_clear_error(python("app.py", "--model", tmp_path), "no model bundle")
    assert_clear_error(python("app.py", "--detector", tmp_path / "gone.onnx"), "No detector at")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert_clear_error(
            python("app.py", "--detector", "haar", "--port", str(taken.getsockname()[1])), "Port", "--port"
        )
    assert python("app.py", "--help").returncode == 0
    for port in ("99999", "-1", "http"):
        result = python("app.py", "--port", port)
        assert result.returncode == 2 and "--port" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_nothing_of_visitors_is_left_when_the_app_stops(tmp_path, end):
    running = App("--detector", "haar", env={"TMPDIR": str(tmp_path)})
    running.client(tmp_path / "client").predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
    assert list(tmp_path.glob("age-gender-*/**/group.jpg"))
    running.process.send_signal(end)
    running.process.communicate(timeout=20)
    assert not list(tmp_path.glob("age-gender-*"))


# The page


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip("needs /usr/bin/chromium (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    flags = (
        "--no-sandbox --disable-gpu --disable-quic --disable-background-networking --disable-component-update "
        "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
    )
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=[*flags.split(), "--no-first-run", "--disable-sync"]
        )
        yield running
        running.close()


@pytest.fixture
def page(browser, app):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.foreign, page.problems = [], []
    page.on(
        "request", lambda r: page.foreign.append(r.url) if not r.url.startswith((app.url, "data:", "blob:")) else None
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(app.url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    yield page
    page.close()


def upload(page, path) -> None:
    page.set_input_files("#photo input[type=file]", str(path))


def test_a_visitor_uploads_a_photo(page, tmp_path):
    upload(page, EXAMPLES / "group.jpg")
    page.wait_for_selector("#annotated img", timeout=60_000)
    page.get_by_text("8 faces").wait_for(timeout=20_000)
    rows = page.locator("#faces [role=row][aria-rowindex]")
    page.wait_for_selector("#faces [role=row][aria-rowindex='9']", timeout=20_000)
    text = "\n".join(rows.all_inner_texts())
    assert re.search(r"\bfemale", text) and re.search(r"\bmale", text) and " to " in text and "%" in text, text
    natural = page.evaluate("document.querySelector('#annotated img').naturalWidth")
    with Image.open(EXAMPLES / "group.jpg") as photo:
        assert natural == photo.width
    page.get_by_text("JSON").first.click()
    page.wait_for_selector("#json")
    body = page.locator("body").inner_text()
    assert "appears" in body and "Apparent age and gender" in body
    assert "Haar cascade" in page.locator("#note").inner_text()  # no Hub here: the page says what stands in
    page.screenshot(path=os.environ.get("AGE_GENDER_SCREENSHOT", str(tmp_path / "page.png")), full_page=True)
    assert not page.problems
    assert not page.foreign, "the page asked other servers"


def test_a_visitor_chooses_an_example(page):
    page.locator("button:has(img), td:has(img), .gallery-item").first.click()
    page.wait_for_selector("#annotated img", timeout=60_000)
    page.get_by_text("1 face").first.wait_for(timeout=20_000)


def test_a_visitor_sends_a_file_that_is_no_picture(page, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"this is no picture")
    upload(page, tmp_path / "photo.jpg")
    page.get_by_text("no picture that can be read").first.wait_for(timeout=20_000)


def test_a_bad_photo_clears_the_answer_before_it(page, tmp_path):
    upload(page, EXAMPLES / "age-20-26-male.jpg")
    page.wait_for_selector("#annotated img", timeout=60_000)
    page.get_by_text("1 face,").wait_for(timeout=20_000)
    (tmp_path / "photo.jpg").write_bytes(b"this is no picture")
    upload(page, tmp_path / "photo.jpg")
    page.get_by_text("no picture that can be read").first.wait_for(timeout=20_000)
    page.wait_for_selector("#annotated img", state="detached", timeout=20_000)
    page.get_by_text("Choose a photo, or one of the examples").wait_for(timeout=20_000)


def test_a_photo_without_faces(page, tmp_path):
    (tmp_path / "blank.png").write_bytes(png(Image.new("RGB", (300, 200), "grey")))
    upload(page, tmp_path / "blank.png")
    page.get_by_text("No face found").wait_for(timeout=60_000)


def test_a_visitor_snaps_a_photo(page):
    page.context.grant_permissions(["camera"])
    page.locator("#photo button[aria-label*='webcam' i], #photo .source-selection button").nth(1).click()
    page.locator("#photo").get_by_text("Access Webcam", exact=False).click()
    page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0", timeout=20_000)
    page.locator("#photo .button-wrap button, #photo .capture-button").first.click()
    page.get_by_text(re.compile(r"No face found|\d+ faces?,")).first.wait_for(timeout=60_000)
