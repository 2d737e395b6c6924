"""The Video tab's own code: its report, table and messages."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from space.video.result import Person, Progress, VideoError, VideoResult
from space.web.tabs import video

PERSON = Person(
    2, 0.5, 3.25, 2.75, 31.4, 24.6, 40.2, "female", 0.987, np.full((96, 96, 3), 200, np.uint8)
)  # fmt: skip
RESULT = VideoResult(
    people=[PERSON], counts=[(0.0, 1), (2.0, 3)], frames=1200, analyzed=40, seconds=4.04, damaged=False, elapsed=12.4
)


def changed(**values) -> VideoResult:
    return VideoResult(**vars(RESULT) | values)


def test_a_report_has_figures_a_row_for_each_person_and_a_chart():
    html = video.report(RESULT, blurred=False)
    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", html))
    assert figures == {
        "Appearances": "1", "Most people at once": "3", "Length": "4.0 s", "Analyzed": "40 of 1,200 frames",
    }  # fmt: skip
    cells = re.findall(r"<td>([^<]*)</td>", html)
    assert cells == ["2", "31", "25 to 40", "female", "99%", "2.8 s", "0.5 s", "3.2 s"]
    assert 'alt="Person 2"' in html and "polyline" in html and video.DAMAGED not in html
    assert "<img" not in video.report(RESULT, blurred=True)
    assert video.DAMAGED in video.report(changed(damaged=True), blurred=False)


def test_a_video_without_people():
    html = video.report(changed(people=[], counts=[]), blurred=False)
    assert "No people found." in html and "<table>" not in html and "<dd>0</dd>" in html


def test_the_table_for_download():
    rows = list(csv.DictReader(io.StringIO(video.as_csv({"people": [PERSON.as_dict()]}))))
    assert rows[0]["id"] == "2" and rows[0]["age"] == "31.4" and rows[0]["gender_label"] == "female"


@pytest.mark.parametrize(
    ("people", "most", "words"),
    [
        (0, 0, "**No people** in 4.0 seconds; 40 of 1,200 frames analyzed in 12 seconds."),
        (1, 1, "**1 person** in"),
        (2, 3, "**2 people** in"),
        (3, 2, "**Up to 2 people at once, 3 appearances** in"),
        (2, 1, "**Up to 1 person at once, 2 appearances** in"),
    ],
)
def test_the_summary(people, most, words):
    text = video._summary(changed(people=[PERSON] * people, counts=[(0.0, most)]))
    assert text.startswith(words)


class Reader:
    """Gives these steps for any upload, and writes the annotated video."""

    def __init__(self, *steps):
        self.steps = steps

    def video(self, upload, target, analyzer, **settings):
        self.settings = settings
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, VideoResult):
                Path(target).write_bytes(b"video")
            yield step


ANALYZER = SimpleNamespace(
    bundle=SimpleNamespace(as_dict=lambda: {"name": "made up"}), detector=SimpleNamespace(name="yunet")
)


def shown(reader: Reader, upload=True, blurred=False, language="en") -> list[tuple]:
    return [
        tuple(part if isinstance(part, (str, dict)) or part is None else part.visible for part in step)
        for step in video._shower(ANALYZER, reader)(upload and SimpleNamespace(stem="clip"), 0.6, blurred, language)
    ]


def test_progress_then_the_result():
    picture = np.zeros((9, 16, 3), np.uint8)
    reader = Reader(Progress(0.0, None), Progress(0.5, 3.0, picture), RESULT)
    reading, first, half, last = shown(reader, blurred=True, language="de")
    assert reader.settings["threshold"] == 0.6 and reader.settings["blurred"] is True
    assert reader.settings["words"]["male"] == "männlich"
    assert reading == ("Reading the video…", "", False, "", None, False, False, False)
    assert first[:4] == ("0%", '<progress max="1" value="0.000" aria-label="Progress"></progress>', False, "")
    assert half[0] == "50%, 3 seconds left" and 'class="preview"' in half[3]
    status, bar, annotated, report, data, details, table, json_file = last
    assert status.startswith("**Up to") or status.startswith("**1 person**")
    assert (bar, annotated, details, table, json_file) == ("", True, True, True, True)
    assert "<table>" in report and data["frames"] == 1200 and data["model"] == {"name": "made up"}


def test_errors_are_said_in_place():
    *_, last = shown(Reader(Progress(0.0, None), VideoError("The video is odd.")))
    assert last == ("⚠️ The video is odd.", "", False, "", None, False, False, False)
    assert shown(Reader(), upload=None) == [("⚠️ Choose a video first.", "", False, "", None, False, False, False)]
    with pytest.raises(gr.Error, match="odd"):
        list(video._analyze(ANALYZER, Reader(VideoError("odd")), SimpleNamespace(stem="clip"), 0.7, False, "."))


@pytest.mark.parametrize("blurred", [False, True])
def test_the_settings_of_the_endpoint_reach_the_video(analyzer, blurred):
    reader = Reader(changed(damaged=True))
    with gr.Blocks() as page:
        video._endpoint(analyzer, reader)
    (function,) = [one.fn for one in page.fns.values() if one.api_name == "analyze_video"]
    *_, (_, _, text) = function(SimpleNamespace(stem="a"), 0.4, blurred)
    assert reader.settings["blurred"] is blurred and reader.settings["threshold"] == 0.4
    assert video.DAMAGED in text
