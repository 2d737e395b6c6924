"""A picture file → upright 8-bit RGB pixels. Everything strangers send passes through here first."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 64_000_000  # 192 MB as RGB, and three times that while it is drawn on
MAX_SIDE = 32_000  # pixels; OpenCV's warps end at 32,767
MAX_SCANS = 100  # of a JPEG
MAX_SCANNED = 1_500_000_000  # pixels in all scans of a JPEG
# Named, so that no file of a stranger's starts a decoder nobody needs: Pillow hands PostScript to Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")  # MPO comes with JPEG
# Pillow passes on the whole strip buffer even when the codec fills only part of it. JPEG and CCITT strips may end early
# without an error, and the rest is then memory of an earlier request. These codecs fail instead.
TIFF_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "zstd", "lzma")


class PhotoError(ValueError):
    """The file cannot be used as a photo; the message is for the person who sent it."""


def read_photo(source: str | Path | bytes, *, most_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a picture: EXIF orientation applied, transparency on white, 16 bits and greys turned into 8-bit RGB.

    Args:
        source: the path of a file, or a file's content. Of an animation the first picture is taken.
        most_pixels: refuse more before they are decoded.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        PhotoError: no picture of FORMATS, a damaged one, or one of more than `most_pixels` or MAX_SIDE.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata nobody reads, and sizes that are checked here
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
                width, height = image.size
                if width * height > most_pixels or max(width, height) > MAX_SIDE:
                    raise Image.DecompressionBombError
                if image.format in ("JPEG", "MPO") and _too_many_scans(image):
                    raise PhotoError("The picture is damaged: it has too many layers. Save it again or use another.")
                if image.format == "TIFF" and image.info.get("compression") not in TIFF_COMPRESSIONS:
                    raise PhotoError("TIFF images with JPEG or fax compression aren't supported. Use JPEG or PNG.")
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise PhotoError(
            f"The picture is too large: at most {most_pixels // 1_000_000} megapixels and {MAX_SIDE:,} pixels a side. "
            "Make it smaller and try again."
        ) from None
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        raise PhotoError("This file is no picture that can be read. Use a JPEG, PNG or WebP file.") from None
    except FileNotFoundError:
        raise PhotoError(f"There is no file {source}.") from None
    except MemoryError:
        raise PhotoError("The picture needs more memory than there is. Make it smaller and try again.") from None
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        raise PhotoError(
            f"The picture is damaged and cannot be read ({error}). Save it again or use another."
        ) from error


def _too_many_scans(image: Image.Image) -> bool:
    """Whether a JPEG repeats its pixels so often that it is no photo; a progressive one has about ten scans."""
    image.fp.seek(0)
    scans = image.fp.read().count(b"\xff\xda")  # never within a scan, where FF is followed by 00
    return scans > MAX_SCANS or scans * image.width * image.height > MAX_SCANNED


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, np.float32)
        top = 65535.0 if image.mode.startswith("I;16") else max(1.0, float(np.nan_to_num(values).max()))
        if image.mode == "I" and 255 < top <= 65535:
            top = 65535.0  # a 16-bit file that Pillow opens with 32 bits
        grey = np.clip(np.nan_to_num(values) * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))
