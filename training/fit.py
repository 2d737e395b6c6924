"""The fit loop: phases, schedule, weight averaging, checkpoints, exact resume, early stopping.

Backend-agnostic Keras 3 over `Model.fit`. A run's folder holds `state.json`, which names the whole
checkpoint beside it and is replaced last, so a run killed at any moment goes on from its last finished
epoch. Knows nothing of where faces come from or what becomes of the trained network.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops

from training.atomic import write_beside
from training.augment import Augment, Strength
from training.data import AGE_BANDS
from training.losses import losses

# Years of mean absolute age error that one whole unit of gender error is worth when the best epoch is
# chosen: 1 percentage point of gender counts like 0.1 year.
GENDER_IN_YEARS = 10.0


class FitError(RuntimeError):
    """Training cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of trainable layers and one learning-rate curve."""

    name: str
    epochs: int
    learning_rate: float
    prepare: Callable[[keras.Model], None]  # sets `trainable` of the network's layers
    rates: dict[str, float] = field(default_factory=dict)  # share of the learning rate by beginning of a layer's name
    extra: float = 1.0  # faces of the second set an epoch for each of the first, as far as there are


@dataclass(frozen=True)
class Faces:
    """N faces to learn from, or to measure on."""

    images: np.ndarray  # uint8 [N, H, W, 3] RGB
    age_range: np.ndarray  # float32 [N, 2] years, first and last that the label allows
    gender: np.ndarray  # float32 [N], 0 male, 1 female, or between where it is not sure
    age_probs: np.ndarray | None = None  # [N, A], a distribution of ages to learn beside the label, see `distill`

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Recipe:
    """How a network is fitted, beyond its phases."""

    age_head: str
    batch_size: int
    augment: Strength
    optimizer: str  # "adam" or "adamw"
    weight_decay: float  # of adamw
    schedule: str  # "cosine" with one warm-up epoch, or "constant"
    ema: float  # momentum of the averaged weights, 0 for none
    patience: int  # epochs without a better score before stopping, 0 for never
    seed: int
    balance: bool = False  # draw rare ages more often, see Batches
    gender_weight: float = 1.0  # of gender's loss beside age's
    mixup: float = 0.0  # faces laid over each other in shares drawn from Beta(mixup, mixup), 0 for none; see Batches
    taught: float = 0.0  # share of teachers' answers in what is learned of age; in gender's labels it is already


class Batches(keras.utils.PyDataset):
    """An endless stream of uint8 faces and labels from the beginning of epoch `epoch`.

    What a batch holds depends on seed and number alone, whenever it is asked for: Keras fetches ahead into the next
    epoch before it says that one has ended. Each epoch leaves out its last, short batch. With a second set of faces,
    an epoch is every face of the first and `extra` times as many of the second, drawn anew. With `balance` the faces of
    each set are drawn with replacement, those of an age band with the root of how rare it is: children and the old,
    of whom there are few, come up more often without pushing out the rest. With `mixup` each face is laid over another
    of its batch (Zhang et al. 2018, arXiv 1710.09412), and the labels of age are those of `losses.Mixed`.
    """

    num_batches = None  # endless, to Keras

    def __init__(
        self,
        outputs: list[str],
        faces: Faces,
        second: Faces | None,
        extra: float,
        batch_size: int,
        seed: int,
        epoch: int,
        balance: bool = False,
        mixup: float = 0.0,
    ):
        super().__init__(workers=1)
        self.outputs, self.sets = outputs, [faces, second] if second else [faces]
        self.drawn = int(min(len(second), extra * len(faces))) if second else 0  # of the second set, an epoch
        count = len(faces) + self.drawn
        self.batch_size = min(batch_size, count)
        self.steps = count // self.batch_size  # an epoch
        self.seed, self.epoch, self.mixup = seed, epoch, mixup
        self.chances = [_chances(part.age_range) if balance else None for part in self.sets]
        self._order = functools.lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        """An epoch's faces: places in the first set, then in the second."""
        generator = np.random.default_rng((self.seed, epoch))
        order = _draw(generator, len(self.sets[0]), len(self.sets[0]), self.chances[0])
        if self.drawn:
            drawn = _draw(generator, len(self.sets[1]), self.drawn, self.chances[1])
            order = generator.permutation(np.concatenate([order, drawn + len(order)]))
        return order

    def __getitem__(self, i: int):
        epoch, step = divmod(i, self.steps)
        order = self._order(self.epoch + epoch)
        # Sorted within the batch: sequential reads of a memory-mapped file, and the order there is immaterial.
        index = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
        first = len(self.sets[0])
        parts = [index[index < first], index[index >= first] - first][: len(self.sets)]

        def of_each(name):
            arrays = [getattr(faces, name)[part] for faces, part in zip(self.sets, parts, strict=True)]
            return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]

        age, gender = of_each("age_range"), of_each("gender")
        labels = {name: gender if name == "p_female" else age for name in self.outputs}
        if self.sets[0].age_probs is not None:
            labels["age_probs"] = np.hstack([age, of_each("age_probs")])
        images = of_each("images")
        return (images, labels) if not self.mixup else self._mix(images, labels, (self.seed, self.epoch + epoch, step))

    def _mix(self, images: np.ndarray, labels: dict[str, np.ndarray], seed: tuple[int, ...]):
        generator = np.random.default_rng(seed)
        other = generator.permutation(len(images))
        share = generator.beta(self.mixup, self.mixup, len(images)).astype(np.float32)
        seen = share[:, None, None, None]
        images = np.rint(seen * images + (1 - seen) * images[other]).astype(np.uint8)
        return images, {
            name: share * label + (1 - share) * label[other]
            if name == "p_female"
            else np.hstack([label, label[other], share[:, None]])
            for name, label in labels.items()
        }


