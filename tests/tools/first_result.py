"""How soon the static page shows something: the example, and a first photo of one's own. As in space/BENCHMARKS.md.

python -m tests.tools.first_result

A local server that compresses nothing; Chromium with an empty cache, then at the next visit.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from PIL import Image

from space.bench.measure import scene
from space.hub import static
from tests.support.browser import READY, chromium, serve


def visit(page, address: str, photo: Path) -> str:
    """Open the page and choose a photo at once; the times, in seconds from when `index.html` has arrived."""
    page.goto(address, wait_until="commit")
    began = time.perf_counter()
    page.wait_for_selector("body[data-shown] #people li", timeout=60_000)
    example = time.perf_counter() - began
    page.set_input_files("#file", str(photo))
    page.wait_for_selector(f'#result[data-photo="{photo.stem}"]:not([aria-busy])', timeout=60_000)
    own = time.perf_counter() - began
    page.wait_for_selector(READY, timeout=60_000)
    return f"example {example:.2f} s, own photo with five faces {own:.2f} s"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder, sent = Path(temporary), []
        static.write(static.site_files("you/live"), folder / "site")
        photo = folder / "five.jpg"
        Image.fromarray(scene(5, 640, 480, 120)).save(photo, quality=92)
        server = serve(folder / "site", sent)
        address = f"http://localhost:{server.server_port}"
        with chromium() as browser:
            for attempt in range(3):
                context = browser.new_context()
                page = context.new_page()
                sent.clear()
                print(f"{attempt + 1}, first visit: {visit(page, address, photo)}", end="; ")
                page.evaluate("navigator.serviceWorker.ready.then(() => true)")
                page.wait_for_timeout(1500)
                total = sum(
                    (folder / "site" / path.split("?")[0].lstrip("/")).stat().st_size for path in sent if path != "/"
                )
                print(f"{total / 1e6:.1f} MB in {len(sent)} requests", end="; ")
                print(f"next visit: {visit(page, address, photo)}")
                context.close()
        server.shutdown()


if __name__ == "__main__":
    main()
