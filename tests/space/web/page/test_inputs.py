"""How photos reach the page: files, drops, pasted images and links, the camera."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import zipfile

from PIL import Image

from tests.support import EXAMPLES
from tests.support.app_page import downloaded, open_tab, upload
from tests.support.browser import drop_folder, drop_text


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
    (tmp_path / "photo.jpg").write_bytes(b"not an image")
    upload(page, tmp_path / "photo.jpg")
    page.locator("#photo-error").get_by_text("isn't a readable image").wait_for(timeout=20_000)
    page.wait_for_timeout(1000)
    assert page.get_by_text("isn't a readable image").count() == 1
    assert page.locator("#result .person").count() == 0 and page.locator(".downloads button:visible").count() == 0
    upload(page, EXAMPLES / "group.jpg")
    page.locator("#result").get_by_text("8 faces").wait_for(timeout=30_000)
    page.locator("#photo-error p").wait_for(state="hidden", timeout=20_000)


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


def test_a_dropped_folder_is_explained_and_leaves_the_result(page, tmp_path):
    upload(page, EXAMPLES / "group.jpg")
    page.locator("#result .person").nth(7).wait_for(timeout=30_000)
    (tmp_path / "album.jpg").mkdir()
    drop_folder(page, tmp_path / "album.jpg")
    page.get_by_text("Folders can't be opened.").wait_for(timeout=5_000)
    assert page.locator("#result .person").count() == 8


def test_dragging_parts_of_the_page_opens_nothing(page):
    page.get_by_role("tab", name="About").click()
    for text, own in (("https://example.org/a.jpg", True), ("some words", False)):
        drop_text(page, "#about", text, own=own)
        page.wait_for_timeout(300)
        assert page.locator("#about").is_visible()
    drop_text(page, "#about", "https://example.org/a.jpg", own=False)
    page.get_by_text("Links can't be opened").wait_for(timeout=5_000)


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
