"""Batches and sampling."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from training.data import faces as faces_module
from training.data.faces import Faces
from training.data.report import Report
from training.data.samples import Samples
from training.fitting.batches import Batches
from training.recipe import Recipe, Stage


def faces(count: int, first: int = 0) -> Faces:
    """Faces whose every pixel is their number."""
    images = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    ages = np.arange(first, first + count, dtype=np.float32)
    return Faces(samples(ages, ages % 2), images, Report("", ""), 0.0)


def samples(ages: np.ndarray, gender: np.ndarray) -> Samples:
    nothing = np.zeros(len(ages), np.int8)
    return Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages], axis=1), gender=gender.astype(np.int8), race=nothing,
        sha256=ages.astype(str), encoded=(b"",) * len(ages),
    )  # fmt: skip


def test_an_epoch_has_every_face_once_and_its_share_of_the_second_set():
    def batches(others=1.0, epoch=0, outputs=("age", "p_female")):
        sets = [faces(20), faces(100, 100)]
        return Batches([*outputs], sets, others=others, balance=False, batch_size=8, seed=1, epoch=epoch)

    both = batches()
    assert both.steps == 5
    epochs = []
    for epoch in range(2):
        seen = []
        for step in range(5):
            images, labels = both[5 * epoch + step]
            numbers = images[:, 0, 0, 0].astype(np.float32)
            np.testing.assert_array_equal(labels["age"], np.stack([numbers, numbers], 1))  # each image has its labels
            np.testing.assert_array_equal(labels["p_female"], numbers % 2)
            seen += numbers.tolist()
        assert sorted(n for n in seen if n < 100) == list(range(20))
        assert len({n for n in seen if n >= 100}) == 20
        epochs.append(seen)
    assert set(epochs[0]) != set(epochs[1])  # the second set is drawn anew
    np.testing.assert_array_equal(batches(epoch=1)[0][0], both[5][0])
    assert batches(others=float("inf")).steps == 15


@pytest.mark.parametrize(
    ("devices", "wanted", "size", "steps"),
    [(1, 8, 8, 2), (1, 64, 21, 1), (4, 10, 8, 2), (4, 64, 20, 1), (8, 3, 8, 2), (32, 64, 32, 0)],
)
def test_all_devices_share_each_batch_equally(devices, wanted, size, steps):
    made = Batches(["age"], [faces(21)], others=1.0, balance=False, batch_size=wanted, seed=0, multiple=devices)
    assert (made.batch_size, made.steps) == (size, steps)
    assert [len(made[i][0]) for i in range(2 * steps)] == [size] * 2 * steps


def test_some_faces_of_a_split_are_spread_over_it():
    assert faces(20).spread(5)[:, 0, 0, 0].tolist() == [0, 4, 8, 12, 16]
    assert len(faces(23).spread(5)) == 5 and len(faces(3).spread(5)) == 3


def test_rare_groups_are_drawn_more_often_in_balanced_stages():
    ages = np.array([30.0] * 1600 + [1.0] * 100, np.float32)
    made = Faces(samples(ages, ages * 0), np.arange(1700), Report("", ""), 30.0)
    assert made.drawing_weight[-1] / made.drawing_weight[0] == pytest.approx(2.0)

    def share(balance):
        drawn = Batches(["age"], [made], others=1.0, balance=balance, batch_size=1700, seed=0)
        return np.mean([np.mean(drawn[i][1]["age"][:, 0] == 1.0) for i in range(20)])

    assert share(True) == pytest.approx(200 / 1800, rel=0.1) and share(False) == pytest.approx(100 / 1700)
    few_women = np.array([0] * 1600 + [1] * 100)
    made = Faces(samples(ages * 0 + 30, few_women), np.arange(1700), Report("", ""), 30.0)
    assert made.drawing_weight[-1] / made.drawing_weight[0] == pytest.approx(2.0)


def one_age(folder):
    """A run of a network that answers with the age in its weights, whatever the face."""
    import keras

    from training.fitting import loop
    from training.fitting.checkpoints import RunState
    from training.recipe import Recipe

    face = keras.Input((200, 200, 3), dtype="uint8")
    age = keras.layers.Dense(1, use_bias=True, name="age")(keras.ops.mean(face, (1, 2)) * 0.0)
    gender = keras.layers.Activation("sigmoid")(age)
    squeezed = {"age": keras.ops.squeeze(age, -1), "p_female": keras.ops.squeeze(gender, -1)}
    network = keras.Model(face, squeezed, name="compact")
    validation = [Faces(samples(np.full(8, 30.0), np.ones(8)), np.zeros((8, 200, 200, 3), np.uint8), Report("", ""), 0)]
    recipe = Recipe(network="compact", train=("x",), stages=())
    return loop._Run(network, recipe, validation, validation, folder, RunState(), (), False, 0)


def test_the_mean_of_branches_is_kept_only_if_it_is_better(tmp_path):
    """Two branches whose errors have opposite signs: their mean has none. A third, far away, isn't part of it."""
    from training.fitting import loop
    from training.fitting.checkpoints import Weights

    run = one_age(tmp_path)

    def saved(years: float) -> Weights:
        run.network.set_weights([np.zeros((3, 1)), np.array([years])])
        run.network.save_weights(tmp_path / f"best-{years}.weights.h5")
        return Weights(f"best-{years}.weights.h5", abs(years - 30), 200)

    run.state.done = [saved(26.0), saved(60.0), saved(33.0)]
    best = run._mean_of_best(0, run.state.done, 200)
    loop.load(run.network, tmp_path / best.file, "")
    assert run.network.get_weights()[1] == pytest.approx(29.5) and best.score == pytest.approx(0.5)
    assert best.mean_of == [1, 3]
    # What the stage started from counts as 0.
    run.state.start, run.state.done = saved(26.0), [saved(33.0)]
    assert run._mean_of_best(0, [run.state.start, *run.state.done], 200).mean_of == [0, 1]
    # Initial weights that are the best ones stay in their own file.
    initial = saved(30.0)
    (tmp_path / initial.file).rename(tmp_path / loop.INITIAL)
    initial.file = loop.INITIAL
    run.state.start = initial
    assert run._mean_of_best(0, [initial, saved(60.0)], 200) is initial


