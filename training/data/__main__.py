"""Report what a UTKFace source holds.

python -m training.data SOURCE"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from space.text import stoppable
from training.data.load import load_samples
from training.data.samples import POLICIES, PROTOCOLS, describe
from training.data.sources import DATASET, DataError


@stoppable
def main(arguments: list[str] | None = None) -> int:
    """Report what a source holds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.data", description="Summarize a UTKFace dataset.")
    parser.add_argument("source", nargs="?", default=DATASET, help="as train.py's --dataset")
    parser.add_argument("--policy", default="clean", choices=POLICIES)
    options = parser.parse_args(arguments)
    try:
        samples, report = load_samples(options.source, policy=options.policy)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    for name, buckets in PROTOCOLS["80/10/10"].items():
        print(f"  {name}: {describe(samples.take(np.isin(samples.bucket, buckets)))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
