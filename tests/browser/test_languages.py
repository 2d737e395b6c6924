"""The page in other languages: every text has a translation, on the page and in the tables."""

from __future__ import annotations

import re
from functools import partial

import pytest

from space.web.modules import BROWSER
from tests.support import EXAMPLES
from tests.support.browser import READY, analyze, wait_until
from tests.support.texts import TABLES, errors, in_code, mark, not_marked

PLACE = re.compile(r"\{\w+\}|<[^>]*>")


@pytest.mark.parametrize("language", TABLES)
def test_tables_have_the_same_texts_with_the_same_places(language):
    table, first = TABLES[language], next(iter(TABLES.values()))
    assert list(table) == list(first)
    for text, translation in table.items():
        assert translation.strip() and sorted(PLACE.findall(text)) == sorted(PLACE.findall(translation)), text


def test_every_text_of_the_code_is_in_the_tables():
    missing = in_code() - set(next(iter(TABLES.values())))
    assert not missing
    assert len(in_code()) > 60  # or none was found


def test_every_error_that_visitors_cause_is_in_the_tables():
    there = {re.sub(r"\{\w+\}", "{}", text) for text in next(iter(TABLES.values()))}
    of_paths = {"A path is empty.", "The file can't be read ({}).", "There is no file {}."}
    of_paths |= {
        "This folder can't be read ({}).",
        "BigTIFF images aren't supported. Use JPEG or PNG.",
    }  # the command line's
    of_programs = {
        "A frame must be a number followed by a JPEG of at most {} kB.",
        "Send frames as binary messages, and settings as JSON with a threshold from {} to {}.",
        "Specify a face by its number.",
        "This request has too many values: the limit is {}.",
        "{} Too many bad frames in a row.",
        "Not found.",
        "The endpoint is unknown, or parameters are missing or unknown. See the API tab.",
        "An upload_id must have at most {} characters: letters, digits, _ and -.",
        "{} is the input video: choose a different output file.",
    }
    found = {
        text for text in errors() if not text.startswith(("Face {}, estimated age", "The video is too long ({} s): {}"))
    }
    assert found - there == of_paths | of_programs and len(found) > 50


@pytest.mark.parametrize(
    ("error", "german"),
    [
        (
            "2023 (1).zip has 5,001 images: the limit is 5,000 in one zip.",
            "2023 (1).zip enthält 5.001 Bilder: Erlaubt sind 5.000 pro ZIP-Datei.",
        ),
        (
            "{0}.rar isn't supported: create a zip instead.",
            "{0}.rar wird nicht unterstützt: Erstellen Sie stattdessen eine ZIP-Datei.",
        ),
        ("notes.txt", "notes.txt"),
    ],
)
def test_errors_keep_the_names_in_them(modules, error, german):
    shown = modules.evaluate(
        """async ([error, table]) => {
          const text = await import("/text.js"), element = document.createElement("p");
          text.speak("de", table);
          text.keepTranslated(element);
          element.textContent = error;
          await new Promise((done) => setTimeout(done, 50));
          return element.textContent;
        }""",
        [error, TABLES["de"]],
    )
    assert shown == german


def test_the_menu_offers_each_table():
    menu = (BROWSER / "preferred.js").read_text(encoding="utf-8")
    assert set(re.findall(r"(\w\w): \"", menu)) == {"en", *TABLES}


def test_no_text_of_the_page_stays_in_english(browser, site, tmp_path):
    """In a made-up language, whose texts are marked, everything on the page has a mark."""
    context = browser.new_context(service_workers="block", locale="de-DE")
    context.grant_permissions(["camera"])
    page = context.new_page()

    unmarked = partial(not_marked, page)
    mark(page)
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    for element in page.query_selector_all("details"):
        element.evaluate("(element) => { element.open = true; }")
    assert unmarked() == []
    (tmp_path / "text.txt").write_text("no image")
    page.set_input_files("#file", str(tmp_path / "text.txt"))
    page.wait_for_selector("#message:visible")
    assert unmarked() == []
    (face,) = analyze(page, EXAMPLES / "age-20-29-female.jpg")["faces"]
    assert face["gender_label"] == "female"  # JSON isn't translated
    assert unmarked() == []
    page.click("#tab-live")
    assert unmarked() == []
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.wait_for_timeout(600)  # the line with the rate
    assert unmarked() == []
    page.click(".live-stop")
    page.click("#tab-video")
    page.click(".video-example")
    wait_until(page, "!document.querySelector('.video-result').hidden")
    assert unmarked() == []
    page.set_input_files(".video-file", str(tmp_path / "text.txt"))
    wait_until(page, "document.querySelector('.video-status').classList.contains('alarm')")
    assert unmarked() == []  # an error of the worker
    page.click("#tab-about")
    assert unmarked() == []
    context.close()


def test_the_language_is_the_visitor_s_and_can_be_changed(browser, site):
    context = browser.new_context(service_workers="block", locale="fr-CA")
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    assert page.evaluate("document.documentElement.lang") == "fr"
    assert page.inner_text("#tab-about") == "À propos" and "ans" in page.text_content("#models")
    assert re.search(r"erreur d’âge \d,\d\d ans", page.text_content("#models"))  # numbers as the language writes them
    page.select_option("#language", "de")
    page.wait_for_url("**lang=de**")
    page.wait_for_selector(READY, timeout=60_000)
    assert page.evaluate("document.activeElement.id") == "language"
    assert page.inner_text("#tab-video") == "Video" and "8 Gesichter" in page.inner_text("#summary")
    page.goto(site)  # it is remembered
    page.wait_for_selector(READY, timeout=60_000)
    assert page.evaluate("document.documentElement.lang") == "de"
    page.goto(f"{site}/?lang=xx&tab=about")
    page.wait_for_selector(READY, timeout=60_000)
    assert page.evaluate("document.documentElement.lang") == "de"
    context.close()


@pytest.mark.parametrize(
    ("text", "german"),
    [
        ("50 × 60 pixels at (12, 3)", "50 × 60 Pixel bei (12, 3)"),
        ("50 × 60 pixels at (-5, -33)", "50 × 60 Pixel bei (-5, -33)"),
        ("Only the first 50 of 1,234 photos are shown.", "Nur die ersten 50 von 1.234 Fotos werden angezeigt."),
        ("10-19 of MP4, H.264, CC BY 4.0 and v1.2.3", "19 nach 10"),
    ],
)
def test_numbers_in_a_text_are_places(modules, text, german):
    table = TABLES["de"] | {"{0}-{1} of MP4, H.264, CC BY 4.0 and v1.2.3": "{1} nach {0}"}
    shown = modules.evaluate(
        """async ([text, table]) => {
          const {speak, t} = await import("/text.js");
          speak("de", table);
          return t(text);
        }""",
        [text, table],
    )
    assert shown == german
