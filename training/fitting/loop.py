"""The fit loop: phases, schedule, weight averaging, teachers, exact resume, early stopping.

Backend-agnostic Keras 3 over `Model.fit`. Knows nothing of where faces come from or what becomes of the network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops

from training.fitting.batches import Batches, Faces
from training.fitting.checkpoints import FitError, RunState, load, read_state
from training.fitting.optimizers import build_optimizer
from training.model import networks
from training.model.augment import Augment, Strength
from training.model.losses import losses
from training.model.prediction import predict

# Years of mean absolute age error that one whole unit of gender error is worth when the best epoch is
# chosen: 1 percentage point of gender counts like 0.1 year.
GENDER_IN_YEARS = 10.0
BAND_IN_YEARS = 5.0  # the same for the share of ages outside their band, of faces whose age is known as a band
MEASURED = 2048  # training faces on which batch normalizations are measured again


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of trainable layers and one learning-rate curve."""

    name: str
    epochs: int
    learning_rate: float
    prepare: Callable[[keras.Model], None]  # sets `trainable` of the network's layers
    rates: dict[str, float] = field(default_factory=dict)  # share of the learning rate by beginning of a layer's name
    extra: float = 1.0  # faces of the second set an epoch for each of the first, as far as there are
    half_size: bool = False  # vgg16 only: faces of half the side


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted, beyond its phases."""

    age_head: str
    batch_size: int
    augment: Strength
    optimizer: str  # "adam" or "adamw"
    weight_decay: float  # of adamw
    schedule: str  # "cosine" with one warm-up epoch, or "constant"
    average: bool  # score and keep a moving average of the weights
    patience: int  # epochs without a better score before stopping, 0 for never
    seed: int
    gender_weight: float = 1.0  # of gender's loss beside age's
    teacher_weight: float = 0.0  # share of the teachers' answers in what is learned


@dataclass(frozen=True)
class TrainingData:
    """What a network learns from and is chosen on; the second of each is photographs whose ages are bands."""

    train: Faces
    validation: Faces
    train2: Faces | None = None
    validation2: Faces | None = None


def fit(
    network: keras.Model,
    phases: list[Phase],
    recipe: Recipe,
    faces: TrainingData,
    out: Path,
    *,
    teachers: Sequence[keras.Model] = (),
    resume: bool = False,
    verbose: int = 1,
) -> list[dict]:
    """Fit `network` in place and leave it with the weights of its best epoch on validation.

    Args:
        network: from `networks.build`.
        faces: what to learn from and to choose on.
        out: the run's folder, created if needed.
        teachers: trained networks with a distribution head. They answer the same augmented view that the network sees
            (Beyer et al. 2021, arXiv 2106.05237), and their mean is part of its target (knowledge distillation; Hinton
            et al. 2015, arXiv 1503.02531).
        resume: continue from the checkpoint in `out`, if there is one.
        verbose: as in Keras: 0 silent, 1 progress bar, 2 one line per epoch.

    Returns:
        One dict per epoch: phase, epoch, seconds, losses, val_age_mae (years), val_gender_accuracy, …

    Raises:
        FitError: the checkpoint is damaged or of another run, the loss is no longer a number, or the device has too
            little memory.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, teacher in enumerate(teachers):
        teacher.trainable = False
        teacher.name = f"teacher{number}_{teacher.name}"  # they may have the network's own
    state = (read_state(out) if resume else None) or RunState()
    run = _Run(network, recipe, faces, out, state, tuple(teachers), verbose)
    for number in range(state.phase, len(phases)):
        run.phase(number, phases[number])
    state.write(out)
    if state.best:
        load(network, out / state.best["weights"], "best weights")
    return state.history


