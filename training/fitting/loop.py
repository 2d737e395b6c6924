"""The fit loop: stages, branches, schedule, weight averaging, teachers, exact resume, early stopping.

Backend-agnostic Keras 3 over `Model.fit`. Knows nothing of where faces come from or what becomes of the network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from training.data.faces import Faces
from training.data.samples import label_hash
from training.fitting.batches import Batches
from training.fitting.checkpoints import INITIAL, FitError, RunState, Weights, load, read_state, save
from training.fitting.optimizers import build_optimizer, layer_name
from training.fitting.progress import Progress
from training.fitting.validation import describe, validate
from training.model import devices, networks
from training.model.augment import STRENGTHS, Augment
from training.model.losses import losses
from training.recipe import Recipe, Stage

MEASURED = 2048  # training faces on which batch normalizations are measured again
CHECKPOINT_SECONDS = 120.0  # an epoch that ends sooner after the last checkpoint gets none, unless it is the last


def fit(
    network: keras.Model,
    recipe: Recipe,
    train: list[Faces],
    validation: list[Faces],
    out: Path,
    *,
    teachers: Sequence[keras.Model] = (),
    trained: bool = False,
    resume: bool = False,
    verbose: int = 1,
) -> list[dict]:
    """Fit `network` in place and leave it with the weights that are best on validation faces.

    Args:
        network: from `networks.build`.
        recipe: its stages run in order.
        train, validation: a value for each dataset.
        out: the run's folder, created if needed.
        teachers: trained networks with a distribution head. They predict on the same augmented view as the network
            (Beyer et al. 2021, arXiv 2106.05237), and their mean is part of its target (knowledge distillation; Hinton
            et al. 2015, arXiv 1503.02531).
        trained: the network's weights are a trained model's. They are scored too, and stay if no epoch is better. Not
            with stages of several sizes, whose scores can't be compared.
        resume: continue from the checkpoint in `out`, if there is one.
        verbose: as in Keras: 0 silent, 1 progress bar, 2 one line per epoch.

    Returns:
        One dict per epoch: stage, branch, epoch, seconds, losses and what `validate` returns.

    Raises:
        FitError: the checkpoint is damaged or of another run, the faces are other ones than before, the loss is no
            longer a number, or the device has too little memory.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, teacher in enumerate(teachers):
        teacher.trainable = False
        teacher.name = f"teacher{number}_{teacher.name}"  # they may have the network's own
    faces = [label_hash(part.samples) for part in (*train, *validation)]
    state = (read_state(out) if resume else None) or RunState(faces=faces)
    if state.faces != faces:
        raise FitError(
            f"The training or validation faces have changed since the run in {out} was started. Restore them, or start "
            "a new run with another --out."
        )
    _check_rates(network, recipe)
    trained = trained and len({stage.size for stage in recipe.stages}) == 1
    run = _Run(network, recipe, train, validation, out, state, tuple(teachers), trained, verbose)
    if resume and state.stage == len(recipe.stages):
        print("Training is complete: only the bundle is written again.", flush=True)
    for number, stage in enumerate(recipe.stages):
        if number >= state.stage and stage.epochs:
            run.stage(number, stage)
    state.write(out)
    if state.start:
        load(network, out / state.start.file, "best weights")
    return state.history


def _check_rates(network: keras.Model, recipe: Recipe) -> None:
    layers = sorted({layer_name(variable) for variable in network.trainable_variables})
    for stage in recipe.stages:
        for variant in stage.variants():
            for name in variant.rates:
                if not any(layer.startswith(name) for layer in layers):
                    raise FitError(
                        f"Stage {stage.name!r} has a rate for {name!r}, but no layer's name begins with it. The layers "
                        f"are {', '.join(layers)}."
                    )


