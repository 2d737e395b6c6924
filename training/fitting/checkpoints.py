"""A run's folder: `state.json`, which names the whole checkpoint beside it and is replaced last.

A run killed at any moment resumes from its last finished epoch.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import keras

from training.atomic import write_beside


class FitError(RuntimeError):
    """Training cannot continue; the message says why and what to do."""


@dataclass
class RunState:
    """How far a run has come."""

    history: list[dict] = field(default_factory=list)  # a row for each epoch
    phase: int = 0  # number of the phase that runs
    checkpoint: str | None = None  # file with weights and optimizer after the last epoch of that phase
    best: dict | None = None  # weights (file), score, epoch

    def write(self, out: Path) -> None:
        """Replace state.json and log.csv, then delete the checkpoints that it no longer names."""
        write_beside(out / "state.json", json.dumps(dataclasses.asdict(self), indent=1))
        fields = list(dict.fromkeys(key for row in self.history for key in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        write_beside(out / "log.csv", table.getvalue())
        named = {self.checkpoint, (self.best or {}).get("weights")}
        for path in [*out.glob("state-*.weights.h5"), *out.glob("best-*.weights.h5")]:
            if path.name not in named:
                path.unlink()


def read_state(out: Path) -> RunState | None:
    """The state of the run in `out`, None where there is none; FitError if it is damaged."""
    path = out / "state.json"
    if not path.exists():
        return None
    try:
        return RunState(**json.loads(path.read_text()))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise FitError(f"{path} is damaged ({error}): choose a new --out.") from error


def load(model: keras.Model, path: Path, what: str) -> None:
    """Load a run's own weights; FitError if they cannot be read."""
    try:
        model.load_weights(path)
    except Exception as error:  # h5py and Keras raise a dozen kinds for a damaged file
        raise FitError(
            f"The {what} {path} can't be loaded ({str(error).splitlines()[0][:200]}). It is damaged or from "
            "another run: choose a new --out."
        ) from error
