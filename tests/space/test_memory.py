"""No pixel that leaves a decoder is memory that it never wrote.

Each file is decoded twice, in processes whose heap is filled with different patterns (glibc's MALLOC_PERTURB_). A hash
that differs between the two depends on uninitialized memory, which in the app held another visitor's photo.

    python -m tests.space.test_memory --mutations 500     a long run, recorded in tests/RELIABILITY.md
"""

from __future__ import annotations

import argparse
import io
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.photo import PhotoError, read_photo
from tests.support import ROOT
from tests.support.corpus import pictures
from tests.support.videos import WOMAN, moving, write_video

WORKER = ("-m", "tests.support.memory_worker")
PATTERNS = (85, 171)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="MALLOC_PERTURB_ is a feature of glibc")


def short_strip_tiff(compression: int, data: bytes, width: int, height: int) -> bytes:
    """A TIFF whose one strip declares `height` rows and holds `data`, which decodes to fewer."""
    photometric, bits = (0, 1) if compression == 4 else (1, 8)
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, compression),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
        (284, 3, 1),
    ]
    start = 8 + len(data) + len(data) % 2
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags)
    return b"II*\0" + struct.pack("<I", start) + data + b"\0" * (len(data) % 2) + directory + b"\0" * 4


def short_strips() -> list[bytes]:
    jpeg, fax = io.BytesIO(), io.BytesIO()
    Image.new("L", (1024, 8), 200).save(jpeg, "JPEG")
    Image.new("1", (1024, 8), 1).save(fax, "TIFF", compression="group4")
    with Image.open(fax) as image:
        offset, length = image.tag_v2[273][0], image.tag_v2[279][0]
    strip = fax.getvalue()[offset : offset + length]
    return [short_strip_tiff(7, jpeg.getvalue(), 1024, 768), short_strip_tiff(4, strip, 1024, 768)]


def mutations(content: bytes, count: int, generator: np.random.Generator) -> list[bytes]:
    """`count` damaged copies: a cut end, changed bytes, or a changed 16-bit field near the start."""
    copies = []
    for number in range(count):
        copy = bytearray(content)
        if number % 3 == 0:
            copy = copy[: generator.integers(len(copy) // 3, len(copy))]
        elif number % 3 == 1:
            for place in generator.integers(0, len(copy), generator.integers(1, 6)):
                copy[place] = generator.integers(256)
        else:
            place = int(generator.integers(0, max(1, min(len(copy) - 2, 400))))
            copy[place : place + 2] = struct.pack("<H" if number % 2 else ">H", int(generator.integers(1, 400)))
        copies.append(bytes(copy))
    return copies


def leaks(kind: str, files: list[bytes], folder: Path) -> tuple[list[Path], int]:
    """Files whose pixels depend on the memory that they were decoded in, and how many files decode at all."""
    paths = []
    for number, content in enumerate(files):
        paths.append(folder / f"{kind}-{number}")
        paths[-1].write_bytes(content)
    answers = []
    for pattern in PATTERNS:
        environment = os.environ | {"MALLOC_PERTURB_": str(pattern), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
        # In parts: one crash must not hide what comes after it.
        lines = []
        for start in range(0, len(paths), 2000):
            part = paths[start : start + 2000]
            result = subprocess.run(
                [sys.executable, *WORKER, kind, *part], cwd=ROOT, env=environment, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr[-2000:]
            lines += result.stdout.split()
        assert len(lines) == len(paths)
        answers.append(lines)
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of no bytes
    return [path for path, *two in zip(paths, *answers, strict=True) if len(set(two)) > 1], sum(
        digest != nothing for digest in answers[0]
    )


def images(count: int, seed: int) -> list[bytes]:
    """The corpus, files with short strips, and `count` mutations of each."""
    generator = np.random.default_rng(seed)
    seeds = [content for content in [*pictures(), *short_strips()] if len(content) > 8]
    return [file for content in seeds for file in (content, *mutations(content, count, generator))]


def videos(count: int, seed: int, folder: Path) -> list[bytes]:
    """Short videos of every codec, and `count` mutations of each."""
    generator = np.random.default_rng(seed)
    kinds = (
        ("a.mp4", "libx264"),
        ("b.mp4", "libx265"),
        ("c.webm", "libvpx"),
        ("d.mkv", "libvpx-vp9"),
        ("e.mp4", "libsvtav1"),
        ("f.avi", "mpeg4"),
        ("g.avi", "mjpeg"),
        ("h.avi", "h263"),
    )
    files = []
    for name, codec in kinds:
        size = (176, 144) if codec == "h263" else (96, 64)
        content = write_video(folder / name, moving(5, (WOMAN,), size, 40), codec=codec).read_bytes()
        files += [content, *mutations(content, count, generator)]
    return files


def test_tiffs_with_short_strips_are_refused():
    for content in short_strips():
        with pytest.raises(PhotoError, match="TIFF"):
            read_photo(content)


def test_no_image_shows_uninitialized_memory(tmp_path):
    found, decoded = leaks("image", images(12, 1), tmp_path)
    assert not found
    assert decoded > 100


def test_no_video_frame_shows_uninitialized_memory(tmp_path):
    found, decoded = leaks("video", videos(8, 1, tmp_path), tmp_path)
    assert not found
    assert decoded > 20


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    for kind, files in (
        ("image", images(options.mutations, options.seed)),
        ("video", videos(options.mutations, options.seed, folder)),
    ):
        found, decoded = leaks(kind, files, folder)
        print(f"{kind}: {len(files)} files, {decoded} decode, {len(found)} show uninitialized memory", *found)
