"""A network with a hundredth of compact's parameters, trained in seconds by the same code.

    python -m tests.tiny --network compact …    training/train.py with that network

It stands beside `tests.support`, not in it: importing that drops the settings that a test gives to a process.
"""

from __future__ import annotations

import sys

SIZES = {"widths": (8, 16, 24, 32), "blocks": (1, 1, 1, 1), "features": 64}


def make_tiny(setattr=setattr) -> None:
    """Let "compact" be the tiny network; `setattr`: for example monkeypatch's, which takes it back."""
    from training.model import networks  # brings TensorFlow, which most tests don't need

    build = networks._compact
    setattr(networks, "_compact", lambda face, dropout: build(face, dropout, **SIZES))


if __name__ == "__main__":
    make_tiny()
    from training import train

    sys.exit(train.main())
