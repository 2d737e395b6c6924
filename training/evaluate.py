"""Evaluate a model on one split: metrics with confidence intervals, by group and against baselines.

    python training/evaluate.py --model space/models/compact --dataset py97/UTKFace-Cropped
    python training/evaluate.py --model space/models/compact --dataset HuggingFaceM4/FairFace

UTKFace's face crops are scored as they are. FairFace's photos are processed like a user's: a detector finds the face,
and it is cropped. Their ages are known only as ranges. Knows nothing of training; scores what a bundle serves, or an
`.onnx` file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from space.console import command
from space.detector import YuNet
from space.hub.bundle import open_bundle
from training.atomic import write_beside
from training.data import sources
from training.data.cropping import FaceCropper, pose_masks
from training.data.decode import decode
from training.data.load import load_samples
from training.data.report import Report
from training.data.samples import POLICIES, PROTOCOLS, SPLITS, Samples, baseline_age, dataset_hash, positive_int
from training.evaluation.metrics import cross_table_csv, measure, split_record
from training.evaluation.predict import predict
from training.evaluation.tables import compare, table
from training.leakage import Measured, doubt
from training.parents import read_model


def score(options: argparse.Namespace) -> tuple[Samples, dict[str, np.ndarray], dict, Report]:
    """Load faces, predict and measure: samples, outputs, metrics and the report of the data."""
    everything, report = load_samples(options.dataset, policy=options.policy)
    chosen = everything if options.split == "all" else everything.split(options.split, options.protocol)
    cropper = FaceCropper() if everything.binned else None
    samples, images = decode(chosen.limit(options.limit, options.seed), cropper, framed=report.collection == "UTKFace")
    outputs, median = predict(options.model, images), None
    if not samples.binned:  # of a dataset of ranges, a small part may have exact ages
        median = baseline_age(everything, None if options.split == "all" else options.protocol)
    metrics = measure(samples, outputs, median_age=median, poses=pose_masks(images) if cropper else None)
    metrics |= {"detector": YuNet.name} if cropper else {}
    return samples, outputs, metrics | {"split": split_record(options, options.split)}, report


@command(ValueError, RuntimeError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python training/evaluate.py", description="Score a model on UTKFace or FairFace."
    )
    parser.add_argument(
        "--model",
        required=True,
        help="a bundle folder, a Hub id with optional @revision, compact, open, vgg16, or an .onnx file",
    )
    parser.add_argument(
        "--dataset",
        default=sources.DATASET,
        help=f"as for train.py, or {sources.FAIRFACE} or a local copy of it (default: {sources.DATASET})",
    )
    parser.add_argument(
        "--split", choices=(*SPLITS, "all"), default="test", help="which faces to use (default: test; all: every face)"
    )
    parser.add_argument("--policy", choices=POLICIES, default="clean")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="80/10/10")
    parser.add_argument("--limit", type=positive_int, help="use at most this many faces")
    parser.add_argument("--seed", type=int, default=0, help="random seed for --limit")
    parser.add_argument("--json", type=Path, help="also write the results to this JSON file")
    parser.add_argument(
        "--csv", type=Path, help="write the results for every combination of race, gender and age band to a CSV file"
    )
    options = parser.parse_args(arguments)
    for path in filter(None, (options.json, options.csv)):  # known before minutes of measuring
        if not path.parent.is_dir() or path.is_dir():
            parser.error(f"{path} can't be written: specify a file in a folder that exists")
    record = read_model(options.model, keras=False).as_dict()
    samples, outputs, metrics, report = score(options)
    print(
        report,
        f"{options.model} on the {options.split} split ({options.protocol}, policy {options.policy})",
        table(metrics),
        sep="\n",
    )
    measured = Measured.of(report, samples, options.protocol, options.split, options.limit)
    if found := doubt(record, measured):
        print(f"The model, or one of its parent models, {found.reason}. The results may be too optimistic.")
    if options.json:
        write_beside(options.json, json.dumps(metrics, indent=1))
    if options.csv:
        write_beside(options.csv, cross_table_csv(samples, outputs))
    if not samples.binned and not options.model.endswith(".onnx"):
        card = open_bundle(options.model).card
        sets = (card.get("provenance") or {}).get("datasets") or ()
        tested = [d["faces"]["test"]["sha256"] for d in sets if d["dataset"] == card["metrics"].get("dataset")]
        if dataset_hash(samples) in tested:
            print(compare(metrics, card["metrics"]))


if __name__ == "__main__":
    sys.exit(main())
