"""Components and settings that several tabs share."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import Any

import gradio as gr
import numpy as np

from ..detector import THRESHOLD, THRESHOLD_RANGE
from .result import data_url
from .uploads import Upload, UploadError

# `Reader` decides whose turn it is: as many photos may wait for theirs as the queue holds.
MAX_QUEUED = 64
PHOTOS: dict[str, Any] = {"concurrency_limit": MAX_QUEUED, "concurrency_id": "photos"}
# Videos and folders take minutes: they wait for each other, and photos for none of them.
LONG: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "long"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}


class Slider(gr.Slider):
    """`gr.Slider` that takes numbers only."""

    is_template = True  # the browser shows it as the stock Slider

    def preprocess(self, payload: float) -> float:
        if not isinstance(payload, (int, float)) or math.isnan(payload):  # which the stock Slider lets through
            text = f"The threshold must be a number from {self.minimum} to {self.maximum}."
            raise gr.Error(text, print_exception=False)
        return super().preprocess(payload)


def threshold_slider(**options) -> Slider:
    """The detector's score from which something counts as a face."""
    return Slider(
        *THRESHOLD_RANGE,
        THRESHOLD,
        step=0.05,
        label="Detection threshold",
        info="Lower values find more faces.",
        **options,
    )


class UploadInput:
    """A component whose value is what a visitor sent: an `Upload`, a list of them, or None. It opens no file.

    The stock components open and convert files themselves.
    """

    is_template = True
    example = "photo.jpg"  # of the reader's, in "Use via API": this server fetches none

    def get_block_name(self) -> str:
        """The stock component that the browser shows."""
        return next(kind.__name__.lower() for kind in type(self).__mro__ if kind.__module__.startswith("gradio."))

    def example_payload(self):
        return {"path": self.example, "url": self.example, "meta": {"_type": "gradio.FileData"}}

    def example_value(self):
        return self.example

    def preprocess(self, payload):
        try:
            if payload is None:
                return None
            files = payload.model_dump() if hasattr(payload, "model_dump") else payload
            several = getattr(self, "file_count", "single") != "single"
            if isinstance(files, list):
                uploads = [Upload.from_payload(file) for file in files]
                return uploads if several else (uploads or [None])[0]
            upload = Upload.from_payload(files)
            return [upload] if several else upload
        except UploadError as error:
            raise gr.Error(str(error), print_exception=False) from None


class Files(UploadInput, gr.File):
    """Several files."""

    def example_payload(self):
        return [super().example_payload()]

    def example_value(self):
        return [super().example_value()]


class FolderButton(UploadInput, gr.UploadButton):
    """A button that uploads a folder."""


class Video(UploadInput, gr.Video):
    """A video."""

    example = "video.mp4"


class PhotoInput(UploadInput, gr.Image):
    """An image file."""


class PagePhoto(PhotoInput):
    """The page's photo: an `Upload`, or the UploadError, so that the page says what is wrong in place."""

    def preprocess(self, payload) -> Upload | UploadError | None:  # type: ignore[override]
        try:
            return Upload.from_payload(payload)
        except UploadError as error:
            return error


def download_buttons(*labels: str) -> list[gr.DownloadButton]:
    """Download buttons that appear once there is something to download."""
    return [gr.DownloadButton(label, visible=False, size="sm", min_width=90, scale=0) for label in labels]


def offered(path=None) -> gr.DownloadButton:
    """What an event returns for a download button: its file, or nothing to show."""
    return gr.DownloadButton(value=path and str(path), visible=path is not None)


def scroll_to(selector: str) -> str:
    """JavaScript for an event: on a phone, what it shows is below the fold."""
    return f"""() => {{ if (innerWidth < 800)
  setTimeout(() => document.querySelector("{selector}")?.scrollIntoView({{
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" }}), 300); }}"""


def connect_run(
    show: Callable,
    inputs: list,
    outputs: list,
    *,
    start: list,
    button: gr.Button,
    cancel: gr.Button,
    report: gr.HTML,
    bar: gr.HTML | None = None,
) -> None:
    """Connect a long run: each event of `start` runs `show`, and `cancel`, which is there meanwhile, stops it.

    The first of `outputs` is the status; `bar` shows the progress. On a phone, the page scrolls to the status, and to
    the report when it is complete. `button`: starts a run too, and is disabled during one.
    """
    status = outputs[0]
    # In the browser, at once: the server may be busy. A run may wait for another one.
    stop, again = (f"document.querySelector('#{one.elem_id}')" for one in (cancel, button))

    def count(change: str) -> str:
        return (
            f"{{ const stop = {stop}, again = {again}; if (stop) {{ stop.dataset.runs = Math.max(0, {change}); "
            "const idle = stop.dataset.runs === '0'; stop.classList.toggle('idle', idle); again.disabled = !idle; } }"
        )

    begin, end, none = (count(change) for change in ("(+stop.dataset.runs || 0) + 1", "stop.dataset.runs - 1", "0"))
    runs = []
    for event in start:
        js = f"(...values) => {{ {begin} document.body.dataset.own = 'yes'; return values; }}"
        event(None, None, status, js="() => 'Waiting to start…'", **PRIVATE)
        running = event(show, inputs, outputs, js=js, show_progress="hidden", **PRIVATE, **LONG)
        event(None, None, None, js=scroll_to(f"#{status.elem_id}"), **PRIVATE)
        running.then(None, None, None, js=f"() => {end}", **PRIVATE)
        running.success(None, None, None, js=scroll_to(f"#{report.elem_id} .tiles"), **PRIVATE)
        runs.append(running)
    cleared = [status, report, *([bar] if bar else [])]
    texts = ["Canceled.", *[""] * (len(cleared) - 1)]
    canceled = cancel.click(lambda: texts, None, cleared, cancels=runs, queue=False, **PRIVATE)
    canceled.then(None, None, None, js=f"() => {none}", **PRIVATE)


def progress_bar(share: float | None) -> str:
    """How far a run is, 0 to 1, as HTML; empty for None."""
    return "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress>'


def thumbnail(rgb: np.ndarray | None, alt: str, side: int = 96) -> str:
    """A small image as HTML; empty for None."""
    if rgb is None:
        return ""
    return f'<img src="{data_url(rgb, side=side)}" alt="{html.escape(alt)}" width="{side // 2}" height="{side // 2}">'


def tiles(values: dict[str, str]) -> str:
    """Figures above their names, as HTML."""
    return (
        '<dl class="tiles">'
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values.items())
        + "</dl>"
    )