def _chances(age_range: np.ndarray) -> np.ndarray:
    """float [N], the chance of each face to be drawn: as the root of how rare its age band is."""
    band = np.searchsorted([low for low, _ in AGE_BANDS], age_range[:, 0], side="right")
    weight = 1 / np.sqrt(np.bincount(band)[band])
    return weight / weight.sum()


def _draw(generator: np.random.Generator, count: int, drawn: int, chances: np.ndarray | None) -> np.ndarray:
    """`drawn` places among `count`: each at most once, or by their chances."""
    if chances is None:
        return generator.permutation(count)[:drawn]
    return generator.choice(count, drawn, p=chances)


def predict(network: keras.Model, images: np.ndarray, batch_size: int = 128) -> dict[str, np.ndarray]:
    """The network's outputs for uint8 images [N, H, W, 3], in float32, without keeping more than a batch."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        missing = min(batch_size, len(images)) - len(batch)
        # The last batch is filled up: one shape, one compilation.
        filled = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.uint8)]) if missing else batch
        outputs = network.predict_on_batch(filled)
        parts.append({name: np.asarray(values, np.float32)[: len(batch)] for name, values in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fit(
    network: keras.Model,
    phases: list[Phase],
    recipe: Recipe,
    train: Faces,
    validation: Faces,
    out: Path,
    *,
    second: Faces | None = None,
    resume: bool = False,
    verbose: int = 1,
) -> list[dict]:
    """Fit `network` in place and leave it with the weights of its best epoch on validation.

    Args:
        network: from `networks.build`.
        train, validation: faces; those of validation with known ages.
        out: the run's folder, made if needed.
        second: more faces to train on, see `Phase.extra`.
        resume: go on from the checkpoint in `out`, if there is one.
        verbose: Keras's: 0 silent, 1 progress bar, 2 a line an epoch.

    Returns:
        One dict an epoch: phase, epoch, seconds, losses, val_age_mae (years), val_gender_accuracy, …

    Raises:
        FitError: the checkpoint is damaged or of another run, the loss is no longer a number, or the device has too
            little memory.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = _read_state(out) if resume else None
    state = state or {"history": [], "best": None, "phase": 0, "checkpoint": None, "finished": False}
    if not state["finished"]:
        for number in range(state["phase"], len(phases)):
            _run_phase(network, number, phases[number], recipe, train, second, validation, out, state, verbose)
        state["finished"] = True
        write_beside(out / "state.json", json.dumps(state, indent=1))
    if state["best"]:
        _load(network, out / state["best"]["weights"], "best weights")
    return state["history"]


