"""A recipe: everything that decides what a run trains, as a TOML file and as one frozen value.

`training/recipes/` holds the recipes of the published networks. A run saves its recipe, with the changes of the command
line, as `recipe.toml` in its folder, and its bundle carries that file.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from training.atomic import write_beside
from training.data.samples import POLICIES, PROTOCOLS
from training.data.sources import public_name

RECIPES = Path(__file__).with_name("recipes")
FINE_TUNED = "-finetuned"  # end of the name of a fine-tuned model
FILE = "recipe.toml"  # in the folders of runs and bundles
DATASETS = "datasets.json"  # in a run's folder: the faces that it learns from and holds out
STATE = "state.json"  # in a run's folder, once it has a checkpoint
_CHOICES = {
    "network": ("vgg16", "compact"),
    "age_head": ("distribution", "regression"),
    "policy": POLICIES,
    "protocol": tuple(PROTOCOLS),
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "constant"),
    "precision": ("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    "layers": ("all", "heads", "block5"),
    "augment": ("published", "mild", "medium"),
}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TYPES = {  # of settings, by their annotation: a test, and how an error goes on
    "str": (lambda value: isinstance(value, str), "a string"),
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (lambda value: _is_number(value) and isinstance(value, int), "an integer"),
    "int | None": (lambda value: value is None or (_is_number(value) and isinstance(value, int)), "an integer"),
    "float": (lambda value: _is_number(value), "a number"),
    "dict[str, float]": (
        lambda value: isinstance(value, dict) and all(_is_number(v) and 0 <= v <= 1 for v in value.values()),
        "a table of shares from 0 to 1",
    ),
    "tuple[dict, ...]": (lambda value: all(isinstance(part, dict) for part in value), "a list of tables"),
}
_SIZES = (64, 200)  # pixels, least and most
_POSITIVE = ("batch_size", "learning_rate", "gender_weight", "limit", "size")
_NOT_NEGATIVE = ("epochs", "others", "patience", "dropout", "teacher_weight", "weight_decay", "smoothness", "seed")


class RecipeError(ValueError):
    """A recipe that can't be used; the message says why and what to do."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one learning-rate curve. It starts from the best weights of the stage before.

    With `branches`, each branch is the stage with some settings changed. All start from the same weights. The mean of
    the weights of those that lower the validation error is kept (model soups; Wortsman et al. 2022, arXiv 2203.05482).
    """

    name: str
    epochs: int
    learning_rate: float  # of new layers, at its peak
    layers: str = "all"  # what trains, of vgg16 also: "heads", or "block5" with the heads
    rates: dict[str, float] = field(default_factory=dict)  # share of the rate, by the beginning of a layer's name
    size: int = 200  # pixels at which the network sees the faces
    augment: str = "mild"
    others: float = 1.0  # faces of each further dataset in an epoch, for each face of the first
    balance: bool = False  # draw rare combinations of gender, age and race, and turned faces, more often
    gender_weight: float = 1.0  # of the gender loss beside the age loss
    smoothness: float = 0.0  # of the age distribution, where labels are ranges
    teacher_weight: float = 0.5  # share of the teachers' predictions in the target
    branches: tuple[dict, ...] = ()

    def variants(self) -> list[Stage]:
        """The branches as stages; the stage itself without branches."""
        base = dataclasses.replace(self, branches=())
        return [dataclasses.replace(base, **changes) for changes in self.branches] or [base]

    def lasting(self, epochs: int) -> Stage:
        """A copy with `epochs` epochs, also in each branch."""
        branches = tuple({k: v for k, v in branch.items() if k != "epochs"} for branch in self.branches)
        return dataclasses.replace(self, epochs=epochs, branches=branches)


@dataclass(frozen=True)
class Recipe:
    """The settings of a run."""

    network: str
    train: tuple[str, ...]  # datasets, with @revision if wanted; an epoch is every face of the first, and of `others`
    stages: tuple[Stage, ...]  # from the initial weights
    name: str = ""
    fine_tuning: tuple[Stage, ...] = ()  # instead of `stages`, from a network given with --init; not in a run
    test: tuple[str, ...] = ()  # more datasets to test with; not for training, choosing or calibrating
    init: str = "none"  # "imagenet", "none", or a model with the same layers
    teacher: tuple[str, ...] = ()
    age_head: str = "distribution"
    mirror: bool = False  # the exported network averages a face and its mirror image
    dropout: float = 0.3  # in the heads
    policy: str = "clean"
    protocol: str = "80/10/10"
    limit: int | None = None  # faces per split and dataset
    near_duplicates: bool = False  # also learn from re-encoded copies of validation and test faces
    batch_size: int = 128
    optimizer: str = "adamw"
    weight_decay: float = 0.05  # of adamw
    schedule: str = "cosine"  # with a warm-up of an epoch, at most a tenth of the stage, or "constant"
    average: bool = True  # score and keep a moving average of the weights
    patience: int = 10  # epochs without a better score before a stage ends, 0 for never
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self):
        for stage in (*self.stages, *self.fine_tuning):
            for variant in (stage, *(stage.variants() if stage.branches else ())):
                self._check_stage(variant, stage)
        _check(self, "the recipe")
        if not self.train:
            raise RecipeError("The recipe names no dataset to train on.")
        if self.name and not _PLAIN.fullmatch(self.name):
            raise RecipeError(
                f"The name {self.name!r} can't be a model's name: rename the file, with at most 64 letters, digits, _, "
                ". and -."
            )
        if self.teacher and self.age_head != "distribution":
            raise RecipeError('Teachers need a network that predicts a distribution: age_head = "distribution".')
        variants = (variant for stage in self.stages for variant in stage.variants())
        if self.init == "none" and any(variant.layers != "all" for variant in variants):
            raise RecipeError(
                f"Recipe {self.name} trains only a part of the layers in some stages, which needs pretrained weights: "
                "use --init imagenet or --init MODEL."
            )

    def _check_stage(self, variant: Stage, stage: Stage) -> None:
        what = f"stage {stage.name!r}" if variant is stage else f"a branch of stage {stage.name!r}"
        _check(variant, what)
        if variant.size != stage.size or variant.name != stage.name:
            raise RecipeError(f"{what} changes the size or the name, which a branch can't do.")
        if variant is not stage and variant.branches:
            raise RecipeError(f"{what} has branches, which a branch can't have.")
        if self.network == "vgg16" and variant.size not in (100, 200):
            raise RecipeError(f"{what}: vgg16 supports size = 100 or 200, not {variant.size}.")
        if self.network == "compact" and variant.layers != "all":
            raise RecipeError(f'{what}: layers = "{variant.layers}" requires the vgg16 network.')

    def of_run(self, fine_tune: bool) -> Recipe:
        """The recipe that a run follows: its stages are the ones that run, those of `fine_tuning` if wanted.

        Fine-tuning also appends FINE_TUNED to the name, to tell the new model from the initial one.
        """
        if not fine_tune:
            return dataclasses.replace(self, fine_tuning=())
        stages = self.fine_tuning or self.stages
        return dataclasses.replace(self, stages=stages, fine_tuning=(), name=f"{self.name}{FINE_TUNED}")

    def changed(self, **changes: Any) -> Recipe:
        """A copy with other settings. `epochs` applies to each stage and branch.

        New training datasets are removed from the test datasets.
        """
        epochs = changes.pop("epochs", None)
        if "train" in changes and "test" not in changes:
            changes["test"] = tuple(source for source in self.test if source not in changes["train"])
        if epochs is not None:
            for part in ("stages", "fine_tuning"):
                changes[part] = tuple(stage.lasting(epochs) for stage in getattr(self, part))
        return dataclasses.replace(self, **changes)

    def public(self) -> Recipe:
        """The recipe without the folders of local paths, which say nothing to others."""

        def public(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(map(public_name, names))

        return dataclasses.replace(
            self,
            init=public_name(self.init),
            train=public(self.train),
            test=public(self.test),
            teacher=public(self.teacher),
        )

    def as_dict(self) -> dict:
        """Plain values without those that equal the defaults, as in the file."""
        values = _without_defaults(self)
        for part in ("stages", "fine_tuning"):
            if getattr(self, part):
                values[part] = [_without_defaults(stage) for stage in getattr(self, part)]
        return values

    def save(self, folder: Path) -> None:
        """Write recipe.toml into a folder."""
        write_beside(folder / FILE, tomli_w.dumps(self.as_dict()))


def check_datasets(recipe: Recipe) -> None:
    """Raise RecipeError if a dataset is named twice, in whatever spelling. Published names may be equal."""
    places = []
    for source in (*recipe.train, *recipe.test):
        path = Path(source).expanduser()
        places.append(str(path.resolve()) if path.exists() else source)
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise RecipeError(f"The recipe names a dataset twice: {twice}.")


def load(source: str | Path) -> Recipe:
    """A recipe by name, or from a TOML file.

    Raises:
        RecipeError: there is none, or it has unknown or impossible settings.
    """
    path = RECIPES / f"{source}.toml" if str(source) in names() else Path(source)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors begin it with a mark
    except FileNotFoundError:
        raise RecipeError(f"No recipe at {source}: specify a TOML file or one of {', '.join(names())}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{source} can't be read as a recipe: {error}") from None
    return from_dict({"name": path.stem, **values}, str(source))


def names() -> list[str]:
    """The recipes that come with the kit."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def from_dict(values: dict, where: str) -> Recipe:
    """A recipe from plain values; RecipeError, which names `where` they come from, if they don't fit."""
    try:
        for key in ("train", "test", "teacher"):
            found = values.get(key, [])
            if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
                raise RecipeError(f"{key} must be a list of strings.")
        for part in ("stages", "fine_tuning"):
            if not all(isinstance(stage, dict) for stage in values.get(part, [])):
                raise RecipeError(f"{part} must be a list of tables: [[{part}]] with double brackets.")
            if not all(isinstance(stage.get("branches", []), list) for stage in values.get(part, [])):
                raise RecipeError("branches must be a list of tables.")
        stages = {
            part: tuple(Stage(**{**stage, "branches": tuple(stage.get("branches", ()))}) for stage in values[part])
            for part in ("stages", "fine_tuning")
            if part in values
        }
        tuples = {key: tuple(values[key]) for key in ("train", "test", "teacher") if key in values}
        recipe = Recipe(**{**values, **stages, **tuples})
        check_datasets(recipe)
        if not recipe.stages:
            raise RecipeError("The recipe has no stages.")
        return recipe
    except (TypeError, AttributeError) as error:
        # Of a dataclass: `Stage.__init__() missing 1 required positional argument: 'epochs'`.
        reason = re.sub(r"(Recipe|Stage)\.__init__\(\) (got an )?|\d required positional |keyword ", "", str(error))
        raise RecipeError(f"{where} isn't a recipe: {reason}. See training/recipes/ for examples.") from None
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _check(values: Recipe | Stage, what: str) -> None:
    for setting in dataclasses.fields(values):
        value, name = getattr(values, setting.name), setting.name
        fits, kind = _TYPES.get(str(setting.type), (lambda _: True, ""))
        wrong = f"{what} has {name} = {value!r}: it must be"
        if name in _CHOICES and value not in _CHOICES[name]:
            raise RecipeError(f"{what} has {name} = {value!r}: choose one of {', '.join(map(str, _CHOICES[name]))}.")
        if not fits(value):
            raise RecipeError(f"{wrong} {kind}.")
        if name in _POSITIVE and value is not None and not value > 0:
            raise RecipeError(f"{wrong} greater than 0.")
        if name == "dropout" and value >= 1:
            raise RecipeError(f"{wrong} less than 1.")
        if name == "teacher_weight" and value > 1:
            raise RecipeError(f"{wrong} at most 1.")
        if name in _NOT_NEGATIVE and not value >= 0:
            raise RecipeError(f"{wrong} 0 or greater.")
        if name != "others" and value == math.inf:
            raise RecipeError(f"{wrong} finite.")
        if name == "size" and not _SIZES[0] <= value <= _SIZES[1]:
            raise RecipeError(f"{wrong} from {_SIZES[0]} to {_SIZES[1]}.")


def _without_defaults(value: Recipe | Stage) -> dict:
    found = {}
    for setting in dataclasses.fields(value):
        item = getattr(value, setting.name)
        default = setting.default_factory() if callable(setting.default_factory) else setting.default
        if item != default:
            found[setting.name] = list(item) if isinstance(item, tuple) else item
    return found
