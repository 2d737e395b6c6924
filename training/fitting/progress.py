"""How long a run will take, and how far it is, as lines of its log."""

from __future__ import annotations

import time

import keras

from training.model import devices

MEASURED = 20  # steps, after the first ones, from which the duration is told
FIRST = 3  # steps that compile and warm up
EVERY = 60.0  # seconds between two lines


class Progress(keras.callbacks.Callback):
    """Tells the expected duration of a stage after some steps and, where no progress bar is shown, how far it is."""

    def __init__(self, name: str, steps: int, epochs: int, bar: bool):
        super().__init__()
        self.name, self.steps, self.epochs, self.bar = name, steps, epochs, bar
        self.done, self.started, self.told, self.epoch = 0, 0.0, False, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.begun = epoch, time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        left = self.epochs - epoch - 1
        if not self.told and left:  # epochs of a few steps
            print(f"Stage {self.name!r}: about {duration((time.monotonic() - self.begun) * left)} left.", flush=True)
            self.told = True

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        now = time.monotonic()
        if self.done == FIRST:
            self.started = self.line = now
        elif self.done == FIRST + MEASURED:
            step = (now - self.started) / MEASURED
            left = step * self.steps * (self.epochs - self.epoch)
            print(f"Stage {self.name!r}: {1000 * step:.0f} ms per step, about {duration(left)}.{_advice()}", flush=True)
            self.told, self.line = True, now
        elif self.told and not self.bar and now - self.line > EVERY:
            step = (now - self.started) / (self.done - FIRST)
            left = step * (self.steps * (self.epochs - self.epoch) - batch - 1)
            print(
                f"  epoch {self.epoch + 1} of {self.epochs}, step {batch + 1} of {self.steps}: about {duration(left)} "
                "left in this stage",
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
