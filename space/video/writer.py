"""Writes annotated frames as H.264 in MP4."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from ..annotate import blur, draw
from ..detector import shrink
from ..face import Face

PREVIEW = 640  # pixels, longer side of the frames that are shown meanwhile


class VideoWriter:
    """The video stream of an MP4; the first frame decides its size."""

    def __init__(
        self,
        out: av.container.OutputContainer,
        rate: Fraction | None,
        offset: float,
        *,
        blurred: bool = False,
        words: dict[str, str] | None = None,
    ):
        """`rate`: frames per second; `offset`: seconds to subtract from times; `blurred`: blur faces too; `words`: as
        for `annotate.label`."""
        self._out, self._rate, self._offset, self._blurred, self._words = out, rate, offset, blurred, words
        self._stream: av.VideoStream | None = None
        self._drawn: np.ndarray | None = None  # the last frame
        self._started, self._delay = False, 0  # from decoding the first packet to showing it, in units of its time

    @property
    def is_open(self) -> bool:
        """Whether the first frame is known, and with it the file's header."""
        return self._stream is not None

    def open(self, rgb: np.ndarray, base: Fraction) -> None:
        """Add the stream, in the size of `rgb`; times are in units of `base` seconds."""
        height, width = (max(2, side // 2 * 2) for side in rgb.shape[:2])  # H.264 wants even sides
        stream = self._out.add_stream("libx264", rate=self._rate or 25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        context = stream.codec_context
        context.time_base = base
        # Named, since players take what is not named for BT.709 when it is large and for BT.601 when it is small.
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream

    def fitted(self, rgb: np.ndarray) -> np.ndarray:
        """A frame in the stream's size: its own may be odd, or change on the way."""
        assert self._stream is not None  # `open` comes first
        size = (self._stream.width, self._stream.height)
        return rgb if rgb.shape[1::-1] == size else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)

    def write(self, rgb: np.ndarray, pts: int, faces: list[Face]) -> None:
        """Draw faces on a fitted frame and write it."""
        assert self._stream is not None
        if self._blurred:
            rgb = blur(rgb, faces)
        self._drawn = draw(rgb, faces, self._words)
        frame = av.VideoFrame.from_ndarray(self._drawn, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        base = self._stream.codec_context.time_base
        frame.pts, frame.time_base = max(0, pts - round(self._offset / base)), base
        self._out.mux(self._encode(frame))

    def preview(self) -> np.ndarray | None:
        """The last written frame, uint8 [H, W, 3], at most PREVIEW pixels a side; None before the first one."""
        return None if self._drawn is None else shrink(self._drawn, PREVIEW)[0]

    def finish(self, shown: float) -> None:
        """Write the remaining frames; the last one is shown for `shown` seconds."""
        packets = self._encode(None)
        if packets:
            # Packets are in decoding order. MP4 derives its length from the last of them, and from the one shown last.
            last, newest = packets[-1], max(packets, key=lambda packet: packet.pts or 0)
            newest.duration = round(shown / newest.time_base)
            last.duration = (newest.pts or 0) + newest.duration - (last.dts or 0) - self._delay
        self._out.mux(packets)

    def _encode(self, frame: av.VideoFrame | None) -> list[av.Packet]:
        """Encode a frame, or with None all remaining ones; returns the packets that are ready."""
        assert self._stream is not None
        packets = self._stream.encode(frame)
        if packets and not self._started:
            self._started, self._delay = True, (packets[0].pts or 0) - (packets[0].dts or 0)
        return packets
