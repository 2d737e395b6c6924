"""Helpers for tests that use Chromium and the static page."""

from __future__ import annotations

import contextlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.support import EXAMPLES

CHROMIUM = Path("/usr/bin/chromium")
FAKE_CAMERA = "--use-fake-device-for-media-stream"
READY = "body[data-ready]"  # of the static page, once it has shown its first result


@contextlib.contextmanager
def chromium(*flags: str):
    """Debian's Chromium, driven by Playwright; without it the test is skipped."""
    if not CHROMIUM.exists():
        pytest.skip("needs /usr/bin/chromium (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    common = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*common.split(), *flags])
        try:
            yield running
        finally:
            running.close()


def serve(folder: Path, asked: list[str] | None = None) -> ThreadingHTTPServer:
    """A plain web server with the files of `folder`; `asked` gets the path of each file that is sent."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def log_request(self, code="-", size="-"):
            if asked is not None and code == 200:
                asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def analyze(page, path: Path) -> dict:
    """The static page's JSON for a photo."""
    page.set_input_files("#file", str(path))
    page.wait_for_selector(f'#result[data-photo="{path.stem}"]:not([aria-busy])', timeout=60_000)
    return result(page)


def result(page) -> dict:
    """The JSON that the static page shows."""
    return json.loads(page.evaluate("document.querySelector('#json').textContent"))


def drop_text(page, where: str, text: str, *, own: bool) -> None:
    """Drop text on an element; `own`: the drag started on the page."""
    page.evaluate(
        """([where, text, own]) => {
          const data = new DataTransfer(), element = document.querySelector(where);
          data.setData("text", text);
          if (own) element.dispatchEvent(new DragEvent("dragstart", {bubbles: true, dataTransfer: data}));
          element.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data}));
          element.dispatchEvent(new DragEvent("dragend", {bubbles: true}));
        }""",
        [where, text, own],
    )


def drop_folder(page, folder: Path) -> None:
    """Drop a folder on the middle of the page, as from a file manager."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})


def serious(page) -> list[tuple]:
    """What axe-core finds serious or critical on a page as it is now: the rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    return [(violation["id"], [node["target"] for node in violation["nodes"]][:4]) for violation in found]


def cut_off(page) -> list[str]:
    """The visible texts that are partly beyond the window, or beyond an element that hides what is outside of it."""
    return page.evaluate(
        """() => {
          const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const text = texts.currentNode, range = document.createRange();
            if (!text.data.trim() || !text.parentElement.checkVisibility({visibilityProperty: true})) continue;
            range.selectNodeContents(text);
            const {left, right, width} = range.getBoundingClientRect();
            if (width < 2) continue;
            let cut = left < -1 || right > document.documentElement.clientWidth + 1;
            for (let element = text.parentElement; element; element = element.parentElement) {
              const style = getComputedStyle(element), box = element.getBoundingClientRect();
              const scrolls = ["auto", "scroll"].includes(style.overflowX);
              if (scrolls) cut = left + element.scrollLeft < box.left - 1; // it can't be scrolled there
              if (scrolls || style.clip !== "auto" || style.clipPath !== "none") break;
              cut ||= ["hidden", "clip"].includes(style.overflowX) && (left < box.left - 1 || right > box.right + 1);
            }
            if (cut) found.push(text.data.trim().slice(0, 60));
          }
          return found;
        }"""
    )


def write_crowd(path: Path) -> Path:
    """A photo of 72 faces."""
    with Image.open(EXAMPLES / "group.jpg") as group:
        width, height = group.size
        image = Image.new("RGB", (3 * width, 3 * height))
        for i in range(9):
            image.paste(group, (i % 3 * width, i // 3 * height))
        image.save(path, quality=92)
    return path


def wait_until(page, expression: str, seconds: float = 30) -> None:
    """Wait until a JavaScript expression is true. Playwright's wait_for_function needs eval, which the page forbids."""
    for _ in range(int(seconds * 10)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not within {seconds} seconds: {expression}")
