"""Screenshots of both pages with the example images, and an animation of the Live tab.

The README shows photo.jpg and live.webp: copy them to .github/.

python -m tests.tools.screenshots [--out FOLDER]
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
import time
from pathlib import Path

from PIL import Image

from space.hub import static
from tests.support import ROOT
from tests.support.app import App
from tests.support.browser import FAKE_CAMERA, READY, chromium, serve
from tests.support.videos import moving, write_camera, write_video

JPEG = {"type": "jpeg", "quality": 80}
VIEWS = (("", "light", 1440), ("-phone", "dark", 390))  # name, color scheme, width in pixels


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        camera = write_camera(Path(temporary) / "camera.mjpeg", moving(240))
        video = write_video(Path(temporary) / "video.mp4", moving(120, gone=range(60, 90)))
        static.write(static.site_files("you/live"), Path(temporary) / "site")
        running, server = App(), serve(Path(temporary) / "site")
        try:
            with chromium(FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera}") as browser:
                for name, scheme, width in VIEWS:
                    page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme)
                    page.context.grant_permissions(["camera"])
                    gradio_page(page, running.url, folder, name, video)
                    page.goto(f"http://localhost:{server.server_port}")
                    page.wait_for_selector(READY, timeout=60_000)
                    page.wait_for_timeout(1000)
                    page.screenshot(path=folder / f"static{name}.jpg", **JPEG)
                    page.close()
        finally:
            running.stop()
            server.shutdown()


def gradio_page(page, url: str, folder: Path, name: str, video: Path) -> None:
    page.goto(url)
    page.wait_for_selector("#photo input[type=file]", state="attached", timeout=60_000)
    page.wait_for_selector("#result .person", timeout=60_000)
    page.wait_for_timeout(2000)
    page.screenshot(path=folder / f"photo{name}.jpg", **JPEG)
    page.get_by_role("tab", name="Live").click()
    page.locator(".live-start").click()
    page.wait_for_timeout(10_000)
    page.screenshot(path=folder / f"live{name}.jpg", **JPEG)
    if not name:
        animate(page.locator(".live-stage"), folder / "live.webp")
    page.locator(".live-stop").click()
    if not name:
        page.get_by_role("tab", name="Video").click()
        page.set_input_files("#video input[type=file]", str(video))
        page.wait_for_timeout(1500)
        page.locator("#video-start").click()
        page.get_by_text("frames analyzed").wait_for(timeout=120_000)
        page.wait_for_timeout(3000)
        page.screenshot(path=folder / "video.jpg", full_page=True, **JPEG)


def animate(element, path: Path, frames: int = 40) -> None:
    """An element as an animated WebP, with the times at which its frames were taken."""
    pictures, times = [], []
    for _ in range(frames):
        content = element.screenshot(type="jpeg", quality=90, animations="allow")
        times.append(time.monotonic())
        with Image.open(io.BytesIO(content)) as picture:
            picture.thumbnail((640, 640))
            pictures.append(picture.copy())
    durations = [round(1000 * (after - before)) for before, after in itertools.pairwise(times)]
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[*durations, durations[-1]],
        loop=0,
        quality=60,
        method=4,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "screenshots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    main(options.out)
