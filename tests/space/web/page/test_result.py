"""The result of a photo: faces, explanations, settings and errors."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from tests.support import EXAMPLES
from tests.support.app_page import downloaded, open_settings, upload
from tests.support.browser import wait_until


def test_the_page_opens_with_the_group_example_analyzed(page):
    assert "8 faces" in page.locator("#result .summary").inner_text()
    assert page.locator("#result .person").count() == 8
    top = page.locator("#examples .gallery-item").first.bounding_box()["y"]
    assert top < 300 and page.locator("#picture canvas").bounding_box()["y"] < 500


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
    open_settings(page)
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
    open_settings(page)
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


def test_settings_apply_at_once(page):
    open_settings(page)
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
    open_settings(page)
    for threshold, people in (("0.95", 0), ("0.5", 8)):
        page.locator("#threshold input[type=number]").fill(threshold)
        page.keyboard.press("Enter")
        wait_until(page, f"(document.querySelectorAll('#people li').length === 8) === {str(people == 8).lower()}")
        assert not page.is_visible("#photo-error p")
    assert page.get_attribute(".result", "data-photo") == "group"


def test_a_photo_without_faces(page, tmp_path):
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "blank.png")
    upload(page, tmp_path / "blank.png")
    page.get_by_text("No face found").wait_for(timeout=60_000)


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
