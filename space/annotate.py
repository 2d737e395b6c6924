"""Faces drawn on an image: `(image, faces) -> image`."""

from __future__ import annotations

import unicodedata

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .face import Face, whole_years

# Blue and orange stay apart for people who don't tell red from green. The page reads these as CSS variables.
COLORS = {"female": (196, 78, 0), "male": (0, 104, 168), "uncertain": (90, 90, 90)}
WHITE = (255, 255, 255)


def in_font(text: str) -> str:
    """A text without the accents that Pillow's font lacks: `maennlich`, `feminin`. It would draw boxes for them."""
    german = unicodedata.normalize("NFKD", text).replace("\N{COMBINING DIAERESIS}", "e").replace("ß", "ss")
    return german.encode("ascii", "ignore").decode()


def label(face: Face, words: dict[str, str] | None = None) -> str:
    """`female, 31`, or `uncertain, 31`; empty for a face without estimates. `words`: these in another language."""
    if face.age is None:
        return ""
    return f"{(words or {}).get(face.gender_label, face.gender_label)}, {whole_years(face.age)}"


def draw(rgb: np.ndarray, faces: list[Face], words: dict[str, str] | None = None) -> np.ndarray:
    """A copy of uint8 [H, W, 3] with each face boxed, labeled, and numbered by its `track_id` or from 1 in order.

    A label covers no other face and no other label: where there is no room for it, it is the number and the age, or the
    number alone. `words`: as for `label`.
    """
    image = Image.fromarray(rgb)
    canvas = ImageDraw.Draw(image)
    shorter = min(image.size)
    boxes = np.array([face.box for face in faces]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.empty((0, 4))
    # Larger faces choose their places first; smaller ones are drawn later, on top.
    for i in np.argsort([-face.area for face in faces], kind="stable"):
        face = faces[i]
        width = face.box[2]
        color = COLORS[face.gender_label]
        canvas.rectangle(tuple(boxes[i]), outline=color, width=max(2, round(min(shorter / 250, width / 20))))
        font = ImageFont.load_default(max(12, round(min(shorter / 22, max(width / 6, shorter / 40)))))
        number = f"#{face.track_id or i + 1}"  # so that none is taken for an age
        taken = np.concatenate([np.delete(boxes, i, axis=0), labels])
        short = "" if face.age is None else whole_years(face.age)
        for text in (f"{number} {label(face, words)}", f"{number} {short}", number) if short else (number,):
            text = in_font(text)
            left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
            pad = max(2, (bottom - top) // 4)
            size = (right - left + 2 * pad, bottom - top + 2 * pad)
            place = _free_place(boxes[i], size, image.size, taken)
            if place is not None:
                break
        if place is None:  # in a crowd: the number inside of its own box
            first = np.clip(np.minimum(boxes[i, :2], np.subtract(image.size, size)), 0, None)
            place = np.concatenate([first, first + size])
        labels = np.concatenate([labels, place[None]])
        canvas.rectangle(tuple(place), fill=color)
        canvas.text((place[0] + pad - left, place[1] + pad - top), text, font=font, fill=WHITE)
    return np.array(image)  # asarray would be read-only


def _free_place(
    box: np.ndarray, size: tuple[float, float], image: tuple[int, int], taken: np.ndarray
) -> np.ndarray | None:
    """Where a label of `size` is over nothing that is `taken` [N, 4], beside `box`: x0, y0, x1, y1. None: nowhere."""
    width, height = size
    if width > image[0]:
        return None
    x = np.clip(box[0], 0, image[0] - width)
    for y in (box[1] - height, box[3], max(0, box[1])):  # above, below, inside
        if y >= 0 and y + height <= image[1]:
            place = np.array([x, y, x + width, y + height])
            apart = (taken[:, 0] >= place[2]) | (taken[:, 2] <= place[0])
            if (apart | (taken[:, 1] >= place[3]) | (taken[:, 3] <= place[1])).all():
                return place
    return None


def blur(rgb: np.ndarray, faces: list[Face]) -> np.ndarray:
    """A copy of uint8 [H, W, 3] in which nobody can be recognized: each face is an oval of a few soft patches."""
    out = rgb.copy()
    for face in faces:
        x, y, width, height = face.box
        # A margin for hair and chin, which detectors leave out.
        x0, y0 = (max(0, int(v)) for v in (x - 0.15 * width, y - 0.2 * height))
        x1, y1 = min(rgb.shape[1], int(x + 1.15 * width) + 1), min(rgb.shape[0], int(y + 1.15 * height) + 1)
        if x1 - x0 < 2 or y1 - y0 < 2:
            continue
        part = out[y0:y1, x0:x1]
        # Averages of 4 x 4 patches: what a blur alone spreads can be sharpened again.
        soft = cv2.resize(cv2.resize(part, (4, 4), interpolation=cv2.INTER_AREA), part.shape[1::-1])
        oval = np.zeros(part.shape[:2], np.uint8)
        # Of the whole face, also where the image cuts it off.
        middle = (round(x + width / 2 - x0), round(y + 0.475 * height - y0))
        cv2.ellipse(oval, middle, (round(0.65 * width), round(0.675 * height)), 0, 0, 360, 1, cv2.FILLED)
        part[oval > 0] = soft[oval > 0]
    return out