@dataclass(frozen=True)
class _Run:
    network: keras.Model
    recipe: Recipe
    faces: TrainingData
    out: Path
    state: RunState
    teachers: tuple[keras.Model, ...]
    verbose: int

    def phase(self, number: int, phase: Phase) -> None:
        """Run one phase, or what is left of it."""
        recipe, state = self.recipe, self.state
        done = sum(row["phase"] == phase.name for row in state.history)
        phase.prepare(self.network)
        trainer = self._trainer(number, phase)
        batches = Batches(
            list(self.network.output),
            [self.faces.train, *([self.faces.train2] if self.faces.train2 else [])],
            extra=phase.extra,
            batch_size=recipe.batch_size,
            seed=recipe.seed * 1000 + number,
            epoch=done,
        )
        loss, loss_weights = losses(recipe.age_head, recipe.gender_weight, recipe.teacher_weight)
        trainer.compile(
            optimizer=build_optimizer(
                recipe.optimizer,
                _schedule(recipe.schedule, phase, batches.steps),
                weight_decay=recipe.weight_decay,
                # A window of a tenth of an epoch at most, and 500 steps.
                ema=min(0.998, 1 - 10 / max(20, batches.steps)) if recipe.average else 0.0,
                rates=phase.rates,
            ),
            loss=loss,
            loss_weights=loss_weights,
            # XLA compiles for minutes on CPUs and then runs convolutions at half oneDNN's speed (measured).
            jit_compile=keras.backend.backend() == "jax",
        )
        trainer.optimizer.build(trainer.trainable_variables)
        if done:
            load(trainer, self.out / state.checkpoint, "checkpoint")
        elif number and state.best:
            # A later phase starts from the best weights so far, not from the last.
            load(self.network, self.out / state.best["weights"], "best weights")
        if done < phase.epochs:
            self._fit(trainer, batches, number, phase, done)
        state.phase, state.checkpoint = number + 1, None
        state.write(self.out)

    def _trainer(self, number: int, phase: Phase) -> keras.Model:
        """Augmentation, network and teachers as one model."""
        face = keras.Input(self.network.input.shape[1:], dtype="uint8", name="face")
        augmented = Augment(self.recipe.augment, seed=self.recipe.seed + number, name="augment")(face)
        network = networks.half_size(self.network) if phase.half_size else self.network
        outputs = dict(network(augmented))
        if self.teachers:
            answers = [teacher(augmented, training=False) for teacher in self.teachers]

            def mean(name):
                return ops.stop_gradient(sum(answer[name] for answer in answers) / len(answers))

            outputs["age_probs"] = ops.concatenate([outputs["age_probs"], mean("age_probs")], axis=-1)
            outputs["p_female"] = ops.stack([outputs["p_female"], mean("p_female")], axis=-1)
        return keras.Model(face, outputs, name="trainer")

    def _fit(self, trainer: keras.Model, batches: Batches, number: int, phase: Phase, done: int) -> None:
        try:
            trainer.fit(
                batches,
                epochs=phase.epochs,
                initial_epoch=done,
                steps_per_epoch=batches.steps,
                shuffle=False,  # the batches are in an order of their own
                verbose=self.verbose,
                callbacks=[_EpochCheckpoint(self, number, phase)],
            )
        except Exception as error:  # each backend has an error of its own for it
            if type(error).__name__ != "ResourceExhaustedError" and "out of memory" not in str(error).lower():
                raise
            raise FitError("The device ran out of memory: lower --batch-size.") from error


