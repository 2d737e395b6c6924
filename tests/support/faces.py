"""Made-up UTKFace files in every layout, and held-out FairFace photos."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support import shared
from training.data.samples import PROTOCOLS, Samples

LOADING = {"policy": "clean", "protocol": "80/10/10", "limit": None, "seed": 0}  # for `load_faces`


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def face_file(seed: int, age: int, gender: int) -> bytes:
    """A made-up face that a network can learn from: brightness tells the age, color the gender."""
    generator = np.random.default_rng(seed)
    base = np.full((200, 200, 3), 50 + 1.6 * age)
    base += (45, 0, -45) if gender else (-45, 0, 45)
    noise = generator.normal(0, 12, (25, 25, 3)).repeat(8, 0).repeat(8, 1)
    return jpeg(np.clip(base + noise, 0, 255).astype(np.uint8))


def face_files(count: int) -> dict[str, bytes]:
    """UTKFace file name -> content."""
    generator = np.random.default_rng(1)
    files = {}
    for i in range(count):
        age, gender, race = int(generator.integers(1, 90)), int(generator.integers(2)), int(generator.integers(5))
        files[f"{age}_{gender}_{race}_2017{i:013d}.jpg.chip.jpg"] = face_file(i, age, gender)
    return files


def write_folder(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tar_bytes(files: dict[str, bytes]) -> bytes:
    """A .tar.gz as the Hub dataset has it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"UTKFace/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def split_of(content: bytes) -> int:
    """Of ten: with the protocol 80/10/10, 0 to 7 are training faces, 8 validation faces and 9 test faces."""
    return int(hashlib.sha256(content).hexdigest(), 16) % 10


def held_out(count: int, folder: Path) -> list[tuple[Path, str, int]]:
    """Write held-out FairFace photos from ../shared to `folder`; returns each one's path, gender and age band index."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(shared("data/FairFace/0.25/train-00000-of-00001.parquet"))
    chosen = []
    for row in next(table.iter_batches(20 * count)).to_pylist():
        content = row["image"]["bytes"]
        if split_of(content) in PROTOCOLS["80/10/10"]["test"] and len(chosen) < count:
            chosen.append((folder / f"face-{len(chosen):04d}.webp", ("male", "female")[row["gender"]], row["age"]))
            chosen[-1][0].write_bytes(content)
    return chosen


def three(*ages: list[int]) -> Samples:
    """Three faces whose labels are these ranges of years."""
    return Samples(
        name=np.array(list("abc")), age_range=np.array(ages, np.float32), gender=np.array([0, 1, 0], np.int8),
        race=np.zeros(3, np.int8), sha256=np.array(list("abc")), encoded=(b"",) * 3,
    )  # fmt: skip
