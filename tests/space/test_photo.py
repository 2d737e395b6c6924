"""Image files of every kind, and what isn't one."""

from __future__ import annotations

import io
import os
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from space import photo
from space.photo import MAX_PIXELS, PhotoError, open_photo, read_photo
from tests.support import EXAMPLES
from tests.support.app import python

PORTRAITS = sorted(EXAMPLES.glob("age-*.jpg"))


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255
    turn = Image.Transpose
    store = {  # what a camera writes for each value
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_90,
        7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }  # fmt: skip
    stored = Image.fromarray(upright)
    if orientation in store:
        stored = stored.transpose(store[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encode(stored, exif=exif))
    np.testing.assert_array_equal(photo, upright)


def test_gray_alpha_palette_cmyk_and_16_bit_become_rgb():
    gray = np.linspace(0, 255, 50 * 40).reshape(40, 50).astype(np.uint8)
    expected = np.repeat(gray[..., None], 3, 2)
    np.testing.assert_array_equal(read_photo(encode(Image.fromarray(gray))), expected)
    deep = read_photo(encode(Image.fromarray(gray.astype(np.uint16) * 257)))
    assert np.abs(deep.astype(int) - expected).max() <= 1
    clear = Image.new("RGBA", (50, 40), (255, 0, 0, 0))
    assert (read_photo(encode(clear)) == 255).all()  # transparent: the white page shows
    assert read_photo(encode(Image.fromarray(gray).convert("P"), "GIF")).shape == (40, 50, 3)
    assert read_photo(encode(Image.new("CMYK", (50, 40)), "TIFF")).shape == (40, 50, 3)
    assert read_photo(encode(Image.new("1", (50, 40)))).shape == (40, 50, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "readable image"),
        (b"<html>hello</html>", "readable image"),
        (PORTRAITS[0].read_bytes()[:100], "damaged"),
    ],
)
def test_files_that_are_no_picture(content, words):
    with pytest.raises(PhotoError, match=words):
        read_photo(content)


