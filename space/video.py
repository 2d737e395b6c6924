"""A film → the same film with everyone boxed and labelled, and a table of the people in it. By PyAV (FFmpeg).

Some frames a second are analysed, the boxes in between are interpolated. A person is somebody from their first to their
last sight: nothing here recognises anybody, so who comes back after a cut or a while (`tracker.MEMORY`) counts again.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from space.analyzer import SURE, FaceAnalyzer, surest
from space.annotate import blur, draw
from space.detector import MAX_SIDE, THRESHOLD
from space.face import Face
from space.tracker import MEMORY, Track, Tracker

MAX_SECONDS = 300  # of a film
MAX_BYTES = 200_000_000  # of its file
MAX_PIXELS = 4096 * 2304  # of a frame
MAX_FRAMES = 20_000
MAX_STREAMS = 64  # those after them are not looked at
MAX_PACKETS = 200_000  # of pictures and sound; five minutes in packets of 2.5 ms, the shortest of Opus, are 120,000
MAX_WAITING = 30  # frames between two analysed ones: they wait in memory for the boxes on the way
SIDE = 1280  # pixels, longer side of the film that is written; and at which faces are searched, up to 1024
RATE = 8.0  # analysed frames a second
UNDECIDED = 16  # analysed frames without a sure face, after which the frames count as upright
SEEN = 3  # detections that make a person; fewer are mostly none
FLASH = 3  # frames within which the old scene may come back after what looked like a cut
CUT = 27.0  # mean change of hue, saturation and value, 0 to 255, that is a cut (as PySceneDetect's ContentDetector)
_DISK = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES}
_NO_FILM = "This file is no film that can be read, or is damaged. Use MP4, MOV, WebM or AVI."
_FORMATS = "mov,mp4,matroska,webm,avi"  # as FFmpeg names them; others do not say beforehand what is in them
_SIZES = {"max_pixels": str(MAX_PIXELS)}  # frames may be larger than the file says, or grow on the way
_SOUND_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # Hz, of AAC
_COPIED = {"aac", "mp3", "mp3float"}  # sound that MP4 takes and browsers play; other kinds become AAC


class VideoError(ValueError):
    """The file cannot be used as a film; the message is for the person who sent it."""


@dataclass(frozen=True)
class Person:
    """One person of a film; times in seconds from its start, the answers as in `Face`, over all of their frames."""

    id: int
    first: float
    last: float
    on_screen: float  # seconds
    age: float
    age_low: float | None
    age_high: float | None
    gender: str
    gender_probability: float

    def as_dict(self) -> dict:
        """Plain values, for JSON and CSV."""
        digits = {"gender_probability": 4, "age": 1, "age_low": 1, "age_high": 1}
        return {
            name: round(value, digits.get(name, 2)) if isinstance(value, float) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Progress:
    """How far it has come."""

    share: float  # 0 to 1
    seconds_left: float | None  # None: not known yet


@dataclass(frozen=True)
class Film:
    """What became of a film."""

    people: list[Person]  # longest on screen first
    counts: list[tuple[float, int]]  # seconds from the start, faces shown: one for each analysed frame
    frames: int
    analysed: int
    seconds: float  # length, as far as it could be read
    damaged: bool  # whether some of it could not
    elapsed: float  # seconds that it took


def annotate_video(
    analyzer: FaceAnalyzer,
    source: str | Path,
    target: str | Path,
    *,
    threshold: float = THRESHOLD,
    rate: float = RATE,
    blurred: bool = False,
) -> Iterator[Progress | Film]:
    """Analyse a film and write it with everyone boxed and labelled.

    The writing is H.264 in MP4 at the times of the original's frames, upright, with its sound. Nothing is left at
    `target` when it fails or when the generator is closed before its end.

    Args:
        source: an MP4, MOV, WebM (or other Matroska) or AVI file.
        target: the .mp4 to write.
        threshold: the detector's score from which something counts as a face.
        rate: analysed frames a second.
        blurred: blur faces instead of boxing them alone.

    Yields:
        Progress about twice a second, and at the end the Film.

    Raises:
        VideoError: no film, a damaged one, or one beyond the limits above.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part.mp4")
    if Path(source).stat().st_size > MAX_BYTES:
        raise VideoError(f"The film's file is too large: at most {MAX_BYTES // 1_000_000} MB.")
    try:
        with _open(source) as film:
            _check(film)
            with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as out:
                result = yield from _Writer(analyzer, film, out, threshold, rate, blurred).run()
        os.replace(part, target)
    except av.error.InvalidDataError:
        raise VideoError(_NO_FILM) from None
    except av.error.FFmpegError as error:
        if error.errno in _DISK:
            raise VideoError(f"The labelled film cannot be written ({error.strerror}).") from error
        raise VideoError(f"The film is damaged or of a kind that cannot be read ({error.strerror}).") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    yield result


