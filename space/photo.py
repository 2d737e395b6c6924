"""An image file → upright 8-bit RGB pixels. Everything visitors send passes through here first."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, TiffImagePlugin

try:
    import pillow_heif

    pillow_heif.register_heif_opener()
except ImportError:  # no wheel on this platform
    pillow_heif = None  # type: ignore[assignment]

# Pillow warns about metadata that isn't used and about sizes that are checked here. `catch_warnings` isn't thread-safe.
# A program's own filters come first.
warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif", append=True)

MAX_PIXELS = 64_000_000  # 192 MB as RGB, and three times that while it is drawn on
MAX_SIDE = 32_000  # pixels; OpenCV's warps end at 32,767
MAX_SCANS = 100  # of a JPEG
MAX_REPAIRED = 100_000_000  # bytes of the pixels of a damaged PNG
MAX_SCANNED = 1_500_000_000  # pixels in all scans of a JPEG
_TIFF_COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate, PackBits, Deflate, LZMA, Zstandard
_RAW_TAGS = (330, 50706)  # SubIFDs, DNGVersion: the first image of a raw camera file is its thumbnail
_NO_MEMORY = "The image needs more memory than is available. Resize it and try again."
_NO_RAW = "Raw camera files (DNG, NEF, CR2, ARW and others) aren't supported. Export the photo as JPEG."
_RAW_SIGNATURES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
_SHORT_SIGNATURES = re.compile(rb"P[56]\s+[\d#]|BM.{4}\0{4}", re.DOTALL)  # of PPM and BMP; texts begin so, too
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a JPEG, outside of entropy-coded data
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # what the pixels need
_UPRIGHT = {  # EXIF orientation → what makes an image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class PhotoError(ValueError):
    """The file can't be used as a photo; the message is for the person who sent it."""


class PhotoMemoryError(PhotoError):
    """The image needs more memory than is available."""


@dataclass(frozen=True)
class Limits:
    """Which image files are decoded."""

    formats: tuple[str, ...]  # Pillow's names; named, because Pillow hands PostScript to Ghostscript
    pixels: int  # largest image to decode
    reduced: int  # largest single-scan JPEG, in pixels of the file: it is decoded at 1/2, 1/4 or 1/8 of its size
    result: int  # largest image to return: larger ones are reduced by 2, 4 or 8


UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF") + (("HEIF",) if pillow_heif else ())  # JPEG: MPO too
OWN_FILES = Limits((*UPLOAD_FORMATS, "TIFF", "PPM"), MAX_PIXELS, 256_000_000, MAX_PIXELS)
UPLOADS = Limits(UPLOAD_FORMATS, 50_000_000, 256_000_000, 25_000_000)
FRAMES = Limits(("JPEG",), 1920 * 1088, 0, 1920 * 1088)  # of a live stream; encoders round 1080 up to a multiple of 16


@dataclass(frozen=True)
class Photo:
    """A decoded image file."""

    rgb: np.ndarray  # uint8 [H, W, 3]
    size: tuple[int, int]  # width and height of the upright image in the file; `rgb` is smaller if it was reduced
    incomplete: bool = False  # the file is cut off or damaged; what is missing is gray or black

    @property
    def reduction(self) -> int:
        """The factor by which `rgb` is smaller than the image in the file: 1, 2, 4 or 8."""
        return round(self.size[0] / self.rgb.shape[1])


def read_photo(source: str | Path | bytes) -> np.ndarray:
    """Decode an image file at full size; as `open_photo`, but returns only the pixels, uint8 [H, W, 3] RGB."""
    return open_photo(source, replace(OWN_FILES, reduced=0)).rgb.copy()  # Pillow's own memory is read-only


def open_photo(source: str | Path | bytes, limits: Limits = OWN_FILES) -> Photo:
    """Decode an image file: EXIF orientation and color profile applied, transparency on white, 8 bits per channel.

    The content, not the name, determines a file's format. Only the first image of an animation and the still image of
    a motion photo are read. Damaged JPEG and PNG files are read as far as they go, as browsers do.

    Args:
        source: the path of a file, or a file's content.
        limits: what is decoded. Progressive JPEGs above `limits.pixels` are rejected, because decoding them needs
            memory for all their pixels.

    Raises:
        PhotoError: the file isn't in one of the formats, is damaged, or exceeds these limits or MAX_SIDE.
    """
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
    except FileNotFoundError:
        raise PhotoError(f"There is no file {source!s}.") from None
    except OSError as error:
        raise PhotoError(f"The file can't be read ({error.strerror}).") from None
    try:
        try:
            return _decode(content, limits)
        except (PhotoError, Image.DecompressionBombError, MemoryError):
            raise
        except Exception:
            repaired, incomplete = _repaired(content, limits.pixels)
            if repaired is None:
                raise
            return replace(_decode(repaired, limits), incomplete=incomplete)
    except Image.DecompressionBombError:
        raise PhotoError(
            f"The image is too large: the limit is {limits.pixels // 1_000_000} megapixels and {MAX_SIDE:,} pixels per "
            "side. Resize it and try again."
        ) from None
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        raise PhotoError(_why_unidentified(content)) from None
    except MemoryError:
        raise PhotoMemoryError(_NO_MEMORY) from None
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        if str(error) == "could not create decoder object":  # WebP's, for want of memory
            raise PhotoMemoryError(_NO_MEMORY) from None
        raise PhotoError(f"The image is damaged and can't be read ({error}). Save it again or use another.") from error


