"""Who is in a video, in small videos of bright squares, which stand for faces."""

from __future__ import annotations

import errno
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from space.crop import load_template
from space.face import Face
from space.video import annotator, limits
from space.video.annotator import _People, annotate_video
from space.video.result import Progress, VideoError, VideoResult
from tests.support.videos import write_video

SIDE = 24  # pixels of a square


class Squares:
    """Finds bright squares; gives each an age of its brightness minus 200 and a gender by its color."""

    template = load_template()

    def __init__(self):
        self.searched = []  # the arguments of each search

    def detect(self, rgb, *, threshold, side, quarters):
        self.searched.append((threshold, side, quarters))
        _, _, found, _ = cv2.connectedComponentsWithStats((rgb.max(axis=2) > 190).astype(np.uint8))
        landmarks = np.array([[6, 8], [18, 8], [12, 12], [8, 18], [16, 18]], np.float32)
        return [
            Face((float(x), float(y), float(w), float(h)), 0.95, landmarks=landmarks + np.array([x, y], np.float32))
            for x, y, w, h, area in found[1:]
            if area > 100
        ]

    def estimate(self, rgb, faces):
        ages = [float(rgb[int(face.center[1]), int(face.center[0])].max()) - 200 for face in faces]
        return [
            replace(f, age=a, age_low=a - 5, age_high=a + 5, p_female=0.9) for f, a in zip(faces, ages, strict=True)
        ]


def scene(*corners: tuple[int, int], background: int = 60) -> np.ndarray:
    """uint8 [96, 160, 3] with a bright square at each corner."""
    frame = np.full((96, 160, 3), background, np.uint8)
    for x, y in corners:
        frame[y : y + SIDE, x : x + SIDE] = (240, 240, 240)
    return frame


def annotate(tmp_path, frames, analyzer=None, rate=16, **options) -> tuple[VideoResult, list[np.ndarray]]:
    video = write_video(tmp_path / "video.mp4", frames, rate=rate)
    *steps, result = annotate_video(analyzer or Squares(), video, tmp_path / "out.mp4", **options)
    assert all(isinstance(step, Progress) for step in steps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "video.mp4"]
    with av.open(str(tmp_path / "out.mp4")) as out:
        return result, [frame.to_ndarray(format="rgb24") for frame in out.decode(video=0)]


