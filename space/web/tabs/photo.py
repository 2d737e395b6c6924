"""The photo tab: one photo, everyone in it, and why."""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np

from ...analyzer import FaceAnalyzer
from ...annotate import blur, draw
from ...batch.tables import COLUMNS
from ...crop import crop
from ...detector import THRESHOLD, THRESHOLD_RANGE
from ...explain import occlusion_map, overlay
from ...face import whole_years
from ...hub.bundle import MODELS, embedded
from ...hub.card import license_of, read_card
from ...photo import Photo, open_photo
from .. import modules
from ..components import (
    PHOTOS,
    PRIVATE,
    PagePhoto,
    PhotoInput,
    documented,
    threshold_slider,
)
from ..reader import Reader
from ..result import answer, data_url, example_photos, most_faces, page_result
from ..uploads import NO_FILE, Upload, UploadError

FIRST = example_photos()[0]
_SCRIPT = (Path(__file__).resolve().parent / "photo.js").read_text(encoding="utf-8")
# The dialog takes the focus. When it is closed, the focus returns to the button that opened it.
_REASON = """let asked;
document.addEventListener("click", ({target}) => { asked = target.closest(".why") ?? asked; }, true);
function close({back}) {
  delete document.body.dataset.why;  // ignore a pending explanation
  if (!props.value) return;
  props.value = "";
  if (back) asked?.focus();
}
element.addEventListener("click", ({target}) => target.closest(".close") && close({back: true}));
document.addEventListener("keydown", ({key}) => key === "Escape" && close({back: true}));
document.addEventListener("result-changed", () => close({back: false}));
let shown = null;
new MutationObserver(() => {
  const dialog = element.querySelector("[role=dialog]");
  if (dialog && dialog.dataset.why !== document.body.dataset.why) return void (props.value = ""); // outdated
  if (dialog && dialog !== shown) dialog.focus();
  shown = dialog;
}).observe(element, {childList: true, subtree: true});"""


def model_choices(analyzer: FaceAnalyzer) -> list[tuple[str, str]]:
    """The embedded models with their error and speed, if one of them serves."""
    if analyzer.bundle.source != "embedded":
        return []
    choices = []
    for name in embedded():
        card = read_card(MODELS / name)
        speed = card["quantization"]["int8" if "int8" in card["serve"] else "float32"]["ms"]
        mae = card["metrics"]["age_mae"]["value"]
        use = ", commercial use allowed" if license_of(card)[0] == "cc-by-4.0" else ""
        choices.append((f"{name}: MAE {mae:.2f} years, {speed:.0f} ms per face{use}", name))
    return choices


def explain(analyzer: FaceAnalyzer, rgb: np.ndarray, number: int, threshold: float) -> tuple[np.ndarray, str]:
    """Face `number` (from 1, by size) of uint8 [H, W, 3], what its age depends on, and a line that says how to read it.

    Raises:
        ValueError: there is no such face.
    """
    faces = analyzer.analyze(rgb, threshold=threshold, most=most_faces(analyzer))
    if not 1 <= number <= len(faces):
        if not faces:
            raise ValueError(f"This photo has no face {number}: no faces were found.")
        if len(faces) == 1:
            raise ValueError(f"This photo has no face {number}: one face was found.")
        raise ValueError(f"This photo has no face {number}: {len(faces)} faces were found.")
    face = faces[number - 1]
    assert face.age is not None, "it is analyzed"
    image = crop(rgb, face, analyzer.template)
    years, older, younger = occlusion_map(analyzer.estimator, image)
    text = (
        f"Face {number}, estimated age {whole_years(face.age)}. **Red** areas make it look older, **blue** areas "
        f"make it look younger. Covering a patch one fifth as wide as the crop lowers the estimated age by up to "
        f"{older:.1f} years or raises it by up to "
        f"{younger:.1f} years."
    )
    return np.concatenate([image, overlay(image, years)], axis=1), text


@dataclass(frozen=True)
class _Page:
    """The components that events read and write."""

    current: PagePhoto
    drop: PhotoInput
    threshold: gr.Slider
    blurred: gr.Checkbox
    model: gr.Radio
    out: gr.HTML
    reason: gr.HTML


def tab(analyzer: FaceAnalyzer, reader: Reader, *, links: bool) -> None:
    """Build the tab. `links`: whether this server fetches images whose URL is pasted or dropped."""
    _connect(analyzer, reader, _layout(analyzer, links=links))
    with gr.Row(visible=False):
        _page_endpoint(analyzer, reader)
        _analyze_endpoint(analyzer, reader)
        _explain_endpoint(analyzer, reader)


