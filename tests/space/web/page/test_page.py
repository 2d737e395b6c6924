"""The page as a whole: links, API, About, phones, axe and the keyboard."""

from __future__ import annotations

import base64
import re

import pytest

from tests.support import EXAMPLES, ROOT
from tests.support.app_page import TABS, exchange, open_tab, upload, visit
from tests.support.browser import cut_off, serious, write_crowd

# A button of Gradio's for more files has a button inside of it.
GRADIOS_BUTTONS = ("nested-interactive", [['button[aria-label="Upload"]']])


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, app, scheme, tmp_path):
    """In every state of every tab: empty, with results, a crowd, while working, and after an error."""
    for name in ("broken.jpg", "broken.mp4"):
        (tmp_path / name).write_bytes(b"not an image" * 99)
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