def _why_unidentified(content: bytes) -> str:
    if content.startswith(_RAW_SIGNATURES) or content[4:12] == b"ftypcrx ":
        return _NO_RAW
    if content[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF images aren't supported here. Export the image as JPEG or PNG."
    if pillow_heif is None and is_heif(content):
        return "HEIC images aren't supported on this machine. Export the image as JPEG."
    return "This file isn't a readable image. Use JPEG, PNG, WebP or HEIC."


def image_pixels(content: bytes, limits: Limits = OWN_FILES) -> int:
    """How many pixels an image file says it has; 0 if it isn't one."""
    with suppress(Exception), Image.open(io.BytesIO(content), formats=limits.formats) as image:
        return image.width * image.height
    return 0


def is_image(content: bytes) -> bool:
    """Whether a file that begins with `content` (32 bytes are enough) is an image of a supported format."""
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    avif = content[4:8] == b"ftyp" and content[8:12] in (b"avif", b"avis")
    signed = content.startswith(_SIGNATURES) or _SHORT_SIGNATURES.match(content) is not None
    return signed or webp or avif or is_heif(content)


def is_heif(content: bytes) -> bool:
    """Whether a file that begins with `content` is HEIC or HEIF."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS


def _opened(content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """An image whose pixels aren't decoded yet."""
    try:
        return Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError:  # for more than 179 megapixels, before it tells the size
        if not content.startswith(b"\xff\xd8\xff"):
            raise
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content))