def _layout(analyzer: FaceAnalyzer, *, links: bool) -> _Page:
    choices = model_choices(analyzer)
    # What is analyzed. The drop zone hands its photo on and is free for the next one.
    current = PagePhoto(str(FIRST), visible="hidden", elem_id="current", label="Photo")
    gr.Examples(
        [[str(path)] for path in example_photos()],
        inputs=current,
        cache_examples=False,
        label="Examples (averages of many faces; no real people)",
        elem_id="examples",
    )
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=1, min_width=260, elem_classes="side"):
            drop = PhotoInput(
                label="Photo",
                show_label=False,
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=230,
                elem_id="photo",
                alt_text="The photo to analyze",
                placeholder="# Drop photos here\nor click to choose them, or paste one anywhere on the page",
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            message = '<p role="alert" hidden></p>'  # which photo.js fills in
            gr.HTML(message, elem_id="photo-error", elem_classes="error", apply_default_css=False)
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                threshold = threshold_slider(elem_id="threshold")
                blurred = gr.Checkbox(
                    False, label="Blur faces in the result", info="Only detected faces are blurred.", elem_id="blur"
                )
                value = analyzer.bundle.card["name"] if choices else None
                model = gr.Radio(
                    choices, value=value, label="Model for photos", visible=len(choices) > 1, elem_id="model-choice"
                )
        with gr.Column(scale=3, min_width=320):
            kit = {"csv": COLUMNS, "most": most_faces(analyzer), "links": links, "settings": [THRESHOLD, value]}
            kit |= {"gone": NO_FILE, "range": THRESHOLD_RANGE}
            out = gr.HTML(
                json.dumps(page_result(analyzer, FIRST.stem, open_photo(FIRST), THRESHOLD)),
                html_template="<div hidden></div><div></div>",
                js_on_load=modules.script(["result.js", "photo.js", "strip.js", "scroll.js"], _SCRIPT, kit),
                elem_id="result",
                apply_default_css=False,
            )
            reason = gr.HTML(elem_id="reason", apply_default_css=False, js_on_load=_REASON)
    return _Page(current, drop, threshold, blurred, model, out, reason)


def _connect(analyzer: FaceAnalyzer, reader: Reader, page: _Page) -> None:
    def why(current, threshold, model, request: gr.Request, event: gr.EventData):
        try:
            # The page opens with an example, which it didn't send.
            sent = getattr(event, "photo", None)
            upload = Upload.from_payload(sent) if isinstance(sent, dict) else current
            if upload is None or isinstance(upload, UploadError):
                raise ValueError("Choose a photo first.")
            with reader.photo(upload, request) as photo:
                number = _whole(getattr(event, "number", None))
                image, text = explain(_chosen(analyzer, model), photo.rgb, number, threshold)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from None
        text = text.replace("**Red**", "<strong>Red</strong>").replace("**blue**", "<strong>blue</strong>")
        close = '<button type="button" class="close" aria-label="Close">×</button>'
        content = f'<h3>Why this age?</h3><img src="{data_url(image)}" alt="{text.split(".")[0]}"><p>{text}</p>'
        question = html.escape(str(getattr(event, "question", "")))  # the page ignores outdated ones
        return (
            f'<section role="dialog" aria-label="Why this age?" tabindex="-1" data-why="{question}">{close}{content}'
            "</section>"
        )

    # A change of source sends no photo. The drop zone is free again for the next one.
    taken = f"(photo) => {{ if (photo) {_tell('chosen', 'photo')} return null; }}"
    page.drop.input(None, page.drop, page.drop, js=taken, **PRIVATE)
    settings = [page.threshold, page.model]
    for change in (page.threshold.change, page.model.change):
        change(None, settings, None, js=f"(...detail) => {{ {_tell('settings', 'detail')} }}", **PRIVATE)
    page.current.change(None, page.current, None, js=f"(detail) => {{ {_tell('example', 'detail')} }}", **PRIVATE)
    page.blurred.change(None, page.blurred, None, js=f"(detail) => {{ {_tell('blur-faces', 'detail')} }}", **PRIVATE)
    asked = [page.current, page.threshold, page.model]
    # Not "always_last", which repeats the first event's data.
    how = {"show_progress_on": page.reason, "trigger_mode": "multiple", **PRIVATE, **PHOTOS}
    page.out.why(why, asked, page.reason, **how)


def _tell(event: str, detail: str) -> str:
    """JavaScript that tells `photo.js` of an event."""
    return f"document.dispatchEvent(new CustomEvent({json.dumps(event)}, {{detail: {detail}}}));"


def _chosen(analyzer: FaceAnalyzer, model) -> FaceAnalyzer:
    """The analyzer with the model that the page names; programs may send any value."""
    return analyzer.with_model(model if model in embedded() and analyzer.bundle.source == "embedded" else None)


def _whole(number) -> int:
    """A face's number. Raises ValueError."""
    try:
        if int(number) == float(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError("Specify a face by its number.")


def _page_endpoint(analyzer: FaceAnalyzer, reader: Reader) -> None:
    """What `photo.js` calls: more than programs want, and the model that the visitor has chosen."""

    def page_photo(photo, threshold, model, request: gr.Request):
        with _read(reader, photo, request) as opened:
            result = page_result(_chosen(analyzer, model), photo.stem, opened, threshold)
            return result | {"upload": photo.path}  # of a URL: where the fetched image is

    inputs = [PhotoInput(label="photo"), threshold_slider(), gr.Textbox(label="model")]
    gr.Button().click(page_photo, inputs, gr.JSON(), api_name="page_photo", api_visibility="undocumented", **PHOTOS)


def _analyze_endpoint(analyzer: FaceAnalyzer, reader: Reader) -> None:
    @documented
    def analyze_photo(photo, request: gr.Request, threshold=THRESHOLD, blur_faces=False, age_probs=False):
        """Find every face in a photo and estimate its apparent age and gender.

        Args:
            photo: the image, as a data: URL, or the URL of a file uploaded to this server. Servers started with
                --allow-urls also fetch the URLs of public images.
            threshold: minimum detection score for a face, 0.3 to 0.95.
            blur_faces: blur the faces in the returned image.
            age_probs: include each face's calibrated probability for every age from 0 to 101, if the model predicts it.

        Returns:
            The annotated image, and a JSON object: faces (box [x, y, width, height] in pixels of the upright image,
            possibly extending beyond its edges, score, age, age_low, age_high, gender, gender_probability,
            gender_label, sharpness, yaw, roll, cut_off, quality; largest first), rotation (degrees counterclockwise by
            which the image was rotated to find them), incomplete, model, detector, elapsed_ms.
        """
        with _read(reader, photo, request) as opened:
            faces, result = answer(analyzer, opened, threshold, age_probs=age_probs)
            return draw(blur(opened.rgb, faces) if blur_faces else opened.rgb, faces), result

    inputs = [PhotoInput(label="photo"), threshold_slider()]
    inputs += [gr.Checkbox(False, label="blur_faces"), gr.Checkbox(False, label="age_probs")]
    outputs = [gr.Image(format="jpeg", label="image"), gr.JSON(label="result")]
    gr.Button().click(analyze_photo, inputs, outputs, api_name="analyze_photo", **PHOTOS)


@contextlib.contextmanager
def _read(reader: Reader, upload: Upload | None, request: gr.Request) -> Iterator[Photo]:
    """The photo of an API call; whatever is wrong with it or its analysis is the caller's error."""
    try:
        if upload is None:
            raise ValueError("Choose a photo first.")
        with reader.photo(upload, request) as photo:
            yield photo
    except ValueError as error:  # PhotoError and UploadError are kinds of it
        raise gr.Error(str(error), print_exception=False) from None


def _explain_endpoint(analyzer: FaceAnalyzer, reader: Reader) -> None:
    @documented
    def explain_age(photo, request: gr.Request, number=1, threshold=THRESHOLD):
        """Show which parts of a face influence its estimated age, by covering one patch at a time.

        Args:
            photo: the image, as for analyze_photo.
            number: index of the face, starting at 1, in the order of analyze_photo.
            threshold: as for analyze_photo.

        Returns:
            An image of the face next to a copy in which areas that make it look older are red and areas that make it
            look younger are blue, and a line of Markdown with the largest changes in years.
        """
        with _read(reader, photo, request) as opened:
            return explain(analyzer, opened.rgb, _whole(number), threshold)

    inputs = [PhotoInput(label="photo"), gr.Number(1, label="number", precision=0), threshold_slider()]
    outputs = [gr.Image(format="jpeg", label="image"), gr.Markdown(label="text")]
    gr.Button().click(explain_age, inputs, outputs, api_name="explain_age", **PHOTOS)
