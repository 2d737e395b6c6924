# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "datasets>=5.0,<6",
#     "filelock>=3.16,<5",
#     "huggingface_hub>=2.4,<3",
#     "keras>=3.12,<4",
#     "matplotlib>=3.10,<4",
#     "numpy>=2.0,<3",
#     "onnx>=1.17,<2",
#     "onnxruntime>=1.20,<2",
#     "opencv-python-headless>=4.10,<5",
#     "pillow>=11.1,<13",
#     "scikit-learn>=1.6,<2",
#     "scipy>=1.14,<2",
#     "tensorflow[and-cuda]>=2.20,<2.22",
#     "tf2onnx>=1.16.1,<2",
#     "tqdm>=4.66,<5",
# ]
# ///
"""Train an age and gender network on UTKFace and write a model bundle.

    python training/train.py                              VGG16 with ImageNet weights, our recipe
    python training/train.py --preset published           VGG16 as published: MAE + BCE, Adam, batch size 32, 200 epochs
    python training/train.py --network compact            the small network, for machines without a GPU
    python training/train.py ... --push --repo-id me/age  the same, and push the bundle to the Hub

Steps: load the data, fit, export to ONNX, calibrate on the validation split, evaluate once on the test split, plot,
write the bundle, push. Continue a stopped run with --resume.

The block above this text lets `hf jobs uv run` train on the Hub's machines; training/README.md has the command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

if __package__ in (None, ""):  # run as a script: import as a package, and shadow nobody's `data` or `evaluate`
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from training import config as configs
from training import faces, hub
from training.config import Destination, TrainConfig
from training.data import DataError


def run(config: TrainConfig, to: Destination) -> Path:
    """Train as the config says; returns the folder of the finished bundle.

    Raises:
        ValueError, RuntimeError, OSError: data, weights, checkpoint, disk or Hub; the message is for the user.
    """
    target = hub.check(to.push) if to.push else None
    if not to.resume:
        faces.check_no_leakage(config)
    sets = faces.load_faces(config)
    photos = faces.load_photos(config)

    # Keras and its backend are imported only now: wrong data is reported at once.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    from training import build, networks, plots
    from training.augment import STRENGTHS
    from training.fit import Recipe, fit

    keras.utils.set_random_seed(config.seed)
    precision = _precision(config.precision)
    keras.config.set_dtype_policy(precision)
    # Without batch normalisation VGG16 hardly learns from random weights; it is folded away at the end.
    batch_norm = config.network == "vgg16" and config.init == "none" and config.preset != "published"
    known = config.init in ("imagenet", "none")
    network = networks.build(
        config.network,
        age_head=config.age_head,
        # A checkpoint replaces whatever a run started from.
        init=config.init if known and not to.resume else "none",
        dropout=config.dropout,
        batch_norm=batch_norm,
    )
    whole = not known and networks.load_weights(network, config.init)
    print(
        f"{network.name}: {networks.count_parameters(network.weights):,} parameters, {config.age_head} head, "
        f"initial weights {config.init}, {precision} on {keras.backend.backend()}"
    )

    to.out.mkdir(parents=True, exist_ok=True)
    config.save(to.out)
    recipe = Recipe(
        age_head=config.age_head,
        batch_size=config.batch_size,
        augment=STRENGTHS[config.augment],
        optimizer=config.optimizer,
        weight_decay=0.05 if config.optimizer == "adamw" else 0.0,
        schedule=config.schedule,
        average=config.average,
        patience=config.patience,
        seed=config.seed,
        gender_weight=config.gender_weight,
        teacher_weight=0.5 if config.teacher else 0.0,
    )
    history = fit(
        network,
        phases(config, fresh_heads=not whole),
        recipe,
        faces.to_learn(config, sets, photos),
        to.out,
        teachers=faces.load_teachers(config.teacher) if config.epochs else (),
        resume=to.resume,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if history:
        plots.training_curves(history, to.out / "curves.png")

    # The best weights in a float32 network: what is exported, evaluated and published.
    keras.config.set_dtype_policy("float32")
    if batch_norm:
        final = networks.fold_norms(network, age_head=config.age_head, mirror=config.mirror)
    else:
        final = networks.build(config.network, age_head=config.age_head, dropout=config.dropout, mirror=config.mirror)
        final.set_weights(network.get_weights())
    card = dataclasses.asdict(recipe) | {"precision": precision, "mirror": config.mirror}
    bundle = build.build_bundle(final, config, history, sets, photos, to.out, card)
    if target:
        try:
            print(f"Pushed: {hub.push(bundle, target).url}")
        except hub.HubError as error:
            raise hub.HubError(
                f"{error} The bundle is in {bundle}. Push it later:\n  {hub.command(bundle, target)}"
            ) from error
    return bundle


def phases(config: TrainConfig, *, fresh_heads: bool = True) -> list:
    """The phases of training that a config asks for; `fresh_heads`: the initial weights are those of the base alone."""
    from training import networks
    from training.fit import Phase

    def train_all(network):
        for layer in network.layers:
            layer.trainable = True

    def train_heads(network):
        train_all(network)
        for layer in networks.convolutional_base(network):
            layer.trainable = False

    def train_block5(network):
        train_heads(network)
        for layer in networks.convolutional_base(network, "block5"):
            layer.trainable = True

    rate, epochs = config.learning_rate, config.epochs
    if config.network == "compact" or config.init == "none":
        first = math.ceil(epochs / 3) if config.pretrain and config.init == "none" else 0
        found = [
            Phase("pretrain", first, rate, train_all, extra=math.inf),
            Phase("all", epochs - first, rate, train_all),
        ]
    elif config.unfreeze == "none":
        found = [Phase("heads", epochs, rate, train_heads)]
    else:
        half = min(config.half_size_epochs, epochs)
        heads = min(1, epochs) if fresh_heads else 0
        # Pretrained layers change less than new ones, the early ones least (discriminative fine-tuning; Howard & Ruder
        # 2018, arXiv 1801.06146).
        rates = {"block5": 0.3, "block4": 0.25, "block3": 0.225, "block2": 0.2, "block1": 0.15, "": 0.5}
        rates = rates if config.unfreeze == "all" else {"block5": 0.1, "": 0.5} if config.preset != "published" else {}
        prepare = train_all if config.unfreeze == "all" else train_block5
        name = config.unfreeze
        half_all = max(0, half - heads)
        found = [
            Phase("heads", heads, rate if config.preset == "published" else 2 * rate, train_heads, half_size=half > 0),
            Phase(f"{name} at half size", half_all, rate, prepare, rates=rates, half_size=True),
            Phase(name, epochs - heads - half_all, rate, prepare, rates=rates),
        ]
    return [phase for phase in found if phase.epochs]


def _precision(wanted: str) -> str:
    import keras

    if wanted != "auto":
        return wanted
    if keras.backend.backend() == "torch":  # which keras.distribution does not cover
        import torch

        return "mixed_bfloat16" if torch.cuda.is_available() else "float32"
    return "float32" if keras.distribution.list_devices()[0].startswith("cpu") else "mixed_bfloat16"


@contextlib.contextmanager
def run_lock(out: Path):
    """No other training writes to the same --out meanwhile. The lock goes with the process, however that ends."""
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise DataError(f"Another training is writing to {out}. Wait for it, or choose another --out.") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        config, to = configs.parse(arguments, __doc__)
        with run_lock(to.out):
            run(config, to)
    except KeyboardInterrupt:
        print("\nStopped. Continue from the last finished epoch with the same command and --resume.", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