def _run_phase(network, number, phase, recipe, train, second, validation, out, state, verbose) -> None:
    done = sum(row["phase"] == phase.name for row in state["history"])
    phase.prepare(network)
    face = keras.Input(network.input.shape[1:], dtype="uint8", name="face")
    augmented = Augment(recipe.augment, seed=recipe.seed + number, name="augment")(face)
    trainer = keras.Model(face, network(augmented), name="trainer")
    batches = Batches(
        list(network.output),
        train,
        second,
        phase.extra,
        recipe.batch_size,
        seed=recipe.seed * 1000 + number,
        epoch=done,
        balance=recipe.balance,
        mixup=recipe.mixup,
    )
    loss, loss_weights = losses(recipe.age_head, recipe.gender_weight, recipe.taught, mixed=recipe.mixup > 0)
    trainer.compile(
        optimizer=_optimizer(recipe, phase, steps=batches.steps),
        loss=loss,
        loss_weights=loss_weights,
        # XLA compiles for minutes on CPUs and then runs convolutions at half oneDNN's speed (measured).
        jit_compile=keras.backend.backend() == "jax",
    )
    trainer.optimizer.build(trainer.trainable_variables)
    if done and not state["checkpoint"]:
        raise FitError(f"The run in {out} was started by another version: train into a new --out.")
    if done:
        _load(trainer, out / state["checkpoint"], "checkpoint")
    elif number and state["best"]:
        # A later phase starts from the best weights so far, not from the last.
        _load(network, out / state["best"]["weights"], "best weights")
    if done < phase.epochs:
        keeper = _Keeper(network, number, phase, recipe, validation, out, state)
        try:
            trainer.fit(
                batches,
                epochs=phase.epochs,
                initial_epoch=done,
                steps_per_epoch=batches.steps,
                shuffle=False,  # the batches are in an order of their own
                verbose=verbose,
                callbacks=[keeper],
            )
        except Exception as error:  # each backend has an error of its own for it
            if type(error).__name__ != "ResourceExhaustedError" and "out of memory" not in str(error).lower():
                raise
            raise FitError("The device ran out of memory: lower --batch-size.") from error
    state.update(phase=number + 1, checkpoint=None)
    _write_state(out, state)


def _optimizer(recipe: Recipe, phase: Phase, steps: int) -> keras.optimizers.Optimizer:
    rate = phase.learning_rate
    if recipe.schedule == "cosine":
        total = max(1, steps * phase.epochs)
        warm_up = min(steps, total // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 100 if warm_up else rate,
            max(1, total - warm_up),
            alpha=0.01,
            warmup_target=rate if warm_up else None,
            warmup_steps=warm_up,
        )
    average = {"use_ema": True, "ema_momentum": recipe.ema} if recipe.ema else {}
    if recipe.optimizer == "adam":
        return _layerwise(keras.optimizers.Adam, phase.rates)(rate, **average)
    optimizer = _layerwise(keras.optimizers.AdamW, phase.rates)(rate, weight_decay=recipe.weight_decay, **average)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _layerwise(optimizer: type, rates: dict[str, float]) -> type:
    """The same kind of optimizer with a share of the learning rate for each layer, by the beginning of its name."""
    if not rates:
        return optimizer

    class Layerwise(optimizer):
        def update_step(self, gradient, variable, learning_rate):
            # On TensorFlow `variable` is its own kind, which has no path; Keras's is found as its optimizers do.
            own = self._trainable_variables[self._get_variable_index(variable)]
            layer = own.path.split("/")[-2]
            rate = learning_rate * next((share for name, share in rates.items() if layer.startswith(name)), 1.0)
            if self.weight_decay is not None and self._use_weight_decay(own):
                own.assign(own - own * ops.cast(rate * self.weight_decay, own.dtype))
            super().update_step(gradient, variable, rate)

        def _apply_weight_decay(self, variables):
            """Keras's takes the whole rate for every layer; ours is part of the step."""

    return Layerwise


