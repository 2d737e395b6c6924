"""How long the browser page takes for a video: python -m tests.tools.measure_video [SECONDS] [--blur]

A video of 1280x720 pixels, 30 frames per second and two people; Chromium, the page on a local server.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from space.hub import static
from tests.support.browser import READY, chromium, serve, wait_until
from tests.support.videos import moving, write_video


def main(seconds: int, blurred: bool) -> None:
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        video = write_video(
            folder / "video.mp4", moving(30 * seconds, size=(1280, 720), side=260), rate=30, sound="aac"
        )
        static.write(static.site_files("tester/live"), folder / "site")
        server = serve(folder / "site")
        page = browser.new_page()
        page.goto(f"http://localhost:{server.server_port}/?tab=video")
        page.wait_for_selector(READY, timeout=60_000)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        for visit in ("one thread", "threads"):  # the service worker's headers, which allow them, apply from the second
            page.locator("#video details summary").first.click()
            page.set_checked(".video-blur", blurred)
            page.set_input_files(".video-file", str(video))
            wait_until(page, "!document.querySelector('.video-result').hidden", 20 * seconds)
            result = json.loads(page.text_content(".video-json"))
            print(f"{visit}: {result['elapsed_ms'] / 1000:.1f} s for {seconds} s, {result['analyzed']} frames analyzed")
            page.reload()
            page.wait_for_selector(READY, timeout=60_000)
        server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=int, nargs="?", default=60)
    parser.add_argument("--blur", action="store_true", help="blur the faces: every frame is analyzed")
    options = parser.parse_args()
    main(options.seconds, options.blur)
