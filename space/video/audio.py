"""Copies or re-encodes a video's audio."""

from __future__ import annotations

from contextlib import suppress

import av

from . import limits
from .reader import AUDIO_CODECS
from .result import DISK_ERRORS

_AAC_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # Hz
_COPIED = {"aac", "mp3", "mp3float"}  # codecs that MP4 supports and browsers play; others become AAC


class Audio:
    """A video's first audio stream: copied where MP4 and browsers take it, else re-encoded as AAC."""

    def __init__(self, video: av.container.InputContainer, out: av.container.OutputContainer, offset: float):
        """`offset`: seconds to subtract from its times."""
        self.sources: list[av.AudioStream] = []
        self._out, self._offset = out, offset
        self._encoder: av.AudioStream | None = None
        self._copy: av.AudioStream | None = None
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple | None = None  # of the frames that the resampler takes
        self._seconds = 0.0
        source = next(iter(video.streams.audio), None)
        if source is None or source.codec_context is None or source.codec_context.name not in AUDIO_CODECS:
            return
        self.sources = [source]
        if source.codec_context.name in _COPIED:
            self._copy = out.add_stream_from_template(source)
        else:
            rate = source.codec_context.sample_rate
            self._rate = rate if rate in _AAC_RATES else _AAC_RATES[0]
            self._encoder = out.add_stream("aac", rate=self._rate)
            self._encoder.layout = "stereo"

    def add(self, packet: av.Packet) -> None:
        """Write a packet. Broken audio, and audio beyond the video's longest length, is dropped."""
        if self._seconds > limits.MAX_SECONDS:
            return
        try:
            self._copy_packet(packet) if self._copy is not None else self._encode_packet(packet)
        except (av.error.FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in DISK_ERRORS:
                raise

    def finish(self) -> None:
        """Write what is left."""
        if self._encoder is None:
            return
        if self._resampler is not None:
            with suppress(av.error.FFmpegError, ValueError):
                self._encode(None)
        self._out.mux(self._encoder.encode())

    def _copy_packet(self, packet: av.Packet) -> None:
        if packet.dts is None or packet.pts is None:
            return
        shift = round(self._offset / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        length = float((packet.duration or 0) * packet.time_base)
        self._seconds = max(self._seconds + length, float(packet.pts * packet.time_base))
        packet.stream = self._copy
        self._out.mux(packet)

    def _encode_packet(self, packet: av.Packet) -> None:
        for frame in packet.decode():
            assert isinstance(frame, av.AudioFrame)
            self._seconds += frame.samples / frame.sample_rate
            if frame.pts is not None and frame.time_base is not None:
                frame.pts -= round(self._offset / frame.time_base)
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._resampler is None or self._kind != kind:  # joined recordings change their kind of audio
                self._kind, self._resampler = kind, av.AudioResampler("fltp", "stereo", self._rate)
            self._encode(frame)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None and self._encoder is not None
        for resampled in self._resampler.resample(frame):
            self._out.mux(self._encoder.encode(resampled))
