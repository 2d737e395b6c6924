"""A run's folder: `state.json`, which names the whole checkpoint beside it and is replaced last.

A run killed at any moment resumes from its last checkpoint.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from training.atomic import write_beside
from training.model.files import quiet_loading
from training.recipe import STATE

INITIAL = "best-000.weights.h5"
SPARE = 20_000_000  # bytes beside the weights: state.json, log.csv, and what others write meanwhile


class FitError(RuntimeError):
    """Training cannot continue; the message says why and what to do."""


@dataclass
class Weights:
    """Weights in a file of the run's folder, and how good they are."""

    file: str
    score: float  # on validation faces, lower is better
    size: int  # pixels of the faces that they were scored on
    epoch: int = 0  # of the whole run
    mean_of: list[int] = field(default_factory=list)  # branches, from 1; 0: what their stage started from


@dataclass
class RunState:
    """How far a run has come."""

    faces: list[str] = field(default_factory=list)  # `dataset_hash` of the training and of the validation faces
    history: list[dict] = field(default_factory=list)  # a row for each epoch
    stage: int = 0  # number of the stage that runs
    branch: int = 0  # of that stage
    checkpoint: str | None = None  # file with weights and optimizer after the last epoch of that branch
    start: Weights | None = None  # what the stage started from; None for weights that weren't scored
    best: Weights | None = None  # of the branch that runs
    done: list[Weights] = field(default_factory=list)  # the best of each finished branch of the stage

    def write(self, out: Path) -> None:
        """Replace state.json and log.csv, then delete the weights that the state no longer names."""
        write_beside(out / STATE, json.dumps(dataclasses.asdict(self), indent=1))
        fields = list(dict.fromkeys(key for row in self.history for key in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_beside(out / "log.csv", table.getvalue())
        named = {self.checkpoint, *(w.file for w in (self.start, self.best, *self.done) if w)}
        for path in [path for kind in ("state", "best", "partial") for path in out.glob(f"{kind}-*.weights.h5")]:
            if path.name not in named:
                path.unlink()


def final_weights(out: Path) -> dict:
    """What the weights of the finished run in `out` are, as plain values for a bundle's provenance.

    Returns:
        initial: whether they are the weights that the run started from.
        mean_of: the branches of a stage whose mean they are, 0 for the weights that this stage started from; empty if
        they aren't a mean.
    """
    state = read_state(out)
    start = state.start if state else None
    return {"initial": bool(start and start.file == INITIAL), "mean_of": start.mean_of if start else []}


def read_state(out: Path) -> RunState | None:
    """The state of the run in `out`, None where there is none; FitError if it is damaged."""
    path = out / STATE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        one = {name: values[name] and Weights(**values[name]) for name in ("start", "best")}
        return RunState(**{**values, **one, "done": [Weights(**entry) for entry in values["done"]]})
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        raise FitError(f"{path} is damaged ({error}): choose a new --out.") from error


def save(model: keras.Model, path: Path) -> None:
    """Write weights, whole or not at all; FitError if the disk has no room for them.

    HDF5 can crash the process when the disk fills up while it writes, so the room is checked first.
    """
    variables = [*model.variables, *(model.optimizer.variables if getattr(model, "optimizer", None) else ())]
    need = sum(int(np.prod(v.shape)) * 4 for v in variables) + SPARE
    free = shutil.disk_usage(path.parent).free
    if free < need:
        raise FitError(
            f"{path.parent} has {free / 1e6:,.0f} MB of free space, but a checkpoint needs {need / 1e6:,.0f} MB. Free "
            "some space, then continue with --resume added to the same command."
        )
    partial = path.with_name(f"partial-{path.name}")
    try:
        model.save_weights(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(model: keras.Model, path: Path, what: str) -> None:
    """Load a run's own weights; FitError if they cannot be read."""
    try:
        with quiet_loading():
            model.load_weights(path)
    except Exception as error:  # h5py and Keras raise a dozen kinds for a damaged file
        raise FitError(
            f"The {what} {path} can't be loaded ({str(error).splitlines()[0][:200]}). It is damaged or from "
            "another run: choose a new --out."
        ) from error
