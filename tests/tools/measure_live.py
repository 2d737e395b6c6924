"""How fluent the live tab is: rate, latency, memory and files over time, as in space/BENCHMARKS.md.

python -m tests.tools.measure_live SECONDS [other options of app.py]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
from pathlib import Path

from tests.space.web.test_live import FAKE, chromium, open_live, people, start
from tests.support.app import App
from tests.support.videos import WOMAN, moving, write_camera


def main(seconds: float, options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        camera = write_camera(Path(folder) / "camera.mjpeg", moving(240, names=[WOMAN]))
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        running = App(*options, env={"TMPDIR": str(temporary)})

        def held() -> str:
            status = Path(f"/proc/{running.process.pid}/status").read_text()
            files = sum(len(names) for *_, names in os.walk(temporary))
            opened = len(os.listdir(f"/proc/{running.process.pid}/fd"))
            resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024
            return f"{resident} MB, {files} files, {opened} open"

        try:
            with chromium(FAKE, f"--use-file-for-fake-video-capture={camera}") as browser:
                page = open_live(browser, running.url)
                start(page)
                page.wait_for_timeout(15_000)
                first, readings, labels = held(), [], set()
                for _ in range(round(seconds / 2)):
                    page.wait_for_timeout(2000)
                    text = page.locator(".live-rate").inner_text()
                    readings.append([float(value) for value in re.findall(r"[\d.]+", text)])
                    labels |= {row.split(" (")[0] for row in people(page)}
                rates, latencies = zip(*readings, strict=True)
                print(f"frames per second: median {statistics.median(rates):.1f}, least {min(rates):.1f}")
                late = sorted(latencies)[int(0.95 * len(latencies))]
                print(f"latency, ms: median {statistics.median(latencies):.0f}, 95% within {late:.0f}")
                print(f"labels: {sorted(labels)}; first {first}; last {held()}")
        finally:
            running.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    known, others = parser.parse_known_args()
    main(known.seconds, others)
