"""Opens and checks a video, and reads its frames upright with increasing times."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from . import limits
from .result import VideoError

SIDE = 1280  # pixels, longer side of the annotated video
_NO_CODEC = "The video's codec isn't supported. Convert the video to MP4 (H.264) and try again."
NOT_A_VIDEO = "This file isn't a readable video, or is damaged. Use MP4, MOV, WebM or AVI."
SIZE_LIMIT = {"max_pixels": str(limits.MAX_PIXELS)}  # frames may be larger than the header says, or grow on the way
# What phones, browsers, screen recorders and cameras write. FFmpeg has hundreds of decoders; some show old memory.
VIDEO_CODECS = ("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "h263")
AUDIO_CODECS = (
    "aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "ac3", "eac3", "alac", "flac", "amrnb", "amrwb",
    "libopencore_amrnb", "libopencore_amrwb", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_f32le",
)  # fmt: skip
_DECODING = SIZE_LIMIT | {"codec_whitelist": ",".join((*VIDEO_CODECS, *AUDIO_CODECS))}
_FORMATS = "mov,mp4,matroska,webm,avi"  # FFmpeg's names; other formats don't say beforehand what they hold


def open_video(source: str | Path) -> av.container.InputContainer:
    """Open a video file. Raises VideoError if it isn't one."""
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_streams": str(limits.MAX_STREAMS)}
    try:
        return av.open(
            os.path.abspath(source),  # else FFmpeg takes what is before a colon for a protocol
            options=options,  # a stranger's playlist would make FFmpeg open and fetch what it names
            # To detect formats, FFmpeg decodes frames while it opens the file. The limit must apply from the start.
            stream_options=[_DECODING] * limits.MAX_STREAMS,  # type: ignore[list-item]
            metadata_errors="replace",
        )
    except ValueError:  # FFmpeg's for other formats and broken files, PyAV's for a file that names no streams
        raise VideoError(NOT_A_VIDEO) from None


def video_stream(video: av.container.InputContainer) -> av.VideoStream:
    """The stream of frames, ready to decode. Raises VideoError if there is none, or it exceeds the limits."""
    frames = [s for s in video.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not frames or frames[0] is not video.streams.video[0]:  # the cover of a song is no video
        raise VideoError("This file has no video, only audio or text.")
    stream = video.streams.video[0]
    if stream.codec_context is None or stream.codec_context.name not in VIDEO_CODECS:
        raise VideoError(_NO_CODEC)
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > limits.MAX_PIXELS:
        raise VideoError("The video's frames are too large: the limit is 4096 × 2304 pixels.")
    if not pixels:  # where FFmpeg was not to look at one that is larger
        raise VideoError("The video's frames are unreadable or too large: the limit is 4096 × 2304 pixels.")
    if video.duration and video.duration / av.time_base > limits.MAX_SECONDS + 1:
        raise VideoError(too_long(video.duration / av.time_base))
    _check_count(stream.frames)  # 0 where the header doesn't say it
    stream.thread_type = "AUTO"
    stream.codec_context.options = _DECODING
    return stream


def stream_length(stream: av.VideoStream, start: float = 0.0) -> float | None:
    """When a stream says it ends, in seconds from its first frame; in its header or, in Matroska, in a tag.

    None if it doesn't say so. `start`: the time of its first frame in seconds.
    """
    lengths = []
    if stream.duration and stream.time_base:
        lengths.append(float(stream.duration * stream.time_base))
    # FFmpeg shortens the duration of an AVI that is cut off. In other files, an edit list may hide some of the frames.
    if stream.frames and stream.average_rate and "avi" in stream.container.format.name.split(","):
        lengths.append(float(stream.frames / stream.average_rate))
    if lengths:
        return max(lengths)
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) - start if match else None


def too_long(seconds: float) -> str:
    """The message for a video of so many seconds."""
    limit = f"the limit is {limits.MAX_SECONDS // 60} minutes"
    return f"The video is too long ({seconds:.0f} s): {limit}. Trim it and try again."


def _check_count(frames: int) -> None:
    if frames > limits.MAX_FRAMES:
        raise VideoError(f"The video has too many frames: the limit is {limits.MAX_FRAMES:,}. Trim it and try again.")


Matrix = tuple[int, int, int, int]  # a, b, c, d: a pixel at (x, y) is shown at (a·x + c·y, b·x + d·y)


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """How the frames of a video are shown: rotated, mirrored or both.

    `VideoFrame.rotation` is an angle alone: a mirrored video, as some phones' front cameras write it, would be upside
    down. Read it from one frame only: PyAV keeps a frame whose side data was read until the garbage collector runs.
    """
    if "DISPLAYMATRIX" not in frame.side_data:
        return 1, 0, 0, 1
    matrix = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]  # PyAV's stub lists one kind alone
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
    return a, b, c, d


def upright(frame: av.VideoFrame, aspect: float, matrix: Matrix = (1, 0, 0, 1)) -> np.ndarray:
    """A frame's pixels as its file says they are shown, uint8 [H, W, 3], longer side at most SIDE.

    Args:
        aspect: a pixel's width divided by its height; the output's pixels are square.
        matrix: from `display_matrix`; angles are rounded to quarter turns.
    """
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, SIDE / max(width, height))
    rgb = frame.to_ndarray(format="rgb24", width=max(2, round(width * scale)), height=max(2, round(height * scale)))
    a, b, c, d = matrix
    quarter = abs(b) > abs(a)
    if quarter:
        rgb = rgb.swapaxes(0, 1)
    mirrored, upside_down = (c < 0, b < 0) if quarter else (a < 0, d < 0)
    return np.ascontiguousarray(rgb[:: -1 if upside_down else 1, :: -1 if mirrored else 1])


class Clock:
    """Gives each frame a time later than the one before, whatever the file says."""

    def __init__(self, stream: av.VideoStream):
        self.stream = stream
        self.frames = 0
        self.seconds = 0.0  # of the newest frame, from the first
        self.period = float(1 / (stream.average_rate or 25))  # seconds between the two newest frames
        self.start = 0.0  # seconds, of the first frame in the file
        self.end = 0.0  # seconds from the first frame to the end of the newest one
        self._shift = 0
        self._first: int | None = None
        self._last: int | None = None

    def base(self, frame: av.VideoFrame) -> Fraction:
        """Seconds per unit of a frame's time."""
        return frame.time_base or self.stream.time_base or Fraction(1, 1000)

    def tick(self, frame: av.VideoFrame) -> int:
        """The next frame's time in units of `base`. Raises VideoError beyond the limits of length and frames."""
        base, pts = self.base(frame), frame.pts
        if pts is None:  # raw streams and old AVI files have no times, only a rate
            pts = round(self.frames / (self.stream.average_rate or 25) / base)
        pts += self._shift
        if self._last is not None and pts <= self._last:
            if float((self._last - pts) * base) > 0.5:  # joined recordings start their clock anew
                step = self._last + max(1, round(self.period / base)) - pts
                self._shift, pts = self._shift + step, pts + step
            else:
                pts = self._last + 1
        if self._last is not None:
            self.period = float((pts - self._last) * base)
        first = pts if self._first is None else self._first
        self._first, self._last = first, pts
        self.seconds, self.start = float((pts - first) * base), float(first * base)
        shown = min(float((frame.duration or 0) * base), limits.MAX_SECONDS)
        self.end = self.seconds + max(self.period, shown)
        self.frames += 1
        if self.seconds > limits.MAX_SECONDS + 1:
            raise VideoError(too_long(self.seconds))
        _check_count(self.frames)
        return pts
