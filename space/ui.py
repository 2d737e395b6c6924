"""The page and its API, in Gradio. Knows how to ask the analyzer and how to show its answer, nothing more."""

from __future__ import annotations

import base64
import binascii
import time
from pathlib import Path

import gradio as gr
import numpy as np

from space.about import about
from space.analyzer import FaceAnalyzer
from space.annotate import draw
from space.crop import crop
from space.explain import occlusion_map, overlay
from space.face import UNCERTAIN, apparent_gender, whole_years
from space.photo import PhotoError, read_photo

MAX_BYTES = 50_000_000  # of a photo's file
EXAMPLES = Path(__file__).resolve().parent / "examples"

TITLE = "Apparent age and gender"
INTRO = f"""# {TITLE}
Upload, paste or snap a photo: every face gets the age and the gender that it *appears* to have.
"""
CAUTION = """These are guesses of a network from looks alone, learned from labels that are guesses too. They say nothing
about a person's identity and are often wrong: use them for no decision about anyone. Photos are analysed on this
server, deleted after about an hour or when it stops, and sent nowhere else."""

# System fonts: the page asks no other server for anything.
THEME = gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
CSS = ".caution {color: var(--body-text-color-subdued)} footer {opacity: 0.8}"


class Photo(gr.Image):
    """`gr.Image` whose value is the upright picture, with our reading of files and our messages.

    The stock component fails on a file that is no picture with an error that tells the visitor nothing, and
    checks neither size nor kind of `data:` URLs.
    """

    is_template = True  # the browser shows it as the stock Image

    def preprocess(self, payload) -> np.ndarray | None:
        if payload is None:
            return None
        try:
            if payload.url and payload.url.startswith("data:"):
                if len(payload.url) > MAX_BYTES * 4 / 3:
                    raise PhotoError(f"The picture's file is too large: at most {MAX_BYTES // 1_000_000} MB.")
                return read_photo(base64.b64decode(payload.url.partition(",")[2], validate=True))
            if not payload.path:
                raise PhotoError("There is no picture in the request.")
            return read_photo(payload.path)
        except binascii.Error:
            raise gr.Error("The picture's data: URL is not valid base64.", print_exception=False) from None
        except PhotoError as error:
            raise gr.Error(str(error), print_exception=False) from None


def answer(analyzer: FaceAnalyzer, rgb: np.ndarray) -> tuple[np.ndarray, dict]:
    """The annotated picture and the JSON of the API for uint8 [H, W, 3]."""
    started = time.perf_counter()
    faces = analyzer.analyze(rgb)
    elapsed = time.perf_counter() - started
    return draw(rgb, faces), {
        "faces": [face.as_dict() for face in faces],
        "model": analyzer.bundle.as_dict(),
        "detector": analyzer.detector.name,
        "elapsed_ms": round(1000 * elapsed, 1),
    }


def explain(analyzer: FaceAnalyzer, rgb: np.ndarray, number: int) -> tuple[np.ndarray, str]:
    """Face `number` (from 1, by size) of uint8 [H, W, 3], what its age rests on, and a line that says how to read it.

    Raises:
        ValueError: there is no such face.
    """
    faces = analyzer.analyze(rgb)
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


def columns(analyzer: FaceAnalyzer) -> list[str]:
    """The table's headers; the interval's says which share of faces it holds."""
    share = f"{100 * analyzer.calibration.coverage:.0f} % " if analyzer.calibration else ""
    return ["#", "age", f"{share}interval", "gender", "confidence", "score", "pixels"]


def rows(result: dict | None) -> list[list]:
    """The table's rows for the API's JSON."""
    return [
        [
            number,
            whole_years(face["age"]),
            "–" if face["age_low"] is None else f"{whole_years(face['age_low'])} to {whole_years(face['age_high'])}",
            apparent_gender(face["gender"], face["gender_probability"]),
            f"{100 * face['gender_probability']:.0f} %",
            f"{face['score']:.2f}",
            f"{face['box'][2]:.0f} × {face['box'][3]:.0f}",
        ]
        for number, face in enumerate((result or {}).get("faces", []), 1)
    ]


def summary(result: dict | None) -> str:
    """One line above the table."""
    if not result:
        return "Choose a photo, or one of the examples."
    count = len(result["faces"])
    if not count:
        return "**No face found.** Try a photo in which faces are larger, sharper or turned to the camera."
    return f"**{count} face{'s' if count > 1 else ''}**, numbered by size, in {result['elapsed_ms']:.0f} ms."


def describe(analyzer: FaceAnalyzer) -> str:
    """The line that says which model and detector answer, and how good the model was on its test faces."""
    model, metrics = analyzer.bundle.as_dict(), analyzer.bundle.card.get("metrics") or {}
    revision = f" at `{model['revision'][:12]}`" if model["revision"] else ""
    text = f"Model `{model['name']}` ({model['source']}{revision}), detector `{analyzer.detector.name}`."
    if metrics.get("n"):
        text += (
            f" On {metrics['n']} UTKFace test faces: ages {metrics['age_mae']['value']:.1f} years off on average, "
            f"gender {100 * metrics['gender_accuracy']['value']:.1f} % as labelled."
        )
    if metrics.get("interval_coverage"):
        text += (
            f" The intervals held {100 * metrics['interval_coverage']['value']:.0f} % of the labelled ages and were "
            f"{metrics['interval_width']['value']:.0f} years wide on average."
        )
    text += f" Below {100 * UNCERTAIN:.0f} % confidence the gender is shown as uncertain."
    return text


