"""Videos: kinds, times, sound, rotation; who is in them; what is no video; nothing half written."""

from __future__ import annotations

import io
import shutil
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from space.analyzer import FaceAnalyzer
from space.video import limits, reader
from space.video.annotator import annotate_video
from space.video.result import Progress, VideoError, VideoResult
from tests.support import EXAMPLES
from tests.support.videos import MAN, WOMAN, moving, turned, write_video

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", moving(45), sound="aac")


def annotate(analyzer, source, target, **options) -> VideoResult:
    *progress, result = annotate_video(analyzer, source, target, **options)
    assert all(isinstance(step, Progress) and 0 <= step.share <= 1 for step in progress)
    assert [path.name for path in target.parent.glob("*.part*")] == []
    return result


def read(path) -> tuple[list[np.ndarray], list[float], av.container.InputContainer]:
    with av.open(str(path)) as container:
        frames = [(f.to_ndarray(format="rgb24"), float(f.pts * f.time_base)) for f in container.decode(video=0)]
        kinds = [(stream.type, stream.codec_context.name) for stream in container.streams]
    return [f for f, _ in frames], [t for _, t in frames], kinds


def test_everyone_is_boxed_and_listed_and_the_sound_is_kept(analyzer, video, tmp_path):
    result = annotate(analyzer, video, tmp_path / "out.mp4")
    pictures, times, kinds = read(tmp_path / "out.mp4")
    before, old_times, _ = read(video)
    assert kinds == [("video", "h264"), ("audio", "aac")] or kinds == [("audio", "aac"), ("video", "h264")]
    assert len(pictures) == result.frames == 45 and times == pytest.approx(old_times, abs=1e-3)
    assert result.analyzed == len(result.counts) and 10 <= result.analyzed <= 15
    assert [person.gender for person in sorted(result.people, key=lambda person: person.id)] in (
        ["female", "male"],
        ["male", "female"],
    )
    for person in result.people:
        assert 1.2 < person.on_screen <= 1.51 and person.age_low <= person.age <= person.age_high
        assert person.as_dict()["on_screen"] == round(person.on_screen, 2)
    # Something is drawn on each frame, also on those between analyzed ones, and the rest is as it was.
    for old, new in zip(before, pictures, strict=True):
        change = np.abs(old.astype(int) - new).max(axis=2)
        assert 0.002 < (change > 80).mean() < 0.1
        assert np.median(change) < 8


@pytest.mark.parametrize(
    ("name", "codec", "sound", "kept"),
    [("a.webm", "libvpx", "libopus", "aac"), ("a.avi", "mpeg4", "libmp3lame", "mp3"), ("a.mov", "libx264", None, None)],
)
def test_other_kinds_of_video(analyzer, tmp_path, name, codec, sound, kept):
    video = write_video(tmp_path / name, moving(20), codec=codec, sound=sound)
    result = annotate(analyzer, video, tmp_path / "out.mp4")
    pictures, _, kinds = read(tmp_path / "out.mp4")
    assert len(pictures) == result.frames == 20 and len(result.people) == 2
    assert ("video", "h264") in kinds
    assert [codec.removesuffix("float") for kind, codec in kinds if kind == "audio"] == ([kept] if kept else [])


def test_a_video_that_a_telephone_took_upright_is_shown_upright(analyzer, tmp_path):
    lying = write_video(tmp_path / "lying.mp4", (np.rot90(f).copy() for f in moving(16, size=(360, 480), side=130)))
    result = annotate(analyzer, turned(lying, tmp_path / "video.mov"), tmp_path / "out.mp4")
    pictures, _, _ = read(tmp_path / "out.mp4")
    assert pictures[0].shape == (480, 360, 3) and len(result.people) == 2


