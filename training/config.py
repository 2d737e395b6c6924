"""The settings of a training run: one parse, one frozen value, saved with the run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path

from training import push as hub
from training.atomic import write_beside
from training.data import sources
from training.data.samples import POLICIES, PROTOCOLS, positive_int

_OURS = dict(
    age_head="distribution",
    optimizer="adamw",
    schedule="cosine",
    average=True,
    unfreeze="all",
)
_PUBLISHED = dict(
    age_head="regression",
    epochs=200,
    half_size_epochs=0,
    batch_size=32,
    optimizer="adam",
    schedule="constant",
    average=False,
    augment="published",
    unfreeze="block5",
    dropout=0.5,
    mirror=False,
)
PRESETS = {
    # Learning rates are for these batch sizes and for fresh layers; pretrained ones get less, see `phases`.
    ("vgg16", "default"): _OURS
    | dict(
        epochs=24,
        half_size_epochs=6,
        batch_size=128,
        learning_rate=5e-4,
        augment="medium",
        gender_weight=2.0,
        dropout=0.3,
        mirror=False,
    ),
    ("compact", "default"): _OURS
    | dict(
        epochs=24, half_size_epochs=0, batch_size=64, learning_rate=1.5e-3, augment="mild", dropout=0.3, mirror=True
    ),
    ("vgg16", "published"): _PUBLISHED | dict(learning_rate=1e-3),
    ("compact", "published"): _PUBLISHED | dict(learning_rate=1e-3, dropout=0.3),
}
CONFIG = "config.json"


class ConfigError(ValueError):
    """Incompatible settings; the message says what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run trains."""

    network: str = "vgg16"
    preset: str = "default"
    init: str = "none"  # "imagenet", "none" or a weights file
    age_head: str = "distribution"
    unfreeze: str = "all"  # vgg16: "all", "block5" or "none"
    dropout: float = 0.3
    mirror: bool = False  # the exported network averages a face and its mirror image
    dataset: str = sources.DATASET
    dataset_revision: str | None = None
    policy: str = "clean"
    protocol: str = "80/10/10"
    pretrain: str | None = None  # a second set of faces: photographs with ages in bands
    pretrain_revision: str | None = None
    limit: int | None = None
    epochs: int = 24
    half_size_epochs: int = 0  # vgg16: of these, at 100 pixels
    augment: str = "medium"
    balance: bool = False
    gender_weight: float = 1.0
    teacher: tuple[str, ...] = ()
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: str = "adamw"
    schedule: str = "cosine"
    average: bool = True
    patience: int = 10
    precision: str = "auto"
    seed: int = 0

    def save(self, out: Path) -> None:
        """Write config.json into the run's folder."""
        write_beside(out / CONFIG, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def load(cls, out: Path) -> TrainConfig:
        """The config of the run in `out`; ConfigError if it is missing or damaged."""
        path = out / CONFIG
        try:
            values = json.loads(path.read_text())
            return cls(**{**values, "teacher": tuple(values["teacher"])})
        except FileNotFoundError:
            raise ConfigError(f"{out} has no {CONFIG}, so the run can't continue: choose a new --out.") from None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConfigError(f"{path} is damaged ({error}): choose a new --out.") from error

    def to_command(self) -> str:
        """The command that repeats the run. Local paths are cut to their last part."""
        words = ["python", "training/train.py"]
        preset = PRESETS[self.network, self.preset]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("network", "init") and value == preset.get(field.name, field.default):
                continue
            option = f"--{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                words.append(option if value else f"--no-{option[2:]}")
            elif value not in (None, ()):
                values = value if isinstance(value, tuple) else (value,)
                words += [option, *(public_name(str(v)) for v in values)]
        return shlex.join(words)


@dataclass(frozen=True)
class Destination:
    """Where a run goes; nothing here changes what is trained."""

    out: Path
    resume: bool = False
    push: hub.Target | None = None


def public_name(source: str) -> str:
    """A local path without its folders, which say nothing to others; Hub ids and words as they are."""
    return Path(source).expanduser().resolve().name if Path(source).expanduser().exists() else source


def parse(arguments: list[str] | None = None, doc: str = "") -> tuple[TrainConfig, Destination]:
    """The command line as settings.

    Raises:
        ConfigError: options that do not go together, or that a resumed run contradicts.
        SystemExit: the command line cannot be parsed.
    """
    given = vars(_parser(doc).parse_args(arguments))
    network, preset = given.get("network", "vgg16"), given.get("preset", "default")
    out = given.pop("out", None) or Path("runs") / network
    resume, push = given.pop("resume", False), given.pop("push", False)
    target = hub.Target.from_options(given, default=f"age-gender-{network}")
    destination = Destination(out, resume, target if push else None)
    given["teacher"] = tuple(given.get("teacher", ()))
    if resume:
        config = TrainConfig.load(out)
        for name, value in given.items():
            if value not in ((), getattr(config, name)):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is {value}, but the run in {out} was started with "
                    f"{getattr(config, name)}. Omit the option to resume, or choose another --out."
                )
        return config, destination
    if (out / "state.json").exists():
        raise ConfigError(f"{out} already contains a run. Continue it with --resume, or choose another --out.")
    given.setdefault("init", "imagenet" if network == "vgg16" else "none")
    if given["init"] == "none" and given.get("unfreeze", "all") != "all":
        raise ConfigError(
            f"--unfreeze {given['unfreeze']} with --init none keeps convolutions at random values. Omit it, or "
            "use --init imagenet or --init FILE."
        )
    values = PRESETS[network, preset] | ({"unfreeze": "all"} if given["init"] == "none" else {}) | given
    config = TrainConfig(**values)
    if config.teacher and config.age_head != "distribution":
        raise ConfigError("--teacher needs a network that predicts a distribution: use --age-head distribution.")
    if config.network != "vgg16" and config.half_size_epochs:
        raise ConfigError("--half-size-epochs is for vgg16 only.")
    return config, destination


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _parser(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python training/train.py",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # only what was given: the rest is the preset's
    )
    _network_options(parser.add_argument_group("network"))
    _data_options(parser.add_argument_group("data"))
    _fit_options(parser.add_argument_group("training"))
    _output_options(parser.add_argument_group("output"))
    return parser


