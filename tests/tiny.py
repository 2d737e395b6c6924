"""A network with a hundredth of compact's parameters, trained in seconds by the same code.

    python -m tests.tiny --network compact …    training/train.py with that network

This module isn't in `tests.support`, because importing that package removes environment variables that a test sets.
"""

from __future__ import annotations

import sys

SIZES = {"widths": (8, 16, 24, 32), "blocks": (1, 1, 1, 1), "features": 64}


def make_tiny(setattr=setattr) -> None:
    """Replace "compact" with the tiny network; `monkeypatch.setattr` as `setattr` undoes this after the test."""
    from training.model import networks  # imports TensorFlow, which most tests don't need

    build = networks._compact
    setattr(networks, "_compact", lambda face, dropout: build(face, dropout, **SIZES))


if __name__ == "__main__":
    make_tiny()
    from training import train

    sys.exit(train.main())
