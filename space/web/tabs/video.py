"""The video tab: a video, everyone in it labeled, and a table of them."""

from __future__ import annotations

import csv
import html
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr

from ...analyzer import FaceAnalyzer
from ...detector import THRESHOLD
from ...face import EXAMPLES, interval_years, percent, whole_years
from ...text import counted, time_left
from ...video.limits import MAX_BYTES, MAX_FRAMES, MAX_SECONDS
from ...video.result import Progress, VideoError, VideoResult
from ..charts import steps
from ..components import (
    LONG,
    Video,
    connect_run,
    documented,
    download_buttons,
    offered,
    progress_bar,
    threshold_slider,
    thumbnail,
    tiles,
)
from ..modules import label_words
from ..reader import Reader
from ..result import data_url
from ..uploads import Upload, UploadError

LIMITS = (
    f"MP4, MOV, WebM or AVI, up to {MAX_SECONDS // 60} minutes, {MAX_FRAMES:,} frames and "
    f"{MAX_BYTES // 1_000_000} MB. Each person is tracked from frame to frame. Anyone who leaves the frame and "
    "returns, or reappears after a cut, counts as a new person."
)
DAMAGED = "The video is damaged: parts of it could not be read."
EXAMPLE = EXAMPLES / "two-people.mp4"


def report(result: VideoResult, *, blurred: bool) -> str:
    """What the page says of a video: figures, a table of the people and faces over time, as HTML."""
    figures = tiles(
        {
            "Appearances": f"{len(result.people)}",
            "Most people at once": f"{max((count for _, count in result.counts), default=0)}",
            "Length": f"{result.seconds:.1f} s",
            "Analyzed": f"{result.analyzed:,} of {result.frames:,} frames",
        }
    )
    note = f"<p>{DAMAGED}</p>" if result.damaged else ""
    if not result.people:
        return (
            figures + note + "<p>No people found. Try a video with larger faces, or lower the detection threshold.</p>"
        )
    names = ["", "Person", "Age", "Interval", "Gender", "Confidence", "On screen", "From", "To"]
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{cell}</td>"
            for cell in (
                "" if blurred else thumbnail(person.thumbnail, f"Person {person.id}"),
                person.id,
                whole_years(person.age),
                interval_years(person.age_low, person.age_high),
                person.as_dict()["gender_label"],
                percent(person.as_dict()["gender_label"], person.gender_probability),
                *(f"{seconds:.1f} s" for seconds in (person.on_screen, person.first, person.last)),
            )
        )
        + "</tr>"
        for person in result.people
    )
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    return (
        f'{figures}{note}<div class="scroll" tabindex="0" id="persons"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        + steps(result.counts, result.seconds, "Faces over time")
    )


def as_csv(result: dict) -> str:
    """The people of a video, one line each."""
    buffer = io.StringIO()
    names = "id first last on_screen age age_low age_high gender gender_probability gender_label"
    writer = csv.DictWriter(buffer, names.split())
    writer.writeheader()
    writer.writerows(result["people"])
    return buffer.getvalue()


def _analyze(
    analyzer: FaceAnalyzer, reader: Reader, video: Upload, threshold: float, blurred: bool, folder: str, words=None
) -> Iterator[Progress | VideoResult]:
    """Progress, then the result; the annotated video is in `folder` then. Raises gr.Error."""
    target = Path(folder) / f"{video.stem}-faces.mp4"
    try:
        yield from reader.video(video, target, analyzer, threshold=threshold, blurred=blurred, words=words)
    except (VideoError, UploadError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def tab(analyzer: FaceAnalyzer, reader: Reader, language: gr.Textbox) -> None:
    """Build the tab. `language`: the page's."""
    gr.Markdown(LIMITS)
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=1, min_width=280, elem_classes="side"):
            video = Video(label="Video", sources=["upload"], height=240, elem_id="video")
            example = gr.Examples([[str(EXAMPLE)]], inputs=video, cache_examples=False, label="Example: two people")
            with gr.Row():
                button = gr.Button("Analyze", variant="primary", elem_id="video-start")
                cancel = gr.Button("Cancel", elem_id="video-cancel", elem_classes="idle")
            status = gr.Markdown(elem_id="video-status", min_height=30)
            bar = gr.HTML(elem_id="video-progress", apply_default_css=False)
            with gr.Accordion("Settings", open=False):
                threshold = threshold_slider()
                blurred = gr.Checkbox(False, label="Blur faces in the result")
        with gr.Column(scale=2, min_width=320):
            annotated = gr.Video(
                label="Annotated video", interactive=False, elem_id="video-out", buttons=["download"],
                visible=False,
            )  # fmt: skip
            out = gr.HTML(elem_id="video-report", apply_default_css=False)
            with gr.Row(elem_classes="downloads"):
                files = download_buttons("⬇ CSV", "⬇ JSON")
            with gr.Accordion("JSON", open=False, visible=False) as details:
                data = gr.JSON(label="Output of the API endpoint /analyze_video", elem_classes="notranslate")

    outputs = [status, bar, annotated, out, data, details, *files]
    connect_run(
        _shower(analyzer, reader),
        [video, threshold, blurred, language],
        outputs,
        settings=[threshold, blurred],
        button=button,
        cancel=cancel,
        report=out,
        chosen=[video.upload, example.load_input_event.then],
        bar=bar,
    )
    with gr.Row(visible=False):
        _endpoint(analyzer, reader)


