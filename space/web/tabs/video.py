"""The video tab: a video, everyone in it labelled, and a table of them."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import gradio as gr
import pandas

from space.analyzer import FaceAnalyzer
from space.detector import THRESHOLD
from space.text import counted, time_left
from space.video.annotator import annotate_video
from space.video.limits import MAX_BYTES, MAX_FRAMES, MAX_SECONDS
from space.video.result import Progress, VideoError, VideoResult
from space.web.components import LONG, SAVE, answer_cells, threshold_slider

LIMITS = (
    f"MP4, MOV, WebM or AVI of at most {MAX_SECONDS // 60} minutes, {MAX_FRAMES:,} frames and "
    f"{MAX_BYTES // 1_000_000} MB. Everyone is followed from frame to frame; who is away for longer than a moment, or "
    "is seen again after a cut, counts as somebody else."
)
HEADERS = ["person", "age", "interval", "gender", "confidence", "on screen, s", "from, s", "to, s"]


def rows(result: dict | None) -> list[list]:
    """The table of the people, for the API's JSON."""
    return [
        [person["id"], *answer_cells(person), *(f"{person[key]:.1f}" for key in ("on_screen", "first", "last"))]
        for person in (result or {}).get("people", [])
    ]


def as_csv(result: dict) -> str:
    """The people of a video, one line each."""
    buffer = io.StringIO()
    names = ["id", "first", "last", "on_screen", "age", "age_low", "age_high", "gender", "gender_probability"]
    writer = csv.DictWriter(buffer, names)
    writer.writeheader()
    writer.writerows(result["people"])
    return buffer.getvalue()


def tab(analyzer: FaceAnalyzer) -> None:
    """Build the tab."""

    def analyze_video(video, threshold=THRESHOLD, blur_faces=False):
        """Follow everyone through a video and estimate their apparent age and gender.

        Args:
            video: the video: MP4, MOV, WebM or AVI, of at most 5 minutes and 200 MB.
            threshold: the detector's score from which something counts as a face, 0.3 to 0.95.
            blur_faces: make faces unrecognizable in the video that is returned.

        Returns:
            The video with everyone boxed and labelled (MP4), a JSON object: people (id, first, last and on_screen in
            seconds, age, age_low, age_high, gender, gender_probability; longest on screen first), faces_over_time
            ([seconds, faces shown]), frames, analyzed, seconds, model, detector, elapsed_ms; and a line of text.
        """
        if not video:
            raise gr.Error("Choose a video first.", print_exception=False)
        # The folder goes when this ends, also when it is cancelled; by then Gradio has its own copy.
        with tempfile.TemporaryDirectory(prefix="video-") as folder:
            target = Path(folder) / "annotated.mp4"
            yield None, None, "Reading the video…"
            try:
                for step in annotate_video(analyzer, video, target, threshold=threshold, blurred=blur_faces):
                    if isinstance(step, Progress):
                        yield None, None, f"{100 * step.share:.0f} %{time_left(step.seconds_left)}"
                    else:
                        yield str(target), _as_json(analyzer, step), _summary(step)
            except VideoError as error:
                yield None, None, str(error)  # what was said of the video before goes
                raise gr.Error(str(error), print_exception=False) from None

    def show(result):
        result = result or {}
        points = result.get("faces_over_time") or []
        return (
            gr.Dataframe(rows(result)),
            gr.LinePlot(
                pandas.DataFrame(points, columns=["second", "faces"]),
                y_lim=[0, max((count for _, count in points), default=0) + 1],
            ),
            as_csv(result) if result else "",
        )

    gr.Markdown(LIMITS)
    with gr.Row():
        with gr.Column():
            video = gr.Video(label="VideoResult", sources=["upload"], height=360, elem_id="video")
            threshold = threshold_slider()
            blurred = gr.Checkbox(False, label="Blur faces in the video that is written")
            with gr.Row():
                button = gr.Button("Analyze the video", variant="primary", elem_id="video-start")
                cancel = gr.Button("Cancel", elem_id="video-cancel")
            status = gr.Markdown("Choose a video.", elem_id="video-status", min_height=30)
        with gr.Column():
            annotated = gr.Video(
                label="The video with everyone labelled", interactive=False, height=360, elem_id="video-out",
                buttons=["download"],
            )  # fmt: skip
    table = gr.Dataframe(headers=HEADERS, label="People, longest on screen first", interactive=False, elem_id="persons")
    plot = gr.LinePlot(
        x="second", y="faces", x_title="seconds", title="Faces over time", height=300, elem_id="faces-over-time"
    )
    save = gr.Button("Download CSV", elem_id="video-csv")
    text = gr.Textbox(visible="hidden")
    with gr.Accordion("JSON", open=False):
        result = gr.JSON(label="Answer of the API endpoint /analyze_video")

    running = button.click(
        analyze_video, [video, threshold, blurred], [annotated, result, status], api_name="analyze_video",
        show_progress="hidden", **LONG,
    )  # fmt: skip
    # Also when it was cancelled. What was said of the video before goes.
    running.failure(lambda: show(None), None, [table, plot, text], api_visibility="private", show_progress="hidden")
    running.success(show, result, [table, plot, text], api_visibility="private", show_progress="hidden")
    cancel.click(lambda: "Cancelled.", None, status, cancels=[running], api_visibility="private", queue=False)
    save.click(None, text, None, js=SAVE % "people.csv", api_visibility="private")


def _as_json(analyzer: FaceAnalyzer, video: VideoResult) -> dict:
    return {
        "people": [person.as_dict() for person in video.people],
        "faces_over_time": video.counts,
        "frames": video.frames,
        "analyzed": video.analyzed,
        "seconds": video.seconds,
        "model": analyzer.bundle.as_dict(),
        "detector": analyzer.detector.name,
        "elapsed_ms": round(1000 * video.elapsed, 1),
    }


def _summary(video: VideoResult) -> str:
    people = counted(len(video.people), "person", "people") if video.people else "Nobody was found"
    text = (
        f"**{people}** in {video.seconds:.1f} seconds; {video.analyzed} of {video.frames} frames analyzed in "
        f"{video.elapsed:.0f} seconds."
    )
    return text + " The video is damaged: not all of it could be read." if video.damaged else text
