"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

SECONDS = 1.5  # of repeated calls for each figure


def median_ms(call: Callable[[], object]) -> float:
    """Milliseconds of one call: the median of those that fit into SECONDS, five at least, after two for warm-up."""
    call(), call()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