@dataclass(frozen=True)
class _Run:
    network: keras.Model
    recipe: Recipe
    train: list[Faces]
    validation: list[Faces]
    out: Path
    state: RunState
    teachers: tuple[keras.Model, ...]
    trained: bool
    verbose: int

    def stage(self, number: int, stage: Stage) -> None:
        """Run one stage, or what is left of it. The next one starts from `state.start`."""
        state, variants = self.state, stage.variants()
        if not state.start and (self.trained or len(variants) > 1):  # all branches start from the same weights
            save(self.network, self.out / INITIAL)
            state.start = Weights(INITIAL, self._initial_score(stage), stage.size)
        for branch in range(state.branch, len(variants)):
            self.branch(number, branch, variants[branch])
            state.done = [*state.done, state.best] if state.best else state.done
            state.branch, state.checkpoint, state.best = branch + 1, None, None
            state.write(self.out)
        # Scores on faces of different sizes can't be compared: then the earlier weights don't count.
        rivals = [w for w in (state.start, *state.done) if w and w.size == stage.size]
        if len(variants) > 1:
            state.start = self._mean_of_best(number, rivals, stage.size)
        elif rivals:
            state.start = min(rivals, key=lambda weights: weights.score)
        if self.trained and state.start and state.start.file == INITIAL:
            print("  no epoch lowered the validation error: the initial weights are kept", flush=True)
        state.stage, state.branch, state.done = number + 1, 0, []
        state.write(self.out)

    def _initial_score(self, stage: Stage) -> float:
        if not self.trained:
            return math.inf
        row = validate(networks.at_size(self.network, stage.size), self.validation)
        print(f"Initial weights: {describe(row)}", flush=True)
        return row["val_score"]

    def branch(self, number: int, branch: int, stage: Stage) -> None:
        """Run one branch of a stage, or what is left of it."""
        recipe, state = self.recipe, self.state
        done = sum((row["stage"], row["branch"]) == (number + 1, branch + 1) for row in state.history)
        set_trainable(self.network, stage.layers)
        trainer = self._trainer(number, branch, stage)
        batches = Batches(
            list(self.network.output),
            self.train,
            others=stage.others,
            balance=stage.balance,
            batch_size=recipe.batch_size,
            multiple=devices.count(),
            seed=recipe.seed * 1000 + 10 * number + branch,
            epoch=done,
        )
        if not batches.steps:
            raise FitError(
                f"{sum(batches.counts)} training faces can't be divided among {devices.count()} devices: use more "
                "faces."
            )
        taught = stage.teacher_weight if self.teachers else 0.0
        loss, loss_weights = losses(recipe.age_head, stage.gender_weight, taught, stage.smoothness)
        trainer.compile(
            optimizer=build_optimizer(
                recipe.optimizer,
                _schedule(recipe.schedule, stage, batches.steps),
                weight_decay=recipe.weight_decay,
                # A window of a tenth of an epoch at most, and 500 steps.
                ema=min(0.998, 1 - 10 / max(20, batches.steps)) if recipe.average else 0.0,
                rates=stage.rates,
            ),
            loss=loss,
            loss_weights=loss_weights,
            jit_compile=devices.compiled(),
        )
        trainer.optimizer.build(trainer.trainable_variables)
        if done:
            assert state.checkpoint is not None  # it is written with the history
            load(trainer, self.out / state.checkpoint, "checkpoint")
        elif state.start:
            load(self.network, self.out / state.start.file, "best weights")
        stale = state.best and recipe.patience and len(state.history) - state.best.epoch >= recipe.patience
        if done < stage.epochs and not stale:
            self._fit(trainer, batches, number, branch, stage, done)

    def _trainer(self, number: int, branch: int, stage: Stage) -> keras.Model:
        """Augmentation, network and teachers as one model."""
        face = keras.Input(self.network.input.shape[1:], dtype="uint8", name="face")
        seed = self.recipe.seed + 10 * number + branch
        augmented = Augment(STRENGTHS[stage.augment], seed=seed, name="augment")(face)
        outputs = dict(networks.at_size(self.network, stage.size)(augmented))
        if self.teachers and stage.teacher_weight:
            answers = [teacher(augmented, training=False) for teacher in self.teachers]

            def mean(name):
                return ops.stop_gradient(sum(answer[name] for answer in answers) / len(answers))

            outputs["age_probs"] = ops.concatenate([outputs["age_probs"], mean("age_probs")], axis=-1)
            outputs["p_female"] = ops.stack([outputs["p_female"], mean("p_female")], axis=-1)
        return keras.Model(face, outputs, name="trainer")

    def _fit(self, trainer, batches: Batches, number: int, branch: int, stage: Stage, done: int) -> None:
        try:
            trainer.fit(
                batches,
                epochs=stage.epochs,
                initial_epoch=done,
                steps_per_epoch=batches.steps,
                shuffle=False,  # the batches are in an order of their own
                verbose=self.verbose,
                callbacks=[
                    _EpochEnd(self, number, branch, stage),
                    Progress(
                        stage.name,
                        (branch + 1, len(self.recipe.stages[number].variants())),
                        batches.steps,
                        stage.epochs,
                        bar=self.verbose == 1,
                    ),
                ],
            )
        except Exception as error:  # each backend has an error of its own for it
            if type(error).__name__ != "ResourceExhaustedError" and "out of memory" not in str(error).lower():
                raise
            raise FitError("The device ran out of memory: lower --batch-size.") from error

    def _mean_of_best(self, number: int, rivals: list[Weights], size: int) -> Weights:
        """The mean of the best weights and of those that lower its validation error, in order of their scores.

        This is the greedy soup of Wortsman et al. 2022 (arXiv 2203.05482).
        """
        seen, inputs = networks.at_size(self.network, size), networks.head_inputs(self.network)
        used: list[Weights] = []
        total, best = None, Weights("", math.inf, size)
        for weights in sorted(rivals, key=lambda weights: weights.score):
            load(self.network, self.out / weights.file, "best weights")
            values = [np.asarray(value, np.float64) for value in self.network.get_weights()]
            summed = values if total is None else [a + b for a, b in zip(total, values, strict=True)]
            self.network.set_weights([value / (len(used) + 1) for value in summed])
            if size == networks.INPUT_SIZE:
                networks.measure_norms(self.network, inputs, self.train[0].spread(MEASURED))
            score = validate(seen, self.validation)["val_score"]
            if not used or score < best.score:
                total, used = summed, [*used, weights]
                done = self.state.done
                branches = sorted(done.index(one) + 1 if one in done else 0 for one in used)
                best = Weights(f"best-mean-{number + 1}.weights.h5", score, size, mean_of=branches)
                save(self.network, self.out / best.file)
        print(f"  mean of the weights of {len(used)} of {len(rivals)}: score {best.score:.3f}", flush=True)
        return used[0] if used == [self.state.start] else best


