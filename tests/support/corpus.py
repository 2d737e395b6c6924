"""Small images of every kind that the app reads: the seeds of the fuzzer and of the memory test."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from space import photo


def pictures() -> list[bytes]:
    """One small picture of every kind."""
    gray = np.arange(48 * 40).reshape(40, 48) % 256
    rgb = Image.fromarray(np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [(rgb, f, {}) for f in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "MPO")]
    kinds += [
        (rgb, "JPEG", {"exif": exif, "progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb.convert("P"), "PNG", {"transparency": 3}),
        (rgb.convert("RGBA"), "PNG", {}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (Image.fromarray((gray * 200).astype(np.uint16)), "PNG", {}),
        (Image.fromarray((gray * 200).astype(np.uint16)), "TIFF", {"compression": "tiff_lzw"}),
        (Image.fromarray(gray.astype(np.float32)), "TIFF", {}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (rgb, "GIF", {"save_all": True, "append_images": [rgb.rotate(90), rgb]}),
        (rgb, "WEBP", {"save_all": True, "append_images": [rgb.rotate(90)]}),
    ]  # fmt: skip
    if photo.pillow_heif:
        kinds.append((rgb, "HEIF", {}))
    files = []
    for image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return [*files, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html><script>alert(1)</script></html>", b""]
