"""A photo's result as JSON: what programs get, and what both pages show with `browser/result.js`."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ..analyzer import FaceAnalyzer
from ..crop import crop
from ..detector import MAX_FACES
from ..face import EXAMPLES, Face
from ..photo import Photo

LARGE_NETWORK, MAX_FACES_LARGE = 10_000_000, 200  # bytes of a network's file, and the faces that such a one estimates
SIDE = 1600  # pixels, longer side of the image on the page, unless the browser reads the file itself
MAX_CARDS = 100  # people shown one by one, as MOST in browser/cards.js; JSON and CSV have all


def example_photos() -> list[Path]:
    """The example photos of both pages; the first one is analyzed when a page opens."""
    return sorted(EXAMPLES.glob("*.jpg"), key=lambda path: (path.name != "group.jpg", path.name))


def most_faces(analyzer: FaceAnalyzer) -> int:
    """How many faces of one photo are estimated: as many as a network of this size answers in a few seconds."""
    return MAX_FACES_LARGE if analyzer.estimator.bytes > LARGE_NETWORK else MAX_FACES


def answer(
    analyzer: FaceAnalyzer, photo: Photo, threshold: float, *, age_probs: bool = False
) -> tuple[list[Face], dict]:
    """Everyone in a photo, and the JSON of the API."""
    started = time.perf_counter()
    faces = analyzer.analyze(photo.rgb, threshold=threshold, most=most_faces(analyzer))
    elapsed = time.perf_counter() - started
    return faces, {
        "faces": [face.scaled(photo.reduction).as_dict(age_probs=age_probs) for face in faces],
        "rotation": faces[0].rotation if faces else 0,
        "incomplete": photo.incomplete,
        "model": analyzer.bundle.as_dict(),
        "detector": analyzer.detector.name,
        "elapsed_ms": round(1000 * elapsed, 1),
    }


def page_result(analyzer: FaceAnalyzer, name: str, photo: Photo, threshold: float) -> dict:
    """What a page shows of a photo: the API's JSON, the image, and of each face the distribution and a thumbnail."""
    faces, result = answer(analyzer, photo, threshold)
    width, height = photo.size
    listed = faces[:MAX_CARDS]
    return {
        "name": name,
        "width": width,
        "height": height,
        "image": data_url(photo.rgb, side=SIDE),
        "answer": result,
        "most": most_faces(analyzer),
        "probabilities": [face.as_dict(age_probs=True).get("age_probs") for face in listed],
        "thumbnails": [data_url(crop(photo.rgb, face, analyzer.template), side=112) for face in listed],
    }


def data_url(rgb: np.ndarray, *, side: int | None = None) -> str:
    """uint8 [H, W, 3] as a JPEG's data: URL, longer side at most `side` pixels."""
    image = Image.fromarray(rgb)
    if side and max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
