"""Times, lengths and pixels of frames, whatever their file says."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from space.video import limits, reader
from space.video.reader import Clock, display_matrix, stream_length, upright
from space.video.result import VideoError
from tests.support.videos import turned, write_video

BASE = Fraction(1, 1000)


def ticks(*times: int | None, rate: int | None = 25, duration: int | None = None) -> tuple[list[int], Clock]:
    """What a clock makes of frames' times in milliseconds."""
    clock = Clock(SimpleNamespace(average_rate=rate, time_base=None))
    return [clock.tick(SimpleNamespace(time_base=BASE, pts=time, duration=duration)) for time in times], clock


def test_steady_times_stay_and_seconds_count_from_the_first():
    given, clock = ticks(400, 440, 480, 530)
    assert given == [400, 440, 480, 530]
    assert (clock.frames, clock.seconds, clock.period) == (4, 0.13, 0.05)


def test_frames_without_times_follow_the_rate():
    assert ticks(None, None, None)[0] == [0, 40, 80]
    assert ticks(None, None, rate=None)[0] == [0, 40]
    assert ticks(None, None, rate=10)[0] == [0, 100]
    assert Clock(SimpleNamespace(average_rate=None, time_base=None)).period == 0.04


def test_the_last_frame_is_shown_as_long_as_it_says():
    """A recording of a screen on which nothing moves ends with a long one."""
    assert ticks(400, 440, duration=6000)[1].end == 6.04
    assert ticks(400, 440)[1].end == ticks(400, 440, duration=10)[1].end == 0.08
    assert ticks(400, 440, duration=10**9)[1].end == 0.04 + limits.MAX_SECONDS
    assert ticks(400, 440)[1].start == 0.4


def test_times_always_increase():
    assert ticks(0, 40, 40, 30, 80)[0] == [0, 40, 41, 42, 80]


def test_a_clock_that_starts_anew_continues():
    assert ticks(0, 400, 800, 0, 400)[0] == [0, 400, 800, 1200, 1600]
    # Half a second back is disorder, more is a new start.
    assert ticks(0, 1000, 500, 1040)[0] == [0, 1000, 1001, 1040]
    assert ticks(0, 1000, 499, 539)[0] == [0, 1000, 2000, 2040]


def test_units_of_time():
    stream = SimpleNamespace(average_rate=25, time_base=Fraction(1, 90))
    assert Clock(stream).base(SimpleNamespace(time_base=BASE)) == BASE
    assert Clock(stream).base(SimpleNamespace(time_base=None)) == Fraction(1, 90)
    assert Clock(SimpleNamespace(average_rate=25, time_base=None)).base(SimpleNamespace(time_base=None)) == BASE


def test_limits_on_length_and_frames(monkeypatch):
    limit = 1000 * (limits.MAX_SECONDS + 1)
    assert ticks(0, limit)[1].seconds == limits.MAX_SECONDS + 1
    with pytest.raises(VideoError, match=r"too long \(301 s\): the limit is 5 minutes"):
        ticks(0, limit + 1)
    monkeypatch.setattr(limits, "MAX_FRAMES", 3)
    assert ticks(0, 1, 2)[1].frames == 3
    with pytest.raises(VideoError, match="too many frames"):
        ticks(0, 1, 2, 3)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({"duration": 5000}, 5.0),
        ({"frames": 100, "average_rate": 25}, 4.0),
        ({"duration": 3000, "frames": 100, "average_rate": 25}, 4.0),  # AVI's duration shrinks with the file
        ({"duration": 5000, "frames": 100, "average_rate": 25}, 5.0),
        ({"metadata": {"DURATION": "01:02:03.500000000"}}, 3723.5),
        ({"metadata": {"DURATION": "00:00:07"}}, 7.0),
        ({"metadata": {"DURATION": "soon"}}, None),
        ({"frames": 100}, None),
        ({}, None),
    ],
)
def test_the_length_that_a_stream_states(values, seconds):
    assert stream_length(stream(**values)) == seconds


def stream(container: str = "avi", **values) -> SimpleNamespace:
    unknown = {"duration": None, "time_base": BASE, "frames": 0, "average_rate": None, "metadata": {}}
    about = SimpleNamespace(format=SimpleNamespace(name=container))
    return SimpleNamespace(container=about, **unknown | values)


