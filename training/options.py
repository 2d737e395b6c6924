"""The command line of `training/train.py`: a recipe, what to change of it, and where the run goes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, arg

from training import parents
from training import push as hub
from training import recipe as recipes
from training.data.sources import public_name
from training.recipe import FILE, STATE, Recipe, RecipeError

_OPTIONS = {"train": "dataset", "test": "test-dataset"}  # settings of a recipe whose options have other names


def _option(text: str, **more):
    return arg(help=text, help_behavior_hint="", **more)


@dataclass(frozen=True)
class Options:
    """What `python training/train.py` takes. Options that are None or empty keep the recipe's setting."""

    recipe: Annotated[
        str,
        _option(
            "vgg16 (34 million parameters, for GPUs; the default), compact (2 million, trains on a CPU), open (compact "
            "from FairFace alone), published (VGG16 as published), or a TOML file",
            aliases=("--network",),
            metavar="NAME|FILE",
        ),
    ] = "vgg16"
    init: Annotated[
        str | None,
        _option(
            "initial weights: ImageNet, random, or a model to fine-tune: compact, vgg16, open, a bundle folder, a Hub "
            "id, or a weights file",
            metavar="imagenet|none|MODEL",
        ),
    ] = None
    teacher: Annotated[
        tuple[str, ...], _option("also learn from the predictions of these models (distillation)", metavar="MODEL ...")
    ] = ()
    dataset: Annotated[
        tuple[str, ...],
        _option(
            "learn from these datasets: Hub ids with an optional @revision, folders, or .tar, .zip or .parquet files",
            metavar="DATASET ...",
        ),
    ] = ()
    test_dataset: Annotated[
        tuple[str, ...], _option("also test with these datasets, and never learn from them", metavar="DATASET ...")
    ] = ()
    limit: Annotated[
        int | None, _option("use at most N faces of each split and dataset, for a quick test", metavar="N")
    ] = None
    epochs: Annotated[
        int | None,
        _option(
            "number of epochs of each stage; 0 exports and evaluates the --init weights without training", metavar="N"
        ),
    ] = None
    batch_size: Annotated[int | None, _option("faces per training step", metavar="N")] = None
    precision: Annotated[
        Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] | None,
        _option(
            "auto selects mixed precision on a GPU (bfloat16 or float16, whichever is faster) and float32 on a CPU",
            metavar="auto|float32|mixed_bfloat16|mixed_float16",
        ),
    ] = None
    seed: Annotated[int | None, _option("random seed", metavar="N")] = None
    out: Annotated[
        Path | None,
        _option("run folder (default: runs/RECIPE, with --init runs/RECIPE-finetuned)", metavar="FOLDER"),
    ] = None
    resume: Annotated[bool, FlagCreatePairsOff, _option("continue the run in --out with its saved recipe")] = False
    push: Annotated[bool, FlagCreatePairsOff, _option("upload the bundle to the Hub when it is finished")] = False
    repo_id: Annotated[
        str | None,
        _option("model repository (default: age-gender-RECIPE[-finetuned] under your username)", metavar="USER/NAME"),
    ] = None
    private: Annotated[bool, FlagCreatePairsOff, _option("create the repository as private")] = False
    revision: Annotated[
        str | None, _option("branch to push to, created if needed (default: main)", metavar="BRANCH")
    ] = None
    pr: Annotated[bool, FlagCreatePairsOff, _option("open a pull request instead of committing")] = False


@dataclass(frozen=True)
class Destination:
    """Where a run goes; nothing here changes what is trained."""

    out: Path
    resume: bool = False
    push: hub.Target | None = None


