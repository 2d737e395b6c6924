"""Faces drawn on a picture: `(picture, faces) -> picture`."""

from __future__ import annotations

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
    """A copy of uint8 [H, W, 3] with each face boxed, numbered from 1 in the given order, and labelled."""
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
        text = f"{number}  {label(face)}".strip()
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        pad = max(2, (bottom - top) // 4)
        w, h = right - left + 2 * pad, bottom - top + 2 * pad
        # Above the box where there is room, else below, else inside; never over the picture's edge.
        ly = y - h if y - h >= 0 else (y + height if y + height + h <= image.height else max(0.0, y))
        lx = min(max(0.0, x), max(0.0, image.width - w))
        canvas.rectangle((lx, ly, lx + w, ly + h), fill=color)
        canvas.text((lx + pad - left, ly + pad - top), text, font=font, fill=WHITE)
    return np.asarray(image)
