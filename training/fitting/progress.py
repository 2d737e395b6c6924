"""How long a run will take, and how far it is, as lines of its log."""

from __future__ import annotations

import time

import keras

from training.model import devices

MEASURED = 20  # steps, after the first ones, from which the duration is told
FIRST = 3  # steps that compile and warm up
EVERY = 60.0  # seconds between two lines


class Progress(keras.callbacks.Callback):
    """Tells the expected duration after some steps and, where no progress bar is shown, how far it is.

    Args:
        stage: its name.
        branch: number of the branch that runs, and how many the stage has.
        steps: of an epoch.
        epochs: of the branch.
        bar: whether Keras shows a progress bar.
    """

    def __init__(self, stage: str, branch: tuple[int, int], steps: int, epochs: int, bar: bool):
        super().__init__()
        number, count = branch
        self.name = f"Stage {stage!r}" + (f", branch {number} of {count}" if count > 1 else "")
        self.part = "branch" if count > 1 else "stage"
        self.steps, self.epochs, self.bar = steps, epochs, bar
        self.done, self.started, self.told, self.epoch = 0, 0.0, False, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.begun = epoch, time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        left = self.epochs - epoch - 1
        if not self.told and left:  # epochs of a few steps
            print(f"{self.name}: about {duration((time.monotonic() - self.begun) * left)} left.", flush=True)
            self.told = True

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        now = time.monotonic()
        if self.done == FIRST:
            self.started = self.line = now
        elif self.done == FIRST + MEASURED:
            step = (now - self.started) / MEASURED
            left = step * self.steps * (self.epochs - self.epoch)
            print(f"{self.name}: {1000 * step:.0f} ms per step, about {duration(left)}.{_advice()}", flush=True)
            self.told, self.line = True, now
        elif self.told and not self.bar and now - self.line > EVERY:
            step = (now - self.started) / (self.done - FIRST)
            left = step * (self.steps * (self.epochs - self.epoch) - batch - 1)
            print(
                f"  epoch {self.epoch + 1} of {self.epochs}, step {batch + 1} of {self.steps}: about {duration(left)} "
                f"left in this {self.part}",
                flush=True,
            )
            self.line = now


def duration(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `3.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _advice() -> str:
    if devices.on_gpu():
        return ""
    return " No GPU is used. To train faster, use a GPU, fewer --epochs or --recipe compact (see training/README.md)."