def test_frames_that_an_edit_list_hides_and_what_precedes_the_first_frame_are_not_missing():
    assert stream_length(stream("mov,mp4,m4a", duration=4000, frames=250, average_rate=25)) == 4.0
    assert stream_length(stream("matroska,webm", metadata={"DURATION": "00:00:07"}), 2.5) == 4.5


def frame(width: int, height: int) -> SimpleNamespace:
    """A frame whose upper left quarter is red, and green beside it."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 200
    pixels[: height // 2, width // 2 :, 1] = 200
    made = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return SimpleNamespace(width=width, height=height, to_ndarray=made.to_ndarray)


@pytest.mark.parametrize(
    ("matrix", "red", "green"),
    [
        ((1, 0, 0, 1), (0, 0), (0, -1)),
        ((0, 1, -1, 0), (0, -1), (-1, -1)),  # by 90° to the right
        ((-1, 0, 0, -1), (-1, -1), (-1, 0)),
        ((0, -1, 1, 0), (-1, 0), (0, 0)),
        ((-1, 0, 0, 1), (0, -1), (0, 0)),  # mirrored, as some phones' front cameras do
        ((1, 0, 0, -1), (-1, 0), (-1, -1)),
        ((0, 1, 1, 0), (0, 0), (-1, 0)),
        ((0, -1, -1, 0), (-1, -1), (0, -1)),
    ],
)
def test_frames_are_turned_and_mirrored_as_the_file_says(tmp_path, matrix, red, green):
    video = write_video(tmp_path / "video.mp4", [frame(64, 32).to_ndarray()] * 3)
    with av.open(str(turned(video, tmp_path / "turned.mp4", matrix))) as opened:
        first = next(opened.decode(video=0))
    rgb = upright(first, 1.0, display_matrix(first))
    assert rgb.shape == ((32, 64, 3) if matrix[0] else (64, 32, 3)) and rgb.flags.c_contiguous
    corners = [(y, x) for y in (0, -1) for x in (0, -1)]
    assert [max(corners, key=lambda place: rgb[place][color]) for color in (0, 1)] == [red, green]


@pytest.mark.parametrize(
    ("size", "aspect", "shape"),
    [
        ((64, 32), 1.0, (32, 64)),
        ((64, 32), 2.0, (32, 128)),  # pixels twice as wide as high
        ((2560, 1440), 1.0, (720, 1280)),
        ((1280, 720), 1.0, (720, 1280)),
        ((720, 1280), 1.0, (1280, 720)),
        ((4096, 2), 1.0, (2, 1280)),
    ],
)
def test_frames_have_square_pixels_and_at_most_1280(size, aspect, shape):
    assert reader.SIDE == 1280 and upright(frame(*size), aspect).shape == (*shape, 3)


def test_only_videos_within_the_limits_are_opened(tmp_path, monkeypatch):
    video = write_video(tmp_path / "video.mp4", [np.zeros((48, 64, 3), np.uint8)] * 50, rate=25)

    def opened(path=video):
        with reader.open_video(path) as container:
            return reader.video_stream(container).codec_context.name

    assert opened() == "h264"
    for name, fits, breaks, words in (
        ("MAX_PIXELS", 48 * 64, 48 * 64 - 1, "too large"),
        ("MAX_SECONDS", 1, 0.5, "too long"),
        ("MAX_FRAMES", 50, 49, "too many frames: the limit is 49"),  # told before any frame is read
    ):
        with monkeypatch.context() as patch:
            patch.setattr(limits, name, fits)
            assert opened() == "h264"
            patch.setattr(limits, name, breaks)
            with pytest.raises(VideoError, match=words):
                opened()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="isn't a readable video"):
        opened(tmp_path / "text.mp4")
    audio = tmp_path / "audio.mp4"
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    silence.sample_rate = 48000
    with av.open(str(audio), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        for packet in (*stream.encode(silence), *stream.encode()):
            out.mux(packet)
    with pytest.raises(VideoError, match="has no video"):
        opened(audio)
    other = write_video(tmp_path / "other.avi", [np.zeros((48, 64, 3), np.uint8)] * 5, codec="ffv1")
    with pytest.raises(VideoError, match="codec isn't supported"):
        opened(other)
