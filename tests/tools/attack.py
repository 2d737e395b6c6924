"""Small requests that use much time or memory, against a running app: CPU seconds, memory, another visitor's wait.

    python -m tests.tools.attack [NAME …]         Linux; the figures in tests/RELIABILITY.md

While each attack runs, a visitor from another address sends the group photo again and again.
"""

from __future__ import annotations

import base64
import io
import struct
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
from PIL import Image

from tests.space.sandbox.test_sandbox import bombs, encoded, overlapping_zip
from tests.support import EXAMPLES
from tests.support.app import App
from tests.support.videos import moving, write_video

GROUP = EXAMPLES / "group.jpg"
META = {"_type": "gradio.FileData"}


class Visitor:
    """Calls the API from an address of its own."""

    def __init__(self, app: App, address: str):
        self.http = httpx.Client(base_url=app.url, headers={"X-Forwarded-For": address}, timeout=300)

    def upload(self, name: str, content: bytes) -> dict:
        path = self.http.post("/gradio_api/upload", files={"files": (name, content)}).json()[0]
        return {"path": path, "orig_name": name, "meta": META}

    def call(self, endpoint: str, *data) -> str:
        """The last event of a call, or the refusal."""
        answer = self.http.post(f"/gradio_api/call/{endpoint}", json={"data": data})
        if answer.status_code != 200:
            return f"{answer.status_code}: {answer.text[:80]}"
        return self.http.get(f"/gradio_api/call/{endpoint}/{answer.json()['event_id']}").text

    def photo(self, file: dict) -> str:
        return self.call("analyze_photo", file, 0.7, False, False)


class Usage(threading.Thread):
    """CPU seconds and largest memory (sum of PSS) of a process and its descendants, also of those that end."""

    def __init__(self, process: int):
        super().__init__(daemon=True)
        self.process, self.cpu, self.peak, self.running = process, {}, 0.0, True
        self.sample()
        self.before = sum(self.cpu.values())
        self.start()

    def sample(self) -> None:
        memory, left = 0.0, [self.process]
        while left:
            number = left.pop()
            try:
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                self.cpu[number] = (int(fields[11]) + int(fields[12])) / 100
                rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
                memory += int(rollup.split("Pss:")[1].split()[0]) / 1000
                for task in Path(f"/proc/{number}/task").iterdir():
                    left += map(int, (task / "children").read_text().split())
            except (OSError, IndexError):
                continue
        self.peak = max(self.peak, memory)

    def run(self) -> None:
        while self.running:
            self.sample()
            time.sleep(0.1)

    def figures(self) -> tuple[float, float]:
        self.running = False
        self.join()
        return sum(self.cpu.values()) - self.before, self.peak


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of an MP4 file."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def movie_box(video: bytes) -> tuple[bytes, bytes]:
    """What an MP4 has before its last box, `moov`, and the content of that."""
    start = video.rindex(b"moov") - 4
    return video[:start], video[start + 8 :]


def metadata_keys(folder: Path) -> bytes:
    """An MP4 with 100,000 metadata keys, whose opening takes quadratic time."""
    before, movie = movie_box(write_video(folder / "tiny.mp4", moving(5, size=(64, 64), side=20)).read_bytes())
    count = 100_000
    keys = box(b"keys", struct.pack(">II", 0, count), *(box(b"mdta", b"k%06d" % n) for n in range(count)))
    values = (box(struct.pack(">I", n + 1), box(b"data", struct.pack(">II", 1, 0), b"v")) for n in range(count))
    handler = box(b"hdlr", struct.pack(">II4s", 0, 0, b"mdta"), bytes(13))
    return before + box(b"moov", movie, box(b"meta", handler, keys, box(b"ilst", *values)))


def repeated_audio(folder: Path) -> bytes:
    """An MP4 whose audio table names the same megabyte 2,000 times, with duration 0."""
    before, movie = movie_box(
        write_video(folder / "a.mp4", moving(10, size=(64, 64), side=20), sound="aac").read_bytes()
    )
    place, count, tracks = len(before) + 8, 2000, 0
    tables = {
        b"stco": struct.pack(">II", 0, count) + struct.pack(">I", place) * count,
        b"stsc": struct.pack(">IIIII", 0, 1, 1, 1, 1),
        b"stsz": struct.pack(">III", 0, 1_000_000, count),
        b"stts": struct.pack(">IIII", 0, 1, count, 0),
    }

    def rewritten(content: bytes) -> bytes:
        nonlocal tracks
        out, at = b"", 0
        while at < len(content):
            length, kind = struct.unpack_from(">I4s", content, at)
            part = content[at + 8 : at + length]
            tracks += kind == b"trak"
            if kind in (b"trak", b"mdia", b"minf", b"stbl"):
                part = rewritten(part)
            out += box(kind, tables.get(kind, part) if tracks == 2 else part)
            at += length
        return out

    noise = np.random.default_rng(1).integers(0, 256, 1_000_000, np.uint8).tobytes()
    return before + box(b"mdat", noise) + box(b"moov", rewritten(movie))


