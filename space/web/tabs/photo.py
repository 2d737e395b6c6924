"""The photo tab: one picture, everyone in it, and why."""

from __future__ import annotations

import base64
import binascii
import csv
import html
import io
import os
import time

import gradio as gr
import numpy as np
from PIL import Image

from space.analyzer import FaceAnalyzer
from space.annotate import blur, draw, label
from space.batch.tables import COLUMNS, table
from space.bundle import MODELS, embedded, read_card
from space.crop import crop
from space.detector import THRESHOLD
from space.explain import occlusion_map, overlay
from space.face import EXAMPLES, Face, interval_years, whole_years
from space.photo import Photo as Image_
from space.photo import PhotoError, open_photo
from space.web.components import NETWORK, SAVE, threshold_slider

MAX_BYTES = 50_000_000  # of a photo's file
MAX_CARDS = 100  # people shown one by one; JSON and CSV have all
THUMBNAIL = 96  # pixels
# Gradio leaves the examples without a name for those who do not see them.
_NAME_EXAMPLES = """() => document.querySelectorAll(".gallery-item").forEach((item, number) => {
  item.ariaLabel = `Example ${number + 1}`;
})"""


class Photo(gr.Image):
    """`gr.Image` whose value is a `space.photo.Photo`, with our reading of files and our messages.

    The stock component fails on a file that is no picture with an error that tells the visitor nothing, and
    checks neither size nor kind of `data:` URLs.
    """

    is_template = True  # the browser shows it as the stock Image

    def preprocess(self, payload) -> Image_ | None:
        if payload is None:
            return None
        too_large = f"The picture's file is too large: at most {MAX_BYTES // 1_000_000} MB."
        try:
            if payload.url and payload.url.startswith("data:"):
                if len(payload.url) > MAX_BYTES * 4 / 3:
                    raise PhotoError(too_large)
                return open_photo(base64.b64decode(payload.url.partition(",")[2], validate=True))
            if not payload.path:
                raise PhotoError("There is no picture in the request.")
            if os.path.isfile(payload.path) and os.path.getsize(payload.path) > MAX_BYTES:
                raise PhotoError(too_large)
            return open_photo(payload.path)
        except binascii.Error:
            raise gr.Error("The picture's data: URL is not valid base64.", print_exception=False) from None
        except PhotoError as error:
            raise gr.Error(str(error), print_exception=False) from None


def answer(analyzer: FaceAnalyzer, photo: Image_, threshold: float) -> tuple[list[Face], dict]:
    """Everyone in a photo, and the JSON of the API."""
    started = time.perf_counter()
    faces = analyzer.analyze(photo.rgb, threshold=threshold)
    elapsed = time.perf_counter() - started
    return faces, {
        "faces": [face.as_dict() for face in faces],
        "rotation": faces[0].rotation if faces else 0,
        "incomplete": photo.incomplete,
        "model": analyzer.bundle.as_dict(),
        "detector": analyzer.detector.name,
        "elapsed_ms": round(1000 * elapsed, 1),
    }


def model_choices(analyzer: FaceAnalyzer) -> list[tuple[str, str]]:
    """The embedded models with their error and speed, if one of them serves."""
    if analyzer.bundle.source != "embedded":
        return []
    choices = []
    for name in embedded():
        card = read_card(MODELS / name)
        speed = card["quantization"]["int8" if "int8" in card["serve"] else "float32"]["ms"]
        mae = card["metrics"]["age_mae"]["value"]
        choices.append((f"{name}: {mae:.2f} years MAE, {speed:.0f} ms per face", name))
    return choices


def picture(rgb: np.ndarray, faces: list[Face], blurred: bool) -> np.ndarray:
    """What is shown and downloaded: everyone boxed and labelled, and on demand blurred."""
    return draw(blur(rgb, faces) if blurred else rgb, faces)


def explain(analyzer: FaceAnalyzer, rgb: np.ndarray, number: int, threshold: float) -> tuple[np.ndarray, str]:
    """Face `number` (from 1, by size) of uint8 [H, W, 3], what its age rests on, and a line that says how to read it.

    Raises:
        ValueError: there is no such face.
    """
    faces = analyzer.analyze(rgb, threshold=threshold)
    if not 1 <= number <= len(faces):
        count = f"faces 1 to {len(faces)}" if len(faces) > 1 else "one face" if faces else "no face"
        raise ValueError(f"There is no face {number}: {count} found in this photo.")
    face = faces[number - 1]
    chip = crop(rgb, face, analyzer.template)
    years, older, younger = occlusion_map(analyzer.estimator, chip)
    text = (
        f"Face {number}, answer {whole_years(face.age)} years. **Red** makes it look older, **blue** younger: covering "
        f"a patch of a fifth of the width takes up to {older:.1f} years off, or adds up to {younger:.1f} elsewhere."
    )
    return np.concatenate([chip, overlay(chip, years)], axis=1), text


