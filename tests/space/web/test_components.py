"""Settings and pieces of HTML that several tabs share."""

from __future__ import annotations

import re

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_function_description
from pydantic import ValidationError

from space.web import components


def test_a_threshold_is_a_number_within_the_range():
    slider = components.threshold_slider()
    assert slider.preprocess(0.5) == 0.5
    for wrong in ("0.5", None, float("nan"), [0.5]):
        with pytest.raises(gr.Error, match=r"must be a number from 0\.3 to 0\.95"):
            slider.preprocess(wrong)
    with pytest.raises(gr.Error):
        slider.preprocess(0.2)


def test_tiles_and_progress():
    html = components.tiles({"Faces": "8", "Images": "1"})
    assert re.findall(r"<dt>(\w+)</dt><dd>(\d)</dd>", html) == [("Faces", "8"), ("Images", "1")]
    assert html.startswith('<dl class="tiles">') and html.endswith("</dl>")
    assert 'value="0.250"' in components.progress_bar(0.25)


def test_a_thumbnail_is_escaped_and_has_half_its_pixels():
    assert components.thumbnail(None, "x") == ""
    html = components.thumbnail(np.zeros((200, 200, 3), np.uint8), '"><script>', side=80)
    assert "<script>" not in html and 'width="40" height="40"' in html


def test_downloads_appear_once_there_is_something_to_download(tmp_path):
    (tmp_path / "a.csv").touch()
    assert all(not button.visible for button in components.download_buttons("CSV", "JSON"))
    assert components.offered().visible is False and components.offered(tmp_path / "a.csv").visible is True


@pytest.mark.parametrize(
    ("made", "several"),
    [
        (lambda: components.PhotoInput(), False),
        (lambda: components.Files(file_count="multiple"), True),
        (lambda: components.Video(), False),
    ],
)
def test_inputs_give_one_upload_or_a_list(made, several):
    with gr.Blocks():
        component = made()
    file = {"path": "/tmp/a.jpg", "orig_name": "a.jpg", "meta": {"_type": "gradio.FileData"}}
    right, wrong = ([file] * 2, file) if several else (file, [file] * 2)
    found = component.preprocess(component.data_model.model_validate(right))
    assert [upload.name for upload in (found if several else [found])] == ["a.jpg"] * (2 if several else 1)
    with pytest.raises(ValidationError):  # by Gradio, before the component gets it
        component.data_model.model_validate(wrong)
    assert component.preprocess(None) is None
    with pytest.raises(gr.Error, match="contains no file"):
        component.preprocess({"path": 3})


def test_gradio_gets_one_line_per_argument_and_return_value():
    @components.documented
    def example(photo, number=1):
        """Explain a face.

        Args:
            photo: the image, or the URL of
                a file.
            number: of the face.

        Returns:
            An image, and a line
            of text.
        """

    description, arguments, returned = get_function_description(example)
    assert description == "Explain a face." and returned == ["An image, and a line of text."]
    assert arguments == {"photo": "the image, or the URL of a file.", "number": "of the face."}


def test_a_run_disables_its_button_and_can_be_canceled():
    with gr.Blocks() as page:
        button, cancel = gr.Button(elem_id="go"), gr.Button(elem_id="stop")
        status, report, bar = gr.Markdown(elem_id="status"), gr.HTML(elem_id="report"), gr.HTML()
        given = {"button": button, "cancel": cancel, "report": report, "bar": bar}
        slider = gr.Slider()
        components.connect_run(lambda value: value, [slider], [status, bar, report], settings=[slider], **given)
    events = list(page.fns.values())
    canceled = next(event for event in events if any(target[0] == cancel._id for target in event.targets))
    assert canceled.fn() == ["Canceled.", "", ""] and [one._id for one in canceled.outputs] == [
        status._id, report._id, bar._id,
    ]  # fmt: skip
    assert canceled.queue is False and [len(event.cancels) for event in events if event.cancels] == [1]
    scripts = " ".join(str(event.js) for event in events)
    assert "again.disabled = true" in scripts and "again.disabled = false" in scripts and "#go" in scripts
    assert "'Waiting to start…'" in scripts and "stop.classList.toggle('idle', !true)" in scripts and "#stop" in scripts
    assert scripts.count("Settings have changed") == 2  # after a run, and when a setting changes
