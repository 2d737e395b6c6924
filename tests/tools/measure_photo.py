"""What a photo costs through the API: start, memory at rest, and milliseconds for two sizes.

python -m tests.tools.measure_photo [FOLDER]        of another checkout; run alternately, on a quiet machine
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.support import EXAMPLES, ROOT
from tests.support.app import App
from tests.tools.attack import Usage, Visitor

SIZES = {"640x480": (640, 480), "12 megapixels": (4000, 3000)}
CALLS = 25


def main() -> None:
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    began = time.monotonic()
    app = App(folder=folder, env={"TMPDIR": tempfile.mkdtemp(prefix="measure-")})
    start = time.monotonic() - began
    time.sleep(4)
    usage = Usage(app.process.pid)
    visitor, figures = Visitor(app, "1.1.1.1"), [f"start {start:.1f} s", f"at rest {usage.peak:.0f} MB"]
    with tempfile.TemporaryDirectory() as place, Image.open(EXAMPLES / "group.jpg") as group:
        for name, size in SIZES.items():
            path = Path(place) / f"{name}.jpg"
            group.convert("RGB").resize(size).save(path, "JPEG", quality=90)
            file, times = visitor.upload(path.name, path.read_bytes()), []
            for number in range(CALLS + 3):
                began = time.perf_counter()
                assert "event: complete" in visitor.photo(file)
                times += [1000 * (time.perf_counter() - began)] * (number >= 3)
                time.sleep(0.15)
            figures.append(f"{name}: median {statistics.median(times):.0f} ms, fastest {min(times):.0f} ms")
    usage.figures()
    print(f"{folder.name}: {'; '.join(figures)}")
    app.stop()


if __name__ == "__main__":
    main()
