"""A network with a hundredth of compact's parameters, trained in seconds by the same code.

    python -m tests.tiny --recipe compact …    training/train.py with that network, and a checkpoint after each epoch

This module isn't in `tests.support`, because importing that package removes environment variables that a test sets.
"""

from __future__ import annotations

import sys

SIZES = {"widths": (8, 16, 24, 32), "blocks": (1, 1, 1, 1), "features": 64}


def make_tiny(setattr=setattr) -> None:
    """Replace "compact" with the tiny network; `monkeypatch.setattr` as `setattr` undoes this after the test."""
    from training.fitting import loop  # imports TensorFlow, which most tests don't need
    from training.model import networks

    build = networks._compact
    setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    setattr(networks, "_compact", lambda face, dropout: build(face, dropout, **SIZES))


if __name__ == "__main__":
    make_tiny()
    from training import train

    sys.exit(train.main())
