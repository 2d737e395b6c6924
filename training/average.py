"""Average the weights of networks that were trained from the same weights.

    python -m training.average runs/a/bundle runs/b/bundle --out average.weights.h5

The mean is often more accurate than each network and takes no more time (model soups; Wortsman et al. 2022,
arXiv 2203.05482). Export and evaluate it with `training/train.py --init average.weights.h5 --epochs 0`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from space.hub.bundle import open_bundle
from space.text import tolerate_console


def average(models: Sequence[str]):
    """The Keras network with the mean of the weights of several bundles.

    Args:
        models: two or more bundle folders or Hub ids, all of the same network.

    Raises:
        ModelError: a bundle is unavailable or has no Keras weights.
        ValueError: the networks differ in their layers.
    """
    from training.model.files import load_keras

    networks = [load_keras(open_bundle(model, keras=True).folder) for model in models]
    for model, network in zip(models, networks, strict=True):
        if [w.shape for w in network.weights] != [w.shape for w in networks[0].weights]:
            raise ValueError(f"{model} has other layers than {models[0]}: choose bundles of the same network.")
    networks[0].set_weights(
        [np.mean(values, axis=0) for values in zip(*(n.get_weights() for n in networks), strict=True)]
    )
    return networks[0]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    tolerate_console()
    parser = argparse.ArgumentParser(
        prog="python -m training.average",
        description="Average the weights of networks that were trained from the same weights.",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="bundle folder or Hub id; two or more")
    parser.add_argument("--out", type=Path, required=True, help="the .weights.h5 file to write")
    options = parser.parse_args(arguments)
    if len(options.models) < 2:
        parser.error("specify two or more models")
    if not options.out.name.endswith(".weights.h5"):
        parser.error("--out must end in .weights.h5")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        network = average(options.models)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.out.parent) as scratch:
            network.save_weights(Path(scratch) / options.out.name)
            os.replace(Path(scratch) / options.out.name, options.out)  # never half a file
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The mean of {len(options.models)} networks: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