def _shower(analyzer: FaceAnalyzer, reader: Reader) -> Callable:
    """The page's own event: status, progress bar, video, report, JSON and downloads."""

    def show(video, threshold, blur_faces, language):
        nothing = ("", gr.Video(visible=False), "", None, gr.Accordion(visible=False), *[offered()] * 2)
        if not video:
            yield "⚠️ Choose a video first.", *nothing
            return
        with tempfile.TemporaryDirectory(prefix="video-") as folder:
            yield "Reading the video…", *nothing
            try:
                words = label_words(language)
                for step in _analyze(analyzer, reader, video, threshold, blur_faces, folder, words):
                    if isinstance(step, Progress):
                        shown = nothing[1], _preview(step), *nothing[3:]
                        yield _progress(step), progress_bar(step.share), *shown
                        continue
                    result, target = _as_json(analyzer, step), next(Path(folder).iterdir())
                    table, data = (target.with_suffix(suffix) for suffix in (".csv", ".json"))
                    table.write_text(as_csv(result), encoding="utf-8-sig", newline="")
                    data.write_text(json.dumps(result, indent=1), encoding="utf-8")
                    annotated = gr.Video(str(target), visible=True)
                    page, json_there = report(step, blurred=blur_faces), gr.Accordion(visible=True)
                    yield _summary(step), "", annotated, page, result, json_there, offered(table), offered(data)
            except gr.Error as error:  # the page says it in place
                yield f"⚠️ {error.message}", *nothing

    return show


def _endpoint(analyzer: FaceAnalyzer, reader: Reader) -> None:
    @documented
    def analyze_video(video, threshold=THRESHOLD, blur_faces=False):
        """Track every person in a video and estimate their apparent age and gender.

        Args:
            video: MP4, MOV, WebM or AVI, up to 5 minutes and 200 MB.
            threshold: minimum detection score for a face, 0.3 to 0.95.
            blur_faces: blur the faces in the returned video.

        Returns:
            The annotated video (MP4), a JSON object: people (id, first, last and on_screen in
            seconds, age, age_low, age_high, gender, gender_probability, gender_label; longest on screen first),
            faces_over_time ([seconds, faces shown]), frames, analyzed, seconds, model, detector, elapsed_ms; and a
            line of text.
        """
        if not video:
            raise gr.Error("Choose a video first.", print_exception=False)
        # The folder goes when this ends, also when it is canceled; by then Gradio has its own copy.
        with tempfile.TemporaryDirectory(prefix="video-") as folder:
            yield None, None, "Reading the video…"
            for step in _analyze(analyzer, reader, video, threshold, blur_faces, folder):
                if isinstance(step, Progress):
                    yield None, None, _progress(step)
                else:
                    text = f"{_summary(step)} {DAMAGED}" if step.damaged else _summary(step)
                    yield str(next(Path(folder).iterdir())), _as_json(analyzer, step), text

    inputs = [Video(label="video"), threshold_slider(), gr.Checkbox(label="blur_faces")]
    outputs = [gr.Video(label="annotated"), gr.JSON(label="result"), gr.Markdown(label="summary")]
    gr.Button().click(analyze_video, inputs, outputs, api_name="analyze_video", **LONG)


def _as_json(analyzer: FaceAnalyzer, result: VideoResult) -> dict:
    return {
        "people": [person.as_dict() for person in result.people],
        "faces_over_time": result.counts,
        "frames": result.frames,
        "analyzed": result.analyzed,
        "seconds": result.seconds,
        "model": analyzer.bundle.as_dict(),
        "detector": analyzer.detector.name,
        "elapsed_ms": round(1000 * result.elapsed, 1),
    }


def _preview(step: Progress) -> str:
    """The last annotated frame, as HTML."""
    if step.picture is None:
        return ""
    return f'<img class="preview" src="{data_url(step.picture)}" alt="The last analyzed frame">'


def _progress(step: Progress) -> str:
    return f"{100 * step.share:.0f}%{time_left(step.seconds_left)}"


def _summary(result: VideoResult) -> str:
    most = max((count for _, count in result.counts), default=0)
    people = counted(len(result.people), "person", "people") if result.people else "No people"
    if len(result.people) > most:  # who returns, or somebody else: nobody is recognized
        people = f"Up to {counted(most, 'person', 'people')} at once, {counted(len(result.people), 'appearance')}"
    return (
        f"**{people}** in {result.seconds:.1f} seconds; {result.analyzed:,} of {result.frames:,} frames analyzed in "
        f"{counted(max(1, round(result.elapsed)), 'second')}."
    )