def _schedule(name: str, phase: Phase, steps: int):
    rate = phase.learning_rate
    if name == "constant":
        return rate
    total = max(1, steps * phase.epochs)
    warm_up = min(steps, total // 10)
    return keras.optimizers.schedules.CosineDecay(
        rate / 100 if warm_up else rate,
        max(1, total - warm_up),
        alpha=0.01,
        warmup_target=rate if warm_up else None,
        warmup_steps=warm_up,
    )


class _EpochCheckpoint(keras.callbacks.Callback):
    """After each epoch: score the averaged weights, keep the best, save everything needed to resume."""

    def __init__(self, run: _Run, number: int, phase: Phase):
        super().__init__()
        self.run, self.number, self.phase = run, number, phase
        self.scored = networks.half_size(run.network) if phase.half_size else run.network
        # Every k-th face: whatever order they are in, a fair part of them.
        images = run.faces.train.images
        self.measured = np.asarray(images[:: max(1, len(images) // MEASURED)][:MEASURED])

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()
        # Keras saves no generator's state (augmentation, dropout): each epoch starts from its own seed instead.
        states = [variable for variable in self.model.variables if "seed_generator_state" in variable.path]
        seeds = np.random.default_rng((self.run.recipe.seed, self.number, epoch)).integers(0, 2**31, len(states))
        for variable, seed in zip(states, seeds, strict=True):
            variable.assign(np.array([seed, 0], variable.dtype))

    def on_epoch_end(self, epoch, logs=None):
        logs = {k: float(v) for k, v in (logs or {}).items()}
        if not all(math.isfinite(v) for v in logs.values()):
            raise FitError(
                f"The loss became NaN or infinite in epoch {epoch + 1} of phase {self.phase.name}: "
                "lower --learning-rate."
            )
        run, state, number = self.run, self.run.state, len(self.run.state.history) + 1
        checkpoint = f"state-{number:03d}.weights.h5"
        self.model.save_weights(run.out / checkpoint)
        raw = self._average()
        row = {
            "phase": self.phase.name,
            "epoch": epoch + 1,
            "seconds": round(time.monotonic() - self.started, 1),
            **logs,
            **validate(self.scored, run.faces),
        }
        if self._is_best(row["val_score"]):
            state.best = {
                "weights": f"best-{number:03d}.weights.h5",
                "score": row["val_score"],
                "epoch": number,
                "half_size": self.phase.half_size,
            }
            run.network.save_weights(run.out / state.best["weights"])
        for variable, value in raw:
            variable.assign(value)
        state.phase, state.checkpoint = self.number, checkpoint
        state.history.append(row)
        state.write(run.out)
        best = " (best so far)" if state.best["epoch"] == number else ""
        print(
            f"  validation: age MAE {row['val_age_mae']:.2f} years, "
            f"gender {100 * row['val_gender_accuracy']:.1f}%{best}",
            flush=True,
        )
        since = number - max(state.best["epoch"], number - epoch - 1)
        if run.recipe.patience and since >= run.recipe.patience:
            print(f"  no improvement for {since} epochs: ending phase {self.phase.name}", flush=True)
            self.model.stop_training = True

    def _is_best(self, score: float) -> bool:
        best = self.run.state.best
        # Scores of faces at half size say nothing about the network at full size.
        return best is None or best["half_size"] != self.phase.half_size or score < best["score"]

    def _average(self) -> list:
        """Put the averaged weights into the network; returns the variables with what was there."""
        if not self.run.recipe.average:
            return []
        variables = self.model.trainable_variables
        norms = [v for layer in networks.head_norms(self.run.network) for v in layer.non_trainable_variables]
        raw = [(variable, np.array(ops.convert_to_numpy(variable))) for variable in [*variables, *norms]]
        # What keras.callbacks.SwapEMAWeights uses; that callback cannot be resumed in the middle.
        for variable, average in zip(variables, self.model.optimizer._model_variables_moving_average, strict=True):
            variable.assign(average)
        if not self.phase.half_size:
            networks.measure_norms(self.run.network, self.measured)
        return raw


def validate(network: keras.Model, faces: TrainingData) -> dict[str, float]:
    """Validation figures of both sets, and the score by which the best epoch is chosen (lower is better)."""
    outputs = predict(network, faces.validation.images)
    mae = float(np.mean(np.abs(outputs["age"] - faces.validation.age_range[:, 0])))
    accuracy = _gender_accuracy(outputs, faces.validation)
    row = {"val_age_mae": mae, "val_gender_accuracy": accuracy, "val_score": mae + GENDER_IN_YEARS * (1 - accuracy)}
    if faces.validation2:
        outputs = predict(network, faces.validation2.images)
        first, last = faces.validation2.age_range.T
        years = np.floor(outputs["age"] + 0.5)
        band, accuracy = (
            float(np.mean((first <= years) & (years <= last))),
            _gender_accuracy(outputs, faces.validation2),
        )
        row |= {"val2_band": band, "val2_gender_accuracy": accuracy}
        row["val_score"] += BAND_IN_YEARS * (1 - band) + GENDER_IN_YEARS * (1 - accuracy)
    return row


def _gender_accuracy(outputs: dict[str, np.ndarray], faces: Faces) -> float:
    return float(np.mean((outputs["p_female"] >= 0.5) == (faces.gender == 1)))
