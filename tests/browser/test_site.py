"""The page's downloads, cache, requests and accessibility."""

from __future__ import annotations

import re
import shutil

import pytest

from space.hub import static
from tests.support import EXAMPLES, ROOT
from tests.support.browser import READY, analyze, cut_off, serious, serve, wait_until, write_crowd


def test_nothing_is_requested_for_a_photo_the_camera_or_a_video(page, tmp_path):
    requests = []
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")  # it has all files for offline use
    page.wait_for_timeout(1000)
    page.context.on("request", lambda request: requests.append(request.url))
    shutil.copy(EXAMPLES / "group.jpg", tmp_path / "private.jpg")
    assert len(analyze(page, tmp_path / "private.jpg")["faces"]) == 8
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    sent = [url for url in requests if not url.startswith(("blob:", "data:"))]
    assert sent == []
    page.click(".live-stop")
    page.click("#tab-video")
    page.click(".video-example")  # its own files are loaded once
    wait_until(page, "!document.querySelector('.video-result').hidden")
    requests.clear()
    shutil.copy(EXAMPLES / "two-people.mp4", tmp_path / "private.mp4")
    page.set_input_files(".video-file", str(tmp_path / "private.mp4"))
    wait_until(page, "document.querySelector('.video-result').hidden")
    wait_until(page, "!document.querySelector('.video-result').hidden")
    # The page's own blob: and data: URLs never leave the browser.
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []


@pytest.mark.parametrize("where", ["page", "worker"])
def test_the_browser_refuses_to_contact_another_server(page, where):
    other = serve(ROOT / "browser")
    try:
        address = f"http://127.0.0.1:{other.server_port}/icon.svg"
        attempt = f"fetch('{address}', {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')"
        if where == "worker":  # started as the page starts its own
            attempt = f"""new Promise((done) => {{
              const script = new Blob([`{attempt}.then(postMessage)`], {{type: "text/javascript"}});
              new Worker(URL.createObjectURL(script), {{type: "module"}}).onmessage = (event) => done(event.data);
            }})"""
        assert page.evaluate(attempt) == "refused"
    finally:
        other.shutdown()
        page.problems.clear()  # Chromium reports the refusal


def test_photos_that_failed_have_no_error_left_once_they_succeed(browser, site):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    failing = [True]
    context.route("**/*model.onnx*", lambda route: route.abort() if failing else route.continue_())
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    page.set_input_files("#file", [str(EXAMPLES / "age-20-29-male.jpg"), str(EXAMPLES / "group.jpg")])
    titles = "[...document.querySelectorAll('.strip-photos button')].map(({title}) => title)"
    wait_until(page, f"{titles}.every((title) => title.includes('downloaded'))", 60)
    failing.clear()
    page.locator("#threshold").evaluate("(input) => input.dispatchEvent(new Event('change', {bubbles: true}))")
    page.locator(".strip-photos button[aria-busy=false] canvas").nth(1).wait_for(timeout=60_000)
    assert page.evaluate(titles) == ["", ""]
    context.close()


@pytest.mark.parametrize("what", ["yunet.onnx", "ort-", "model.onnx", "worker.js", "ort.wasm"])
def test_a_failed_download_is_reported_and_can_be_retried(browser, site, what):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    failing = [True]
    context.route(f"**/*{what}*", lambda route: route.abort() if failing else route.continue_())
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    assert re.search("can't be downloaded|can't start", page.inner_text("#message"))
    wait_until(page, "document.querySelector('#loading').hidden")  # the other files may still be on their way
    failing.clear()
    assert len(analyze(page, EXAMPLES / "age-40-49-male.jpg")["faces"]) == 1
    context.close()


def test_settings_are_not_restored_by_the_browser(page):
    """Otherwise "Blur faces" could be checked while faces are shown that aren't blurred."""
    controls = "[...document.querySelectorAll('input:not([type=file])')].map((one) => [one.checked, one.value])"
    before = page.evaluate(controls)
    page.evaluate(
        """() => {
          for (const box of document.querySelectorAll("input[type=checkbox]")) box.click();
          for (const range of document.querySelectorAll("input[type=range]")) {
            range.value = 0.5;
            for (const name of ["input", "change"]) range.dispatchEvent(new Event(name));
          }
          document.querySelector("input[type=radio]:not(:checked)").click();
        }"""
    )
    assert page.evaluate(controls) != before
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector(READY)
    assert page.evaluate(controls) == before


def test_after_an_update_of_the_site_one_reload_is_enough(browser, files, tmp_path):
    static.write(files, tmp_path / "site")
    server = serve(tmp_path / "site")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{server.server_port}")
    page.wait_for_selector(READY, timeout=60_000)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(1000)
    (old,) = (tmp_path / "site" / "models").glob("vgg16-*")
    new = old.rename(old.with_name("vgg16-0123456789ab"))
    for name in ("kit.json", "service-worker.js"):
        path = tmp_path / "site" / name
        path.write_text(path.read_text().replace(old.name, new.name))
    page.click("#settings summary")
    page.click("#models input[value=vgg16]")
    page.get_by_text("This page has been updated").wait_for(timeout=30_000)
    page.reload()
    page.wait_for_selector(READY, timeout=60_000)
    page.click("#settings summary")
    page.click("#models input[value=vgg16]")
    wait_until(page, "JSON.parse(document.querySelector('#json').textContent).model.name === 'vgg16'", 60)
    context.close()
    server.shutdown()