def flicker(folder: Path) -> bytes:
    """A video of 33 seconds in which each frame looks like a cut."""
    with av.open(str(folder / "flicker.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(1000):
            frame = av.VideoFrame.from_ndarray(np.full((720, 1280, 3), 255 * (number % 2), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return (folder / "flicker.mp4").read_bytes()


def attacks(folder: Path) -> dict[str, Callable[[Visitor], list[str]]]:
    """What one visitor sends, by name; each returns the answers."""

    def photo(name: str, content: bytes) -> Callable[[Visitor], list[str]]:
        return lambda visitor: [visitor.photo(visitor.upload(name, content))]

    def video(content: Callable[[Path], bytes]) -> Callable[[Visitor], list[str]]:
        return lambda visitor: [visitor.call("analyze_video", visitor.upload("v.mp4", content(folder)), 0.7, False)]

    def files(*contents: bytes) -> Callable[[Visitor], list[str]]:
        def send(visitor: Visitor) -> list[str]:
            uploads = [visitor.upload(f"{number}.zip", content) for number, content in enumerate(contents)]
            return [visitor.call("analyze_batch", uploads, 0.7)]

        return send

    def at_once(content: bytes, count: int) -> Callable[[Visitor], list[str]]:
        def send(visitor: Visitor) -> list[str]:
            with ThreadPoolExecutor(count) as pool:
                file = {"url": "data:image/png;base64," + base64.b64encode(content).decode()}
                return list(pool.map(visitor.photo, [file] * count))

        return send

    six, large = io.BytesIO(), encoded(Image.new("RGBA", (7000, 7000)), "PNG")
    with zipfile.ZipFile(six, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{number}.png", large)
    with Image.open(GROUP) as group:
        small = np.asarray(group.convert("RGB").resize((182, 96)))
    crowd = encoded(Image.fromarray(np.tile(small, (21, 11, 1))), "JPEG", quality=90)
    noise = np.random.default_rng(0).integers(0, 256, (2200, 2200, 3), np.uint8)
    return {
        **{name: photo(name, content) for name, content in bombs().items()},
        "crowd of 1,000 faces": photo("crowd.jpg", crowd),
        "six 49-megapixel PNGs in a zip": files(six.getvalue()),
        "a zip of 2,000 overlapping members": files(overlapping_zip(2000)),
        "100 zips in one request": files(*[overlapping_zip(1) + bytes(number) for number in range(100)]),
        "16 data: URLs of 19 MB at once": at_once(encoded(Image.fromarray(noise), "PNG", compress_level=0), 16),
        "comments.gif 16 times at once": at_once(bombs()["comments.gif"], 16),
        "100,000 metadata keys": video(metadata_keys),
        "audio repeated 2,000 times": video(repeated_audio),
        "flicker, 33 seconds": video(flicker),
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    wanted = sys.argv[1:]
    print(
        "| attack | CPU, s | memory, MB | other visitor's longest wait, s | answer |\n| --- | --- | --- | --- | --- |"
    )
    for name, attack in attacks(folder).items():
        if wanted and name not in wanted:
            continue
        app = App(env={"TMPDIR": str(folder)})
        attacker, other = Visitor(app, "1.1.1.1"), Visitor(app, "2.2.2.2")
        file, waits, ended = other.upload("group.jpg", GROUP.read_bytes()), [], threading.Event()
        other.photo(file)
        usage = Usage(app.process.pid)

        def innocent(other=other, file=file, waits=waits, ended=ended) -> None:
            while not ended.is_set():
                began = time.monotonic()
                assert "event: complete" in other.photo(file)
                waits.append(time.monotonic() - began)
                time.sleep(0.5)

        thread = threading.Thread(target=innocent)
        thread.start()
        answers = attack(attacker)
        ended.set()
        thread.join()
        cpu, peak = usage.figures()
        own = 0.16 * len(waits)  # of the other visitor's photos
        said = answers[0].strip().rpartition("data: ")[2].partition('"duration"')[0][:110].replace("|", "/")
        print(f"| {name} | {max(0.0, cpu - own):.1f} | {peak:.0f} | {max(waits):.2f} | {said} |", flush=True)
        app.stop()


if __name__ == "__main__":
    main()
