"""The charts of the Video and Folder tabs."""

from __future__ import annotations

import re

from space.web.charts import bars, steps


def test_bars_are_as_long_as_their_share_of_the_largest():
    html = bars({"0-2": 0, "3-9": 300, "10-19": 1200}, "Age, years")
    assert re.findall(r"width: ([\d.]+)%", html) == ["0.0", "25.0", "100.0"]
    assert re.findall(r"<span>([^<]+)</span>", html) == ["0-2", "0", "3-9", "300", "10-19", "1,200"]
    assert html.startswith('<section class="bars" aria-label="Age, years"><h4>Age, years</h4>')


def test_bars_of_nothing():
    assert re.findall(r"width: ([\d.]+)%", bars({"female": 0}, "Gender")) == ["0.0"]
    assert "bar-row" not in bars({}, "Gender")


def test_each_count_is_a_step_until_the_next():
    svg = steps([(0.0, 1), (2.0, 2), (3.0, 0)], 4.0, "Faces over time")
    assert 'points="0.0,30.0 150.0,30.0 150.0,0.0 225.0,0.0 225.0,60.0 300.0,60.0"' in svg
    assert 'aria-label="Faces over time: at most 2"' in svg
    assert re.findall(r'text-anchor="end">(\d+)<', svg) == ["0", "1", "2"]
    assert re.findall(r'y="70">(\d+) s<', svg) == ["0", "1", "2", "3", "4"]


def test_axes_have_few_labels():
    for seconds in (0.4, 8, 9, 45, 300, 3000):
        for most in (0, 1, 4, 5, 17, 500):
            svg = steps([(0.0, most)], seconds, "Faces")
            levels = [int(level) for level in re.findall(r'text-anchor="end">(\d+)<', svg)]
            assert levels[0] == 0 and len(levels) <= 5 and max(levels) <= max(1, most)
            times = [int(time) for time in re.findall(r'y="70">(\d+) s<', svg)]
            assert times[0] == 0 and times[-1] <= seconds and (len(times) <= 9 or seconds > 480)


def test_a_video_without_frames_has_no_chart():
    assert steps([], 4.0, "Faces") == "" and steps([(0.0, 1)], 0.0, "Faces") == ""