class _Keeper(keras.callbacks.Callback):
    """After each epoch: score the averaged weights, keep the best, save everything needed to go on."""

    def __init__(self, network, number, phase, recipe, validation, out, state):
        super().__init__()
        self.network, self.number, self.phase, self.recipe = network, number, phase, recipe
        self.validation, self.out, self.state = validation, out, state

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()
        # Keras saves no generator's state (augmentation, dropout): each epoch starts from its own seed instead.
        states = [variable for variable in self.model.variables if "seed_generator_state" in variable.path]
        seeds = np.random.default_rng((self.recipe.seed, self.number, epoch)).integers(0, 2**31, len(states))
        for variable, seed in zip(states, seeds, strict=True):
            variable.assign(np.array([seed, 0], variable.dtype))

    def on_epoch_end(self, epoch, logs=None):
        logs = {k: float(v) for k, v in (logs or {}).items()}
        if not all(math.isfinite(v) for v in logs.values()):
            raise FitError(
                f"The loss is no longer a number in epoch {epoch + 1} of phase {self.phase.name}: "
                "lower --learning-rate."
            )
        state, number = self.state, len(self.state["history"]) + 1
        checkpoint = f"state-{number:03d}.weights.h5"
        self.model.save_weights(self.out / checkpoint)
        raw = self._average()
        row = {
            "phase": self.phase.name,
            "epoch": epoch + 1,
            "seconds": round(time.monotonic() - self.started, 1),
            **logs,
            **self._validate(),
        }
        best = state["best"]
        if best is None or row["val_score"] < best["score"]:
            best = {"weights": f"best-{number:03d}.weights.h5", "score": row["val_score"], "epoch": number}
            self.network.save_weights(self.out / best["weights"])
        for variable, value in raw:
            variable.assign(value)
        state.update(phase=self.number, checkpoint=checkpoint, best=best, history=state["history"] + [row])
        _write_state(self.out, state)
        print(
            f"  validation: age MAE {row['val_age_mae']:.2f} years, gender {100 * row['val_gender_accuracy']:.1f} %"
            f"{' (best so far)' if best['epoch'] == number else ''}",
            flush=True,
        )
        since = number - max(best["epoch"], number - epoch - 1)
        if self.recipe.patience and since >= self.recipe.patience:
            print(f"  no better score for {since} epochs: phase {self.phase.name} ends", flush=True)
            self.model.stop_training = True

    def _average(self) -> list:
        """Put the averaged weights into the network; returns what was there."""
        if not self.recipe.ema:
            return []
        variables = self.model.trainable_variables
        raw = [(variable, np.array(variable)) for variable in variables]
        # What keras.callbacks.SwapEMAWeights uses; that callback cannot be resumed in the middle.
        for variable, average in zip(variables, self.model.optimizer._model_variables_moving_average, strict=True):
            variable.assign(average)
        return raw

    def _validate(self) -> dict[str, float]:
        faces = self.validation
        outputs = predict(self.network, faces.images)
        mae = float(np.mean(np.abs(outputs["age"] - faces.age_range[:, 0])))
        accuracy = float(np.mean((outputs["p_female"] >= 0.5) == (faces.gender == 1)))
        return {
            "val_age_mae": mae,
            "val_gender_accuracy": accuracy,
            "val_score": mae + GENDER_IN_YEARS * (1 - accuracy),
        }


def _load(model: keras.Model, path: Path, what: str) -> None:
    try:
        model.load_weights(path)
    except Exception as error:  # h5py and Keras raise a dozen kinds for a damaged file
        raise FitError(
            f"The {what} {path} cannot be loaded ({str(error).splitlines()[0][:200]}). It is damaged or of another "
            "run: train into a new --out."
        ) from error


def _read_state(out: Path) -> dict | None:
    path = out / "state.json"
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text())
        state["history"], state["phase"], state["finished"]
        return state
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FitError(f"{path} is damaged ({error}): train into a new --out.") from error


def _write_state(out: Path, state: dict) -> None:
    """Replace state.json and log.csv, then delete the checkpoints that it no longer names."""
    write_beside(out / "state.json", json.dumps(state, indent=1))
    fields = list(dict.fromkeys(key for row in state["history"] for key in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(state["history"])
    write_beside(out / "log.csv", table.getvalue())
    named = {state["checkpoint"], (state["best"] or {}).get("weights")}
    for path in [*out.glob("state-*.weights.h5"), *out.glob("best-*.weights.h5")]:
        if path.name not in named:
            path.unlink()
