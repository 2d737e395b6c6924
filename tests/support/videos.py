"""Videos of the example faces, for the video page, the live page and the README's screenshots.

python -m tests.support.videos camera.mjpeg      what Chromium plays as a camera
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.support import EXAMPLES

WOMAN, MAN = "age-20-29-female.jpg", "age-40-49-male.jpg"


def moving(
    frames: int, names=(WOMAN, MAN), size=(640, 480), side=180, rate=30, reach=40.0, gone: range = range(0)
) -> Iterator[np.ndarray]:
    """uint8 [H, W, 3] frames: faces side by side, `side` pixels each, swaying; the last one is away during `gone`."""
    width, height = size
    faces = [Image.open(EXAMPLES / name).convert("RGB").resize((side, side)) for name in names]
    for i in range(frames):
        scene = Image.new("RGB", size, (128, 132, 138))
        for k, face in enumerate(faces):
            if i in gone and k == len(faces) - 1:
                continue
            angle = 2 * math.pi * i / rate / 4 + k
            x = (k + 0.5) * width / len(faces) - side / 2 + reach * math.sin(angle)
            y = height / 2 - side / 2 + reach / 3 * math.cos(angle)
            scene.paste(face, (round(x), round(y)))
        yield np.asarray(scene)


def write_video(
    path, pictures, *, rate=30, codec="libx264", sound=None, sound_rate=48000, times=None, title=""
) -> Path:
    """A video by PyAV; `sound`: a codec's name, for a tone; `times`: of frames in seconds, instead of `rate`."""
    with av.open(str(path), "w") as out:
        out.metadata.update({"title": title} if title else {})
        stream = None
        tone = None
        if sound:
            tone = out.add_stream(sound, rate=sound_rate)
            tone.layout = "mono"
        count = 0
        for i, picture in enumerate(pictures):
            if stream is None:
                stream = out.add_stream(codec, rate=rate)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                if times is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[i]), Fraction(1, 1000)
            for packet in stream.encode(frame):
                out.mux(packet)
            count += 1
        for packet in stream.encode():
            out.mux(packet)
        if tone:
            wave = np.sin(2 * np.pi * 440 * np.arange(sound_rate * count // rate) / sound_rate)
            wave = (8000 * wave).astype(np.int16)
            for start in range(0, len(wave), 960):
                frame = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = sound_rate, start, Fraction(1, sound_rate)
                for packet in tone.encode(frame):
                    out.mux(packet)
            for packet in tone.encode():
                out.mux(packet)
    return Path(path)


TO_RIGHT = (0, 1, -1, 0)  # by 90°, as phones mark what is recorded upright


def turned(video: Path, target: Path, matrix: tuple[int, int, int, int] = TO_RIGHT) -> Path:
    """The same MP4 marked to be shown as a matrix says: (x, y) moves to (a·x + c·y, b·x + d·y)."""
    number = lambda *values: b"".join(int(v * 65536).to_bytes(4, "big", signed=True) for v in values)  # noqa: E731
    content = video.read_bytes()
    header = content.index(b"tkhd")
    as_is = number(1, 0, 0, 0, 1, 0, 0, 0) + (1 << 30).to_bytes(4, "big")
    place = content.index(as_is, header)
    a, b, c, d = matrix
    changed = number(a, b, 0, c, d, 0, 0, 0) + (1 << 30).to_bytes(4, "big")
    target.write_bytes(content[:place] + changed + content[place + len(as_is) :])
    return target


def write_camera(path, pictures) -> Path:
    """Concatenated JPEGs, which Chromium takes for --use-file-for-fake-video-capture."""
    with open(path, "wb") as file:
        for picture in pictures:
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=92)
            file.write(buffer.getvalue())
    return Path(path)


if __name__ == "__main__":
    write_camera(sys.argv[1], moving(240))