def build(analyzer: FaceAnalyzer) -> gr.Blocks:
    """The whole page; launch it with `launch_options()`."""

    def analyze_photo(photo):
        """Find every face in a photo and estimate its apparent age and gender.

        Args:
            photo: the picture, upright or with EXIF orientation.

        Returns:
            The picture with every face boxed and labelled, and a JSON object: faces (box [x, y, width, height]
            in pixels of the upright picture, score, age, age_low, age_high, gender, gender_probability; largest
            first), model, detector, elapsed_ms.
        """
        if photo is None:
            raise gr.Error("Choose a photo first.", print_exception=False)
        return answer(analyzer, photo)

    def explain_age(photo, number=1):
        """Show what the age of one face rests on: how the answer moves when a part of the face is covered.

        Args:
            photo: the picture, as for analyze_photo.
            number: which face, from 1, in the order of analyze_photo.

        Returns:
            A picture, the face beside itself with places coloured red that make it look older and blue that make it
            look younger, and a line of markdown with the largest changes in years.
        """
        if photo is None:
            raise gr.Error("Choose a photo first.", print_exception=False)
        try:
            return explain(analyzer, photo, int(number or 0))
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def show_about():
        text, figures = about(analyzer.bundle)
        pictures = (f'<img src="{url}" alt="{caption}" style="max-width: 100%">' for caption, url in figures)
        return "".join(pictures), text

    def on_change(photo):
        return (None, None) if photo is None else answer(analyzer, photo)

    def show(result):
        return summary(result), rows(result)

    # Uploads and results are deleted within the hour: looked for every 5 minutes, when older than 55.
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(300, 3300)) as page:
        gr.Markdown(INTRO)
        if analyzer.note:
            gr.Markdown(f"⚠️ {analyzer.note.splitlines()[0]}", elem_id="note")
        with gr.Row():
            with gr.Column():
                photo = Photo(
                    label="Photo",
                    sources=["upload", "clipboard", "webcam"],
                    height=420,
                    elem_id="photo",
                    alt_text="The photo to analyse",
                    webcam_options=gr.WebcamOptions(mirror=False),
                )
                button = gr.Button("Analyse", variant="primary")
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
        table = gr.Dataframe(
            headers=columns(analyzer),
            label="Apparent age and gender, confidence of the gender, score of the detector",
            interactive=False,
            elem_id="faces",
        )
        with gr.Accordion("JSON", open=False):
            result = gr.JSON(label="Answer of the API endpoint /analyze_photo", elem_id="json")
        with gr.Accordion("What the age rests on", open=False, elem_id="explanation"):
            with gr.Row():
                number = gr.Number(1, label="Face (its number in the table)", precision=0, minimum=1, elem_id="number")
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
        pictures = sorted(EXAMPLES.glob("*.jpg"))
        if pictures:
            gr.Examples(
                [[str(path)] for path in pictures], inputs=photo, cache_examples=False,
                label="Examples: averages of many faces, no real person",
            )  # fmt: skip
        gr.Markdown(CAUTION, elem_classes="caution")
        gr.Markdown(describe(analyzer), elem_classes="caution", elem_id="model")
        with gr.Accordion(
            "About the model: how good it is, and for whom it errs", open=False, elem_id="about"
        ) as opened:
            card_figures = gr.HTML()
            card_text = gr.Markdown()

        opened.expand(show_about, None, [card_figures, card_text], api_visibility="private")
        outputs = [annotated, result]
        # One queue for all that runs the network: two cores answer one photo faster than two halves.
        shared = {"concurrency_limit": 1, "concurrency_id": "network"}
        for event in (
            button.click(analyze_photo, photo, outputs, api_name="analyze_photo", **shared),
            photo.change(on_change, photo, outputs, api_visibility="private", show_progress="minimal", **shared),
        ):
            event.success(show, result, [line, table], api_visibility="private", show_progress="hidden")
            # A photo that cannot be read must not stand beside the faces of the one before.
            event.failure(
                lambda: (None, None, summary(None), []), None, [*outputs, line, table], api_visibility="private"
            )
        explain_button.click(explain_age, [photo, number], [reason, reading], api_name="explain_age", **shared)
        # What was explained belongs to the photo before.
        photo.change(lambda: (None, ""), None, [reason, reading], api_visibility="private", show_progress="hidden")
    page.queue(max_size=64)  # later visitors are told that it is busy instead of filling the memory
    return page


def launch_options() -> dict:
    """What `Blocks.launch` must be given beside address and port."""
    return {
        "theme": THEME,
        "css": CSS,
        "run_history": False,  # it would keep visitors' calls in their browser
        "ssr_mode": False,
        "max_file_size": MAX_BYTES,
        "footer_links": ["api"],
        "show_error": True,
    }
