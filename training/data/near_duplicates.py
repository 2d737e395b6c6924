"""Find re-encoded, resized or brightened copies of other images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from training.images import Images

SIDE = 32  # pixels of the gray image that is hashed
BITS = 8  # by which the 64-bit hashes of two copies may differ
CORRELATION = 0.99  # that the thumbnails of two copies have at least
THUMB = 16
_BLOCK = 2048  # hashes compared at once


def near_duplicates(images: Images, others: Sequence[Images]) -> np.ndarray:
    """Which of `images` are a copy of one in `others`, each uint8 [., H, W, 3]: bool [N].

    Copies have similar perceptual hashes (the lowest frequencies, above or below their median) and similar thumbnails.
    """
    hashes, thumbs = _describe(images)
    other_hashes, other_thumbs = (np.concatenate(part) for part in zip(*map(_describe, others), strict=True))
    found = np.zeros(len(images), bool)
    for start in range(0, len(images), _BLOCK):
        apart = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ other_hashes[None])
        for i, j in np.argwhere(apart <= BITS):
            found[start + i] |= float(np.sum(thumbs[start + i] * other_thumbs[j])) >= CORRELATION
    return found


def _describe(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Hashes, uint64 [N], and gray thumbnails with mean 0 and norm 1, float32 [N, THUMB, THUMB]."""
    hashes, thumbs = np.zeros(len(images), np.uint64), np.zeros((len(images), THUMB, THUMB), np.float32)
    for i, image in enumerate(images):
        gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        low = cv2.dct(gray.astype(np.float32))[:8, :8].ravel()
        low[0] = 0.0  # the brightness
        hashes[i] = np.packbits(low > np.median(low)).view(np.uint64)[0]
        thumbs[i] = cv2.resize(gray, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
        thumbs[i] -= thumbs[i].mean()
        thumbs[i] /= max(1.0, float(np.linalg.norm(thumbs[i])))
    return hashes, thumbs