def summary(result: dict | None) -> str:
    """One line above the people."""
    if not result:
        return "Choose a photo, or one of the examples."
    count = len(result["faces"])
    if not count:
        return (
            "**No face found.** Try a photo in which faces are larger, sharper or turned to the camera, or a lower "
            "detection threshold."
        )
    text = f"**{count} face{'s' if count > 1 else ''}**, numbered by size, in {result['elapsed_ms']:.0f} ms."
    if result["rotation"]:
        text += f" Found turned by {result['rotation']}°."
    if result["incomplete"]:
        text += " The image file is incomplete: parts of it are missing."
    return text if count <= MAX_CARDS else f"{text} The {MAX_CARDS} largest are shown below; JSON and CSV have all."


def cards(analyzer: FaceAnalyzer, rgb: np.ndarray, faces: list[Face], blurred: bool) -> str:
    """Everyone one by one, as HTML: crop, age with its interval and distribution, gender with its confidence."""
    share = f"{100 * analyzer.calibration.coverage:.0f} % interval" if analyzer.calibration else ""
    out = []
    for number, face in enumerate(faces[:MAX_CARDS], 1):
        title = html.escape(label(face))
        percent = 100 * face.gender_probability
        interval = f"{share} {interval_years(face.age_low, face.age_high)}" if share else ""
        shown = "" if blurred else f'<img src="{_thumbnail(crop(rgb, face, analyzer.template))}" alt="Face {number}">'
        size = f"{face.box[2]:.0f} × {face.box[3]:.0f} pixels, score {face.score:.2f}"
        out.append(
            f'<li class="person">{shown}<div><strong>{number}&ensp;{title}</strong>{_age_chart(face)}'
            f"<span>{interval}</span>"
            f'<div class="bar" role="img" aria-label="{face.gender} with {percent:.0f} % confidence">'
            f'<div class="{face.gender}" style="width: {percent:.0f}%"></div></div>'
            f"<span>{face.gender} {percent:.0f} %</span><small>{size}</small></div></li>"
        )
    return f'<ol class="people" aria-label="Everyone found, by size">{"".join(out)}</ol>' if out else ""


