"""Summarize a dataset.

python -m training.data SOURCE"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from space.console import command
from training.data.load import load_samples
from training.data.samples import POLICIES, PROTOCOLS, describe
from training.data.sources import DATASET, DataError


@command(DataError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.data", description="Summarize a dataset.")
    parser.add_argument("source", nargs="?", default=DATASET, help="same values as --dataset of train.py")
    parser.add_argument("--policy", default="clean", choices=POLICIES)
    options = parser.parse_args(arguments)
    samples, report = load_samples(options.source, policy=options.policy)
    print(report)
    for name, buckets in PROTOCOLS["80/10/10"].items():
        print(f"  {name}: {describe(samples.take(np.isin(samples.bucket, buckets)))}")


if __name__ == "__main__":
    sys.exit(main())