def _network_options(group) -> None:
    group.add_argument(
        "--network",
        choices=("vgg16", "compact"),
        help="vgg16: 34 million parameters, needs a GPU; compact: 2 million, trains on a CPU (default: vgg16)",
    )
    group.add_argument(
        "--preset",
        choices=("default", "published"),
        help="default: our recipe; published: regression head, MAE + BCE, Adam, batch size 32, up to 200 epochs. "
        "Other options override the preset",
    )
    group.add_argument(
        "--init",
        metavar="imagenet|none|FILE",
        help="initial weights: ImageNet (vgg16's default), random, or a weights file for the same network. For "
        "vgg16, it may also be a weights file for the convolutional base only, such as Keras's vgg16_..._notop.h5",
    )
    group.add_argument(
        "--age-head",
        choices=("distribution", "regression"),
        help="distribution: a probability for each age from 0 to 101 and the expected value; regression: one number",
    )
    group.add_argument(
        "--unfreeze",
        choices=("all", "block5", "none"),
        help="vgg16: convolutions to train after the first epoch, which trains only the heads (default: all)",
    )
    group.add_argument("--dropout", type=float, help="dropout rate in the heads")
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="average the exported network's output over a face and its mirror image: more accurate, twice the time "
        "(default for compact)",
    )


def _data_options(group) -> None:
    group.add_argument(
        "--dataset",
        help=f"Hub dataset id, folder, or .tar(.gz), .zip or .parquet file with UTKFace (default: {sources.DATASET})",
    )
    group.add_argument("--dataset-revision", help="branch, tag or commit of the Hub dataset")
    group.add_argument(
        "--policy",
        choices=POLICIES,
        help="clean: skip duplicates and contradictory labels; all: use every file (default: clean)",
    )
    group.add_argument("--protocol", choices=tuple(PROTOCOLS), help="train/validation/test split (default: 80/10/10)")
    group.add_argument(
        "--pretrain",
        metavar="DATASET",
        help=f"also train on photos from {sources.FAIRFACE} (Hub id or folder). Each epoch uses equal numbers of faces "
        "from both datasets; with --init none, the first third of the epochs uses all faces of this dataset",
    )
    group.add_argument("--pretrain-revision", help="branch, tag or commit of the --pretrain Hub dataset")
    group.add_argument(
        "--limit", type=positive_int, metavar="N", help="use at most N faces per split, for a quick test"
    )
    group.add_argument(
        "--balance",
        action="store_true",
        default=argparse.SUPPRESS,
        help="oversample rare combinations of gender, age and race, and non-frontal faces in photos",
    )


def _fit_options(group) -> None:
    group.add_argument(
        "--epochs", type=_count, help="number of epochs; 0 exports and evaluates the --init weights unchanged"
    )
    group.add_argument(
        "--half-size-epochs",
        type=_count,
        metavar="N",
        help="vgg16: epochs at 100 instead of 200 pixels, in a quarter of the time (default: 6; published: 0)",
    )
    group.add_argument(
        "--augment",
        choices=("published", "mild", "medium", "strong"),
        help="augmentation strength; medium and strong also blur, compress, sharpen, add noise and partly cover faces",
    )
    group.add_argument("--gender-weight", type=_positive_float, help="weight of the gender loss (default: 1; vgg16: 2)")
    group.add_argument(
        "--teacher",
        nargs="+",
        action="extend",
        metavar="MODEL",
        help="distill from these bundles with Keras weights (folders or Hub ids)",
    )
    group.add_argument("--batch-size", type=positive_int, help="faces per training step")
    group.add_argument(
        "--learning-rate",
        type=_positive_float,
        help="peak learning rate of new layers; pretrained layers use a lower rate",
    )
    group.add_argument(
        "--schedule",
        choices=("cosine", "constant"),
        help="learning rate schedule: cosine decay with warm-up, or constant",
    )
    group.add_argument(
        "--average",
        action=argparse.BooleanOptionalAction,
        help="evaluate and keep a moving average of the weights (default, except for --preset published)",
    )
    group.add_argument(
        "--patience",
        type=positive_int,
        metavar="EPOCHS",
        help="stop after this many epochs without improvement (default: 10)",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "mixed_bfloat16"),
        help="auto: mixed_bfloat16 on a GPU, float32 elsewhere",
    )
    group.add_argument("--seed", type=int, help="random seed (default: 0)")


def _output_options(group) -> None:
    group.add_argument("--out", type=Path, help="run folder (default: runs/NETWORK)")
    group.add_argument(
        "--resume", action="store_true", default=False, help="continue the run in --out with its saved settings"
    )
    group.add_argument("--push", action="store_true", default=False, help="upload the bundle to the Hub")
    hub.add_options(group)
