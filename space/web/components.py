"""Components and settings that several tabs share."""

from __future__ import annotations

import html
import inspect
import math
import re
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

    get_block_class = get_block_name  # the name that "Use via API" shows

    def example_payload(self):
        return {"path": self.example, "url": self.example, "meta": {"_type": "gradio.FileData"}}

    def example_value(self):
        return self.example

    def preprocess(self, payload):
        try:
            if payload is None:
                return None
            files = payload.model_dump() if hasattr(payload, "model_dump") else payload
            # Gradio gives components for several files a list, and the others none.
            if isinstance(files, list):
                return [Upload.from_payload(file) for file in files]
            return Upload.from_payload(files)
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


def documented(function: Callable) -> Callable:
    """Reformat a function's docstring for Gradio, which treats each line as an argument or a returned value."""
    text = re.sub(r"\n {8,}", " ", inspect.getdoc(function) or "")  # an argument's further lines
    head, _, returned = text.partition("Returns:\n")
    function.__doc__ = f"{head}Returns:\n    {' '.join(returned.split())}"
    return function


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
    settings: list,
    button: gr.Button,
    cancel: gr.Button,
    report: gr.HTML,
    chosen: list | None = None,
    bar: gr.HTML | None = None,
) -> None:
    """Connect a long run: `button` runs `show`, and `cancel`, visible during the run, stops it.

    The first of `outputs` is the status; `bar` shows the progress. On a phone, the page scrolls to the status, and to
    the report when it is complete. If `settings`, which are among the inputs, have changed since the report, the status
    says so. The events in `chosen` (the visitor chooses another file) also start a run. It replaces an unfinished one.
    """
    status = outputs[0]
    # In the browser, at once: the server may be busy. A run may wait for another one.
    stop, again = (f"document.querySelector('#{one.elem_id}')" for one in (cancel, button))

    def set_running(is_running: str) -> str:
        return (
            f"{{ const stop = {stop}, again = {again}; if (stop && again) {{ "
            f"stop.classList.toggle('idle', !{is_running}); again.disabled = {is_running}; }} }}"
        )

    sent = f"settings{button._id}"
    places = [inputs.index(setting) for setting in settings]
    begin = f"window.{sent} = JSON.stringify({places}.map((i) => values[i])); document.body.dataset.own = 'yes';"
    button.click(None, None, status, js="() => 'Waiting to start…'", **PRIVATE)
    js = f"(...values) => {{ {set_running('true')} {begin} return values; }}"
    # Not "once": Gradio would ignore a run that replaces a canceled one. The button is disabled during a run.
    how = {"trigger_mode": "multiple", "show_progress": "hidden", **PRIVATE, **LONG}
    running = button.click(show, inputs, outputs, js=js, **how)
    button.click(None, None, None, js=scroll_to(f"#{status.elem_id}"), **PRIVATE)
    running.then(None, None, None, js=f"() => {{ {set_running('false')} }}", **PRIVATE)
    running.success(None, None, None, js=scroll_to(f"#{report.elem_id} .tiles"), **PRIVATE)
    cleared = [status, report, *([bar] if bar else [])]
    texts = ["Canceled.", *[""] * (len(cleared) - 1)]
    canceled = cancel.click(lambda: texts, None, cleared, cancels=running, queue=False, **PRIVATE)
    canceled.then(None, None, None, js=f"() => {{ {set_running('false')} }}", **PRIVATE)

    # During a run, there is no report, and the status stays as it is.
    check = f"""(text, ...values) => document.querySelector('#{report.elem_id} .tiles')
  && JSON.stringify(values) !== window.{sent} ? 'Settings have changed: press Analyze again.' : text"""
    for event in (running.success, *(setting.input for setting in settings)):
        event(None, [status, *settings], status, js=check, **PRIVATE)

    press = f"""async () => {{
  const stop = {stop}, again = {again};
  if (again.disabled) stop.click();
  while (again.disabled) await new Promise((done) => setTimeout(done, 50));
  again.click();
}}"""
    for event in chosen or ():
        event(None, None, None, js=press, trigger_mode="multiple", **PRIVATE)


def progress_bar(share: float) -> str:
    """How far a run is, 0 to 1, as HTML."""
    return f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress>'


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
