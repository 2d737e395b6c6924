"""The page in Chromium, as visitors meet it."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.annotate import draw
from space.photo import read_photo
from space.web.modules import label_words
from tests.support import EXAMPLES, ROOT
from tests.support.browser import FAKE_CAMERA, chromium, cut_off, serious, wait_until, write_crowd
from tests.support.texts import mark, not_marked
from tests.support.videos import moving, write_video

TABS = ("Photo", "Live", "Video", "Folder", "API", "About")


@pytest.fixture(scope="module")
def browser():
    with chromium(FAKE_CAMERA, "--disable-quic", "--disable-sync") as running:
        yield running


@pytest.fixture
def page(browser, app):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.foreign, page.problems = [], []
    page.on(
        "request", lambda r: page.foreign.append(r.url) if not r.url.startswith((app.url, "data:", "blob:")) else None
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    visit(page, app.url)
    yield page
    page.close()


def visit(page, url) -> None:
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    page.wait_for_timeout(500)  # Gradio connects its events


def upload(page, path) -> None:
    page.set_input_files("#photo input[type=file]", str(path))


def exchange(page, where, path) -> None:
    """Put another file in the place of the one that is there."""
    page.locator(f"{where} button[aria-label='Clear']").click()
    page.set_input_files(f"{where} input[type=file]", path)
    page.wait_for_timeout(1000)


def downloaded(page, label: str) -> Path:
    """The file behind a visible download button, under the name that it is saved with."""
    with page.expect_download() as download:
        page.locator(".downloads").get_by_text(f"⬇ {label}").locator("visible=true").click()
    path = Path(download.value.path())
    return path.rename(path.with_name(download.value.suggested_filename))


# Photo


def test_the_page_opens_with_the_group_example_analyzed(page):
    assert "8 faces" in page.locator("#result .summary").inner_text()
    assert page.locator("#result .person").count() == 8
    top = page.locator("#examples .gallery-item").first.bounding_box()["y"]
    assert top < 300 and page.locator("#picture canvas").bounding_box()["y"] < 500


def test_a_visitor_uploads_a_photo(page, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as photo:
        photo.crop((0, 0, photo.width // 2, photo.height)).save(tmp_path / "Feier Größe.jpg", quality=95)
    upload(page, tmp_path / "Feier Größe.jpg")
    page.locator("#result").get_by_text("4 faces").wait_for(timeout=60_000)
    people = page.locator("#result .person")
    assert people.count() == 4
    text = "\n".join(people.all_inner_texts())
    assert re.search(r"Female · \d+%", text) and re.search(r"Male · \d+%", text) and re.search(r"about \d+", text)
    assert people.nth(3).locator("svg polyline").count() == 1
    label = people.first.locator("svg").get_attribute("aria-label")
    assert re.fullmatch(r"about \d+, likely \d+ to \d+", label), label
    # The drop zone is free for the next photo: one large picture, not two.
    assert page.locator("#photo img").count() == 0
    with Image.open(downloaded(page, "Image")) as image, Image.open(tmp_path / "Feier Größe.jpg") as photo:
        assert image.size == photo.size
    table = downloaded(page, "CSV")
    assert "Größe" in table.name and table.name.endswith("-faces.csv")
    with open(table, newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert [line["face"] for line in lines] == ["1", "2", "3", "4"] and float(lines[0]["age"]) > 0
    assert len(json.loads(downloaded(page, "JSON").read_text())["faces"]) == 4
    body = page.locator("body").inner_text()
    assert "apparent age" in body and "Apparent age and gender" in body
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert not page.problems
    assert not page.foreign, "the page asked other servers"


def test_a_visitor_chooses_an_example(page):
    assert page.get_by_role("button", name="Example: group").count() == 1
    # The Tab key stops once at each example. Chromium also stops at scrollable elements.
    assert (
        page.evaluate("[...document.querySelectorAll('#examples *')].filter((e) => e.matches('.container')).length") > 8
    )
    page.locator("#examples .gallery-item").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Example: child, 3 to 9 years"
    page.locator("#examples .gallery-item").nth(1).click()
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)


def test_pointing_at_a_face_highlights_its_card(page):
    box, card = page.locator("#result rect[data-n='2']"), page.locator("#result li[data-n='2']")
    assert "on" not in (card.get_attribute("class") or "").split()
    box.hover()
    assert "on" in card.get_attribute("class").split() and "on" in box.get_attribute("class").split()
    page.mouse.move(1, 1)
    page.locator("#result li[data-n='5']").focus()
    assert "on" in page.locator("#result rect[data-n='5']").get_attribute("class").split()
    assert "on" not in card.get_attribute("class").split()


def test_a_visitor_asks_why(page):
    page.locator("#result li[data-n='3'] .why").click()
    page.locator("#reason img").wait_for(timeout=60_000)
    assert "Face 3, estimated age" in page.locator("#reason").inner_text()
    page.locator("#reason .close").click()
    page.locator("#reason img").wait_for(state="detached")
    assert page.evaluate("document.activeElement.matches('li[data-n=\"3\"] .why')")  # the focus is back
    page.locator("#result li[data-n='3'] .why").click()
    page.locator("#reason img").wait_for(timeout=60_000)
    assert page.evaluate("document.activeElement.role") == "dialog"  # which a screen reader then reads
    page.keyboard.press("Escape")
    page.locator("#reason img").wait_for(state="detached")
    assert page.evaluate("document.activeElement.matches('li[data-n=\"3\"] .why')")
    page.locator("#result li[data-n='3'] .why").click()
    page.locator("#reason img").wait_for(timeout=60_000)
    # Another photo's face is another matter.
    page.locator("#examples .gallery-item").nth(2).click()
    page.locator("#reason img").wait_for(state="detached", timeout=30_000)


def test_only_the_latest_explanation_is_shown(page):
    """Answers take seconds on a busy server. Meanwhile a visitor asks about another face, closes, or leaves."""
    why = "#result li[data-n='{}'] .why"
    page.locator(why.format(1)).click()
    page.locator(why.format(3)).click()
    page.locator("#reason").get_by_text("Face 3, estimated age").wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    page.locator(why.format(2)).click()
    page.keyboard.press("Escape")
    page.locator(why.format(4)).click()
    page.locator("#examples .gallery-item").nth(2).click()
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    page.wait_for_timeout(4000)
    assert page.locator("#reason [role=dialog]").count() == 0
    page.locator(why.format(1)).click()
    page.locator("#reason").get_by_text("Face 1, estimated age").wait_for(timeout=60_000)
    assert not page.problems


def test_quick_setting_changes_send_one_request(page):
    asked, held = [], []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("call/page_photo") else None)
    page.get_by_text("Settings").first.click()
    number = page.locator("#threshold input[type=number]")
    number.press("Control+a")
    number.press_sequentially("0.55", delay=80)
    page.wait_for_timeout(1500)
    assert len(asked) == 1 and page.locator("#result .person").count() == 8  # "0" and "0." are no thresholds
    slider = page.locator("#threshold input[type=range]")
    for _ in range(8):
        slider.press("ArrowRight", delay=20)
    page.wait_for_timeout(1500)
    assert len(asked) == 2
    page.route("**/call/page_photo", lambda route: held.append(route))
    for _ in range(3):  # while the server is busy
        slider.press("ArrowLeft")
        page.wait_for_timeout(600)
    assert len(held) == 1
    for _ in range(2):  # it, and the last one
        held.pop().continue_()
        page.wait_for_timeout(1500)
    assert len(asked) == 4 and not held and not page.problems
    assert page.locator("#photo-error p:visible").count() == 0


def test_an_error_clears_the_waiting_message(page):
    upload(page, EXAMPLES / "group.jpg")
    page.wait_for_selector('.result[data-photo="group"]:not([aria-busy])', timeout=30_000)
    page.get_by_text("Settings").first.click()
    page.context.set_offline(True)
    page.locator("#threshold input[type=range]").press("ArrowRight")
    page.locator("#photo-error").get_by_text("can't be reached").wait_for(timeout=20_000)
    page.wait_for_timeout(1500)
    assert page.locator("#busy:visible").count() == 0
    upload(page, EXAMPLES / "age-20-29-male.jpg")
    page.locator("#photo-error").get_by_text("The upload failed").wait_for(timeout=20_000)
    page.wait_for_timeout(1500)
    assert page.locator("#busy:visible").count() == 0
    page.context.set_offline(False)


def test_examples_are_not_the_visitors_photos(page):
    page.locator("#examples .gallery-item").nth(1).click()
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    assert page.evaluate("document.body.dataset.own") is None
    content = base64.b64encode((EXAMPLES / "group.jpg").read_bytes()).decode()
    page.evaluate(
        """async (content) => {
          const blob = await (await fetch("data:image/jpeg;base64," + content)).blob(), data = new DataTransfer();
          data.items.add(new File([blob], "pasted.jpg", {type: "image/jpeg"}));
          document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }""",
        content,
    )
    page.locator("#result").get_by_text("8 faces").wait_for(timeout=30_000)
    assert page.locator(".strip-photos:visible").count() == 0
    assert page.evaluate("document.body.dataset.own") == "yes"


def test_files_that_are_not_opened_are_reported(page):
    content = base64.b64encode((EXAMPLES / "age-20-29-male.jpg").read_bytes()).decode()
    page.evaluate(
        """async (content) => {
          const blob = await (await fetch("data:image/jpeg;base64," + content)).blob(), data = new DataTransfer();
          data.items.add(new File([blob], "photo.jpg", {type: "image/jpeg"}));
          data.items.add(new File(["x"], "video.mp4", {type: "video/mp4"}));
          data.items.add(new File(["x"], "more.zip", {type: "application/zip"}));
          document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    assert "2 files aren't images and weren't opened." in page.locator("#photo-error").inner_text()
    page.locator("#examples .gallery-item").first.click()
    page.locator("#photo-error p").wait_for(state="hidden")


def test_a_refused_camera_or_clipboard_is_explained(page):
    page.evaluate(
        """() => {
          const refuse = (...why) => async () => { throw new DOMException(...why); };
          navigator.mediaDevices.getUserMedia = refuse("gone", "NotFoundError");
          navigator.clipboard.read = refuse("Read permission denied.", "NotAllowedError");
        }"""
    )
    sources = page.locator("#photo .source-selection button")
    sources.nth(1).click()
    page.locator("#photo").get_by_text("Access Webcam", exact=False).click()
    page.locator("#busy").get_by_text("No camera found.").wait_for()
    sources.nth(2).click()
    page.locator("#busy").get_by_text("The browser blocked access to the clipboard.").wait_for()


def test_the_camera_for_photos_is_off_on_other_tabs(page):
    page.context.grant_permissions(["camera"])
    page.locator("#photo .source-selection button").nth(1).click()
    page.locator("#photo").get_by_text("Access Webcam", exact=False).click()
    page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0", timeout=20_000)
    page.evaluate("window.track = document.querySelector('#photo video').srcObject.getTracks()[0]")
    open_tab(page, "about")
    assert page.evaluate("window.track.readyState") == "ended"
    open_tab(page, "photo")
    assert page.locator("#photo input[type=file]").count() == 1


def test_settings_apply_at_once(page):
    page.get_by_text("Settings").first.click()
    page.locator("#blur input").click()
    page.locator("#result .person img").first.wait_for(state="detached", timeout=30_000)
    page.locator("#threshold input[type=number]").fill("0.95")
    page.keyboard.press("Enter")
    page.locator("#result .summary").get_by_text("8 faces").wait_for(state="detached", timeout=30_000)
    page.get_by_label("vgg16").check()
    page.locator("#data summary").click()
    page.locator("#json").get_by_text("vgg16").wait_for(timeout=60_000)
    assert not page.problems


def test_a_photo_that_the_server_has_deleted_is_uploaded_again(page, app):
    upload(page, EXAMPLES / "group.jpg")
    page.wait_for_selector('.result[data-photo="group"]:not([aria-busy])', timeout=30_000)
    found = list(Path(app.temporary).glob("age-gender-*/gradio/**/group.jpg"))
    assert found
    for path in found:
        path.unlink()
    page.get_by_text("Settings").first.click()
    for threshold, people in (("0.95", 0), ("0.5", 8)):
        page.locator("#threshold input[type=number]").fill(threshold)
        page.keyboard.press("Enter")
        wait_until(page, f"(document.querySelectorAll('#people li').length === 8) === {str(people == 8).lower()}")
        assert not page.is_visible("#photo-error p")
    assert page.get_attribute(".result", "data-photo") == "group"


def test_a_visitor_pastes_a_photo(page):
    def paste(name: str) -> None:
        content = base64.b64encode((EXAMPLES / name).read_bytes()).decode()
        page.evaluate(
            """async (content) => {
              const blob = await (await fetch("data:image/jpeg;base64," + content)).blob();
              const data = new DataTransfer();
              data.items.add(new File([blob], "pasted.jpg", {type: "image/jpeg"}));
              const options = {clipboardData: data, bubbles: true, cancelable: true};
              document.body.dispatchEvent(new ClipboardEvent("paste", options));
            }""",
            content,
        )

    paste("age-20-29-male.jpg")
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    assert page.locator(".strip-photos button:visible").count() == 0
    # The next one comes beside it; an example replaces both.
    paste("group.jpg")
    page.locator("#result").get_by_text("8 faces").wait_for(timeout=30_000)
    assert page.locator(".strip-photos button").count() == 2
    assert page.locator(".strip-photos [aria-pressed]").last.get_attribute("aria-pressed") == "true"
    page.locator(".strip-photos button").first.click()
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    # So does a snapshot of Live.
    page.evaluate(
        """async () => {
          const image = document.querySelector("#examples .gallery-item img").src;
          const blob = await (await fetch(image)).blob();
          const detail = new File([blob], "snapshot.jpg", {type: "image/jpeg"});
          document.dispatchEvent(new CustomEvent("snapshot", {detail}));
        }"""
    )
    page.locator(".strip-photos button[aria-busy=false] canvas").nth(2).wait_for(timeout=30_000)
    page.locator("#examples .gallery-item").nth(1).click()
    page.locator(".strip-photos").wait_for(state="hidden", timeout=30_000)


def test_a_file_that_is_no_image_is_refused_in_one_place(page, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"this is no picture")
    upload(page, tmp_path / "photo.jpg")
    page.locator("#photo-error").get_by_text("isn't a readable image").wait_for(timeout=20_000)
    page.wait_for_timeout(1000)
    assert page.get_by_text("isn't a readable image").count() == 1
    assert page.locator("#result .person").count() == 0 and page.locator(".downloads button:visible").count() == 0
    upload(page, EXAMPLES / "group.jpg")
    page.locator("#result").get_by_text("8 faces").wait_for(timeout=30_000)
    page.locator("#photo-error p").wait_for(state="hidden", timeout=20_000)


def test_a_photo_without_faces(page, tmp_path):
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "blank.png")
    upload(page, tmp_path / "blank.png")
    page.get_by_text("No face found").wait_for(timeout=60_000)