def test_a_rate_for_no_layer_is_refused_before_training(tmp_path):
    from dataclasses import replace

    from training.fitting import loop
    from training.fitting.checkpoints import FitError
    from training.recipe import Stage

    run = one_age(tmp_path)
    for stage in (Stage("a", 1, 1e-3, rates={"blok5": 0.5}), Stage("a", 1, 1e-3, branches=({"rates": {"x": 0.5}},))):
        with pytest.raises(FitError, match=r"has a rate for '(blok5|x)', but no layer's name begins with it.* age"):
            loop.fit(run.network, replace(run.recipe, stages=(stage,)), run.train, run.validation, tmp_path)
    loop._check_rates(run.network, replace(run.recipe, stages=(Stage("a", 1, 1e-3, rates={"age": 0.5}),)))


@pytest.mark.parametrize(("size", "kept"), [(200, 29.0), (128, 26.0)])
def test_weights_from_before_a_stage_are_kept_if_they_are_better_at_the_same_size(tmp_path, monkeypatch, size, kept):
    from training.fitting import loop
    from training.fitting.checkpoints import Weights
    from training.recipe import Stage

    run = one_age(tmp_path)
    found = []
    for years, at in ((29.0, size), (26.0, 200)):
        run.network.set_weights([np.zeros((3, 1)), np.array([years])])
        run.network.save_weights(tmp_path / f"best-{years}.weights.h5")
        found.append(Weights(f"best-{years}.weights.h5", abs(years - 30), at))
    run.state.start = found[0]
    monkeypatch.setattr(loop._Run, "branch", lambda self, *_: setattr(self.state, "best", found[1]))
    run.stage(1, Stage("all", 1, 1e-3))
    assert run.state.start.file == f"best-{kept}.weights.h5"


