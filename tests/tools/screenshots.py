"""The README's pictures of the page, from the example pictures.

python -m tests.tools.screenshots [--detector YUNET.onnx] [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support import ROOT
from tests.support.app import App
from tests.support.browser import CHROMIUM
from tests.support.videos import moving, write_camera, write_video

JPEG = {"type": "jpeg", "quality": 80}
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --use-fake-device-for-media-stream"


def main(folder: Path, options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        camera = write_camera(Path(temporary) / "camera.mjpeg", moving(240))
        video = write_video(Path(temporary) / "video.mp4", moving(120, gone=range(60, 90)))
        running = App(*options)
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=[*FLAGS.split(), f"--use-file-for-fake-video-capture={camera}"]
        )
        try:
            for name, scheme, width in (("", "light", 1200), ("-phone", "dark", 390)):
                page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme)
                page.context.grant_permissions(["camera"])
                page.goto(running.url)
                page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
                page.wait_for_selector("#result .person", timeout=60_000)
                page.wait_for_timeout(2000)
                page.screenshot(path=folder / f"photo{name}.jpg", **JPEG)
                page.get_by_role("tab", name="Live").click()
                page.locator(".live-start").click()
                page.wait_for_timeout(10_000)
                page.screenshot(path=folder / f"live{name}.jpg", **JPEG)
                page.locator(".live-stop").click()
                if not name:
                    page.get_by_role("tab", name="Video").click()
                    page.set_input_files("#video input[type=file]", str(video))
                    page.wait_for_timeout(1500)
                    page.locator("#video-start").click()
                    page.get_by_text("frames analyzed").wait_for(timeout=120_000)
                    page.wait_for_timeout(3000)
                    page.screenshot(path=folder / "video.jpg", full_page=True, **JPEG)
                page.close()
        finally:
            browser.close()
            running.stop()


if __name__ == "__main__":
    *options, target = sys.argv[1:] if len(sys.argv) % 2 == 0 else [*sys.argv[1:], ROOT / ".github"]
    Path(target).mkdir(parents=True, exist_ok=True)
    main(Path(target), options)