def _thumbnail(chip: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(chip).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _age_chart(face: Face) -> str:
    """The interval on an axis of 0 to 100 years, under the distribution where the network has one."""
    low, high = (face.age, face.age) if face.age_low is None else (face.age_low, face.age_high)
    text = f"age {whole_years(face.age)}, {interval_years(face.age_low, face.age_high)}"
    curve = ""
    if face.age_probs is not None:
        probs = np.asarray(face.age_probs, float)[:101]
        heights = 26 - 24 * probs / max(probs.max(), 1e-6)
        curve = f'<polyline points="{" ".join(f"{x},{y:.1f}" for x, y in enumerate(heights))}"/>'
    ticks = "".join(f'<text x="{x}" y="37">{x}</text>' for x in (0, 20, 40, 60, 80, 100))
    return (
        f'<svg viewBox="-6 0 114 38" role="img" aria-label="{text}"><rect x="{low:.1f}" y="2" width="{high - low:.1f}" '
        f'height="24"/>{curve}<line x1="{face.age:.1f}" x2="{face.age:.1f}" y1="0" y2="28"/>'
        f'<line class="axis" x1="0" x2="101" y1="28" y2="28"/>{ticks}</svg>'
    )


def as_csv(result: dict) -> str:
    """The table of `python -m space.batch --csv` for the JSON of one photo."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    writer.writerows(table({"file": "photo", "faces": result["faces"], "error": None}))
    return buffer.getvalue()


def tab(analyzer: FaceAnalyzer, page: gr.Blocks) -> None:
    """Build the tab."""

    choices = model_choices(analyzer)

    def analyze_photo(photo, threshold=THRESHOLD, blur_faces=False):
        """Find every face in a photo and estimate its apparent age and gender.

        Args:
            photo: the image, as a data: URL, or the URL of a file uploaded to this server. Other URLs aren't fetched.
            threshold: the detector's score from which something counts as a face, 0.3 to 0.95.
            blur_faces: make faces unrecognizable in the image that is returned.

        Returns:
            The image with every face boxed and labelled, and a JSON object: faces (box [x, y, width, height]
            in pixels of the upright image, score, age, age_low, age_high, gender, gender_probability; largest
            first), rotation (degrees by which the image was turned to find them), incomplete, model, detector,
            elapsed_ms.
        """
        if photo is None:
            raise gr.Error("Choose a photo first.", print_exception=False)
        faces, result = answer(analyzer, photo, threshold)
        return picture(photo.rgb, faces, blur_faces), result

    def explain_age(photo, number=1, threshold=THRESHOLD):
        """Show what the age of one face rests on: how the answer moves when a part of the face is covered.

        Args:
            photo: the picture, as for analyze_photo.
            number: which face, from 1, in the order of analyze_photo.
            threshold: as for analyze_photo.

        Returns:
            A picture, the face beside itself with places colored red that make it look older and blue that make it
            look younger, and a line of markdown with the largest changes in years.
        """
        if photo is None:
            raise gr.Error("Choose a photo first.", print_exception=False)
        try:
            return explain(analyzer, photo.rgb, int(number or 0), threshold)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def show(photo, threshold, blur_faces, model):
        if photo is None:
            return None, None, summary(None), "", ""
        chosen = analyzer.with_model(model)
        faces, result = answer(chosen, photo, threshold)
        return (
            picture(photo.rgb, faces, blur_faces),
            result,
            summary(result),
            cards(chosen, photo.rgb, faces, blur_faces),
            as_csv(result),
        )

    with gr.Row():
        with gr.Column():
            photo = Photo(
                label="Photo",
                sources=["upload", "clipboard", "webcam"],
                height=420,
                elem_id="photo",
                alt_text="The photo to analyze",
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            threshold = threshold_slider("Detection threshold (lower finds more)", elem_id="threshold")
            blurred = gr.Checkbox(False, label="Blur faces in the result", elem_id="blur")
            model = gr.Radio(
                choices,
                value=choices[0][1] if choices else None,
                label="Model",
                visible=len(choices) > 1,
                elem_id="model-choice",
            )
            button = gr.Button("Analyze", variant="primary")
        with gr.Column():
            annotated = gr.Image(
                label="Faces",
                format="jpeg",
                buttons=["download", "fullscreen"],  # no sharing: photos are sent nowhere
                interactive=False,
                height=420,
                elem_id="annotated",
                alt_text="The photo with every face boxed, numbered and labelled",
            )
            line = gr.Markdown(summary(None), elem_id="summary")
    people = gr.HTML(elem_id="people")
    pictures = sorted(EXAMPLES.glob("*.jpg"))
    if pictures:
        gr.Examples(
            [[str(path)] for path in pictures], inputs=photo, cache_examples=False,
            label="Examples: averages of many faces, no real person",
        )  # fmt: skip
    with gr.Accordion("JSON and CSV", open=False, elem_id="data"):
        result = gr.JSON(label="Answer of the API endpoint /analyze_photo", elem_id="json")
        text = gr.Textbox(visible="hidden", elem_id="csv-text")
        save = gr.Button("Download CSV", elem_id="csv")
    with gr.Accordion("Why this age?", open=False, elem_id="explanation"):
        with gr.Row():
            number = gr.Number(
                1, label="Face (its number in the picture)", precision=0, minimum=1, maximum=9999, elem_id="number"
            )
            explain_button = gr.Button("Explain", elem_id="explain")
        reason = gr.Image(
            label="The face, and what makes it look older or younger",
            format="jpeg",
            interactive=False,
            height=320,
            buttons=["download"],
            elem_id="reason",
        )
        reading = gr.Markdown()

    shown = [annotated, result, line, people, text]
    for event in (button.click, photo.change, threshold.release, blurred.input, model.input):
        done = event(
            show,
            [photo, threshold, blurred, model],
            shown,
            api_visibility="private",
            show_progress="minimal",
            **NETWORK,
        )
        # A photo that cannot be read must not stand beside the faces of the one before.
        done.failure(lambda: (None, None, summary(None), "", ""), None, shown, api_visibility="private")
    # The page's own events return more than programs want.
    gr.Button(visible=False).click(
        analyze_photo, [photo, threshold, blurred], [annotated, result], api_name="analyze_photo", **NETWORK
    )
    explain_button.click(explain_age, [photo, number, threshold], [reason, reading], api_name="explain_age", **NETWORK)
    save.click(None, text, None, js=SAVE % "faces.csv", api_visibility="private")
    page.load(None, None, None, js=_NAME_EXAMPLES, api_visibility="private")
    # What was explained belongs to the photo before.
    photo.change(lambda: (None, ""), None, [reason, reading], api_visibility="private", show_progress="hidden")