def test_photos_as_phones_and_computers_write_them():
    face = Image.open(PORTRAITS[0]).convert("RGB")
    whole, expected = encode(face, "JPEG"), np.asarray(face, int)
    motion = whole + np.random.default_rng(0).bytes(3_000_000)  # a video behind the photo
    np.testing.assert_array_equal(read_photo(motion), read_photo(whole))
    cut = open_photo(whole[: len(whole) // 2])
    assert cut.incomplete and cut.rgb.shape == expected.shape and not open_photo(whole).incomplete
    height = len(expected)
    assert np.abs(cut.rgb[: height // 4].astype(int) - expected[: height // 4]).mean() < 10
    grey12 = read_photo(encode(Image.fromarray((np.arange(64 * 64).reshape(64, 64)).astype(np.uint16)), "TIFF"))
    assert grey12.max() > 250 and 120 < grey12.mean() < 135


def test_heic_is_read():
    pillow_heif = pytest.importorskip("pillow_heif")
    face, file = Image.open(PORTRAITS[0]).convert("RGB"), io.BytesIO()
    pillow_heif.from_pillow(face).save(file, quality=90)
    assert np.abs(read_photo(file.getvalue()).astype(int) - np.asarray(face, int)).mean() < 6


def test_heic_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(photo, "pillow_heif", None)
    with pytest.raises(PhotoError, match="Export the image as JPEG"):
        open_photo(b"\0\0\0\x18ftypheic" + bytes(100), replace(photo.OWN_FILES, formats=("JPEG",)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_png_of_each_depth_is_read_up_to_its_cut_end(bits):
    rows = np.random.default_rng(0).integers(0, 256, (64, 1 + 64 * bits // 8)).astype(np.uint8)
    rows[:, 0] = 0  # no filter
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 64, 64, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows.tobytes()))]
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [*parts, (b"IEND", b"")]
    )
    expected, cut = open_photo(whole), open_photo(whole[: len(whole) // 2])
    assert cut.incomplete and not expected.incomplete
    np.testing.assert_array_equal(cut.rgb[:16], expected.rgb[:16])
    assert expected.rgb[:16].std() > 50 and not cut.rgb[-16:].any()


def test_pngs_with_a_broken_chunk_or_a_cut_end_are_read():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    whole, expected = encode(picture), np.asarray(picture)
    body = b"note\0\x07" + zlib.compress(b"text")  # a compression method that does not exist
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    broken = open_photo(whole[:33] + chunk + whole[33:])
    assert not broken.incomplete
    np.testing.assert_array_equal(broken.rgb, expected)
    cut = open_photo(whole[: len(whole) // 2])
    assert cut.incomplete
    np.testing.assert_array_equal(cut.rgb[:10], expected[:10])


@pytest.mark.parametrize(("depth", "color"), [(16, 6), (255, 6), (8, 9)])
def test_a_tiny_png_that_claims_much_is_refused_at_once(depth, color):
    """Found by a review: 8,000 x 8,000 at 16 bits took a gigabyte and ten seconds, 255 bits would have taken 30."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, depth, color, 0, 0, 0))
    started = time.monotonic()
    with pytest.raises(PhotoError):
        read_photo(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")[:2]) + chunk(b"IEND", b""))
    assert time.monotonic() - started < 2


def test_color_profiles_are_applied():
    red = Image.new("RGB", (8, 8), (200, 60, 60))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_photo(encode(red, "PNG", icc_profile=srgb))
    assert np.abs(same.astype(int) - [200, 60, 60]).max() <= 1
    seen = read_photo(encode(red, "PNG", icc_profile=exchanged()))[4, 4].astype(int)
    assert seen[1] > seen[0] + 50, seen
    cmyk = Image.new("CMYK", (8, 8), (0, 200, 200, 30))
    assert read_photo(encode(cmyk, "JPEG", icc_profile=b"no profile")).shape == (8, 8, 3)  # a broken one is ignored


def exchanged() -> bytes:
    """A profile whose red and green are exchanged: what the file calls red is a green."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {srgb[i : i + 4]: i for i in range(132, 132 + 12 * int.from_bytes(srgb[128:132], "big"), 12)}
    first, second = tags[b"rXYZ"], tags[b"gXYZ"]
    other = bytearray(srgb)
    other[first : first + 4], other[second : second + 4] = b"gXYZ", b"rXYZ"
    name = other.find("sRGB".encode("utf-16-be"))
    while name >= 0:  # a profile of that name is taken as it is
        other[name : name + 8] = "abcd".encode("utf-16-be")
        name = other.find("sRGB".encode("utf-16-be"))
    return bytes(other).replace(b"sRGB", b"abcd")


def gray_profile() -> bytes:
    """A gray profile with a gamma of 1: values are brighter in sRGB."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"wtpt": white, b"kTRC": b"curv" + bytes(8)}
    place, table, bodies = 128 + 4 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += name + struct.pack(">II", place + len(bodies), len(body))
        bodies += body
    size = place + len(bodies)
    header = struct.pack(">I4xI4s4s4s12x4s", size, 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    header = header.ljust(68, b"\0") + white[8:]  # the illuminant
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGB with a transparent color", "P", "P with transparency"])
def test_color_profiles_are_applied_to_each_kind_of_colors(mode, reduced):
    """The right half is transparent, where there is any transparency."""
    pixels = np.full((8, 8, 4), (200, 60, 60, 255), np.uint8)
    pixels[:, 4:] = (10, 20, 30, 0)
    image, options = Image.fromarray(pixels), {}
    if mode != "RGBA":
        image = image.convert("RGB")
    if mode.startswith("P"):
        image = image.quantize(2)
    if mode.endswith("color"):
        options = {"transparency": (10, 20, 30)}
    elif mode.endswith("transparency"):
        options = {"transparency": image.getpixel((7, 0))}
    content = encode(image, icc_profile=exchanged(), **options)
    rgb = open_photo(content, replace(photo.OWN_FILES, result=16 if reduced else 64)).rgb
    left, right = rgb[0, 0].astype(int), rgb[0, -1].astype(int)
    assert left[1] > left[0] + 50, left
    assert (right == 255).all() == (mode not in ("RGB", "P")), right


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("mode", ["L", "LA", "L with a transparent color"])
def test_gray_profiles_are_applied(mode, reduced):
    pixels = np.full((8, 8, 2), (50, 255), np.uint8)
    pixels[:, 4:] = (90, 0)
    image = Image.fromarray(pixels) if mode == "LA" else Image.fromarray(pixels[..., 0].copy())
    options = {"transparency": 90} if mode.endswith("color") else {}
    content = encode(image, icc_profile=gray_profile(), **options)
    rgb = open_photo(content, replace(photo.OWN_FILES, result=16 if reduced else 64)).rgb
    assert rgb[0, 0].tolist() == pytest.approx([122] * 3, abs=3)  # 50 in linear light
    assert (rgb[0, -1] == 255).all() == (mode != "L")


def test_bigtiff_is_refused_by_its_name():
    with pytest.raises(PhotoError, match="BigTIFF"):
        open_photo(encode(Image.new("RGB", (50, 40)), "TIFF", big_tiff=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "MPO"])
def test_a_file_is_what_its_content_says(kind):
    assert photo.is_image(encode(Image.new("RGB", (8, 8)), kind)[:32])
    assert not photo.is_image(b"%PDF-1.7") and not photo.is_image(b"")


def test_too_many_pixels_are_refused_before_they_are_decoded():
    side = int(MAX_PIXELS**0.5) + 100
    bomb = encode(Image.new("1", (side, side)))
    assert len(bomb) < 100_000
    with pytest.raises(PhotoError, match="megapixels"):
        read_photo(bomb)


def huge(side: tuple[int, int], **options) -> bytes:
    """A JPEG of the group photo, enlarged."""
    with Image.open(EXAMPLES / "group.jpg") as group:
        return encode(group.convert("RGB").resize(side), "JPEG", quality=70, **options)


def test_a_jpeg_of_108_megapixels_is_read_at_half_its_size():
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright
    content = huge((12_000, 9_001), exif=exif)
    opened = open_photo(content)
    assert opened.size == (9_001, 12_000) and opened.rgb.shape == (6_000, 4_501, 3) and opened.reduction == 2
    with Image.open(EXAMPLES / "group.jpg") as group:
        expected = np.asarray(group.convert("RGB").resize((300, 225)).transpose(Image.Transpose.ROTATE_270), int)
    assert np.abs(np.asarray(Image.fromarray(opened.rgb).resize((225, 300)), int) - expected).mean() < 5
    with pytest.raises(PhotoError, match="megapixels"):
        read_photo(content)


def test_progressive_and_larger_jpegs_are_rejected():
    for content in (huge((9_000, 8_000), progressive=True), encode(Image.new("L", (17_000, 16_000)), "JPEG")):
        with pytest.raises(PhotoError, match="megapixels"):
            open_photo(content)


def test_a_jpeg_that_repeats_itself_is_refused_before_it_is_decoded():
    file = io.BytesIO()
    Image.new("L", (1900, 1080), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    _, second, third = [i for i in range(len(content)) if content.startswith(b"\xff\xda", i)][:3]
    assert read_photo(content).shape == (1080, 1900, 3)
    scan = content[second:third]
    with pytest.raises(PhotoError, match="too many layers"):
        read_photo(content[:third] + scan * 20_000 + b"\xff\xd9")  # 34 bytes each


def test_one_long_side_is_refused_too():
    with pytest.raises(PhotoError, match="per side"):
        read_photo(encode(Image.new("1", (40_000, 10))))


def test_no_upload_starts_another_program(tmp_path, monkeypatch):
    """Pillow hands PostScript to Ghostscript, where there is one."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PhotoError, match="readable image"):
        read_photo(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_damaged_metadata_costs_no_photo(kind):
    """Pillow fails for a tag of the wrong type when it turns a photo, and in WebP for a broken header at once."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    exif[0x8825] = {1: "N"}
    encoded, image = io.BytesIO(), Image.new("RGB", (60, 40), "red")
    image.save(encoded, kind, exif=exif)
    assert open_photo(encoded.getvalue()).rgb.shape == (60, 40, 3)
    whole = bytearray(encoded.getvalue())
    at = whole.index(b"MM\0*" if b"MM\0*" in whole else b"II*\0")
    for change in range(8, len(exif.tobytes()) - 8):
        for value in (0, 255):
            broken = bytearray(whole)
            broken[at + change] = value
            assert sorted(open_photo(bytes(broken)).rgb.shape) == [3, 40, 60], (change, value)
    whole[at : at + 4] = bytes(4)
    assert sorted(open_photo(bytes(whole)).rgb.shape) == [3, 40, 60]


def test_large_scans_of_16_bits_are_reduced_like_others(monkeypatch):
    pixels = np.linspace(0, 65535, 400 * 300).astype(np.uint16).reshape(300, 400)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    small = replace(photo.UPLOADS, result=40_000)
    reduced = open_photo(encoded.getvalue(), small)
    assert reduced.rgb.shape == (150, 200, 3) and reduced.size == (400, 300)
    assert np.abs(reduced.rgb[:, :, 0].astype(int) - (pixels[::2, ::2] / 257)).max() <= 1


def test_jpegs_of_200_megapixels_are_read_at_a_reduced_size():
    header = io.BytesIO()
    Image.new("L", (16, 16)).save(header, "JPEG")
    content = bytearray(header.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 12240, 16320)
    assert open_photo(bytes(content)).size == (16320, 12240)


def test_texts_that_begin_like_an_image_are_none():
    texts = (b"BMW invoice 2026, with the sum of all", b"P5 is the plan of the house", b"P6", b"P5  x", b"BM")
    assert not any(map(photo.is_image, texts))
    for kind, mode in (("PPM", "RGB"), ("PPM", "L"), ("BMP", "RGB")):
        encoded = io.BytesIO()
        Image.new(mode, (3, 3)).save(encoded, kind)
        assert photo.is_image(encoded.getvalue()[:32]) and photo.is_image(b"P5\n# by hand\n3 3")


def test_decoding_in_threads_leaves_other_warnings_on():
    files = [EXAMPLES / "group.jpg", EXAMPLES / "age-20-29-male.jpg"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(open_photo, files * 10))
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)
    assert ("ignore", None, Warning, None, 0) not in warnings.filters


def test_a_program_s_own_filters_of_warnings_come_first():
    code = (
        "import io, warnings; from PIL import Image; Image.MAX_IMAGE_PIXELS = 10\n"
        "warnings.simplefilter('error', Image.DecompressionBombWarning)\n"
        "from space import photo\n"
        f"Image.open({str(EXAMPLES / 'age-20-29-male.jpg')!r})"
    )
    result = python("-c", code)
    assert result.returncode == 1 and "DecompressionBomb" in result.stderr


def test_layers_of_a_jpeg_are_limited_by_number_and_by_pixels(monkeypatch):
    file = io.BytesIO()
    Image.new("L", (200, 100), 128).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scans = content.count(b"\xff\xda")
    monkeypatch.setattr(photo, "MAX_SCANNED", scans * 20_000)
    assert read_photo(content).shape == (100, 200, 3)
    for name, value in (("MAX_SCANNED", scans * 20_000 - 1), ("MAX_SCANS", scans - 1)):
        with monkeypatch.context() as patch, pytest.raises(PhotoError, match="too many layers"):
            patch.setattr(photo, name, value)
            read_photo(content)


@pytest.mark.parametrize(
    "head", [b"RIFF\x24\0\0\0AVI LIST", b"RIFF\x24\0\0\0WAVEfmt ", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"]
)
def test_videos_and_sound_are_no_images(head):
    assert not photo.is_image(head)