def test_a_visitor_takes_a_photo(page):
    page.context.grant_permissions(["camera"])
    page.locator("#photo button[aria-label*='webcam' i], #photo .source-selection button").nth(1).click()
    page.locator("#photo").get_by_text("Access Webcam", exact=False).click()
    page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0", timeout=20_000)
    page.locator("#photo .button-wrap button, #photo .capture-button").first.click()
    page.locator("#result").get_by_text(re.compile(r"No face found|\d faces? in")).first.wait_for(timeout=60_000)
    page.locator("#result").get_by_text("8 faces").wait_for(state="detached", timeout=30_000)


def test_a_change_of_source_changes_no_photo_and_can_be_undone(page, tmp_path):
    page.context.grant_permissions(["camera"])
    for name in ("a", "b", "c"):
        shutil.copy(EXAMPLES / "age-20-29-female.jpg", tmp_path / f"{name}.jpg")
    page.set_input_files("#photo input[type=file]", [str(tmp_path / f"{name}.jpg") for name in "abc"])
    page.locator(".strip-csv:enabled").wait_for(timeout=60_000)
    sources = page.locator("#photo .source-selection button")
    for number in (1, 2, 0):  # camera, clipboard, upload
        if number != 2:  # that one reads the clipboard, which is empty
            sources.nth(number).click()
            page.wait_for_timeout(700)
        assert page.locator(".strip-photos li").count() == 3
        for icon in sources.all():
            assert icon.evaluate(
                """(icon) => {
                  const {x, y, width, height} = icon.getBoundingClientRect();
                  return icon.contains(document.elementFromPoint(x + width / 2, y + height / 2));
                }"""
            ), "something covers the icon"
    assert page.locator("#photo input[type=file]").count() == 1
    assert not page.problems