@pytest.mark.parametrize("branches", [1, 2])
def test_the_next_stage_starts_from_the_mean_of_branches_or_from_the_best_weights(tmp_path, monkeypatch, branches):
    from training.fitting import loop
    from training.fitting.checkpoints import Weights
    from training.recipe import Stage

    run = one_age(tmp_path)
    run.state.start = None
    ran = []

    def branch(self, number, branch, stage):
        ran.append((number, branch, stage.augment))
        years = (26.0, 33.0)[branch]
        self.network.set_weights([np.zeros((3, 1)), np.array([years])])
        self.network.save_weights(tmp_path / f"best-{years}.weights.h5")
        self.state.best = Weights(f"best-{years}.weights.h5", abs(years - 30), 200)

    monkeypatch.setattr(loop._Run, "branch", branch)
    settings = ({"augment": "mild"}, {"augment": "medium"})[:branches]
    run.stage(0, Stage("all", 1, 1e-3, augment="mild", branches=settings if branches > 1 else ()))
    assert ran == [(0, 0, "mild"), (0, 1, "medium")][:branches]
    loop.load(run.network, tmp_path / run.state.start.file, "")
    # The initial weights, which branches start from, may be part of the mean.
    assert run.network.get_weights()[1] == pytest.approx(29.5 if branches > 1 else 26.0)
    assert (run.state.stage, run.state.branch, run.state.done, run.state.best) == (1, 0, [], None)


def test_an_epoch_whose_score_is_not_a_number_ends_the_run_and_replaces_no_weights(tmp_path, monkeypatch):
    from training.fitting import loop
    from training.fitting.checkpoints import FitError
    from training.recipe import Stage

    run = one_age(tmp_path)
    end = loop._EpochEnd(run, 0, 0, Stage("all", 9, 1e-3))
    end.set_model(run.network)
    monkeypatch.setattr(loop._EpochEnd, "_average", lambda self: [])
    for epoch, score in enumerate((9.0, 5.0, float("nan"))):
        row = {"val_age_mae": score, "val_score": score}
        monkeypatch.setattr(loop, "validate", lambda *_, row=row: row)
        end.on_epoch_begin(epoch)
        if score == score:
            end.on_epoch_end(epoch, {"loss": 1.0})
        else:
            with pytest.raises(FitError, match="The validation score became NaN or infinite in epoch 3 of stage 'all'"):
                end.on_epoch_end(epoch, {"loss": 1.0})
    best = run.state.best
    assert (best.file, best.score) == ("best-002.weights.h5", 5.0) and (tmp_path / best.file).exists()
    assert len(run.state.history) == 2


def test_fewer_faces_than_devices_are_an_error_that_says_so(tmp_path, monkeypatch):
    from training.fitting import loop
    from training.fitting.checkpoints import FitError
    from training.recipe import Stage

    monkeypatch.setattr(loop.devices, "count", lambda: 16)
    with pytest.raises(FitError, match="8 training faces can't be divided among 16 devices"):
        one_age(tmp_path).branch(0, 0, Stage("all", 1, 1e-3))