def parse(arguments: list[str] | None = None, doc: str = "") -> tuple[Recipe, Destination]:
    """The command line as a recipe and a destination.

    Raises:
        RecipeError: no such recipe, settings that don't go together, or that a resumed run contradicts.
        SystemExit: the command line can't be parsed.
    """
    given = tyro.cli(Options, prog="python training/train.py", description=doc, args=arguments)
    fine_tune = parents.has_heads(given.init)
    out = given.out or _run_folder(given, fine_tune)
    out = out if out.name else out.resolve()  # "."
    if out.exists() and not out.is_dir():
        raise RecipeError(f"--out {out} is a file: choose a folder.")
    unused = [name for name in ("repo_id", "private", "revision", "pr") if getattr(given, name)]
    if unused and not given.push:
        raise RecipeError(f"--{unused[0].replace('_', '-')} has no effect without --push.")
    changes = {key: getattr(given, key) for key in ("init", "limit", "epochs", "batch_size", "precision", "seed")}
    changes |= {"teacher": given.teacher, "train": given.dataset, "test": given.test_dataset}
    changes = {key: value for key, value in changes.items() if value not in (None, ())}
    if given.resume:
        recipe = _resumed(out, changes)
    elif (out / STATE).exists():
        raise RecipeError(f"{out} already contains a run. Continue it with --resume, or choose another --out.")
    else:
        recipe = recipes.load(given.recipe).of_run(fine_tune).changed(**changes)
    recipes.check_datasets(recipe)
    if not parents.has_heads(recipe.init) and not any(stage.epochs for stage in recipe.stages):
        raise RecipeError("--epochs 0 only builds a bundle: specify its weights with --init MODEL.")
    if Path(recipe.init).is_file() and Path(recipe.init).resolve().parent == out.resolve():
        raise RecipeError(
            f"The initial weights {recipe.init} are in {out}, where the run writes: choose another --out."
        )
    target = hub.Target(given.repo_id or f"age-gender-{recipe.name}", given.private, given.revision, given.pr)
    return recipe, Destination(out, given.resume, target if given.push else None)


def _run_folder(given: Options, fine_tune: bool) -> Path:
    """The folder of a run by its recipe's name. If only a fine-tuning run is there, it resumes without its --init."""
    plain, tuned = (Path("runs") / f"{Path(given.recipe).stem}{ending}" for ending in ("", recipes.FINE_TUNED))
    only_tuned = given.resume and not (plain / FILE).exists() and (tuned / FILE).exists()
    return tuned if fine_tune or only_tuned else plain


def _resumed(out: Path, changes: dict) -> Recipe:
    if not (out / FILE).exists():
        raise RecipeError(f"{out} has no {FILE}, so the run can't continue: choose a new --out.")
    saved = recipes.load(out / FILE)
    for key, value in changes.items():
        if saved.changed(**{"test": saved.test, key: value}) != saved:
            option = _OPTIONS.get(key, key).replace("_", "-")
            raise RecipeError(
                f"--{option} {value} differs from what the run in {out} was started with. Omit the option to resume, "
                "or choose another --out."
            )
    return saved


def to_command(recipe: Recipe) -> str:
    """The command that repeats a run. Local paths are cut to their last part."""
    settings = ("init", "teacher", "train", "test", "limit", "batch_size", "precision", "seed")
    name, changes = FILE, {}
    if recipe.name.removesuffix(recipes.FINE_TUNED) in recipes.names():
        kit = recipes.load(recipe.name.removesuffix(recipes.FINE_TUNED))
        changes = {key: getattr(recipe, key) for key in settings if getattr(recipe, key) != getattr(kit, key)}
        base = kit.of_run(parents.has_heads(changes.get("init")))
        epochs = {stage.epochs for stage in recipe.stages}
        if recipe.stages != base.stages and len(epochs) == 1:
            changes["epochs"] = epochs.pop()
        if base.changed(**changes) == recipe:
            name = kit.name
        else:  # other settings than the kit's recipe of that name
            changes = {}
    words = ["python", "training/train.py", "--recipe", name]
    for key, value in changes.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{_OPTIONS.get(key, key).replace('_', '-')}", *(public_name(str(v)) for v in values)]
    return shlex.join(words)