def set_trainable(network: keras.Model, layers: str) -> None:
    """Make "all" layers trainable, the "heads" of vgg16 alone, or its "block5" with the heads."""
    frozen = [] if layers == "all" else networks.convolutional_base(network)
    trained = networks.convolutional_base(network, "block5") if layers == "block5" else []
    for layer in network.layers:
        layer.trainable = layer not in frozen or layer in trained


def _schedule(name: str, stage: Stage, steps: int):
    rate = stage.learning_rate
    if name == "constant":
        return rate
    total = max(1, steps * stage.epochs)
    warm_up = min(steps, total // 10)
    return keras.optimizers.schedules.CosineDecay(
        rate / 100 if warm_up else rate,
        max(1, total - warm_up),
        alpha=0.01,
        warmup_target=rate if warm_up else None,
        warmup_steps=warm_up,
    )


class _EpochEnd(keras.callbacks.Callback):
    """After each epoch: score the averaged weights, keep the best, and save everything needed to resume."""

    def __init__(self, run: _Run, number: int, branch: int, stage: Stage):
        super().__init__()
        self.run, self.number, self.branch, self.stage = run, number, branch, stage
        self.scored = networks.at_size(run.network, stage.size)
        self.head_inputs = networks.head_inputs(run.network)
        self.saved = -math.inf  # when the last checkpoint was written

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()
        # Keras saves no generator's state (augmentation, dropout): each epoch starts from its own seed instead.
        states = [variable for variable in self.model.variables if "seed_generator_state" in variable.path]
        entropy = (self.run.recipe.seed, self.number, self.branch, epoch)
        seeds = np.random.default_rng(entropy).integers(0, 2**31, len(states))
        for variable, seed in zip(states, seeds, strict=True):
            variable.assign(np.array([seed, 0], variable.dtype))

    def on_epoch_end(self, epoch, logs=None):
        logs = {k: float(v) for k, v in (logs or {}).items()}
        run, state, stage = self.run, self.run.state, self.stage
        self._check(epoch, "loss", *logs.values())
        number = len(state.history) + 1
        raw = self._average()
        where = {"stage": self.number + 1, "branch": self.branch + 1, "name": stage.name, "epoch": epoch + 1}
        seconds = round(time.monotonic() - self.started, 1)
        row = {**where, "seconds": seconds, **logs, **validate(self.scored, run.validation)}
        self._check(epoch, "validation score", row["val_score"])
        if state.best is None or row["val_score"] < state.best.score:
            state.best = Weights(f"best-{number:03d}.weights.h5", row["val_score"], stage.size, number)
            save(run.network, run.out / state.best.file)
        for variable, value in raw:
            variable.assign(value)
        state.history.append(row)
        since_best = number - state.best.epoch
        enough = run.recipe.patience and since_best >= run.recipe.patience
        if enough or epoch + 1 == stage.epochs or time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            state.checkpoint = f"state-{number:03d}.weights.h5"
            save(self.model, run.out / state.checkpoint)
            state.write(run.out)
            self.saved = time.monotonic()
        print(f"  validation: {describe(row)}{'' if since_best else ' (best so far)'}", flush=True)
        if enough:
            print(f"  no improvement for {since_best} epochs: ending stage {stage.name!r}", flush=True)
            self.model.stop_training = True

    def _check(self, epoch: int, what: str, *values: float) -> None:
        """Raise FitError unless all values are finite; the last checkpoint stays."""
        if not all(map(math.isfinite, values)):
            raise FitError(
                f"The {what} became NaN or infinite in epoch {epoch + 1} of stage {self.stage.name!r}: lower its "
                "learning_rate in the recipe."
            )

    def _average(self) -> list:
        """Put the averaged weights into the network; returns the variables with what was there."""
        if not self.run.recipe.average:
            return []
        variables = self.model.trainable_variables
        norms = [v for layer in networks.head_norms(self.run.network) for v in layer.non_trainable_variables]
        raw = [(variable, np.array(ops.convert_to_numpy(variable))) for variable in [*variables, *norms]]
        # With float16, Keras puts an optimizer that scales the loss around ours.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        # What keras.callbacks.SwapEMAWeights uses; that callback cannot be resumed in the middle.
        for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
            variable.assign(np.array(ops.convert_to_numpy(average)))  # a copy: JAX deletes what two variables share
        if self.stage.size == networks.INPUT_SIZE:
            networks.measure_norms(self.run.network, self.head_inputs, self.run.train[0].spread(MEASURED))
        return raw