def arguments(stage: Stage, **settings) -> tuple:
    """For `loop.fit`: a new network, a recipe of one stage, 16 faces of noise for training and validation."""
    import keras

    from training.model import networks

    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (16, 200, 200, 3), np.uint8)
    ages = np.arange(20, 84, 4).astype(np.float32)
    found = [Faces(samples(ages, ages % 8 == 0), images, Report("", ""), 30.0)]
    recipe = Recipe(network="compact", train=("x",), stages=(stage,), batch_size=4, **settings)
    return networks.build("compact"), recipe, found, found


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tiny, tmp_path, monkeypatch):
    """In its second stage, whose patience counts its own epochs. A finished run stays as it is."""
    from training.fitting import loop

    def two_stages() -> tuple:
        network, recipe, *found = arguments(Stage("first", 1, 1e-3), patience=3)
        return network, dataclasses.replace(recipe, stages=(*recipe.stages, Stage("second", 3, 1e-3))), *found

    calls, validate = [], loop.validate
    whole = loop.fit(*two_stages(), tmp_path / "whole", verbose=0)

    def stop(*words):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*words)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)  # a checkpoint after each epoch
        patch.setattr(loop, "validate", stop)
        with pytest.raises(KeyboardInterrupt):
            loop.fit(*two_stages(), tmp_path / "run", verbose=0)
    assert len(json.loads((tmp_path / "run" / "state.json").read_text())["history"]) == 2
    resumed = loop.fit(*two_stages(), tmp_path / "run", resume=True, verbose=0)
    epochs = [("first", 1), ("second", 1), ("second", 2), ("second", 3)]
    assert [(row["name"], row["epoch"]) for row in resumed] == epochs
    assert [row["loss"] for row in resumed] == pytest.approx([row["loss"] for row in whole], rel=1e-4)
    assert loop.fit(*two_stages(), tmp_path / "run", resume=True, verbose=0) == resumed


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path):
    from training.fitting import checkpoints

    def killed(path):
        path.write_text("half")
        raise KeyboardInterrupt

    (tmp_path / "a.weights.h5").write_text("whole")
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(SimpleNamespace(variables=[], save_weights=killed), tmp_path / "a.weights.h5")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_faces_are_augmented_anew_in_each_epoch(tmp_path):
    from training.fitting import loop

    run, stage = one_age(tmp_path), Stage("all", 3, 1e-3)
    trainer = run._trainer(0, 0, stage)
    assert [layer.name for layer in trainer.layers][:2] == ["face", "augment"]
    end, seeds = loop._EpochEnd(run, 0, 0, stage), []
    end.set_model(trainer)
    for epoch in (0, 1, 0):
        end.on_epoch_begin(epoch)
        seeds.append([np.array(v).tolist() for v in trainer.variables if "seed_generator_state" in v.path])
    assert seeds[0] == seeds[2] != seeds[1]


def test_patience_ends_a_stage(tiny, tmp_path, monkeypatch):
    from training.fitting import loop

    scores = iter([3.0, 2.0, 5.0, 4.0, 1.0])
    monkeypatch.setattr(loop, "validate", lambda *_: {"val_score": next(scores)})
    assert len(loop.fit(*arguments(Stage("all", 5, 1e-3), patience=2), tmp_path, verbose=0)) == 4


@pytest.mark.slow
def test_xla_compiles_the_whole_step(tiny, tmp_path, monkeypatch):
    from training.fitting import loop

    monkeypatch.setattr(loop.devices, "compiled", lambda: True)
    assert len(loop.fit(*arguments(Stage("all", 1, 1e-3)), tmp_path, verbose=0)) == 1


def test_the_rate_rises_for_an_epoch_and_falls_as_a_cosine():
    from training.fitting import loop

    stage = Stage("all", 10, 1e-3)
    rate = loop._schedule("cosine", stage, 20)
    assert [float(rate(step)) for step in (0, 20, 110, 200)] == pytest.approx([1e-5, 1e-3, 0.505e-3, 1e-5], rel=0.01)
    assert loop._schedule("constant", stage, 20) == 1e-3