@pytest.mark.parametrize("what", ["kit.json", "cards.js"])
def test_an_incomplete_page_shows_an_error(browser, site, what):
    page = browser.new_page()
    page.route(f"**/{what}", lambda route: route.abort())
    page.goto(site)
    page.get_by_text("couldn't be loaded completely").wait_for(timeout=20_000)
    page.close()


def test_the_service_worker_serves_the_page_only_at_its_own_url(page, site):
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(500)
    page.goto(f"{site}/kit.json")
    assert '"detector"' in page.inner_text("body")
    page.problems.clear()  # Chromium asks every site for a favicon.ico


def test_after_the_first_visit_it_works_offline(browser, site, tmp_path):
    context = browser.new_context()
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(1000)
    context.set_offline(True)
    page.goto(f"{site}/?tab=live")  # a link to a tab is the same page
    page.wait_for_selector(READY, timeout=60_000)
    assert page.get_attribute("#tab-live", "aria-selected") == "true"
    assert page.evaluate("crossOriginIsolated")  # with threads, though the server sends no headers for them
    page.click("#tab-photo")
    assert len(analyze(page, EXAMPLES / "age-40-49-male.jpg")["faces"]) == 1
    context.close()


def test_the_page_is_accessible_and_fits_a_phone(browser, site, tmp_path):
    """In every state: empty, with results, a crowd, while working, and after an error."""
    crowd = write_crowd(tmp_path / "crowd.jpg")
    for name in ("text.txt", "text.mp4"):
        (tmp_path / name).write_bytes(b"hello" * 99)
    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        context.grant_permissions(["camera"])
        page = context.new_page()

        def check(state, page=page, scheme=scheme, width=width):
            assert serious(page) == [], (state, scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, state
            assert cut_off(page) == [], state

        page.goto(site)
        page.wait_for_selector(READY, timeout=60_000)
        check("example")
        page.click("#settings summary")
        check("settings")
        assert len(analyze(page, crowd)["faces"]) > 60
        check("crowd")
        page.set_input_files("#file", tmp_path / "text.txt")
        page.wait_for_selector("#message:visible")
        check("wrong photo")
        page.click("#tab-live")
        check("no camera")
        page.click(".live-start")
        wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
        check("live")
        page.click(".live-stop")
        page.click("#tab-video")
        check("no video")
        page.click(".video-example")
        wait_until(page, "!document.querySelector('.video-picture').hidden")
        check("video that is analyzed")
        wait_until(page, "!document.querySelector('.video-result').hidden")
        check("video")
        page.set_input_files(".video-file", tmp_path / "text.mp4")
        wait_until(page, "document.querySelector('.video-status').classList.contains('alarm')")
        check("wrong video")
        page.click("#tab-about")
        check("about")
        page.focus("#tab-about")
        page.keyboard.press("ArrowRight")
        assert page.get_attribute("#tab-photo", "aria-selected") == "true" and "tab=photo" in page.url
        context.close()


def test_selected_parts_are_marked_in_forced_colors(page, tmp_path):
    for name in ("a", "b"):
        shutil.copy(EXAMPLES / "group.jpg", tmp_path / f"{name}.jpg")
    page.set_input_files("#file", [str(tmp_path / f"{name}.jpg") for name in ("a", "b")])
    page.wait_for_selector('#result[data-photo="a"]:not([aria-busy])', timeout=60_000)
    page.locator("#result li").first.click()
    page.mouse.move(1, 1)
    page.evaluate("document.activeElement.blur()")
    page.emulate_media(forced_colors="active")
    for chosen, other in (
        ("#tab-photo", "#tab-live"),
        (".strip-photos button[aria-pressed=true]", ".strip-photos button[aria-pressed=false]"),
        ("#result li.on", "#result li:not(.on)"),
    ):
        outlines = [
            page.evaluate("(where) => getComputedStyle(document.querySelector(where)).outlineStyle", where)
            for where in (chosen, other)
        ]
        assert outlines == ["solid", "none"], chosen
    page.emulate_media(forced_colors="none")


def test_less_motion_hides_no_text_and_scrolls_at_once(page):
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('.late')).animationName") == "appear"
    chosen = page.evaluate(
        """async () => {
          const {scrollTo} = await import("./scroll.js"), asked = [];
          const element = {scrollIntoView: (options) => asked.push(options)};
          scrollTo(element, {block: "nearest"});
          scrollTo(null);
          return asked;
        }"""
    )
    assert chosen == [{"behavior": "auto", "block": "nearest"}]
    page.emulate_media(reduced_motion="no-preference")


def test_an_outdated_browser_is_told_to_be_updated(browser, site):
    page = browser.new_page()
    page.route("**/text.js", lambda route: route.fulfill(body="const = 1;", content_type="text/javascript"))
    page.goto(site)
    page.get_by_text("If this doesn't help, update the browser.").wait_for(timeout=20_000)
    page.close()


def test_keys_of_the_browser_stay_its_own(page):
    page.focus("#tab-photo")
    for keys in ("Alt+ArrowRight", "Control+ArrowRight"):
        page.keyboard.press(keys)
        assert page.get_attribute("#tab-photo", "aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-live", "aria-selected") == "true"
