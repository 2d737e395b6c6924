"""Made-up UTKFace chips in every layout."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def chip(seed: int, age: int, gender: int) -> bytes:
    """A made-up chip that a network can learn from: brightness tells the age, color the gender."""
    generator = np.random.default_rng(seed)
    base = np.full((200, 200, 3), 50 + 1.6 * age)
    base += (45, 0, -45) if gender else (-45, 0, 45)
    noise = generator.normal(0, 12, (25, 25, 3)).repeat(8, 0).repeat(8, 1)
    return jpeg(np.clip(base + noise, 0, 255).astype(np.uint8))


def chips(count: int) -> dict[str, bytes]:
    """UTKFace file name -> content."""
    generator = np.random.default_rng(1)
    files = {}
    for i in range(count):
        age, gender, race = int(generator.integers(1, 90)), int(generator.integers(2)), int(generator.integers(5))
        files[f"{age}_{gender}_{race}_2017{i:013d}.jpg.chip.jpg"] = chip(i, age, gender)
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