def test_a_stage_starts_from_the_best_weights_and_an_epoch_from_the_last_ones(tiny, tmp_path, monkeypatch):
    """The averaged weights are scored and kept, but training goes on with its own."""
    from training.fitting import loop
    from training.fitting.checkpoints import load

    network, recipe, *found = arguments(Stage("first", 3, 1e-3))
    recipe = dataclasses.replace(recipe, stages=(recipe.stages[0], Stage("second", 2, 1e-3)))
    scores, average, begin = iter([3.0, 1.0, 2.0, 2.0, 2.0]), loop._EpochEnd._average, loop._EpochEnd.on_epoch_begin
    ends, starts = [], []

    def averaged(self):
        ends.append(network.get_weights())
        return average(self)

    def begun(self, epoch, logs=None):
        starts.append(network.get_weights())
        begin(self, epoch, logs)

    monkeypatch.setattr(loop, "validate", lambda *_: {"val_score": next(scores)})
    monkeypatch.setattr(loop._EpochEnd, "_average", averaged)
    monkeypatch.setattr(loop._EpochEnd, "on_epoch_begin", begun)
    loop.fit(network, recipe, *found, tmp_path, verbose=0)
    for start, end in ((1, 0), (2, 1), (4, 3)):
        for value, expected in zip(starts[start], ends[end], strict=True):
            np.testing.assert_array_equal(value, expected)
    load(network, tmp_path / "best-002.weights.h5", "best weights")
    for value, expected in zip(starts[3], network.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_balanced_batches_hold_all_datasets():
    made = Batches(["age"], [faces(20), faces(100, 100)], others=1.0, balance=True, batch_size=8, seed=0)
    drawn = [made[i] for i in range(made.steps)]
    assert [len(images) for images, _ in drawn] == [8] * 5
    ages = np.concatenate([labels["age"][:, 0] for _, labels in drawn])
    assert (ages < 100).sum() == 20 == (ages >= 100).sum()


def group_of(ages: np.ndarray, gender, race) -> Faces:
    """Faces whose labels are these ranges, [N, 2]."""
    names = np.arange(len(ages)).astype(str)
    values = {"gender": np.array(gender, np.int8), "race": np.array(race, np.int8)}
    labels = Samples(name=names, age_range=ages.astype(np.float32), sha256=names, encoded=(b"",) * len(ages), **values)
    return Faces(labels, np.arange(len(ages)), Report("", ""), 30.0)


def test_rare_and_turned_faces_of_photos_are_drawn_more_often(monkeypatch):
    ages, turned = np.array([[30, 39]] * 1600 + [[0, 2]] * 100), np.arange(1700) == 0
    monkeypatch.setattr(faces_module, "pose_masks", lambda images: {"turned": turned})
    weight = group_of(ages, [0] * 1700, [0] * 1700).drawing_weight
    assert weight[0] / weight[1] == pytest.approx(1.5) and weight[-1] / weight[1] == pytest.approx(2.0)


def test_age_gender_and_race_make_a_group():
    """Sixteen faces of each, but 256 of one."""
    groups = [(age, gender, race) for age in (1, 5, 15, 25) for gender in (0, 1) for race in range(-1, 5)]
    ages, gender, race = np.array(groups * 16 + [(25, 1, 4)] * 240).T
    weight = group_of(np.stack([ages, ages], axis=1), gender, race).drawing_weight
    assert np.unique(np.round(weight, 9)).tolist() == pytest.approx([256**-0.25, 16**-0.25])
    assert (weight == weight.min()).sum() == 256


def test_a_checkpoint_needs_room_for_its_weights(tmp_path, monkeypatch):
    from training.fitting import checkpoints

    network = SimpleNamespace(
        variables=[SimpleNamespace(shape=(1000, 1000))], save_weights=lambda path: path.write_text("x")
    )
    free = 4_000_000 + checkpoints.SPARE
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    checkpoints.save(network, tmp_path / "a.weights.h5")
    free -= 1
    with pytest.raises(checkpoints.FitError, match="needs 24 MB"):
        checkpoints.save(network, tmp_path / "b.weights.h5")


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "told"),
    [(ResourceExhaustedError("x"), True), (RuntimeError("CUDA Out Of Memory"), True), (ValueError("shape"), False)],
)
def test_a_lack_of_gpu_memory_is_told(tmp_path, error, told):
    from training.fitting.checkpoints import FitError

    def fit(*_, **__):
        raise error

    stage, run = Stage("all", 1, 1e-3), one_age(tmp_path)
    run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, stages=(stage,)))
    with pytest.raises(FitError if told else ValueError, match="lower --batch-size" if told else "shape"):
        run._fit(SimpleNamespace(fit=fit), SimpleNamespace(steps=1), 0, 0, stage, 0)


@pytest.mark.parametrize(("size", "count"), [(200, 2), (128, 0)])
def test_normalizations_of_a_mean_are_measured_at_full_size(tmp_path, monkeypatch, size, count):
    from training.fitting import loop
    from training.fitting.checkpoints import Weights

    run, measured = one_age(tmp_path), []

    def saved(years: float) -> Weights:
        run.network.set_weights([np.zeros((3, 1)), np.array([years])])
        run.network.save_weights(tmp_path / f"best-{years}.weights.h5")
        return Weights(f"best-{years}.weights.h5", abs(years - 30), 200)

    monkeypatch.setattr(loop.networks, "measure_norms", lambda *_: measured.append(1))
    monkeypatch.setattr(loop.networks, "at_size", lambda network, size: network)
    run.state.done = [saved(26.0), saved(33.0)]
    run._mean_of_best(0, run.state.done, size)
    assert len(measured) == count
