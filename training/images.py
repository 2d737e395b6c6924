"""Arrays of images that may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np


class Images(Protocol):
    """uint8 [N, H, W, 3] RGB: an array, or what is indexed like one along its first axis."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


class Rows:
    """Some rows of a memory-mapped array, read when they are asked for: to copy them would take gigabytes."""

    def __init__(self, array: Images, rows: np.ndarray):
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        return self.array[self.rows[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.array.__getitem__, self.rows)
