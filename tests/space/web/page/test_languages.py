"""The page in other languages."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from space.annotate import draw
from space.photo import read_photo
from space.web.modules import label_words
from tests.support import EXAMPLES
from tests.support.app_page import TABS, open_tab, upload, visit
from tests.support.browser import cut_off
from tests.support.texts import mark, not_marked

# What Gradio says itself, in its own German.
GRADIOS = re.compile(
    r"Laden Sie ein(e Video-Datei)? .*|Laden Sie ein Bild .*|Über API verwenden|Video hier ablegen|Datei hier ablegen"
    r"|Hochladen|- oder -|Löschen|Laden|Logo|[▼↺⇣×]"
)


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
