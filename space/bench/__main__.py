"""Measure the speed of the app on this machine and print the results as a table.

    python -m space.bench                                  the default embedded model
    python -m space.bench --model runs/vgg16/bundle --model network.onnx --json bench.json
    python -m space.bench --peers                          compared with other engines and programs

Every figure is the median of repeated calls after a warm-up. Compare only figures from the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from ..analyzer import FaceAnalyzer
from ..console import command
from ..estimator import Estimator
from ..hub.bundle import Bundle, open_bundle
from ..hub.download import ModelError
from .measure import SCENES, machine, scene, serving, start_up


def table(report: dict) -> str:
    """The report as Markdown."""
    about = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [
        f"{about['processor']}, {about['cores']} cores, {about['gflops']} GFLOP/s in a float32 matrix product; Python "
        f"{about['python']}, {versions}; detector {report['detector']}.",
        "",
        f"| | {' | '.join(report['models'])} |",
        "| --- |" + " --- |" * len(report["models"]),
    ]
    names = dict.fromkeys(name for values in report["models"].values() for name in values)
    for name in names:
        cells = []
        for values in report["models"].values():
            value = values.get(name, "–")
            if isinstance(value, dict):
                value = ", ".join(f"{found} of {count}" for count, found in value.items())
            cells.append(f"{value:.2f}" if isinstance(value, float) else "–" if value is None else str(value))
        unit = "" if name.endswith((", s", ", MB", "found")) else ", ms"
        lines.append(f"| {name}{unit} | {' | '.join(cells)} |")
    if report["peers"]:
        lines += ["", "| other programs, whole photo | ms |", "| --- | --- |"]
        lines += [
            f"| {name} | {f'{value:.1f}' if isinstance(value, float) else value} |"
            for name, value in report["peers"].items()
        ]
    return "\n".join(lines)


def _networks(model: str | None) -> list[tuple[str, Path, Bundle | None]]:
    """Name, file and bundle of each network that `--model` names: both kinds of a bundle, the served one first."""
    if model and model.endswith(".onnx"):
        return [(Path(model).stem, Path(model), None)]
    bundle = open_bundle(model)
    name = bundle.card["name"]
    return [
        (f"{name}, {'int8' if 'int8' in file else 'float32'}", bundle.folder / file, bundle)
        for file in dict.fromkeys([bundle.card["serve"], "model.onnx"])
        if (bundle.folder / file).is_file()
    ]


@command(ModelError, OSError, RuntimeError)
def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m space.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        action="append",
        help="as for app.py, or an .onnx file; can be repeated (default: compact)",
    )
    parser.add_argument("--peers", action="store_true", help="also benchmark other engines and projects, if installed")
    parser.add_argument("--json", type=Path, help="also write the results to this JSON file")
    options = parser.parse_args(arguments)
    if options.json and not options.json.parent.is_dir():  # known before minutes of measuring
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    report: dict = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "models": {}, "peers": {}}
    vgg16 = None
    for model in options.model or [None]:
        for name, path, bundle in _networks(model):
            analyzer = FaceAnalyzer.load(model if bundle else None)
            analyzer = replace(analyzer, estimator=Estimator(path))
            report["detector"] = analyzer.detector.name
            values = serving(analyzer)
            if bundle and path == bundle.model_path:
                values |= start_up([f"--model={model}"] if model else [])
            if options.peers:
                from . import peers

                values |= {f"{engine}, one face": took for engine, took in peers.engines(path).items()}
                vgg16 = path if "vgg16" in name else vgg16
            report["models"][name] = values
    if options.peers:
        report["peers"] = peers.programs(scene(1, *SCENES[1]), scene(5, *SCENES[5]), vgg16)
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
