"""Limits on what clients may send as a video."""

from __future__ import annotations

MAX_SECONDS = 300
MAX_BYTES = 200_000_000  # of the file
MAX_PIXELS = 4096 * 2304  # of a frame
MAX_FRAMES = 20_000
MAX_STREAMS = 64  # later streams are ignored
MAX_PACKETS = 200_000  # video and audio; five minutes in packets of 2.5 ms, Opus's shortest, are 120,000
MAX_REPEATED = 1_000_000  # bytes of packets beyond the size of the file
MAX_WAITING = 30  # frames between two analyzed ones, which wait in memory for interpolated boxes
