"""Both pages in Firefox: example, own photo and Live, with the camera that Firefox makes up."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.support import EXAMPLES
from tests.support.app import App, free_port

pytestmark = pytest.mark.alone
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "media.navigator.streams.fake": "true",
    "media.navigator.permission.disabled": "true",
    "intl.accept_languages": '"en-US"',
    "browser.shell.checkDefaultBrowser": "false",
    "datareporting.policy.dataSubmissionEnabled": "false",
    "app.update.enabled": "false",
}


class Page:
    """A page, driven by Firefox's own protocol."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.navigate(url)
        self.run(
            """window.problems = [];
            // A notice of ResizeObserver is no error: it goes on in the next frame.
            addEventListener("error", ({message}) => {
              if (!message.startsWith("ResizeObserver loop")) problems.push(message);
            });
            addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));"""
        )

    def run(self, script: str):
        return self.driver.execute_script(script, sandbox=None)

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({selector!r}).click()")

    def choose(self, selector: str, path: Path) -> None:
        self.driver.find_element("css selector", selector).send_keys(str(path))

    def wait(self, expression: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({expression})"):
            assert time.monotonic() < end, f"not within {seconds} seconds: {expression}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def firefox():
    if not FIREFOX:
        pytest.skip("needs Firefox (Debian's package firefox-esr)")
    marionette = pytest.importorskip("marionette_driver.marionette", reason="needs marionette-driver from PyPI")
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        values = PREFERENCES | {"marionette.port": str(port)}
        lines = [f'user_pref("{name}", {value});' for name, value in values.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines))
        command = [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", profile]
        environment = os.environ | {"HOME": profile, "MOZ_HEADLESS_WIDTH": "1280", "MOZ_HEADLESS_HEIGHT": "1000"}
        running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            driver = marionette.Marionette("127.0.0.1", port=port, startup_timeout=60)
            driver.raise_for_port(timeout=60)
            driver.start_session({"strictFileInteractability": False})  # they are hidden
            yield Page(driver)
        finally:
            running.terminate()
            running.wait(30)


def test_photo_and_live_of_the_browser_page_in_firefox(firefox, site):
    firefox.open(site)
    firefox.wait("document.body.dataset.ready")
    assert firefox.run("return document.querySelectorAll('#result .person').length") == 8
    firefox.choose("#file", EXAMPLES / "age-20-29-male.jpg")
    firefox.wait("document.querySelector('#result:not([aria-busy])[data-photo=age-20-29-male]')")
    assert "1 face" in firefox.run("return document.querySelector('#summary').innerText")
    firefox.click("#tab-live")
    firefox.click(".live-start")
    firefox.wait("/frames per second/.test(document.querySelector('.live-rate').innerText)")
    firefox.click(".live-stop")
    assert firefox.run("return problems") == []


def test_photo_and_live_of_the_app_in_firefox(firefox, app: App):
    firefox.open(app.url)
    firefox.wait("document.querySelectorAll('#result .person').length === 8")
    firefox.choose("#photo input[type=file]", EXAMPLES / "age-20-29-male.jpg")
    firefox.wait("document.querySelectorAll('#result .person').length === 1")
    firefox.click("[data-tab-id=live]")
    firefox.wait("document.querySelector('.live-start:enabled')?.offsetParent")
    firefox.click(".live-start")
    firefox.wait("/frames per second/.test(document.querySelector('.live-rate').innerText)")
    firefox.click(".live-stop")
    assert firefox.run("return problems") == []