def test_people_times_counts_and_rate(tmp_path):
    analyzer = Squares()
    frames = [scene((20, 30), *([(100, 30)] if i >= 16 else [])) for i in range(32)]
    result, written = annotate(tmp_path, frames, analyzer, threshold=0.6)
    assert len(written) == result.frames == 32 and result.seconds == 2.0 and not result.damaged
    assert 0 < result.elapsed < 60
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.video[0].average_rate == 16
    assert 15 <= result.analyzed == len(analyzer.searched) == len(result.counts) <= 17  # every second frame
    assert {threshold for threshold, _, _ in analyzer.searched} == {0.6}
    assert [count for seconds, count in result.counts if seconds < 0.99] == [1] * (len(result.counts) // 2)
    assert result.counts[-1][1] == 2
    one, other = result.people
    assert one.on_screen == pytest.approx(2.0, abs=0.01) and (one.first, one.last) == pytest.approx((0, 2), abs=0.13)
    assert other.on_screen == pytest.approx(1.0, abs=0.13) and other.first == pytest.approx(1.0, abs=0.13)
    assert one.age == pytest.approx(40, abs=3) and one.gender == "female" and one.thumbnail.shape == (96, 96, 3)


def test_boxes_follow_a_face_in_the_frames_between(tmp_path):
    frames = [scene((10 + 2 * i, 36)) for i in range(32)]
    _, written = annotate(tmp_path, frames)
    for i, (before, after) in enumerate(zip(frames, written, strict=True)):
        # The box is around the square: something is drawn close to its left edge.
        edge = 10 + 2 * i
        near = np.abs(before.astype(int) - after)[36 : 36 + SIDE, max(0, edge - 7) : edge + 7].max(axis=(0, 2))
        assert near.max() > 60, i


def test_what_is_seen_once_or_twice_is_no_person(tmp_path):
    for seen in (2, 4, 8):
        frames = [scene((20, 30), *([(100, 30)] if 8 <= i < 8 + seen else [])) for i in range(24)]
        result, _ = annotate(tmp_path, frames)
        assert len(result.people) == (1 if seen < 6 else 2), seen
    # In a video of two frames, who is in both is one.
    assert len(annotate(tmp_path, [scene((20, 30))] * 2)[0].people) == 1


def test_a_cut_makes_a_new_person_and_a_flash_none(tmp_path):
    night, day = scene((20, 30), background=20), scene((20, 30), background=150)
    assert len(annotate(tmp_path, [night] * 16 + [day] * 16)[0].people) == 2
    assert len(annotate(tmp_path, [night] * 16 + [day] * 2 + [night] * 14)[0].people) == 1


def test_in_a_flickering_video_not_every_cut_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(annotator, "MAX_CUTS", 3)
    night, day = scene(background=20), scene(background=180)
    result, _ = annotate(tmp_path, [night, day] * 16, rate=32)
    assert 3 + 8 <= result.analyzed <= 3 + 8 + 2


def test_a_video_that_ends_early_is_damaged(tmp_path):
    video = write_video(tmp_path / "video.avi", [scene((20 + i % 9, 30)) for i in range(64)], rate=16, codec="mpeg4")
    whole = video.read_bytes()
    for share, damaged in ((1.0, False), (0.5, True)):
        video.write_bytes(whole[: int(share * len(whole))])
        *_, result = annotate_video(Squares(), video, tmp_path / "out.mp4")
        assert result.damaged == damaged and result.seconds <= 4 * share + 0.2


@pytest.mark.parametrize("broken", [None, 10])
def test_a_video_with_a_hole_in_the_middle_is_damaged(tmp_path, broken):
    frames = [scene((20 + i % 9, 30)) for i in range(32)]
    video = write_video(tmp_path / "video.avi", frames, rate=16, codec="mjpeg")
    if broken:
        with av.open(str(video)) as opened:
            places = [(packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size]
        content = bytearray(video.read_bytes())
        place, size = places[broken]
        content[place + 8 : place + size] = bytes(size - 8)  # after the chunk's header
        video.write_bytes(content)
    *_, result = annotate_video(Squares(), video, tmp_path / "out.mp4")
    assert result.damaged == bool(broken) and result.frames == (31 if broken else 32)
    assert result.seconds == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(("codec", "name"), [("aac", "video.mp4"), ("pcm_s16le", "video.avi")])
def test_the_audio_is_as_loud_as_before(tmp_path, codec, name):
    """Copied as it is, or encoded again."""
    video = write_video(tmp_path / name, [scene((20, 30))] * 32, rate=16, sound=codec)
    *_, _ = annotate_video(Squares(), video, tmp_path / "out.mp4")
    loudness = []
    for path in (video, tmp_path / "out.mp4"):
        with av.open(str(path)) as opened:
            to_float = av.AudioResampler("fltp", "mono", 48000)
            parts = [part.to_ndarray() for frame in opened.decode(audio=0) for part in to_float.resample(frame)]
        loudness.append(np.sqrt(np.mean(np.concatenate(parts, axis=1) ** 2)))
    assert loudness[1] == pytest.approx(loudness[0], rel=0.1) and loudness[0] > 0.1


def test_blurring_analyzes_every_frame_and_hides_the_faces(tmp_path):
    pattern = np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 60 + 195
    frames = []
    for i in range(8):
        frame = scene()
        frame[30 : 30 + SIDE, 20 + 4 * i : 20 + 4 * i + SIDE] = pattern[..., None]
        frames.append(frame)
    result, written = annotate(tmp_path, frames, blurred=True)
    assert result.analyzed == 8
    for i, frame in enumerate(written):
        inside = frame[38:46, 28 + 4 * i : 36 + 4 * i].astype(float)
        assert inside.std() < 15, i


def test_a_frame_that_waits_is_written_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_WAITING", 4)
    result, _ = annotate(tmp_path, [scene((20, 30))] * 21, rate=200)
    assert result.analyzed == 5  # of 21 frames, four wait after each


def test_limits_on_bytes_and_packets(tmp_path, monkeypatch):
    video = write_video(tmp_path / "video.mp4", [scene((20, 30))] * 8)
    for name, value, words in (
        ("MAX_BYTES", video.stat().st_size - 1, "too large: the limit is"),
        ("MAX_PACKETS", 4, "too many packets"),
        ("MAX_REPEATED", -video.stat().st_size, "too many packets"),
        ("MAX_FRAMES", 7, "too many frames: the limit is 7"),
    ):
        with monkeypatch.context() as patch, pytest.raises(VideoError, match=words):
            patch.setattr(limits, name, value)
            list(annotate_video(Squares(), video, tmp_path / "out.mp4"))
        assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MAX_BYTES", video.stat().st_size)
        patch.setattr(limits, "MAX_FRAMES", 8)
        list(annotate_video(Squares(), video, tmp_path / "out.mp4"))


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "can't be written"), (errno.EROFS, "can't be written"), (errno.EIO, "is damaged")],
)
def test_a_full_disk_is_no_damaged_video(tmp_path, monkeypatch, number, words):
    def refuse(*_):
        raise av.error.FFmpegError(number, "why")

    video = write_video(tmp_path / "video.mp4", [scene((20, 30))] * 8)
    monkeypatch.setattr(annotator.VideoWriter, "write", refuse)
    with pytest.raises(VideoError, match=words):
        list(annotate_video(Squares(), video, tmp_path / "out.mp4"))
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_progress_is_reported_twice_a_second(tmp_path, monkeypatch):
    clock = iter(np.arange(0, 1e6, 0.2))
    monkeypatch.setattr(annotator.time, "monotonic", lambda: float(next(clock)))
    video = write_video(tmp_path / "video.mp4", [scene((20, 30))] * 16, rate=16)
    first, *steps, _ = annotate_video(Squares(), video, tmp_path / "out.mp4")
    assert first == Progress(0.0, None) and 3 <= len(steps) <= 17
    shares = [step.share for step in steps]
    assert shares == sorted(shares) and shares[0] < 0.3 and 0.5 < shares[-1] <= 0.99
    for step in steps:
        assert step.seconds_left is None if step.share <= 0.02 else step.seconds_left >= 0
        assert step.picture is None or step.picture.shape == (96, 160, 3)
    assert steps[-1].picture is not None


