"""Annotated frames in an MP4: size, times, colors, audio."""

from __future__ import annotations

import errno
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from space.face import Face
from space.video import limits
from space.video.audio import _AAC_RATES, Audio
from space.video.writer import PREVIEW, VideoWriter
from tests.support.videos import write_video

BASE = Fraction(1, 1000)
COLORS = np.zeros((48, 96, 3), np.uint8)
COLORS[:, :32], COLORS[:, 32:64], COLORS[:, 64:] = (200, 40, 40), (40, 200, 40), (40, 40, 200)


def written(path, frames, times, *, last=0.04, offset=0.0, rate=Fraction(25), faces=(), blurred=False):
    """The frames of an MP4 that a writer made, their times in seconds, and the writer."""
    with av.open(str(path), "w") as out:
        writer = VideoWriter(out, rate, offset, blurred=blurred)
        assert not writer.is_open and writer.preview() is None
        writer.open(frames[0], BASE)
        assert writer.is_open
        for frame, pts in zip(frames, times, strict=True):
            writer.write(writer.fitted(frame), pts, list(faces))
        writer.finish(last)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)  # BT.709, limited
        decoded = [(f.to_ndarray(format="rgb24"), float(f.pts * f.time_base)) for f in container.decode(stream)]
    return [rgb for rgb, _ in decoded], [time for _, time in decoded], writer


def test_times_and_colors(tmp_path):
    frames, times, writer = written(tmp_path / "a.mp4", [COLORS] * 3, [2000, 2040, 2300], offset=2.0)
    assert times == [0.0, 0.04, 0.3]
    for column, color in ((16, (200, 40, 40)), (48, (40, 200, 40)), (80, (40, 40, 200))):
        assert np.abs(frames[0][24, column].astype(int) - color).max() < 12
    np.testing.assert_array_equal(writer.preview(), COLORS)


@pytest.mark.parametrize(
    "times", [[0], [0, 40, 80, 120], [0, 5000, 10000], [0, 40, 90, 400, 450, 1000], [40 * i for i in range(100)]]
)
def test_the_last_frame_is_shown_for_its_time(tmp_path, times):
    written(tmp_path / "a.mp4", [COLORS] * len(times), times, last=7.5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(times[-1] / 1000 + 7.5, abs=0.01)


def test_sides_are_even_and_all_frames_get_the_first_ones_size(tmp_path):
    frames, _, _ = written(tmp_path / "a.mp4", [COLORS[:47, :95], COLORS, COLORS[:20, :20]], [0, 40, 80])
    assert {frame.shape for frame in frames} == {(46, 94, 3)}
    assert written(tmp_path / "b.mp4", [COLORS[:3, :1]], [0])[0][0].shape == (2, 2, 3)


def test_previews_are_small(tmp_path):
    _, _, writer = written(tmp_path / "a.mp4", [np.zeros((640, 1280, 3), np.uint8)], [0])
    assert writer.preview().shape == (PREVIEW // 2, PREVIEW, 3)


def test_faces_are_drawn_and_blurred_if_wanted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    face = Face((30.0, 30.0, 36.0, 36.0), 0.9, age=30.0, p_female=0.1)
    detail = {}
    for blurred in (False, True):
        *_, writer = written(tmp_path / "a.mp4", [noise], [0], faces=[face], blurred=blurred)
        assert (np.abs(writer._drawn.astype(int) - noise).max(axis=2) > 0)[28:33, 40:56].any()
        detail[blurred] = writer._drawn[42:54, 42:54].astype(float).std()
    assert detail[True] < 0.3 * detail[False]


def copied(tmp_path, sound: str, *, name="a.mp4", offset=0.0, rate=48000) -> tuple[str, int, float, float]:
    """Codec, rate, first time and length in seconds of the audio that is written for a second of `sound`."""
    video = write_video(tmp_path / name, [COLORS] * 25, rate=25, sound=sound, sound_rate=rate)
    with av.open(str(video)) as source, av.open(str(tmp_path / "out.mp4"), "w") as out:
        audio = Audio(source, out, offset)
        for packet in source.demux(audio.sources):
            audio.add(packet)
        audio.finish()
    with av.open(str(tmp_path / "out.mp4")) as made:
        stream = made.streams.audio[0]
        frames = list(made.decode(stream))
        start = float(frames[0].pts * frames[0].time_base)
        name = stream.codec_context.name.removesuffix("float")
        return name, stream.codec_context.sample_rate, start, sum(f.samples for f in frames) / stream.sample_rate


@pytest.mark.parametrize(
    ("sound", "name", "kept", "rate", "new_rate"),
    [
        ("aac", "a.mp4", "aac", 48000, 48000),
        ("libmp3lame", "a.avi", "mp3", 44100, 44100),
        ("libopus", "a.mkv", "aac", 48000, 48000),
        ("pcm_s16le", "a.mkv", "aac", 22050, 22050),
        ("flac", "a.mkv", "aac", 37800, 48000),  # a rate that AAC lacks
    ],
)
def test_audio_is_copied_where_browsers_play_it_and_converted_otherwise(tmp_path, sound, name, kept, rate, new_rate):
    codec, actual, start, length = copied(tmp_path, sound, name=name, rate=rate)
    assert (codec, actual) == (kept, new_rate) and abs(start) < 0.06 and length == pytest.approx(1, abs=0.12)


def test_aac_has_the_rates_that_are_kept():
    assert set(_AAC_RATES) <= set(av.Codec("aac", "w").audio_rates)


@pytest.mark.parametrize(("sound", "name"), [("aac", "a.mp4"), ("flac", "a.mkv")])
def test_audio_is_shifted_with_the_frames(tmp_path, sound, name):
    first = copied(tmp_path, sound, name=name)[2]
    assert copied(tmp_path, sound, name=name, offset=-0.5)[2] == pytest.approx(first + 0.5, abs=0.03)


def test_audio_ends_with_the_longest_video(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.3)
    for sound, name in (("aac", "a.mp4"), ("flac", "a.mkv")):
        assert 0.25 < copied(tmp_path, sound, name=name)[3] < 0.6


class Refusing(Audio):
    """Fails at each packet with the error `number`, or a ValueError for None."""

    def __init__(self, number):
        self._seconds, self._copy, self._number = 0.0, None, number

    def _encode_packet(self, packet):
        raise ValueError if self._number is None else av.error.FFmpegError(self._number, "why")


def test_broken_audio_is_dropped_and_a_full_disk_is_not():
    for number in (None, errno.EINVAL, errno.EIO):
        Refusing(number).add(SimpleNamespace())
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        with pytest.raises(av.error.FFmpegError):
            Refusing(number).add(SimpleNamespace())
