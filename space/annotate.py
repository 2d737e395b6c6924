"""Faces drawn on a picture: `(picture, faces) -> picture`."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from space.face import Face, apparent_gender, whole_years

# Blue and orange stay apart for people who do not tell red from green.
COLORS = {"female": (213, 94, 0), "male": (0, 114, 178)}
GREY = (90, 90, 90)  # of faces without estimates or with an uncertain gender
WHITE = (255, 255, 255)


def label(face: Face) -> str:
    """`female, 31`, or `uncertain, 31`; empty for a face without estimates."""
    if face.age is None:
        return ""
    return f"{apparent_gender(face.gender, face.gender_probability)}, {whole_years(face.age)}"


def draw(rgb: np.ndarray, faces: list[Face]) -> np.ndarray:
    """A copy of uint8 [H, W, 3] with each face boxed, labelled, and numbered by its `track_id` or from 1 in order."""
    image = Image.fromarray(rgb)
    canvas = ImageDraw.Draw(image)
    shorter = min(image.size)
    # The smallest face comes first, so that larger ones stay on top and readable.
    for number, face in sorted(enumerate(faces, 1), key=lambda item: item[1].area):
        x, y, width, height = face.box
        line = max(2, round(min(shorter / 250, width / 20)))
        font = ImageFont.load_default(max(12, round(min(shorter / 22, max(width / 6, shorter / 40)))))
        color = COLORS.get(label(face).partition(",")[0], GREY)
        canvas.rectangle((x, y, x + width, y + height), outline=color, width=line)
        text = f"{face.track_id or number}  {label(face)}".strip()
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        pad = max(2, (bottom - top) // 4)
        w, h = right - left + 2 * pad, bottom - top + 2 * pad
        # Above the box where there is room, else below, else inside; never over the picture's edge.
        ly = y - h if y - h >= 0 else (y + height if y + height + h <= image.height else max(0.0, y))
        lx = min(max(0.0, x), max(0.0, image.width - w))
        canvas.rectangle((lx, ly, lx + w, ly + h), fill=color)
        canvas.text((lx + pad - left, ly + pad - top), text, font=font, fill=WHITE)
    return np.asarray(image)


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
        # Averages of 6 x 6 patches: what a blur alone spreads can be sharpened again.
        soft = cv2.resize(cv2.resize(part, (6, 6), interpolation=cv2.INTER_AREA), part.shape[1::-1])
        oval = np.zeros(part.shape[:2], np.uint8)
        middle = (part.shape[1] // 2, part.shape[0] // 2)
        cv2.ellipse(oval, middle, middle, 0, 0, 360, 1, cv2.FILLED)
        part[oval > 0] = soft[oval > 0]
    return out