def test_files_that_are_dropped_on_any_tab_open_on_their_own(page, video, tmp_path):
    drop = """([name, type, content]) => {
      const moved = new DataTransfer(), bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
      moved.items.add(new File([bytes], name, {type}));
      document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: moved, bubbles: true, cancelable: true}));
    }"""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(EXAMPLES / "age-20-29-female.jpg", "woman.jpg")
    for tab, path, kind, shown in (
        ("About", video, "video/mp4", "#video-status:has-text('2 people in 1.5')"),
        ("About", EXAMPLES / "two-people.mp4", "video/mp4", "#video-status:has-text('3 appearances in 6.0')"),
        ("Live", tmp_path / "photos.zip", "application/zip", "#files:has-text('photos')"),
        ("Live", EXAMPLES / "age-20-29-female.jpg", "image/jpeg", "#result:has-text('1 face')"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.evaluate(drop, [path.name, kind, base64.b64encode(path.read_bytes()).decode()])
        page.locator(shown).wait_for(timeout=60_000)
    page.get_by_role("tab", name="Live").click()
    page.evaluate(drop, ["paper.pdf", "application/pdf", ""])
    page.locator("#busy").get_by_text("This file isn't an image").wait_for()
    assert page.locator("#photo:visible").count() == 1 and not page.problems


def test_a_clicked_face_stays_highlighted(page):
    page.locator("#result rect[data-n='7']").click()
    page.wait_for_timeout(700)  # the list scrolls, and other cards come under the pointer
    page.mouse.move(1100, 700)
    page.wait_for_timeout(200)
    assert [card.get_attribute("data-n") for card in page.locator("#result li.on").all()] == ["7"]
    assert page.locator("#result .stage").bounding_box()["y"] >= -1


def test_on_a_slow_connection_the_chosen_photo_is_shown_at_once(page, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as photo:
        photo.resize((2400, 1265)).save(tmp_path / "mine.jpg", quality=98)
    size = (tmp_path / "mine.jpg").stat().st_size
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 50, "downloadThroughput": 750_000 / 8, "uploadThroughput": 750_000 / 8},
    )
    upload(page, tmp_path / "mine.jpg")
    page.get_by_text(re.compile("Uploading")).first.wait_for(timeout=3_000)
    page.get_by_text(re.compile(r"Uploading [1-9]\d%")).wait_for(timeout=30_000)
    assert page.locator("#result .person:visible, #result rect").count() == 0  # nothing of the photo before
    assert page.evaluate("document.querySelector('#picture canvas').width") == 2400
    page.get_by_text("Analyzing…").wait_for(timeout=60_000)
    page.locator("#result").get_by_text("8 faces").wait_for(timeout=60_000)
    print(f"{size / 1e3:.0f} kB")
    # The annotated image has all pixels of the file, though the server has sent fewer.
    with Image.open(downloaded(page, "Image")) as image:
        assert image.size == (2400, 1265)


def test_several_photos(page, tmp_path):
    """Each keeps its own result, whatever is changed meanwhile and however many share a name."""
    counts = {"a": 1, "b": 8, "c": 4, "d": 2}
    with Image.open(EXAMPLES / "group.jpg") as group:
        for name, columns in (("b", 4), ("c", 2), ("d", 1)):
            (tmp_path / name).mkdir()
            group.crop((0, 0, group.width * columns // 4, group.height)).save(tmp_path / name / "photo.jpg", quality=95)
    (tmp_path / "a").mkdir()
    shutil.copy(EXAMPLES / "age-20-29-female.jpg", tmp_path / "a" / "photo.jpg")
    page.set_input_files("#photo input[type=file]", [str(tmp_path / name / "photo.jpg") for name in counts])
    page.locator(".strip-photos button[aria-busy=false] canvas").nth(1).wait_for(timeout=60_000)
    # In the middle of the work, another model: everything begins again.
    page.get_by_text("Settings").first.click()
    page.get_by_label("open:").check()
    page.wait_for_timeout(300)
    page.locator(".strip-photos button[aria-busy=false] canvas").nth(3).wait_for(timeout=60_000)
    page.locator(".strip-csv:enabled").wait_for(timeout=60_000)
    for i, count in enumerate(counts.values()):
        page.locator(".strip-photos button").nth(i).click()
        page.locator("#result .person").nth(count - 1).wait_for(timeout=10_000)
        assert page.locator("#result .person").count() == count
        assert json.loads(page.locator("#json").text_content())["model"]["name"] == "open"
    with page.expect_download() as download:
        page.click(".strip-csv")
    with open(download.value.path(), newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["face"]) for line in lines] == [n for count in counts.values() for n in range(1, count + 1)]
    assert list(dict.fromkeys(line["file"] for line in lines)) == [
        "photo.jpg",
        *(f"photo.jpg ({n})" for n in (2, 3, 4)),
    ]
    page.locator("#examples .gallery-item").nth(1).click()
    page.locator(".strip-photos").wait_for(state="hidden", timeout=30_000)
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    assert not page.problems


def test_one_bad_file_of_several_leaves_the_others(page, tmp_path):
    (tmp_path / "notes.jpg").write_bytes(b"nothing to see")
    names = [str(EXAMPLES / "group.jpg"), str(tmp_path / "notes.jpg"), str(EXAMPLES / "age-20-29-male.jpg")]
    page.set_input_files("#photo input[type=file]", names)
    page.locator(".strip-csv:enabled").wait_for(timeout=60_000)
    assert page.locator("#result .person").count() == 8 and page.locator("#photo-error p:visible").count() == 0
    page.locator(".strip-photos").get_by_text("⚠ notes.jpg").click()
    page.locator("#photo-error").get_by_text("isn't a readable image").wait_for(timeout=5_000)
    with page.expect_download() as download:
        page.click(".strip-csv")
    with open(download.value.path(), newline="", encoding="utf-8-sig") as file:
        errors = [line["error"] for line in csv.DictReader(file)]
    assert len(errors) == 10 and "readable image" in errors[8]


def test_a_lost_server_is_reported(page):
    page.route("**/gradio_api/call/**", lambda route: route.abort())
    upload(page, EXAMPLES / "age-20-29-male.jpg")
    page.locator("#photo-error").get_by_text("can't be reached").wait_for(timeout=20_000)
    page.unroute("**/gradio_api/call/**")
    page.route("**/gradio_api/upload*", lambda route: route.fulfill(status=507, body='{"detail": "No room."}'))
    upload(page, EXAMPLES / "age-20-29-female.jpg")
    page.locator("#photo-error").get_by_text("No room.").wait_for(timeout=20_000)
    page.unroute("**/gradio_api/upload*")
    upload(page, EXAMPLES / "group.jpg")
    page.locator("#result").get_by_text("8 faces").wait_for(timeout=30_000)


def test_photos_are_dropped_and_links_pasted(page):
    page.evaluate(
        """() => { const data = new DataTransfer(); data.setData("text", "https://example.org/a.jpg");
        document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true})); }"""
    )
    page.get_by_text("Links can't be opened").wait_for(timeout=5_000)
    page.get_by_role("tab", name="Live").click()
    content = base64.b64encode((EXAMPLES / "age-20-29-male.jpg").read_bytes()).decode()
    page.evaluate(
        """async (content) => {
          const blob = await (await fetch("data:image/jpeg;base64," + content)).blob(), data = new DataTransfer();
          data.items.add(new File([blob], "dropped.jpg", {type: "image/jpeg"}));
          document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    page.locator("#result").get_by_text("1 face").wait_for(timeout=30_000)
    page.go_back()
    page.locator(".live-start").wait_for(timeout=10_000)
    page.go_back()
    page.locator("#result .person").first.wait_for(timeout=10_000)


# Video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "Größe.mp4", moving(45), sound="aac")


def test_a_visitor_analyzes_a_video(page, video, tmp_path):
    page.get_by_role("tab", name="Video").click()
    assert page.locator("#persons").count() == 0 and page.locator("#video-out:visible").count() == 0
    page.set_input_files("#video input[type=file]", str(video))
    # It starts by itself.
    page.locator("#video-status").get_by_text(re.compile(r"2 people in 1\.5 seconds")).wait_for(timeout=90_000)
    played = "document.querySelector('#video-out video')"
    page.wait_for_function(f"{played}?.readyState >= 2", timeout=20_000)
    page.evaluate(f"{played}.muted = true; {played}.play()")
    page.wait_for_function(f"{played}.currentTime > 0.5", timeout=20_000)
    assert page.evaluate(f"[{played}.videoWidth, {played}.videoHeight]") == [640, 480]
    assert page.locator("#persons tbody tr").count() == 2 and page.locator("#persons tbody img").count() == 2
    assert page.locator("#video-report .steps text").all_text_contents()[:3] == ["0", "1", "2"]
    with open(downloaded(page, "CSV"), newline="", encoding="utf-8-sig") as file:
        assert {line["gender"] for line in csv.DictReader(file)} == {"female", "male"}
    page.screenshot(path=str(tmp_path / "video.png"), full_page=True)
    assert not page.problems and not page.foreign


def test_the_example_video(page):
    page.get_by_role("tab", name="Video").click()
    page.locator("#component-0, body").first.wait_for()
    page.get_by_role("tabpanel").locator("visible=true").locator(".gallery-item, .gallery button").first.click()
    page.locator("#persons tbody tr").nth(1).wait_for(timeout=90_000)  # it starts by itself


def test_a_visitor_cancels_a_video(app, page, tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(2400, size=(320, 240), side=100))  # ten seconds of work and more
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(long))
    page.wait_for_function("document.querySelector('#video video')?.readyState > 0", timeout=30_000)
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    page.locator("#video-progress progress").wait_for(timeout=10_000)
    page.wait_for_function("document.querySelector('#video-report .preview')?.naturalWidth === 320", timeout=20_000)
    page.locator("#video-cancel").click()
    page.get_by_text("Canceled.").wait_for(timeout=20_000)
    page.locator("#video-report .preview").wait_for(state="detached")
    folder = next(p for p in os.scandir(app.temporary) if p.name.startswith("age-gender-"))
    end = time.monotonic() + 5
    while (left := [name for name in os.listdir(folder) if name.startswith("video-")]) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert not left and "Canceled." in page.locator("#video-status").inner_text()
    # The next video does not wait for the one that was given up.
    short = write_video(tmp_path / "short.mp4", moving(10))
    exchange(page, "#video", str(short))
    page.locator("#video-status").get_by_text(re.compile(r"2 people")).wait_for(timeout=30_000)
    # And of one that can't be read nothing is left from the one before.
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    exchange(page, "#video", str(tmp_path / "bad.mp4"))
    page.locator("#video-status[role=alert].error").get_by_text("isn't a readable video").wait_for(timeout=30_000)
    assert page.locator("#persons").count() == 0 and page.locator("#video-out:visible").count() == 0
    page.locator("#video-cancel").wait_for(state="hidden")


def test_a_run_that_waits_says_so_and_can_be_started_once(page, tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(2400, size=(320, 240), side=100))
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(long))
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    assert page.locator("#video-start").is_disabled()
    page.get_by_role("tab", name="Folder").click()
    page.set_input_files("#files input[type=file]", str(EXAMPLES / "age-20-29-female.jpg"))
    page.locator("#files").get_by_text("age-20-29").wait_for()
    page.evaluate(
        """() => {
          const status = document.querySelector("#batch-status"), changes = {childList: true, subtree: true};
          window.said = [];
          new MutationObserver(() => window.said.push(status.textContent.trim())).observe(status, changes);
        }"""
    )
    page.locator("#batch-start").click()
    page.wait_for_function("window.said.some((text) => text.includes('Waiting to start…'))", timeout=10_000)
    page.get_by_role("tab", name="Video").click()
    page.locator("#video-cancel").click()
    page.locator("#video-status").get_by_text("Canceled.").wait_for(timeout=20_000)
    assert page.locator("#video-start").is_enabled()
    page.get_by_role("tab", name="Folder").click()
    page.locator("#batch-status").get_by_text("1 face").wait_for(timeout=30_000)


def test_changed_settings_of_a_video_are_not_those_of_its_result(page, video):
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(video))
    page.locator("#video-status").get_by_text("2 people").wait_for(timeout=90_000)
    page.get_by_role("tabpanel").locator("visible=true").get_by_text("Settings").click()
    page.get_by_label("Blur faces in the result").locator("visible=true").check()
    page.locator("#video-status").get_by_text("Settings have changed: press Analyze again.").wait_for()
    page.locator("#video-start").click()
    page.locator("#video-status").get_by_text("2 people").wait_for(timeout=90_000)


def test_a_setting_changed_during_a_run_is_reported(page):
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", EXAMPLES / "two-people.mp4")
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    page.get_by_role("tabpanel").locator("visible=true").get_by_text("Settings").click()
    page.get_by_label("Blur faces in the result").locator("visible=true").check()
    page.wait_for_timeout(500)
    assert "changed" not in page.locator("#video-status").inner_text()
    page.locator("#video-report .tiles").wait_for(timeout=90_000)
    page.locator("#video-status").get_by_text("Settings have changed: press Analyze again.").wait_for()


def test_a_new_video_replaces_a_running_one(page, video, tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(2400, size=(320, 240), side=100))
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(long))
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    started = time.monotonic()
    exchange(page, "#video", str(video))
    page.locator("#video-status").get_by_text("2 people in 1.5 seconds").wait_for(timeout=60_000)
    page.locator("#video-cancel").wait_for(state="hidden")
    print(f"{time.monotonic() - started:.1f} s")
    page.wait_for_timeout(2000)
    assert "2 people in 1.5 seconds" in page.locator("#video-status").inner_text() and not page.problems


# Folder


def test_a_visitor_sends_a_folder_as_a_zip(page, tmp_path):
    names = ["Grüße.jpg", "👋 emoji.jpg", "مرحبا.jpg", "<b>bold.jpg"]
    with zipfile.ZipFile(tmp_path / "Fotos Größe.zip", "w") as archive:
        for name in names:
            archive.write(EXAMPLES / "age-20-29-male.jpg", name)
        archive.writestr("broken.jpg", b"no picture")
    page.get_by_role("tab", name="Folder").click()
    assert page.locator("#batch-table").count() == 0
    page.set_input_files("#files input[type=file]", str(tmp_path / "Fotos Größe.zip"))
    page.wait_for_timeout(1000)
    page.get_by_text("Settings").locator("visible=true").click()
    page.locator("#annotate input").check()
    page.locator("#batch-start").click()
    page.locator("#batch-status").get_by_text("4 faces in 5 images,").wait_for(timeout=60_000)
    page.locator("#batch-table tbody tr").nth(4).wait_for(timeout=20_000)  # Gradio shows the status a moment before
    assert page.locator("#batch-table tbody tr").count() == 5 and page.locator("#batch-table img").count() == 4
    text = page.locator("#batch-table").inner_text()
    assert all(name in text for name in names) and "readable image" in text
    assert page.locator("#batch-report .bars").count() == 2
    lines = downloaded(page, "CSV").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6 and any("مرحبا" in line for line in lines)
    with zipfile.ZipFile(downloaded(page, "Annotated")) as archive:
        assert len(archive.namelist()) == 4 and all(name.endswith(".faces.jpg") for name in archive.namelist())
        with Image.open(archive.open(archive.namelist()[0])) as image:
            assert image.size == (400, 400)
    page.screenshot(path=str(tmp_path / "folder.png"), full_page=True)
    # A folder with other files in it.
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(EXAMPLES / "group.jpg", folder / "deeper" / "group.jpg")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    page.locator("input[webkitdirectory]").first.set_input_files(str(folder))
    page.wait_for_timeout(1500)
    page.locator("#batch-start").click()
    page.locator("#batch-status").get_by_text("8 faces in 1 image,").wait_for(timeout=60_000)
    page.get_by_text("2 files skipped").wait_for(timeout=20_000)
    # A zip that is none clears what was there.
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    exchange(page, "#files", str(tmp_path / "bad.zip"))
    page.locator("#batch-start").click()
    page.locator("#batch-status[role=alert].error").get_by_text("not a readable zip").wait_for(timeout=30_000)
    assert page.locator("#batch-table").count() == 0
    assert not page.problems and not page.foreign


# The rest


def test_labels_on_images_are_in_the_language_of_the_page(browser, app, analyzer):
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    visit(page, app.url)
    open_tab(page, "folder")
    page.set_input_files("#files input[type=file]", str(EXAMPLES / "group.jpg"))
    page.get_by_role("tabpanel").locator("visible=true").get_by_text("Einstellungen").click()
    page.locator("#annotate input").check()
    page.locator("#files:has-text('group')").wait_for()
    page.locator("#batch-start").click()
    page.locator("#batch-status:has-text('8')").wait_for(timeout=30_000)
    with page.expect_download() as download:
        page.locator("#batch-report ~ .downloads, .downloads").get_by_text("⬇").locator("visible=true").last.click()
    with zipfile.ZipFile(download.value.path()) as archive, Image.open(archive.open(archive.namelist()[0])) as image:
        shown = np.asarray(image, float)
    rgb = read_photo(EXAMPLES / "group.jpg")
    apart = {}
    for language in ("de", "en"):
        drawn = Image.fromarray(draw(rgb, analyzer.analyze(rgb), label_words(language))).resize(shown.shape[1::-1])
        apart[language] = np.abs(np.asarray(drawn, float) - shown).mean()
    assert apart["de"] < 0.7 * apart["en"], apart
    context.close()


def test_the_javascript_example_runs(app, page):
    text = (ROOT / "space" / "web" / "tabs" / "api.md").read_text()
    code = re.search(r"```javascript\n(.*?)```", text, re.DOTALL)[1].replace("http://127.0.0.1:7860", app.url)
    photo = base64.b64encode((EXAMPLES / "group.jpg").read_bytes()).decode()
    faces = page.evaluate(
        f"async (url) => {{ {code}; return analyze(await (await fetch(url)).blob()); }}",
        f"data:image/jpeg;base64,{photo}",
    )
    assert len(faces) == 8 and faces[0]["age"] > 0


def test_the_api_tab_names_this_server(page, app):
    page.get_by_role("tab", name="API").click()
    page.locator("#programs").get_by_text(app.url).first.wait_for(timeout=20_000)
    text = page.locator("#programs").inner_text()
    assert app.url in text and "127.0.0.1:7860" not in text


def test_the_api_documentation_has_a_url(browser, app):
    page = browser.new_page()
    visit(page, f"{app.url}/?view=api")
    page.get_by_text("API documentation").first.wait_for(timeout=20_000)
    page.close()


def test_the_about_tab_shows_figures_limits_and_privacy(page):
    page.get_by_role("tab", name="About").click()
    page.locator("#about tbody tr").nth(2).wait_for(timeout=20_000)  # a line for each model that visitors can choose
    assert page.evaluate("document.querySelector('#about').scrollHeight") < 1500
    page.locator("#model-card").get_by_text("Model card").first.click()
    page.locator("#figures img").nth(2).wait_for(timeout=20_000)
    page.get_by_text("to make decisions about people (access").first.wait_for(timeout=20_000)
    text = page.locator("body").inner_text()
    assert "Privacy" in text and "expected calibration error" in text and "Limitations" in text
    assert "USER/NAME" not in text
    assert all(page.locator("#figures img").nth(i).get_attribute("alt") for i in range(3))
    assert not page.foreign


def test_each_tab_has_a_link(browser, app):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    visit(page, f"{app.url}/?tab=live")
    page.locator(".live-start").wait_for(timeout=20_000)
    page.get_by_role("tab", name="Folder").click()
    assert page.url.endswith("?tab=folder")
    assert page.locator("meta[name=description]").first.get_attribute("content").startswith("Estimate the apparent age")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off(browser, app, scheme, tmp_path):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    visit(page, app.url)
    upload(page, EXAMPLES / "age-20-29-male.jpg")
    page.locator("#result").get_by_text("1 face").wait_for(timeout=60_000)
    # The page moves to the result.
    page.wait_for_function("document.querySelector('#result').getBoundingClientRect().top < 200", timeout=10_000)
    for name in TABS:  # all are reachable without a menu for the rest
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert cut_off(page) == [], name
        page.screenshot(path=str(tmp_path / f"{name}.png"), full_page=True)
    page.close()


# A button of Gradio's for more files has a button inside of it.
GRADIOS_BUTTONS = ("nested-interactive", [['button[aria-label="Upload"]']])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, app, scheme, tmp_path):
    """In every state of every tab: empty, with results, a crowd, while working, and after an error."""
    for name in ("broken.jpg", "broken.mp4"):
        (tmp_path / name).write_bytes(b"no picture" * 99)
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    page.context.grant_permissions(["camera"])
    found = {}

    def check(state):
        page.wait_for_timeout(300)
        if problems := [problem for problem in serious(page) if problem != GRADIOS_BUTTONS]:
            found[state] = problems

    visit(page, app.url)
    page.wait_for_selector("#result .person")
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(500)
        check(name)
    open_tab(page, "photo")
    page.locator("#result .why").first.click()
    page.wait_for_selector("#reason .close", timeout=60_000)
    check("why")
    page.click("#reason .close")
    upload(page, write_crowd(tmp_path / "crowd.jpg"))
    page.wait_for_selector("#result .person.row", timeout=60_000)
    check("crowd")
    upload(page, tmp_path / "broken.jpg")
    page.wait_for_selector("#photo-error p:not([hidden])")
    check("wrong photo")
    open_tab(page, "live")
    page.click(".live-start")
    page.wait_for_selector(".live-stop:visible", timeout=60_000)
    check("live")
    page.click(".live-stop")
    open_tab(page, "video")
    page.set_input_files("#video input[type=file]", EXAMPLES / "two-people.mp4")
    page.wait_for_selector("#video-report .preview", timeout=60_000)
    check("video that is analyzed")
    page.wait_for_selector("#video-report table", timeout=90_000)
    check("video")
    exchange(page, "#video", tmp_path / "broken.mp4")
    page.wait_for_selector("#video-status:has-text('⚠️')", timeout=60_000)
    check("wrong video")
    open_tab(page, "folder")
    page.set_input_files("#files input[type=file]", [EXAMPLES / "group.jpg", tmp_path / "broken.jpg"])
    page.wait_for_timeout(1000)
    page.click("#batch-start")
    page.wait_for_selector("#batch-report table", timeout=60_000)
    check("folder")
    page.close()
    assert found == {}


def test_the_page_can_be_used_by_keyboard_and_screen_reader(page):
    page.get_by_role("tab", name="Photo").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, textarea, img')].filter((e) => e.offsetParent &&
        !(e.innerText || '').trim() && !e.ariaLabel && !e.title && !e.alt && !e.labels?.length &&
        !e.getAttribute('aria-labelledby') && !e.closest('label, [aria-label]')).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.get_by_role("tab", name="Live").click()
    start = page.get_by_role("button", name="Start camera")
    start.click(trial=True)  # its module has been loaded
    start.focus()
    page.context.grant_permissions(["camera"])
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").wait_for(timeout=20_000)
    assert page.get_by_role("status").count() >= 1


# Languages

# What Gradio says itself, in its own German.
GRADIOS = re.compile(
    r"Laden Sie ein(e Video-Datei)? .*|Laden Sie ein Bild .*|Über API verwenden|Video hier ablegen|Datei hier ablegen"
    r"|Hochladen|- oder -|Löschen|Logo|[▼↺⇣×]"
)


def open_tab(page, name: str) -> None:
    page.locator(f"[role=tab][data-tab-id={name}]:visible").click()
    page.wait_for_timeout(1000)


def test_no_text_of_the_app_stays_in_english(browser, app, tmp_path):
    """In a made-up language, whose texts are marked, everything of the app has a mark: also what Gradio adds later."""
    context = browser.new_context(locale="de-DE", viewport={"width": 1280, "height": 1000})
    context.grant_permissions(["camera"])
    page = context.new_page()

    def unmarked() -> list[str]:
        page.wait_for_timeout(500)
        return [text for text in not_marked(page) if not GRADIOS.fullmatch(text)]

    def unfold() -> None:
        for button in page.locator("button.label-wrap:visible").all():
            button.click()

    mark(page)
    visit(page, app.url)
    page.wait_for_selector("html[lang=de]")
    page.wait_for_selector("#result .person")
    unfold()
    assert unmarked() == []
    page.locator("#result .person .why").first.click()
    page.wait_for_selector("#reason .close", timeout=60_000)
    assert unmarked() == []
    (tmp_path / "broken.jpg").write_text("no image")
    upload(page, tmp_path / "broken.jpg")
    page.wait_for_selector("#photo-error p:not([hidden])")
    assert unmarked() == []
    open_tab(page, "live")
    page.click(".live-start")
    page.wait_for_selector(".live-stop:visible", timeout=60_000)
    assert unmarked() == []
    page.click(".live-stop")
    open_tab(page, "video")
    page.locator("#video-start").click()
    page.wait_for_selector("#video-status:has-text('⚠️')")
    unfold()
    assert unmarked() == []
    page.set_input_files("#video input[type=file]", EXAMPLES / "two-people.mp4")
    page.wait_for_selector("#video-report table", timeout=90_000)
    assert unmarked() == []
    open_tab(page, "folder")
    page.set_input_files("#files input[type=file]", [EXAMPLES / "group.jpg", tmp_path / "broken.jpg"])
    page.wait_for_timeout(1000)
    page.locator("#batch-start").click()
    page.wait_for_selector("#batch-report table", timeout=60_000)
    unfold()
    assert unmarked() == []
    assert page.locator("#batch-report td[translate=no]").first.inner_text() == "group.jpg"
    open_tab(page, "about")
    assert unmarked() == []
    open_tab(page, "api")
    assert page.locator("#programs").get_attribute("lang") == "en" and "Endpoints" in page.inner_text("#programs")
    context.close()


@pytest.mark.parametrize("language", ["de", "es", "fr", "zh"])
def test_all_tabs_fit_on_a_phone_in_every_language(browser, app, language):
    context = browser.new_context(locale=language, viewport={"width": 360, "height": 740})
    page = context.new_page()
    visit(page, app.url)
    page.wait_for_selector(f"html[lang={language}]")
    open_tab(page, "folder")
    page.wait_for_timeout(1000)
    boxes = [tab.bounding_box() for tab in page.locator("[role=tab]:visible").all()]
    assert len(boxes) == len(TABS) and max(box["x"] + box["width"] for box in boxes) <= 360
    assert "tab=folder" in page.url
    assert cut_off(page) == []
    context.close()


def test_the_app_follows_the_chosen_language(browser, app):
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    visit(page, app.url)
    assert page.evaluate("document.documentElement.lang") == "en"
    page.select_option("#language", "fr")
    page.wait_for_url("**lang=fr**")
    page.wait_for_selector("html[lang=fr]")
    page.wait_for_selector("#result .person")
    assert "8 visages" in page.locator("#result .summary").inner_text()
    open_tab(page, "video")
    page.wait_for_selector("#video:has-text('Déposez')")  # Gradio's own words as well
    assert "Click to Upload" not in page.locator("body").inner_text()
    visit(page, app.url)  # it is remembered
    page.wait_for_selector("html[lang=fr]")
    context.close()