def _open(source: str | Path) -> av.container.InputContainer:
    try:
        return av.open(
            str(source),
            # A playlist of a stranger's would make FFmpeg open and fetch what it names.
            options={"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_streams": str(MAX_STREAMS)},
            stream_options=[_SIZES] * MAX_STREAMS,  # opening decodes frames, to know what they are
            metadata_errors="replace",
        )
    except ValueError:  # FFmpeg's for other formats and broken files, PyAV's for a file that names no streams
        raise VideoError(_NO_FILM) from None


def _check(film: av.container.InputContainer) -> None:
    pictures = [s for s in film.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not pictures or pictures[0] is not film.streams.video[0]:  # the cover of a song is no film
        raise VideoError("There is no picture in this file, only sound or text.")
    stream = film.streams.video[0]
    if stream.codec_context is None:
        raise VideoError("The film's pictures are of a kind that cannot be read. Use MP4, MOV, WebM or AVI.")
    pixels = stream.codec_context.width * stream.codec_context.height
    if not 0 < pixels <= MAX_PIXELS:  # 0 where FFmpeg was not to look at one that is larger
        raise VideoError(
            f"The film's pictures {'' if pixels else 'cannot be read, or '}are too large: at most 4096 × 2304 pixels."
        )
    if film.duration and film.duration / av.time_base > MAX_SECONDS + 1:
        raise VideoError(_too_long(film.duration / av.time_base))


def _stream_length(stream: av.VideoStream) -> float | None:
    """Seconds that a stream says it lasts, in its header or, in Matroska, in a tag; None if it doesn't."""
    lengths = []
    if stream.duration and stream.time_base:
        lengths.append(float(stream.duration * stream.time_base))
    if stream.frames and stream.average_rate:  # AVI: FFmpeg shortens the duration of a file that is cut off
        lengths.append(float(stream.frames / stream.average_rate))
    if lengths:
        return max(lengths)
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) if match else None


def _too_long(seconds: float) -> str:
    return f"The film is too long ({seconds:.0f} s): at most {MAX_SECONDS // 60} minutes. Cut it and try again."