def test_a_mirrored_video_is_not_upside_down(analyzer, tmp_path):
    frames = moving(8, size=(480, 360), side=130)
    stored = write_video(tmp_path / "stored.mp4", (frame[:, ::-1].copy() for frame in frames))
    result = annotate(analyzer, turned(stored, tmp_path / "video.mp4", (-1, 0, 0, 1)), tmp_path / "out.mp4")
    pictures, _, _ = read(tmp_path / "out.mp4")
    expected = next(iter(moving(1, size=(480, 360), side=130)))
    assert len(result.people) == 2 and np.median(np.abs(pictures[0].astype(int) - expected)) < 6


def test_the_times_of_a_video_without_a_steady_rate_are_kept(analyzer, tmp_path):
    times = [i / 30 if i < 15 else 0.5 + (i - 15) / 4 for i in range(25)]
    video = write_video(tmp_path / "video.mp4", moving(25), times=times)
    result = annotate(analyzer, video, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[1] == pytest.approx(times, abs=0.002)
    assert result.counts[-1] == (pytest.approx(times[-1], abs=0.002), 2)


def test_odd_sizes_and_large_ones(analyzer, tmp_path):
    odd = write_video(tmp_path / "odd.avi", moving(6, size=(321, 241), side=120), codec="mpeg4")
    annotate(analyzer, odd, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[0][0].shape == (240, 320, 3)
    large = write_video(tmp_path / "large.mp4", moving(4, size=(1920, 1080), side=400))
    annotate(analyzer, large, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[0][0].shape == (720, 1280, 3)


def test_who_leaves_is_counted_until_then_and_a_cut_brings_somebody_else(analyzer, tmp_path):
    leaving = write_video(tmp_path / "leaving.mp4", moving(60, gone=range(30, 60)))
    result = annotate(analyzer, leaving, tmp_path / "out.mp4")
    assert [count for _, count in result.counts][3] == 2 and result.counts[-1][1] == 1
    long, short = result.people
    assert long.on_screen > 1.8 and 0.8 < short.on_screen < 1.6 and short.last < 1.1

    def scenes():
        for picture in moving(30, names=["age-20-29-female.jpg"]):
            yield picture
        for picture in moving(30, names=["age-40-49-male.jpg"]):
            yield (picture * 0.5).astype(np.uint8)

    result = annotate(analyzer, write_video(tmp_path / "cut.mp4", scenes()), tmp_path / "out.mp4")
    assert sorted(person.gender for person in result.people) == ["female", "male"]
    assert all(0.8 < person.on_screen < 1.2 for person in result.people)


def test_the_same_place_and_background_but_another_person(analyzer, tmp_path):
    def scenes():
        yield from moving(45, names=[WOMAN], reach=0)
        yield from moving(45, names=[MAN], reach=0)

    result = annotate(analyzer, write_video(tmp_path / "video.mp4", scenes()), tmp_path / "out.mp4")
    assert [person.gender for person in sorted(result.people, key=lambda p: p.first)] == ["female", "male"]


def test_a_flash_makes_nobody_new(analyzer, tmp_path):
    def scenes():
        for i, picture in enumerate(moving(40)):
            yield np.full_like(picture, 255) if i == 20 else picture

    result = annotate(analyzer, write_video(tmp_path / "video.mp4", scenes()), tmp_path / "out.mp4")
    assert len(result.people) == 2


def test_time_on_screen_of_slow_and_short_videos(analyzer, tmp_path):
    for rate, frames in ((2, 10), (1, 4), (30, 30), (30, 1), (30, 4)):
        video = write_video(tmp_path / "video.mp4", moving(frames), rate=rate)
        result = annotate(analyzer, video, tmp_path / "out.mp4")
        assert len(result.people) == 2 and result.seconds == pytest.approx(frames / rate, abs=0.05), (rate, frames)
        assert all(person.on_screen == pytest.approx(frames / rate, abs=0.15) for person in result.people)


def test_frames_that_wait_are_bounded(analyzer, tmp_path):
    times = [i / 1000 for i in range(200)]  # all within a fifth of a second
    video = write_video(tmp_path / "video.mp4", moving(200, size=(160, 120), side=60), times=times)
    assert annotate(analyzer, video, tmp_path / "out.mp4").analyzed >= 6


def test_colours_of_large_videos_and_the_shape_of_pixels_are_kept(analyzer, tmp_path):
    pure = np.zeros((720, 1280, 3), np.uint8)
    pure[:, :400, 0] = pure[:, 400:800, 1] = pure[:, 800:, 2] = 255
    video = write_video(tmp_path / "video.mp4", [pure] * 5)
    annotate(analyzer, video, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        context = out.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (1, 1)  # BT.709, limited range: what players take it for
        (frame, *_) = out.decode(video=0)
        seen = frame.to_ndarray(format="rgb24")
    for x, channel in ((200, 0), (600, 1), (1000, 2)):
        assert seen[360, x, channel] > 235 and max(np.delete(seen[360, x], channel)) < 25
    wide = tmp_path / "wide.mkv"
    with av.open(str(wide), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for picture in [*moving(5, size=(320, 240), side=100)]:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    annotate(analyzer, wide, tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[0][0].shape == (240, 640, 3)


def test_sound_of_an_odd_rate_or_kind_does_not_cost_the_video(analyzer, tmp_path):
    video = write_video(tmp_path / "video.mkv", moving(20), sound="pcm_s16le", sound_rate=96000)
    annotate(analyzer, video, tmp_path / "out.mp4")
    assert ("audio", "aac") in read(tmp_path / "out.mp4")[2]


def test_faces_can_be_blurred(analyzer, video, tmp_path):
    annotate(analyzer, video, tmp_path / "out.mp4", blurred=True)
    found = [len(analyzer.detect(picture)) for picture in read(tmp_path / "out.mp4")[0]]
    assert sum(found) <= 4  # of 90


def test_a_face_that_appears_between_two_analyzed_frames_is_blurred(analyzer, tmp_path):
    (face,) = moving(1, names=(WOMAN,), reach=0)
    write_video(tmp_path / "in.mp4", [np.full_like(face, 128)] * 2 + [face] * 7, rate=30)
    result = annotate(analyzer, tmp_path / "in.mp4", tmp_path / "out.mp4", blurred=True)
    pictures = read(tmp_path / "out.mp4")[0]
    assert len(pictures) == result.analyzed == 9 and len(analyzer.detect(read(tmp_path / "in.mp4")[0][2])) == 1
    assert [len(analyzer.detect(picture)) for picture in pictures] == [0] * 9


def sound_only(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        stream.layout = "mono"
        for start in range(0, 9600, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_what_is_no_video_gets_a_sentence_and_leaves_nothing(analyzer, video, tmp_path, monkeypatch):
    source, target = tmp_path / "video.mp4", tmp_path / "out" / "out.mp4"
    target.parent.mkdir()

    def fails(words):
        with pytest.raises(VideoError, match=words):
            list(annotate_video(analyzer, source, target))
        assert list(target.parent.iterdir()) == []

    for content in (b"", b"no video at all", video.read_bytes()[:3000], b"\0" * 100_000):
        source.write_bytes(content)
        fails("isn.t a readable video|damaged")
    # A list of other files or addresses, which FFmpeg would follow.
    source.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{video}\n#EXT-X-ENDLIST\n")
    fails("no video|damaged|kind")
    source.write_text(f"ffconcat version 1.0\nfile {video}\n")
    fails("no video|damaged|kind")
    sound_only(source)
    fails("no video, only")
    for name in ("README.md", "examples/group.jpg"):
        shutil.copy(EXAMPLES.parent / name, source)
        fails("readable video")
    shutil.copy(video, source)
    monkeypatch.setattr(limits, "MAX_SECONDS", 0)
    fails("too long")
    monkeypatch.setattr(limits, "MAX_SECONDS", 300)
    monkeypatch.setattr(limits, "MAX_FRAMES", 5)
    fails("too many frames")
    monkeypatch.setattr(limits, "MAX_FRAMES", 20000)
    monkeypatch.setattr(limits, "MAX_BYTES", 1000)
    fails("too large")
    monkeypatch.setattr(limits, "MAX_BYTES", 10**9)
    monkeypatch.setattr(limits, "MAX_PIXELS", 1000)
    fails("too large")


def test_titles_in_old_encodings_are_read(analyzer, tmp_path):
    path = write_video(tmp_path / "old.avi", moving(5), codec="mpeg4", title="Gruesse")
    path.write_bytes(path.read_bytes().replace(b"Gruesse", "Grüße!!".encode("latin-1")))
    assert annotate(analyzer, path, tmp_path / "out.mp4").frames == 5


def test_a_video_damaged_in_the_middle_is_read_as_far_as_it_goes(analyzer, tmp_path):
    video = write_video(tmp_path / "video.avi", moving(40), codec="mpeg4")
    content = bytearray(video.read_bytes())
    generator = np.random.default_rng(0)
    for place in generator.integers(len(content) // 2, len(content) * 3 // 4, 200):
        content[place] ^= 0xFF
    video.write_bytes(content)
    result = annotate(analyzer, video, tmp_path / "out.mp4")
    assert result.frames >= 20 and len(read(tmp_path / "out.mp4")[0]) == result.frames


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("a.webm", "libvpx", "libopus"), ("b.mkv", "libvpx", "libopus"), ("c.avi", "mpeg4", "mp3")],
)
def test_a_video_with_sound_that_is_cut_off_is_incomplete(analyzer, tmp_path, name, codec, sound):
    whole = write_video(tmp_path / name, moving(150, (WOMAN,), (160, 120), 80), codec=codec, sound=sound)
    assert not annotate(analyzer, whole, tmp_path / "whole.mp4").damaged
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = annotate(analyzer, cut, tmp_path / "out.mp4")
    assert 20 < result.frames < 140 and result.damaged


def test_frames_on_their_side_give_the_same_people(tmp_path):
    turning = FaceAnalyzer.load()
    frames = list(moving(40))
    upright = write_video(tmp_path / "upright.mp4", frames)
    lying = write_video(tmp_path / "lying.mp4", [np.ascontiguousarray(np.rot90(frame)) for frame in frames])
    expected, found = (annotate(turning, path, tmp_path / "out.mp4").people for path in (upright, lying))
    assert len(expected) == len(found) == 2
    for one, other in zip(expected, found, strict=True):
        assert abs(one.age - other.age) < 2 and one.gender == other.gender


def test_cancelling_leaves_nothing(analyzer, tmp_path):
    video = write_video(tmp_path / "video.mp4", moving(120))
    steps = annotate_video(analyzer, video, tmp_path / "out.mp4")
    assert isinstance(next(steps), Progress)
    steps.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["video.mp4"]


def webm(path, sound: int = 0, pictures: bytes = b""):
    """Three frames, 5,000 times `pictures`, and `sound` packets of Opus, each 120 ms; says that it lasts a second."""
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        voice = out.add_stream("libopus", rate=48000)
        voice.layout = "mono"
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 50 + i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 33 * i, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for i in range(5000 if pictures else 0):
            out.mux(_packet(pictures, stream, 100 + i, Fraction(1, 1000)))
        for i in range(sound):
            out.mux(_packet(b"\x1b\x02", voice, 120 * i, Fraction(1, 1000)))
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration
    path.write_bytes(content[:place] + struct.pack(">d", 1000.0) + content[place + 8 :])
    return path


def _packet(content: bytes, stream, pts: int, base: Fraction) -> av.Packet:
    packet = av.Packet(content)
    packet.stream, packet.time_base, packet.pts, packet.dts = stream, base, pts, pts
    return packet


def test_sound_ends_when_a_video_must(analyzer, tmp_path, monkeypatch):
    video = webm(tmp_path / "hour.webm", sound=1000)
    for most, expected in ((300, 120), (6, 6)):
        monkeypatch.setattr(limits, "MAX_SECONDS", most)
        annotate(analyzer, video, tmp_path / "out.mp4")
        with av.open(str(tmp_path / "out.mp4")) as out:
            assert sum(f.samples / f.sample_rate for f in out.decode(audio=0)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("pieces", [{"sound": 2000}, {"pictures": b"\xff"}])
def test_videos_of_countless_pieces_end(analyzer, tmp_path, monkeypatch, pieces):
    video = webm(tmp_path / "pieces.webm", **pieces)
    monkeypatch.setattr(limits, "MAX_PACKETS", 1500)
    with pytest.raises(VideoError, match="too many packets"):
        annotate(analyzer, video, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pieces.webm"]


def test_frames_that_grow_are_left_out(analyzer, tmp_path, monkeypatch):
    """A picture of 16,000 pixels square is 2 MB as a file and 2 GB as a frame."""
    monkeypatch.setattr(reader, "_DECODING", reader._DECODING | {"max_pixels": "100000"})

    def jpeg(side: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()

    video = tmp_path / "grows.avi"
    with av.open(str(video), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for i in range(10):
            out.mux(_packet(jpeg(64 if i < 8 else 1000), stream, i, Fraction(1, 10)))
    result = annotate(analyzer, video, tmp_path / "out.mp4")
    assert result.frames == 8 and result.damaged


def test_a_playlist_opens_no_file(analyzer, tmp_path):
    """FFmpeg would open what it names, and its message would tell whether that is there."""
    said = []
    for name in (write_video(tmp_path / "secret.mp4", moving(5)), tmp_path / "absent.mp4"):
        playlist = tmp_path / "video.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{name}\n#EXT-X-ENDLIST\n")
        with pytest.raises(VideoError) as refused:
            annotate(analyzer, playlist, tmp_path / "out.mp4")
        said.append(str(refused.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("name", ["screen.mkv", "screen.mp4"])
def test_a_long_last_frame_counts_and_is_no_damage(analyzer, tmp_path, name):
    """As in a recording of a screen on which nothing moves at the end."""
    with av.open(str(tmp_path / name), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 100 * i, Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.duration = 6000 if packet.pts == 900 else 100
                out.mux(packet)
        for packet in stream.encode():
            packet.duration = 6000 if packet.pts == 900 else 100
            out.mux(packet)
    *_, result = annotate_video(analyzer, tmp_path / name, tmp_path / "out.mp4")
    assert not result.damaged and result.seconds == pytest.approx(6.9, abs=0.1)
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.duration / av.time_base == pytest.approx(result.seconds, abs=0.01)


def test_write_errors_are_not_reported_as_errors_of_the_video(analyzer, video, tmp_path):
    mine = Path(shutil.copy(video, tmp_path / "mine.mp4"))
    (tmp_path / "link.mp4").symlink_to(mine)
    for target, message in (
        (tmp_path / "none" / "out.mp4", r"can't be written \(No such file"),
        (tmp_path / f"{'x' * 250}.mp4", r"can't be written \(File name too long"),
        (tmp_path, r"can't be written \(Is a directory"),
        (mine, "is the input video"),
        (tmp_path / "link.mp4", "is the input video"),
    ):
        with pytest.raises(VideoError, match=message):
            list(annotate_video(analyzer, mine, target))
    assert mine.read_bytes() == video.read_bytes() and len(list(tmp_path.iterdir())) == 2


def test_a_name_with_a_colon_is_a_file(analyzer, video, tmp_path, monkeypatch):
    shutil.copy(video, tmp_path / "2026-11-30T12:30:00.mp4")
    monkeypatch.chdir(tmp_path)
    *_, result = annotate_video(analyzer, "2026-11-30T12:30:00.mp4", "a:b.mp4")
    assert result.frames and (tmp_path / "a:b.mp4").stat().st_size > 1000
