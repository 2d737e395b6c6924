"""Many visitors at once: how many answers, how soon, and whether anything but "busy" is ever said.

    python -m tests.tools.load SECONDS [--clients 50] [--streams 8] [--rate 15] [--heavy 1] [options of app.py]

Each client posts photos one by one over the HTTP API and waits for each response. Each stream sends frames as a browser
does, at most --rate per second. A heavy client always has 40 requests in flight. Each client has its own address
(127.0.1.2 and so on, which Linux allows). Requests go only to the server on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import re
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from websockets.asyncio.client import connect

from tests.support import EXAMPLES
from tests.support.app import App
from tests.support.videos import moving

AT_ONCE = 40  # photos of a heavy client


class Tally:
    """What came of the requests of one kind of client."""

    def __init__(self):
        self.seconds, self.outcomes = [], Counter()

    def line(self, name: str, lasted: float) -> str:
        if not self.seconds:
            return f"| {name} | 0 | | | | | {dict(self.outcomes)} |"
        p = [f"{1000 * v:.0f}" for v in np.percentile(self.seconds, (50, 95, 99, 100))]
        others = {k: v for k, v in self.outcomes.items() if k != "answered"}
        cells = [name, str(len(self.seconds)), f"{len(self.seconds) / lasted:.1f}", *p, str(others or "nothing")]
        return f"| {' | '.join(cells)} |"


def photo() -> dict:
    content = (EXAMPLES / "group.jpg").read_bytes()
    url = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    return {"data": [{"url": url, "meta": {"_type": "gradio.FileData"}}, 0.7, False, False]}


async def one_photo(http: httpx.AsyncClient, url: str, tally: Tally, body: dict) -> None:
    began = time.monotonic()
    try:
        joined = await http.post(f"{url}/gradio_api/call/analyze_photo", json=body)
        if joined.status_code != 200:
            tally.outcomes[f"busy ({joined.status_code})" if joined.status_code == 503 else joined.text[:80]] += 1
            await asyncio.sleep(0.5)
            return
        answer = await http.get(f"{url}/gradio_api/call/analyze_photo/{joined.json()['event_id']}")
        if "event: complete" in answer.text and answer.text.count('"gender_probability"') == 8:
            tally.seconds.append(time.monotonic() - began)
            tally.outcomes["answered"] += 1
        else:
            tally.outcomes[re.sub(r"[0-9a-f]{32}", "", answer.text)[:100]] += 1
    except httpx.HTTPError as error:
        tally.outcomes[type(error).__name__] += 1


async def client(number: int, url: str, end: float, tally: Tally, at_once: int) -> None:
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.{1 + number // 250}.{2 + number % 250}")
    async with httpx.AsyncClient(transport=transport, timeout=120) as http:

        async def again():
            while time.monotonic() < end:
                await one_photo(http, url, tally, photo())

        await asyncio.gather(*(again() for _ in range(at_once)))


async def stream(number: int, url: str, end: float, tally: Tally, frames: list[bytes], rate: float) -> None:
    own = (f"127.0.9.{2 + number}", 0)  # as for clients: each address has a few places
    async with connect(url.replace("http", "ws") + "/live", local_addr=own) as visitor:
        number = 0
        while time.monotonic() < end:
            number += 1
            began = time.monotonic()
            await visitor.send(struct.pack("<I", number) + frames[number % len(frames)])
            answer = json.loads(await visitor.recv())
            if answer.get("frame") == number and "faces" in answer:
                tally.seconds.append(time.monotonic() - began)
                tally.outcomes["answered"] += 1
            else:
                tally.outcomes[str(answer)[:100]] += 1
            await asyncio.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))


async def load(app: App, seconds: float, clients: int, streams: int, rate: float, heavy: int) -> dict[str, Tally]:
    frames = []
    for picture in moving(60):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=85)
        frames.append(buffer.getvalue())
    tallies = {"photos": Tally(), "streams' frames": Tally(), "heavy client": Tally()}
    end = time.monotonic() + seconds
    memory = []

    async def watch():
        while time.monotonic() < end:
            memory.append(resident(app))
            await asyncio.sleep(1)

    await asyncio.gather(
        watch(),
        *(client(i, app.url, end, tallies["photos"], 1) for i in range(clients)),
        *(stream(n, app.url, end, tallies["streams' frames"], frames, rate) for n in range(streams)),
        *(client(clients + i, app.url, end, tallies["heavy client"], AT_ONCE) for i in range(heavy)),
    )
    fifth = max(1, len(memory) // 5)
    print(
        f"resident, MB: {memory[0]:.0f} at the beginning, {np.mean(memory[fifth : 2 * fifth]):.0f} in the second "
        f"fifth, {np.mean(memory[-fifth:]):.0f} in the last fifth, {max(memory):.0f} at most"
    )
    return tallies


def resident(app: App) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{app.process.pid}/status").read_text())[1]) / 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rate", type=float, default=15, help="maximum frames per second of each stream (default: 15)")
    parser.add_argument("--heavy", type=int, default=1)
    options, rest = parser.parse_known_args()
    app = App(*rest)
    try:
        tallies = asyncio.run(load(app, options.seconds, options.clients, options.streams, options.rate, options.heavy))
    finally:
        printed = app.stop()
    print("| | answers | a second | p50, ms | p95 | p99 | longest | anything else |\n|" + " --- |" * 8)
    for name, tally in tallies.items():
        print(tally.line(name, options.seconds))
    print("the server's log:", printed.strip().splitlines()[3:] or "nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