class _Writer:
    """One film on its way."""

    def __init__(self, analyzer, film, out, threshold, rate, blurred):
        self.analyzer, self.film, self.out = analyzer, film, out
        self.threshold, self.rate, self.blurred = threshold, rate, blurred
        self.source = film.streams.video[0]
        self.source.thread_type = "AUTO"
        self.source.codec_context.options = _SIZES
        self.encoder = None
        self.offset = (film.start_time or 0) / av.time_base  # seconds; taken off pictures and sound alike
        self.sound = _Sound(film, out, self.offset)
        self.quarters: int | None = None if analyzer.detector.name == "yunet" else 0  # see `detect`
        self.tracker = Tracker(window=None, confirm=1)
        self.tracks: dict[int, Track] = {}
        self.on_screen: dict[int, float] = {}
        self.waiting: list[tuple[float, int, np.ndarray]] = []  # frames after the last analysed one
        self.before: tuple[float, list[Face]] = (-1.0, [])  # the last analysed frame
        self.counts: list[tuple[float, int]] = []
        self.small = self.scene = None
        self.shift, self.damaged, self.period = 0, False, 0.0
        self.frames, self.last_pts, self.start = 0, None, None

    def run(self) -> Iterator[Progress]:
        started = reported = time.monotonic()
        length = self.film.duration / av.time_base if self.film.duration else None
        seconds, early = 0.0, []
        for number, packet in enumerate(self.film.demux([self.source, *self.sound.sources])):
            if number > MAX_PACKETS:  # of which few need be frames: empty ones, sound of years
                raise VideoError("The film is in too many pieces to be read. Convert it to an MP4 and try again.")
            now = time.monotonic()
            if now - reported > 0.5:
                reported = now
                share = min(seconds / length, 0.99) if length else 0.0
                yield Progress(share, (now - started) * (1 - share) / share if share > 0.02 else None)
            if packet.stream.type == "audio":
                early.append(packet)  # the file's header is written with the first packet, when all streams are known
                if self.encoder is None:
                    continue
            if self.encoder is not None:
                for sound in early:
                    self.sound.take(sound)
                early.clear()
            if packet.stream.type == "audio":
                continue
            try:
                pictures = packet.decode()
            except (av.error.InvalidDataError, av.error.ArgumentError):  # the second for a frame that is too large
                if not self.frames:
                    raise
                self.damaged = True  # a stretch of it; what follows may be whole
                continue
            for picture in pictures:
                seconds = self.take(picture)
        if not self.frames:
            raise VideoError("There is no picture in this file that can be read.")
        for sound in early:
            self.sound.take(sound)
        self.credit(seconds + self.period)
        self.flush(None)
        for packet in self.encoder.encode():
            self.out.mux(packet)
        self.sound.finish()
        return Film(
            people=self.people(),
            counts=self.counts,
            frames=self.frames,
            analysed=len(self.counts),
            seconds=round(seconds + self.period, 3),
            damaged=self.damaged or self.ends_early(length, seconds),
            elapsed=time.monotonic() - started,
        )

    def ends_early(self, length: float | None, seconds: float) -> bool:
        """Whether the frames end before the file says that they do: it is cut off.

        Sound may be longer than the frames, so with sound only the length of the frames' own stream counts.
        """
        own = _stream_length(self.source) or (None if self.sound.sources else length)
        return own is not None and own - seconds > 1 + self.period

    def take(self, picture: av.VideoFrame) -> float:
        """The next frame, analysed or kept until the next analysed one; returns its time, seconds from the start."""
        base = picture.time_base or self.source.time_base or Fraction(1, 1000)
        pts = picture.pts
        if pts is None:  # raw streams and old AVI files have no times, only a rate
            pts = round(self.frames / (self.source.average_rate or 25) / base)
        pts += self.shift
        if self.last_pts is not None and pts <= self.last_pts:
            if float((self.last_pts - pts) * base) > 0.5:  # joined recordings start their clock anew
                step = self.last_pts + max(1, round(self.period / base)) - pts
                self.shift, pts = self.shift + step, pts + step
            else:
                pts = self.last_pts + 1
        if self.last_pts is not None:
            self.period = float((pts - self.last_pts) * base)
        else:
            self.start, self.period = pts, float(1 / (self.source.average_rate or 25))
        self.last_pts = pts
        seconds = float((pts - self.start) * base)
        self.frames += 1
        if seconds > MAX_SECONDS + 1:
            raise VideoError(_too_long(seconds))
        if self.frames > MAX_FRAMES:
            raise VideoError(f"The film has too many frames: at most {MAX_FRAMES:,}. Cut it and try again.")
        rgb = _upright(picture, float(self.source.sample_aspect_ratio or 1))
        if self.encoder is None:
            self.open(rgb, base)
        height, width = self.encoder.height, self.encoder.width
        if rgb.shape[:2] != (height, width):  # the size changed on the way, or is odd
            rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        cut = self.is_cut(rgb)
        # A little less than the period, or rounding would let the rate fall to half.
        soon = seconds - self.before[0] < 0.9 / self.rate and len(self.waiting) < MAX_WAITING
        if self.frames > 1 and not cut and soon:
            self.waiting.append((seconds, pts, rgb))
            return seconds
        if cut:
            self.flush(None)
            self.change_scene()
        self.credit(seconds)
        # Films of few frames a second must not forget between two of them.
        self.tracker.memory = max(MEMORY, 1.5 * (seconds - self.before[0])) if self.counts else MEMORY
        found = self.detect(rgb)
        shown = self.tracker.update(found, seconds, lambda faces: self.analyzer.estimate(rgb, faces))
        self.flush((seconds, shown))
        self.tracks |= {track.id: track for track in self.tracker.tracks}
        self.counts.append((round(seconds, 3), len(shown)))
        self.before = (seconds, shown)
        self.write(rgb, pts, shown)
        return seconds

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """The faces of an analysed frame. The first sure face decides whether the frames lie on their side."""
        found = self.analyzer.detect(rgb, threshold=self.threshold, side=MAX_SIDE, quarters=self.quarters)
        if self.quarters is None and (surest(found) >= SURE or len(self.counts) >= UNDECIDED):
            self.quarters = found[0].rotation // 90 if surest(found) >= SURE else 0
        return found

    def credit(self, seconds: float) -> None:
        """Who was shown in the last analysed frame was on screen until now."""
        for face in self.before[1]:
            self.on_screen[face.track_id] = self.on_screen.get(face.track_id, 0.0) + seconds - self.before[0]

    def change_scene(self) -> None:
        """After a cut everyone is somebody else, except where it was a flash and the old scene is back."""
        if self.scene and self.frames - self.scene[0] <= FLASH and _change(self.scene[1], self.small) <= CUT:
            self.tracker.tracks, self.scene = self.scene[2], None
            return
        self.scene = (self.frames, self.previous, self.tracker.tracks)
        self.tracker.cut()

    def is_cut(self, rgb: np.ndarray) -> bool:
        """Whether the picture is another scene's than the one before."""
        small = cv2.cvtColor(cv2.resize(rgb, (48, 27), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV).astype(int)
        self.previous, self.small = self.small, small
        return self.previous is not None and _change(self.previous, small) > CUT

    def flush(self, after: tuple[float, list[Face]] | None) -> None:
        """Write the frames that wait, boxes on their way to the next analysed frame; None: there is none."""
        t0, before = self.before
        t1, later = after or (t0, before)
        later = {face.track_id: face for face in later}
        for seconds, pts, rgb in self.waiting:
            share = (seconds - t0) / (t1 - t0) if t1 > t0 else 0.0
            self.write(rgb, pts, [_between(face, later.get(face.track_id), share) for face in before])
        self.waiting.clear()

    def open(self, rgb: np.ndarray, base: Fraction) -> None:
        height, width = (max(2, side // 2 * 2) for side in rgb.shape[:2])  # H.264 wants even sides
        stream = self.out.add_stream("libx264", rate=self.source.average_rate or 25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = base
        stream.options = {"preset": "veryfast", "crf": "23"}
        # Named, since players take what is not named for BT.709 when it is large and for BT.601 when it is small.
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self.encoder = stream

    def write(self, rgb: np.ndarray, pts: int, faces: list[Face]) -> None:
        if self.blurred:
            rgb = blur(rgb, faces)
        frame = av.VideoFrame.from_ndarray(draw(rgb, faces), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        base = self.encoder.codec_context.time_base
        frame.pts, frame.time_base = max(0, pts - round(self.offset / base)), base
        for packet in self.encoder.encode(frame):
            self.out.mux(packet)

    def people(self) -> list[Person]:
        found = []
        for track in self.tracks.values():
            if track.seen < min(SEEN, len(self.counts)) or track.id not in self.on_screen:
                continue
            face = track.as_face()
            found.append(
                Person(
                    track.id, track.first, track.last, self.on_screen[track.id], face.age, face.age_low, face.age_high,
                    face.gender, face.gender_probability,
                )
            )  # fmt: skip
        return sorted(found, key=lambda person: -person.on_screen)


class _Sound:
    """The film's first sound, as it is where MP4 and browsers take it, else as AAC."""

    def __init__(self, film, out, offset):
        self.offset = offset
        self.out, self.sources, self.encoder, self.copy = out, [], None, None
        self.heard = 0.0  # seconds
        if not film.streams.audio or film.streams.audio[0].codec_context is None:
            return
        source = film.streams.audio[0]
        self.sources = [source]
        if source.codec_context.name in _COPIED:
            self.copy = out.add_stream_from_template(source)
        else:
            rate = source.codec_context.sample_rate
            self.rate = rate if rate in _SOUND_RATES else _SOUND_RATES[0]
            self.encoder = out.add_stream("aac", rate=self.rate)
            self.encoder.layout = "stereo"
            self.resampler = None

    def take(self, packet: av.Packet) -> None:
        # Neither broken sound nor sound without end is a reason to lose the film.
        if self.heard > MAX_SECONDS:
            return
        try:
            self._take(packet)
        except (av.error.FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in _DISK:
                raise

    def _take(self, packet: av.Packet) -> None:
        if self.copy is not None:
            if packet.dts is not None and packet.pts is not None:
                shift = round(self.offset / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                self.heard = max(
                    self.heard + float((packet.duration or 0) * packet.time_base), float(packet.pts * packet.time_base)
                )
                packet.stream = self.copy
                self.out.mux(packet)
            return
        for frame in packet.decode():
            self.heard += frame.samples / frame.sample_rate
            if frame.pts is not None:
                frame.pts -= round(self.offset / frame.time_base)
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self.resampler is None or self.kind != kind:  # joined recordings change their kind of sound
                self.kind, self.resampler = kind, av.AudioResampler("fltp", "stereo", self.rate)
            self.encode(frame)

    def encode(self, frame: av.AudioFrame | None) -> None:
        for resampled in self.resampler.resample(frame):
            for packet in self.encoder.encode(resampled):
                self.out.mux(packet)

    def finish(self) -> None:
        if self.encoder is not None:
            if self.resampler is not None:
                with suppress(av.error.FFmpegError, ValueError):
                    self.encode(None)
            for packet in self.encoder.encode():
                self.out.mux(packet)


def _upright(picture: av.VideoFrame, aspect: float) -> np.ndarray:
    """A frame's pixels, uint8 [H, W, 3], turned as its file says, longer side at most SIDE.

    `aspect`: width of a pixel for its height; what comes out is square.
    """
    width, height = picture.width * aspect, float(picture.height)
    scale = min(1.0, SIDE / max(width, height))
    rgb = picture.to_ndarray(format="rgb24", width=max(2, round(width * scale)), height=max(2, round(height * scale)))
    return np.ascontiguousarray(np.rot90(rgb, round(picture.rotation / 90) % 4))


def _change(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two small pictures in HSV, int [H, W, 3]."""
    change = np.abs(one - other)
    change[..., 0] = np.minimum(change[..., 0], 180 - change[..., 0])  # hue is a circle of 180 steps
    return float(change.mean())


def _between(face: Face, later: Face | None, share: float) -> Face:
    """A face on its way to where it is in the next analysed frame."""
    if later is None:
        return face
    return replace(face, box=tuple((1 - share) * a + share * b for a, b in zip(face.box, later.box, strict=True)))