def _decode(content: bytes, limits: Limits) -> Photo:
    with _opened(content, limits.formats) as image:
        width, height = image.size
        jpeg = image.format in ("JPEG", "MPO")
        reducible = jpeg and "progressive" not in image.info and width * height <= max(limits.reduced, limits.pixels)
        if reducible and width * height > limits.result:
            by = _factor(image.size, limits.result)
            image.draft(None, (width // by, height // by))  # a JPEG decoder gives these sizes at no extra cost
        if max(image.size) > MAX_SIDE or image.width * image.height > limits.pixels:
            raise Image.DecompressionBombError
        if jpeg and _too_many_scans(content, width * height):
            raise PhotoError("The image is damaged: it has too many layers. Save it again or use another.")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _check_tiff(content, image.tag_v2)
        image.load()
        turned = _orientation(image) in (5, 6, 7, 8)
        return Photo(to_pixels(_within(image, limits.result)), (height, width) if turned else (width, height))


def _check_tiff(content: bytes, tags) -> None:
    """Reject raw camera files and compressions that can end early; `tags`: Pillow's reading of the first directory.

    Pillow passes on the whole strip buffer even when the codec fills only part of it. JPEG and fax strips may end early
    without an error. A tag that is named twice is read differently by libtiff and Pillow.
    """
    order = "<" if content.startswith(b"II") else ">"
    version, offset = struct.unpack_from(f"{order}HI", content, 2)
    (count,) = struct.unpack_from(f"{order}H", content, offset)
    names = [struct.unpack_from(f"{order}H", content, offset + 2 + 12 * i)[0] for i in range(count)]
    if tags.get(254, 0) & 1 or any(tag in names for tag in _RAW_TAGS):
        raise PhotoError(_NO_RAW)
    if version != 42:
        raise PhotoError("BigTIFF images aren't supported. Use JPEG or PNG.")
    if len(set(names)) < count or tags.get(259, 1) not in _TIFF_COMPRESSIONS:
        raise PhotoError("TIFF images with JPEG or fax compression aren't supported. Use JPEG or PNG.")


def _within(image: Image.Image, pixels: int) -> Image.Image:
    """A decoded image, reduced by 2, 4 or 8 if it has more pixels; it keeps its orientation and colors."""
    by = _factor(image.size, pixels)
    if by == 1:
        return image
    if image.mode.startswith("I;16"):
        small = Image.fromarray(np.asarray(image)[::by, ::by])  # Pillow reduces no 16 bits
    else:
        modes = {"P": "RGBA" if image.has_transparency_data else "RGB", "1": "L"}
        small = image.convert(modes.get(image.mode, image.mode)).reduce(by)
    kept = ("icc_profile",) if image.mode == "P" else ("icc_profile", "transparency")
    small.info = {key: image.info[key] for key in kept if key in image.info}
    small.getexif()[ExifTags.Base.Orientation] = _orientation(image)
    return small


def _factor(size: tuple[int, int], pixels: int) -> int:
    """The smallest factor per side, of 1, 2, 4 and 8, that brings an image within `pixels`; 8 if none does."""
    return next((by for by in (1, 2, 4) if size[0] * size[1] <= by * by * pixels), 8)


def to_pixels(image: Image.Image) -> np.ndarray:
    """A Pillow image as uint8 [H, W, 3] RGB: upright, in sRGB, transparency on white, any depth."""
    method = _UPRIGHT.get(_orientation(image))
    return _to_rgb(_to_srgb(image if method is None else image.transpose(method)))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if the metadata is damaged.

    Pillow's `exif_transpose` fails if any tag is wrong, because it writes all of them again.
    """
    with suppress(Exception):  # damaged metadata makes Pillow raise almost anything
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if found in _UPRIGHT else 1
    return 1


def _too_many_scans(content: bytes, pixels: int) -> bool:
    """Whether a JPEG repeats its pixels so often that it is no photo; a progressive one has about ten scans."""
    scans = 0
    for marker in _jpeg_markers(content):
        scans += marker == 0xDA
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
            return True
    return False


def _jpeg_markers(content: bytes):
    """Markers up to the end of the first image: what follows may be a motion photo's video."""
    position = 2
    while match := _MARKER.search(content, position):
        marker, position = match[0][1], match.end()
        yield marker
        if marker == 0xD9:
            return
        if marker not in (0x01, 0xD8):  # which have no length
            position += max(2, int.from_bytes(content[position : position + 2], "big"))


def _repaired(content: bytes, most_pixels: int) -> tuple[bytes | None, bool]:
    """A JPEG or PNG that decodes as far as it is whole, and whether pixels are missing; None for hopeless cases."""
    if content.startswith(b"\xff\xd8\xff"):
        return content + b"\xff\xd9", True  # libjpeg fills what is missing with gray
    if content.startswith(_PNG_SIGNATURE):
        with suppress(ValueError, struct.error, zlib.error, KeyError):
            return _repaired_png(content, most_pixels)
    return None, False


def _repaired_png(content: bytes, most_pixels: int) -> tuple[bytes, bool]:
    """The chunks of a PNG that its pixels need, with new checksums; missing pixels become black."""
    chunks, parts, position = [], [], len(_PNG_SIGNATURE)
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        body = content[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IDAT":
            parts.append(body)
        elif kind in _PNG_CHUNKS and kind != b"IEND":
            chunks.append((kind, body))
    header = dict(chunks)[b"IHDR"]
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    size = height * ((width * samples * depth + 7) // 8 + 1)
    if not 0 < width * height <= most_pixels or depth not in (1, 2, 4, 8, 16) or size > MAX_REPAIRED:
        raise ValueError("not worth a repair")
    padded = size * (2 if interlaced else 1)  # interlaced images have more rows
    pixels = zlib.decompressobj().decompress(b"".join(parts), padded)
    chunks.append((b"IDAT", zlib.compress(pixels + bytes(padded - len(pixels)), 1)))
    chunks.append((b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ), len(pixels) < size


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply an embedded color profile, if it is usable and not sRGB already."""
    icc = image.info.get("icc_profile")
    if not icc:
        return image
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("L", "RGB") and image.has_transparency_data:  # a color that is transparent
        image = image.convert(f"{image.mode}A")
    if image.mode not in ("RGB", "RGBA", "CMYK", "L", "LA"):
        return image
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        description = ImageCms.getProfileDescription(profile) or ""
        if "sRGB" in description and "linear" not in description.lower():
            return image
        alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
        colors = image.convert(image.mode[:-1]) if alpha else image
        converted = ImageCms.profileToProfile(colors, profile, _SRGB, outputMode="RGB")
        assert converted is not None  # it isn't converted in place
        if alpha:
            converted.putalpha(alpha)
        return converted
    return image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.nan_to_num(np.asarray(image, np.float32))
        highest = float(values.max(initial=0.0))
        if image.mode == "F":
            top = max(1.0, highest)
        else:  # 8, 12, 16 or 32 bits, whatever the file keeps them in
            top = next((top for top in (255.0, 4095.0, 65535.0) if highest <= top), highest)
            top = 65535.0 if image.mode.startswith("I;16") and highest <= 255 else top
        gray = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
