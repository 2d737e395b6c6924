"""A photo's result as HTML: the annotated image, and everyone in it one by one."""

from __future__ import annotations

import html

import numpy as np

from ..analyzer import FaceAnalyzer
from ..annotate import blur, draw
from ..crop import crop
from ..detector import MAX_FACES
from ..face import Face, confidence, whole_years
from ..text import counted
from .charts import age_chart
from .components import data_url

MAX_CARDS = 100  # people shown one by one; JSON and CSV have all
MOST_FACES = (MAX_FACES, 200)  # of small and large networks, see `tabs/photo.py`
SIDE = 1600  # pixels, longer side of the image on the page


def result(analyzer: FaceAnalyzer, rgb: np.ndarray, faces: list[Face], answer: dict, *, blurred: bool) -> str:
    """What the page shows of a photo; `answer`: the API's JSON."""
    height, width = rgb.shape[:2]
    boxes = "".join(
        f'<rect data-n="{number}" x="{face.box[0]:.1f}" y="{face.box[1]:.1f}" width="{face.box[2]:.1f}" '
        f'height="{face.box[3]:.1f}"/>'
        for number, face in enumerate(faces[:MAX_CARDS], 1)
    )
    shown = data_url(annotated(rgb, faces, blurred=blurred), side=SIDE)
    people = "".join(
        _card(analyzer, rgb, face, number, blurred=blurred) for number, face in enumerate(faces[:MAX_CARDS], 1)
    )
    return (
        f'<p class="summary" role="status">{summary(answer)}</p><div class="stage"><div class="fit">'
        f'<img src="{shown}" width="{width}" height="{height}" alt="The photo with a box and a label for every face">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{boxes}</svg></div></div>'
        f'<ol class="people" aria-label="Faces, by size">{people}</ol>'
    )


def annotated(rgb: np.ndarray, faces: list[Face], *, blurred: bool) -> np.ndarray:
    """The image that is shown and downloaded."""
    return draw(blur(rgb, faces) if blurred else rgb, faces)


def summary(answer: dict) -> str:
    """One line above the image."""
    count = len(answer["faces"])
    incomplete = " The image file is incomplete: parts of it are missing." if answer["incomplete"] else ""
    if not count:
        return (
            "<strong>No face found.</strong> Try a photo with larger or sharper faces, or lower the detection "
            f"threshold in Settings.{incomplete}"
        )
    text = f"<strong>{counted(count, 'face')}</strong> in {answer['elapsed_ms']:.0f} ms, numbered by size."
    if answer["rotation"]:
        text += f" The image was rotated by {answer['rotation']}° to detect faces."
    text += incomplete
    if count in MOST_FACES:
        text += f" There may be more: at most {count:,} are returned."
    return text if count <= MAX_CARDS else f"{text} The {MAX_CARDS} largest are shown below."


def _card(analyzer: FaceAnalyzer, rgb: np.ndarray, face: Face, number: int, *, blurred: bool) -> str:
    percent = 100 * face.gender_probability
    gender = face.gender_label
    sure = confidence(gender, face.gender, face.gender_probability)
    likely = "" if face.age_low is None else f"likely {whole_years(face.age_low)}–{whole_years(face.age_high)}"
    photo = why = ""
    if not blurred:
        photo = f'<img src="{data_url(crop(rgb, face, analyzer.template), side=112)}" alt="Face {number}">'
        why = f'<button type="button" class="why" data-number="{number}">Why this age?</button>'
    x, y, width, height = face.box
    details = f"{width:.0f} × {height:.0f} pixels at ({x:.0f}, {y:.0f}), detection score {face.score:.2f}, "
    details += f"{face.gender} {percent:.1f}%"
    return (
        f'<li class="person" data-n="{number}" tabindex="0" aria-label="Face {number}: age {whole_years(face.age)}, '
        f'{sure}">{photo}<div class="about-face"><span class="number" '
        f'aria-label="Face {number}">{number}</span><strong class="age">{whole_years(face.age)}</strong>'
        f'<span class="likely">{likely}</span>'
        f'<span class="gender {gender}">{sure[0].upper()}{sure[1:]}</span></div>'
        f'{age_chart(face)}<div class="card-foot">{why}<details><summary>Details</summary>{html.escape(details)}'
        "</details></div></li>"
    )
