"""Encoded images → one array of face crops, kept on disk."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from tqdm import tqdm

from space.hub.download import ModelError
from space.photo import OWN_FILES, to_pixels
from space.text import some_of
from training.data.cropping import FaceCropper, method
from training.data.samples import IMAGE_SIZE, Samples
from training.data.sources import DataError, cache_folder, check_disk, new_in_cache

_IN_MEMORY = 2048  # pictures; fewer are decoded anew each time instead of filling the cache folder


def decode(samples: Samples, cropper: FaceCropper | None = None, *, framed: bool = True) -> tuple[Samples, np.ndarray]:
    """Decode the pictures, in parallel, into one array that is kept on disk for the next time.

    It is kept in `$AGE_GENDER_CACHE`, else in `~/.cache/age_gender`: 120 kB a face. Sets of up to 2048 faces are not.

    Args:
        samples: N faces.
        cropper: crops the faces of photos. None: images are cropped unless they are framed like UTKFace's
            (`FaceCropper.crop_unless_framed`).
        framed: without a cropper, take images of 200 x 200 pixels as UTKFace's crops and don't check them.

    Returns:
        The samples whose picture can be read (those that cannot are named on the terminal), and their
        pictures: uint8 [M, 200, 200, 3] RGB, read-only, memory-mapped when cached.

    Raises:
        DataError: no picture can be read, or the disk has no room for the cache.
    """
    if len(samples) <= _IN_MEMORY:
        images = np.empty((len(samples), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        order = _decode_into(samples, images, cropper, framed=framed)
    else:
        images, order = _decode_cached(samples, cropper, framed=framed)
    if len(order) < len(samples):
        names = [str(name) for name in np.delete(samples.name, order)]
        what = (
            "Images without a detectable face" if cropper else "Unreadable images or photos without a detectable face"
        )
        print(f"{what}, skipped: {len(names)}: {some_of(names, 10)}")
        if not len(order):
            reason = "No face was found in them." if cropper else "They are damaged, or no face was found in them."
            raise DataError(f"There are no usable images. {reason}")
        samples, images = samples.take(order), images[: len(order)]
    images.flags.writeable = False
    return samples, images


def _decode_cached(samples: Samples, cropper: FaceCropper | None, *, framed: bool) -> tuple[np.ndarray, np.ndarray]:
    folder = cache_folder()
    key = hashlib.sha256("".join(samples.sha256).encode()).hexdigest()[:16]
    # Photos among face crops are cropped too.
    key += f"-{IMAGE_SIZE}-srgb-{'photos' if cropper else 'crops' if framed else 'checked'}-{method()}"
    pixels, places = folder / f"{key}.npy", folder / f"{key}.order.npy"
    shape = (len(samples), IMAGE_SIZE, IMAGE_SIZE, 3)
    if pixels.is_file() and places.is_file():
        images = np.load(pixels, mmap_mode="r")
        if images.shape == shape:
            return images, np.load(places)
    try:
        with new_in_cache(pixels.name) as partial:
            need, free = int(np.prod(shape)), shutil.disk_usage(folder).free
            if free < need + (64 << 20):
                raise DataError(
                    f"{folder} has {free / 1e9:.1f} GB free, decoded images need {need / 1e9:.1f} GB: free space, or "
                    "set AGE_GENDER_CACHE to a folder on a larger disk."
                )
            images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            order = _decode_into(samples, images, cropper, framed=framed)
            images.flush()
            del images
            np.save(places, order)
    except OSError as error:
        raise DataError(f"Can't store decoded images in {folder}: {error}. Set AGE_GENDER_CACHE.") from error
    return np.load(pixels, mmap_mode="r"), order


def _decode_into(samples: Samples, images: np.ndarray, cropper: FaceCropper | None, *, framed: bool) -> np.ndarray:
    """Fill `images` from its beginning; returns which sample each picture is of, without those that cannot be read."""
    photos, default = [], functools.cache(FaceCropper)

    def one(i: int) -> bool:
        try:
            encoded = samples.encoded[i]
            if cropper:
                images[i] = cropper(decode_picture(encoded))
            elif framed and image_size(encoded) == (IMAGE_SIZE, IMAGE_SIZE):
                images[i] = decode_picture(encoded)
            else:  # perhaps a photo under the name of a face crop
                images[i], cropped = default().crop_unless_framed(decode_picture(encoded))
                photos.extend([i] * cropped)
        except (MemoryError, ModelError):  # no fault of the image
            raise
        except OSError as error:
            check_disk(samples.name[i], error)
            return False  # Pillow's, for a damaged file
        except Exception:  # damaged files make decoders raise almost anything
            return False
        return True

    count = len(samples)
    every = 0.1 if sys.stderr.isatty() else 10.0  # seconds; in a log, each update stays
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(one, range(count), chunksize=64)
        progress = tqdm(done, "Decoding", count, unit=" images", disable=count < 1000, mininterval=every)
        readable = np.fromiter(progress, bool, count)
    if photos:
        print(f"{len(photos)} of {count} images are photos, not face crops: their faces are detected and cropped")
    order = np.arange(count)
    usable = int(readable.sum())
    # Gaps are filled from the end, because removing them by index would copy gigabytes into memory.
    for gap, last in zip(np.flatnonzero(~readable[:usable]), usable + np.flatnonzero(readable[usable:]), strict=True):
        images[gap], order[gap] = images[last], last
    return order[:usable]


def image_size(encoded: bytes | str) -> tuple[int, int]:
    """Width and height of a picture (bytes, or the path of a file), in pixels; its pixels are not decoded."""
    with _open(encoded) as image:
        return image.size


def decode_picture(encoded: bytes | str) -> np.ndarray:
    """One picture (bytes, or the path of a file) as uint8 [H, W, 3], with the pixels that serving reads of it.

    Raises:
        OSError: it is damaged, or incomplete, which serving accepts.
    """
    with _open(encoded) as image:
        image.load()
        return to_pixels(image)


def _open(encoded: bytes | str) -> Image.Image:
    """An image in one of the formats that serving reads, whatever its suffix says."""
    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded, formats=OWN_FILES.formats)
