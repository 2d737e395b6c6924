"""A video → the same video with everyone boxed and labeled, and a table of the people in it. By PyAV (FFmpeg).

Some frames per second are analyzed; boxes in between are interpolated. Nobody is recognized: a person who comes back
after a cut or a while (`tracker.MEMORY`) counts as a new person.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np

from ..analyzer import FaceAnalyzer
from ..crop import crop
from ..detector import MAX_SIDE, SURE, THRESHOLD, surest
from ..face import Face
from ..tracker import MEMORY, Track, Tracker
from . import limits
from .audio import Audio
from .reader import NOT_A_VIDEO, Clock, Matrix, display_matrix, open_video, stream_length, upright, video_stream
from .result import DISK_ERRORS, Person, Progress, VideoError, VideoResult
from .scenes import SceneCuts
from .writer import VideoWriter

RATE = 8.0  # analyzed frames per second
EARLY = 0.9  # of the time between two of them, from which one is due: rounding would let the rate fall to half
PATIENCE = 1.5  # times between two of them that the tracker remembers, where they are rare
VOTES = 3  # frames with a sure face that decide whether the frames lie on their side
UNSURE = 8  # frames with faces, none of them sure, after which that is decided anew
MAX_ANSWERS = 2400  # of a person, as in five minutes at RATE: blurred videos have more, and a median takes its time
MAX_CUTS = 20  # in addition to one per analyzed frame; later ones are ignored
MIN_DETECTIONS = 3  # that make a person; fewer are mostly false


def annotate_video(
    analyzer: FaceAnalyzer,
    source: str | Path,
    target: str | Path,
    *,
    threshold: float = THRESHOLD,
    blurred: bool = False,
    words: dict[str, str] | None = None,
) -> Iterator[Progress | VideoResult]:
    """Analyze a video and write it with everyone boxed and labeled.

    The annotated video is H.264 in MP4 with the original's frame times, upright, with its audio. Nothing is left at
    `target` when it fails or when the generator is closed before its end.

    Args:
        source: an MP4, MOV, WebM (or other Matroska) or AVI file.
        target: the .mp4 to write.
        threshold: the detector's score from which something counts as a face.
        blurred: also blur faces. Then every frame is analyzed: between two of them, a new face would be seen.
        words: of labels in another language, see `annotate.label`.

    Yields:
        Progress about twice a second, and at the end the VideoResult.

    Raises:
        VideoError: not a video, damaged, or beyond `limits`; or `target` can't be written.
    """
    target = Path(target)
    part = target.with_name(f"{target.name}.{os.getpid()}.part.mp4")
    try:
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise VideoError(f"The video can't be read ({error.strerror}).") from error
    if size > limits.MAX_BYTES:
        raise VideoError(f"The video file is too large: the limit is {limits.MAX_BYTES // 1_000_000} MB.")
    _check_target(target, source)
    try:
        with open_video(source) as video:
            stream = video_stream(video)
            yield Progress(0.0, None)  # it can be opened
            with _created(part) as out:
                people = _People(analyzer, threshold, math.inf if blurred else RATE)
                offset = (video.start_time or 0) / av.time_base  # seconds, subtracted from frames and audio alike
                writer = VideoWriter(out, stream.average_rate, offset, blurred=blurred, words=words)
                result = yield from _annotate(people, stream, writer, Audio(video, out, offset), size)
        try:
            os.replace(part, target)
        except OSError as error:
            raise _unwritable(error) from error
    except av.error.InvalidDataError:
        raise VideoError(NOT_A_VIDEO) from None
    except av.error.FFmpegError as error:
        if error.errno in DISK_ERRORS:
            raise _unwritable(error) from error
        raise VideoError(f"The video is damaged or not supported ({error.strerror}).") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    yield result


def _unwritable(error: OSError | av.error.FFmpegError) -> VideoError:
    return VideoError(f"The annotated video can't be written ({error.strerror}).")


def _check_target(target: Path, source: str | Path) -> None:
    """Raise VideoError if a video's annotated copy can't have this name."""
    try:
        same = target.exists() and target.samefile(source)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise _unwritable(error) from error
    if same:
        raise VideoError(f"{target} is the input video: choose a different output file.")


def _created(path: Path) -> av.container.OutputContainer:
    """A new MP4. Raises VideoError."""
    try:
        path.touch()  # fail early: FFmpeg opens it later, and its errors don't name it
    except OSError as error:
        raise _unwritable(error) from error
    return av.open(os.path.abspath(path), "w", format="mp4", options={"movflags": "+faststart"})


def _annotate(
    people: _People, stream: av.VideoStream, writer: VideoWriter, audio: Audio, size: int
) -> Generator[Progress, None, VideoResult]:
    """Read, analyze and write a video of `size` bytes; returns the VideoResult."""
    started = reported = time.monotonic()
    video, clock = stream.container, Clock(stream)
    assert isinstance(video, av.container.InputContainer)
    length = video.duration / av.time_base if video.duration else None
    damaged, early, read = False, [], 0
    matrix: Matrix | None = None
    for number, packet in enumerate(video.demux([stream, *audio.sources])):
        read += packet.size
        # A table may name the same bytes again and again, and few packets need be frames.
        if number > limits.MAX_PACKETS or read > size + limits.MAX_REPEATED:
            raise VideoError("The video has too many packets. Convert it to MP4 and try again.")
        if time.monotonic() - reported > 0.5:
            reported = time.monotonic()
            share = min(clock.seconds / length, 0.99) if length else 0.0
            left = (reported - started) * (1 - share) / share if share > 0.02 else None
            yield Progress(share, left, writer.preview())
        if packet.stream.type == "audio":
            early.append(packet)  # muxing writes the file's header, which must know all streams
        else:
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.ArgumentError):  # the second for a frame that is too large
                if not clock.frames:
                    raise
                damaged, frames = True, []  # a stretch of it; what follows may be whole
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                matrix = matrix or display_matrix(frame)
                _add_frame(people, writer, clock, frame, matrix)
        if writer.is_open:
            for packet in early:
                audio.add(packet)
            early.clear()
    if not clock.frames:
        raise VideoError("This file has no readable frames.")
    people.finish(clock.end, writer)
    writer.finish(clock.end - clock.seconds)
    audio.finish()
    # Audio may be longer than the frames, so with audio only the frames' own stream tells that the file is cut off.
    own = stream_length(stream, clock.start) or (None if audio.sources else length)
    return VideoResult(
        people=people.table(),
        counts=people.counts,
        frames=clock.frames,
        analyzed=len(people.counts),
        seconds=round(clock.end, 3),
        damaged=damaged or (own is not None and own - clock.end > 1),
        elapsed=time.monotonic() - started,
    )


def _add_frame(people: _People, writer: VideoWriter, clock: Clock, frame: av.VideoFrame, matrix: Matrix) -> None:
    pts = clock.tick(frame)
    rgb = upright(frame, float(clock.stream.sample_aspect_ratio or 1), matrix)
    if not writer.is_open:
        writer.open(rgb, clock.base(frame))
    people.add(writer.fitted(rgb), pts, clock.seconds, writer)


class _People:
    """Who is in the frames so far. Frames between two analyzed ones wait until their boxes can be interpolated."""

    def __init__(self, analyzer: FaceAnalyzer, threshold: float, rate: float):
        self._analyzer, self._threshold, self._rate = analyzer, threshold, rate
        self._votes: list[int] = []  # see `_detect`
        self._unsure = 0
        self._faceless = 0  # analyzed frames in a row without a face
        self._tracker, self._cuts = Tracker(window=MAX_ANSWERS, confirm=1), SceneCuts()
        self._before_cut: list[Track] = []
        self._tracks: dict[int, Track] = {}
        self._on_screen: dict[int | None, float] = {}
        self._thumbnails: dict[int | None, tuple[float, np.ndarray]] = {}
        self._waiting: list[tuple[float, int, np.ndarray]] = []
        self._last: tuple[float, list[Face]] = (-1.0, [])  # the last analyzed frame's time and faces
        self.counts: list[tuple[float, int]] = []

    def add(self, rgb: np.ndarray, pts: int, seconds: float, writer: VideoWriter) -> None:
        """The next frame: analyzed and written, or kept until the next analyzed one."""
        cut = self._cuts.is_cut(rgb)
        soon = seconds - self._last[0] < EARLY / self._rate and len(self._waiting) < limits.MAX_WAITING
        # In a flickering video, each frame is a cut.
        cut = cut and len(self.counts) < MAX_CUTS + self._rate * seconds
        if self.counts and not cut and soon:
            self._waiting.append((seconds, pts, rgb))
            return
        if cut:
            self._write_waiting(writer, None)
            self._change_scene()
        self._add_screen_time(seconds)
        # Videos with few frames per second must not forget between two of them.
        self._tracker.memory = max(MEMORY, PATIENCE * (seconds - self._last[0])) if self.counts else MEMORY
        shown = self._tracker.update(self._detect(rgb), seconds, lambda faces: self._analyzer.estimate(rgb, faces))
        self._write_waiting(writer, (seconds, shown))
        self._tracks |= {track.id: track for track in self._tracker.tracks}
        self._keep_thumbnails(rgb, shown)
        self.counts.append((round(seconds, 3), len(shown)))
        self._last = (seconds, shown)
        writer.write(rgb, pts, shown)

    def finish(self, seconds: float, writer: VideoWriter) -> None:
        """Write the frames that wait; the video ends at `seconds`."""
        self._add_screen_time(seconds)
        self._write_waiting(writer, None)

    def table(self) -> list[Person]:
        """Everyone detected often enough, longest on screen first."""
        found = []
        for track in self._tracks.values():
            if track.seen < min(MIN_DETECTIONS, len(self.counts)) or track.id not in self._on_screen:
                continue
            face = track.as_face()
            assert face.age is not None and face.age_low is not None and face.age_high is not None
            assert face.gender is not None and face.gender_probability is not None
            found.append(
                Person(
                    track.id, track.first, track.last, self._on_screen[track.id], face.age, face.age_low, face.age_high,
                    face.gender, face.gender_probability, self._thumbnails.get(track.id, (0.0, None))[1],
                )
            )  # fmt: skip
        return sorted(found, key=lambda person: -person.on_screen)

    def _detect(self, rgb: np.ndarray) -> list[Face]:
        """The faces of an analyzed frame. Those with a sure face vote whether the scene's frames lie on their side."""
        decided = len(self._votes) >= VOTES
        quarters = max(set(self._votes), key=self._votes.count) if decided else None
        if not decided and self._faceless >= UNSURE and self._faceless % UNSURE:
            quarters = 0  # where there has been nobody for a while, most frames are searched upright only
        found = self._analyzer.detect(rgb, threshold=self._threshold, side=MAX_SIDE, quarters=quarters)
        self._faceless = 0 if found else self._faceless + 1
        if surest(found) >= SURE:
            self._unsure = 0
            if not decided:
                self._votes.append(found[0].rotation // 90)
        elif found or decided:
            self._unsure += 1
            if self._unsure >= UNSURE:
                self._votes = [] if decided else [0] * VOTES
                self._unsure = 0
        return found

    def _keep_thumbnails(self, rgb: np.ndarray, shown: list[Face]) -> None:
        """Each person's surest and largest face so far."""
        for face in shown:
            quality = face.score * min(face.area, 96**2)
            if quality > 1.1 * self._thumbnails.get(face.track_id, (0.0, None))[0]:
                thumbnail = cv2.resize(crop(rgb, face, self._analyzer.template), (96, 96), interpolation=cv2.INTER_AREA)
                self._thumbnails[face.track_id] = quality, thumbnail

    def _add_screen_time(self, seconds: float) -> None:
        """Add the time since the last analyzed frame for everyone shown in it."""
        start, shown = self._last
        for face in shown:
            self._on_screen[face.track_id] = self._on_screen.get(face.track_id, 0.0) + seconds - start

    def _change_scene(self) -> None:
        """After a cut everyone is a new person, except where it was a flash and the old scene is back."""
        if self._cuts.is_back():
            self._tracker.tracks = self._before_cut
        else:
            self._before_cut = self._tracker.tracks
            self._tracker.cut()
            self._votes = []

    def _write_waiting(self, writer: VideoWriter, following: tuple[float, list[Face]] | None) -> None:
        """Write the frames that wait, with boxes on their way to the following analyzed frame, if there is one."""
        t0, before = self._last
        t1, later = following or (t0, before)
        faces = {face.track_id: face for face in later}
        for seconds, pts, rgb in self._waiting:
            share = (seconds - t0) / (t1 - t0) if t1 > t0 else 0.0
            writer.write(rgb, pts, [_between(face, faces.get(face.track_id), share) for face in before])
        self._waiting.clear()


def _between(face: Face, later: Face | None, share: float) -> Face:
    """A face on its way to its place in the next analyzed frame."""
    if later is None:
        return face
    x, y, width, height = ((1 - share) * a + share * b for a, b in zip(face.box, later.box, strict=True))
    return replace(face, box=(x, y, width, height))