def test_closing_early_leaves_nothing(tmp_path):
    video = write_video(tmp_path / "video.mp4", [scene((20, 30))] * 8)
    run = annotate_video(Squares(), video, tmp_path / "out.mp4")
    assert next(run).share == 0.0
    run.close()
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


class Lying:
    """An analyzer of frames that say, in their first pixel, by how many quarters a sure face lies; 9: no face."""

    class detector:
        name = "yunet"

    def detect(self, rgb, *, threshold, side, quarters):
        self.searched = quarters
        lies = int(rgb[0, 0, 0])
        if lies == 9:
            return []
        seen = quarters is None or quarters == lies
        return [Face((0, 0, 9, 9), 0.95 if seen else 0.75, rotation=90 * (lies if seen else quarters))]


def test_frames_with_sure_faces_decide_how_a_scene_lies():
    analyzer = Lying()
    people = _People(analyzer, 0.7, 8.0)

    def frames(lies: int, count: int):
        for _ in range(count):
            people._detect(np.full((4, 4, 3), lies, np.uint8))
        return analyzer.searched

    assert frames(9, 4) is None  # nobody yet
    searched = [frames(9, 1) for _ in range(40)]
    assert searched.count(None) <= 10 and None in searched[-8:]  # after a while, mostly upright only
    assert frames(1, 6) == 1
    assert None in [frames(9, 1) for _ in range(30)]  # long without a sure face: undecided again
    assert frames(0, 4) == 0
    people._change_scene()
    assert frames(3, 1) is None and frames(3, 4) == 3  # a cut
    assert frames(0, 20) == 0  # the camera was turned


def test_in_a_slow_video_people_stay_themselves(tmp_path):
    video = write_video(tmp_path / "video.mp4", [scene((20, 30))] * 6, times=[0, 4, 8, 12, 16, 20])
    *_, result = annotate_video(Squares(), video, tmp_path / "out.mp4")
    (person,) = result.people
    assert person.on_screen == pytest.approx(24.0) and result.analyzed == 6


def test_the_thumbnail_is_the_largest_face_up_to_its_own_size():
    people, kept = _People(Squares(), 0.7, 8.0), []
    for side in (20, 80, 82, 120):
        face = Face((0, 0, side, side), 0.9, landmarks=load_template().landmarks * side / 200, track_id=1)
        people._keep_thumbnails(np.zeros((200, 200, 3), np.uint8), [face])
        kept.append(round(people._thumbnails[1][0], 1))
    assert kept == [360.0, 5760.0, 5760.0, 8294.4]  # 82 pixels are less than a tenth better than 80
