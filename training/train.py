# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#     "av>=14,<19",
#     "datasets>=5.0,<6",
#     "filelock>=3.16,<5",
#     "gradio~=6.31.0",
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
#     "websockets>=13,<18",
# ]
# ///
"""Train an age and gender network on UTKFace, from the pictures to a model bundle.

    python training/train.py                              VGG16 with ImageNet weights, our recipe
    python training/train.py --preset published           VGG16 as published: MAE + BCE, Adam, batch 32, 200 epochs
    python training/train.py --network compact            the small network, for machines without a GPU
    python training/train.py ... --push --repo-id me/age  the same, and the bundle goes to the Hub

In order: read the data, fit, export to ONNX and prove it equal, calibrate on the validation split, evaluate
once on the test split, draw the plots, write the bundle, push. A run that was stopped goes on with --resume.

The block above this text lets `hf jobs uv run` train on the Hub's machines; the README has the command.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import math
import os
import shlex
import shutil
import sys
from pathlib import Path

from filelock import FileLock, Timeout

if __package__ in (None, ""):  # run as a script: import as a package, and shadow nobody's `data` or `evaluate`
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from training import data, hub

_OURS = dict(
    age_head="distribution", batch_size=64, optimizer="adamw", schedule="cosine", average=True, augment="strong"
)
_PUBLISHED = dict(
    age_head="regression",
    epochs=200,
    batch_size=32,
    optimizer="adam",
    schedule="constant",
    average=False,
    augment="published",
)
PRESETS = {
    # Learning rates are for these batch sizes and for fresh layers; pretrained ones get less, see `phases`.
    ("vgg16", "default"): _OURS | dict(epochs=30, learning_rate=5e-4),
    ("compact", "default"): _OURS | dict(epochs=24, learning_rate=1.5e-3, augment="mild"),  # measured: RESULTS.md
    ("vgg16", "published"): _PUBLISHED | dict(learning_rate=1e-4),
    ("compact", "published"): _PUBLISHED | dict(learning_rate=1e-3),
}


def parse(arguments: list[str] | None = None, *, explicit_only: bool = False) -> argparse.Namespace:
    """The command line; with `explicit_only` just the options that were given."""
    parser = argparse.ArgumentParser(
        prog="python training/train.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS if explicit_only else None,
    )
    default = (lambda value: argparse.SUPPRESS) if explicit_only else (lambda value: value)

    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--network",
        choices=("vgg16", "compact"),
        default=default("vgg16"),
        help="vgg16: the reference, 34 million parameters, wants a GPU; compact: 2 million, trains in about 90 "
        "minutes on two CPU cores with bfloat16 (default vgg16)",
    )
    what.add_argument(
        "--preset",
        choices=("default", "published"),
        default=default("default"),
        help="default: our recipe; published: the original one (regression head, MAE + BCE, Adam, batch 32, up to 200 "
        "epochs). Options given beside it win over it",
    )
    what.add_argument(
        "--init",
        metavar="imagenet|none|FILE",
        help="where the weights start: ImageNet (vgg16 only, its default), random, or a .weights.h5 or .keras file of "
        "the same network; compact also from an .onnx file, such as the one in space/models/compact",
    )
    what.add_argument(
        "--age-head",
        choices=("distribution", "regression"),
        help="distribution: a probability for each age 0 to 101, and their expected value; regression: one number",
    )
    what.add_argument(
        "--unfreeze",
        choices=("block5", "all", "none"),
        help="vgg16: after the heads, go on with its last convolution block, then with all of it, or not at all "
        "(default block5; all when --init none). compact is always trained whole",
    )

    what.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="let the finished network answer with the mean over a face and its mirror image: better, in twice the "
        "time (default for compact)",
    )

    source = parser.add_argument_group("on which faces")
    source.add_argument(
        "--dataset",
        default=default(data.DATASET),
        help=f"a Hub dataset id, a folder, a .tar(.gz) or .parquet file with UTKFace (default {data.DATASET})",
    )
    source.add_argument("--dataset-revision", help="branch, tag or commit of the Hub dataset")
    source.add_argument(
        "--policy",
        choices=data.POLICIES,
        default=default("clean"),
        help="clean: without copies and contradictions; all: every file (default clean)",
    )
    source.add_argument(
        "--protocol", choices=tuple(data.PROTOCOLS), default=default("80/10/10"), help="the split (default 80/10/10)"
    )
    source.add_argument(
        "--pretrain",
        metavar="DATASET",
        help=f"learn from the photographs of {data.FAIRFACE} too (a Hub id or a folder): with --init none a third of "
        "the epochs on all of them and UTKFace, and always then as many of them an epoch as of UTKFace, so that what "
        "they taught stays. Their faces are found by YuNet ($AGE_GENDER_DETECTOR, else from the Hub)",
    )
    source.add_argument("--pretrain-revision", help="branch, tag or commit of that Hub dataset")
    source.add_argument(
        "--limit", type=data.positive, metavar="N", help="use at most N faces of each split, for a quick trial"
    )
    source.add_argument(
        "--fold",
        type=data.fold,
        metavar="K/N",
        help="train without the K-th of N parts of the training faces (those of --pretrain too), so that evaluate.py "
        "--split train --fold K/N --suspects FILE judges their labels by a network that never saw them",
    )
    source.add_argument(
        "--exclude",
        nargs="+",
        action="extend",
        metavar="CSV",
        help="train without the faces that these files list, such as evaluate.py --suspects writes",
    )

    how = parser.add_argument_group("how")
    how.add_argument("--epochs", type=data.positive, help="in all; with a frozen base, a third of them train the heads")
    how.add_argument(
        "--augment",
        choices=("published", "mild", "medium", "strong"),
        help="how far faces are varied: moved, turned, recoloured; from medium on also blurred, compressed and covered",
    )
    how.add_argument(
        "--balance",
        action="store_true",
        default=default(False),
        help="draw children and the old, of whom there are few, more often",
    )
    how.add_argument(
        "--mixup",
        type=_positive_float,
        metavar="ALPHA",
        help="lay faces over each other, in shares drawn from Beta(ALPHA, ALPHA) (default: do not)",
    )
    how.add_argument(
        "--gender-weight",
        type=_positive_float,
        default=default(1.0),
        help="how much gender's loss counts beside that of age (default 1)",
    )
    how.add_argument(
        "--teacher",
        nargs="+",
        action="extend",
        metavar="MODEL",
        help="learn as much from what these models answer (folders of bundles or Hub ids) as from the labels",
    )
    how.add_argument("--batch-size", type=data.positive)
    how.add_argument("--learning-rate", type=_positive_float, help="of fresh layers; pretrained ones get less")
    how.add_argument(
        "--schedule",
        choices=("cosine", "constant"),
        help="of the learning rate: a warm-up and half a cosine down, or always the same",
    )
    how.add_argument(
        "--average",
        action=argparse.BooleanOptionalAction,
        help="score and keep a moving average of the weights instead of the last ones (default but for published)",
    )
    how.add_argument(
        "--patience",
        type=data.positive,
        metavar="EPOCHS",
        help="stop a phase after so many without progress (default 10)",
    )
    how.add_argument(
        "--precision",
        choices=("auto", "float32", "mixed_bfloat16"),
        default=default("auto"),
        help="auto: mixed_bfloat16 on a GPU, float32 elsewhere",
    )
    how.add_argument("--seed", type=int, default=default(0), help="(default 0)")

    where = parser.add_argument_group("where to")
    where.add_argument("--out", type=Path, help="the run's folder (default runs/NETWORK)")
    where.add_argument(
        "--resume",
        action="store_true",
        default=default(False),
        help="go on with the run in --out, with the settings it was started with",
    )
    where.add_argument("--push", action="store_true", default=default(False), help="upload the bundle to the Hub")
    hub.add_options(where)
    return parser.parse_args(arguments)


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return value


# Settings that do not change what is trained, so a resumed run may give them anew.
_FREE = {"out", "resume", "push", "repo_id", "private", "revision", "pr"}


def settle(arguments: list[str] | None) -> argparse.Namespace:
    """The command line with every setting decided: by option, by the run that is resumed, or by preset."""
    options, explicit = parse(arguments), vars(parse(arguments, explicit_only=True))
    options.out = _out(options)
    options.excluded = data.digest(data.listed(options.exclude)) if options.exclude else None
    path = options.out / "settings.json"
    if options.resume and path.exists():
        try:
            settings = json.loads(path.read_text())
            if not isinstance(settings, dict):
                raise ValueError("not a JSON object")
        except ValueError as error:
            raise data.DataError(f"{path} is damaged ({error}): train into a new --out.") from error
        if options.network == "vgg16" and "augment" not in settings:
            raise data.DataError(
                f"The run in {options.out} was started by an older version that trained vgg16 in other steps: finish "
                "it with that version, or train into a new --out."
            )
        # Of runs from before there was a choice.
        settings = {
            "pretrain": None,
            "pretrain_revision": None,
            "balance": False,
            "gender_weight": 1.0,
            "teacher": None,
            "mixup": None,
            "fold": None,
            "exclude": None,
            "excluded": None,
        } | settings
        settings.setdefault("augment", "published" if settings.get("preset") == "published" else "mild")
        settings.setdefault("average", settings.get("preset") != "published")
        settings.setdefault("mirror", _mirrored(settings.get("network"), settings.get("preset")))
        if settings["exclude"]:
            options.excluded = data.digest(data.listed(settings["exclude"]))
        if options.excluded != settings["excluded"]:
            raise data.DataError(
                f"{', '.join(settings['exclude'] or options.exclude)} lists other faces than when the run in "
                f"{options.out} was started: restore it, or train into a new --out."
            )
        for name, value in settings.items():
            if name in explicit and explicit[name] != value:
                if name == "mirror":  # changes what is exported, not what is trained
                    continue
                raise data.DataError(
                    f"--{name.replace('_', '-')} is {explicit[name]} but the run in {options.out} was started with "
                    f"{value}: leave it out to resume, or choose another --out."
                )
            setattr(options, name, value)
        return options
    if (options.out / "state.json").exists():
        if options.resume:
            raise data.DataError(f"{options.out} lacks settings.json, so the run cannot go on: train into a new --out.")
        raise data.DataError(f"{options.out} holds a run already: --resume goes on with it, or choose another --out.")
    for name, value in PRESETS[options.network, options.preset].items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)
    options.init = options.init or ("imagenet" if options.network == "vgg16" else "none")
    if options.init == "none" and options.unfreeze not in (None, "all"):
        raise data.DataError(
            f"--unfreeze {options.unfreeze} keeps convolutions as they start, and with --init none that is at random: "
            "leave it out, or start from imagenet or a file."
        )
    if options.teacher and options.age_head != "distribution":
        raise data.DataError("--teacher needs a network that answers a distribution: leave out --age-head.")
    options.unfreeze = options.unfreeze or ("all" if options.init == "none" else "block5")
    options.patience = 10 if options.patience is None else options.patience
    if options.mirror is None:
        options.mirror = _mirrored(options.network, options.preset)
    if options.fold and (options.teacher or options.init not in ("none", "imagenet")):
        raise data.DataError(
            "--fold leaves faces out that no part of the training may have seen, but who knows what "
            f"{options.teacher[0] if options.teacher else options.init} has: leave out --teacher, and --init none."
        )
    return options


def recorded(options: argparse.Namespace) -> dict:
    """The settings that a resumed run goes on with."""
    return {name: value for name, value in vars(options).items() if name not in _FREE}


def _mirrored(network: str, preset: str) -> bool:
    return network == "compact" and preset == "default"


def phases(options: argparse.Namespace) -> list:
    """The stretches of training that the options ask for."""
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

    rate, epochs = options.learning_rate, options.epochs
    if options.network == "compact" or options.init == "none":
        if options.pretrain and options.init == "none":
            first = math.ceil(epochs / 3)
            return [
                Phase("pretrain", first, rate, train_all, extra=math.inf),
                *([Phase("all", epochs - first, rate, train_all)] if epochs > first else []),
            ]
        return [Phase("all", epochs, rate, train_all)]
    if options.unfreeze == "none":
        return [Phase("heads", epochs, rate, train_heads)]
    # The further a layer is from the answer the less it has to change (discriminative fine-tuning; Howard & Ruder
    # 2018, ULMFiT, arXiv 1801.06146): heads at half the rate by now, each block at less than the one after it.
    rates = {"block5": 0.1, "block4": 0.04, "block3": 0.015, "block2": 0.006, "block1": 0.0025, "": 0.5}
    heads = math.ceil(epochs / 3)
    block5 = math.ceil((epochs - heads) / 2) if options.unfreeze == "all" else epochs - heads
    found = [
        Phase("heads", heads, rate, train_heads),
        Phase("block5", block5, rate, train_block5, rates=rates),
        Phase("all", epochs - heads - block5, rate, train_all, rates=rates),
    ]
    return [phase for phase in found if phase.epochs]


def run(options: argparse.Namespace) -> Path:
    """Train as the options say; returns the folder of the finished bundle.

    Raises:
        ValueError, RuntimeError, OSError: data, weights, checkpoint, disk or Hub; the message is for the user.
    """
    target = hub.check(hub.target_of(options, options.network)) if options.push else None
    if not (options.out / "state.json").exists():
        _refuse_knowing(options)
    everything, report = data.load_utkface(
        options.dataset, policy=options.policy, protocol=options.protocol, revision=options.dataset_revision
    )
    print(report)
    if everything.binned:
        raise data.DataError(
            f"{options.dataset} has photographs whose ages are ranges of years: give it as --pretrain, beside UTKFace."
        )
    splits = {}
    for name in data.SPLITS:
        samples = everything.split(name, options.protocol)
        if name == "train":
            samples = _kept(samples, options, report)
        samples = samples.limit(options.limit, options.seed)
        splits[name], images = data.decode(samples)
        splits[name, "images"] = images
        print(f"  {name}: {data.describe(splits[name])}")
    second = {name: _photographs(options, name) for name in ("train", "test")} if options.pretrain else None

    # Keras and its backend are imported only now: wrong data is reported at once.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    from training import distill, export, networks, plots
    from training.atomic import write_beside
    from training.augment import STRENGTHS
    from training.fit import Recipe, fit

    keras.utils.set_random_seed(options.seed)
    precision = options.precision
    if precision == "auto":
        precision = "mixed_bfloat16" if _has_accelerator() else "float32"
    keras.config.set_dtype_policy(precision)
    dropout = 0.3 if options.network == "compact" else 0.5
    # A checkpoint replaces whatever a run started from.
    init = "none" if options.resume and (options.out / "state.json").exists() else options.init
    batch_norm = options.network == "vgg16" and options.init == "none" and options.preset != "published"
    network = networks.build(
        options.network,
        age_head=options.age_head,
        init=init,
        dropout=dropout,
        batch_norm=batch_norm,
        faces=splits["train", "images"][:512],
    )
    print(
        f"{network.name}: {networks.count_parameters(network.weights):,} parameters, {options.age_head} head, "
        f"start from {options.init}, {precision} on {keras.backend.backend()}"
    )

    options.out.mkdir(parents=True, exist_ok=True)
    options.commit = getattr(options, "commit", None) or export.current_commit()
    write_beside(options.out / "settings.json", json.dumps(recorded(options), indent=1))
    recipe = Recipe(
        age_head=options.age_head,
        batch_size=options.batch_size,
        augment=STRENGTHS[options.augment],
        optimizer=options.optimizer,
        weight_decay=0.05 if options.optimizer == "adamw" else 0.0,
        schedule=options.schedule,
        ema=min(0.998, 1 - 10 / max(20, len(splits["train"]) // options.batch_size)) if options.average else 0.0,
        patience=options.patience,
        seed=options.seed,
        balance=options.balance,
        gender_weight=options.gender_weight,
        mixup=options.mixup or 0.0,
        taught=distill.SHARE if options.teacher else 0.0,
    )
    history = fit(
        network,
        phases(options),
        recipe,
        _taught(options, "train", splits["train"], splits["train", "images"]),
        _faces(splits["validation"], splits["validation", "images"]),
        options.out,
        second=_taught(options, "pretrain", *second["train"][:2]) if second else None,
        resume=options.resume,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    plots.training_curves(history, options.out / "curves.png")

    # The best weights in a float32 network: what is exported, evaluated and published.
    keras.config.set_dtype_policy("float32")
    if batch_norm:
        final = networks.fold_norms(network, age_head=options.age_head, mirror=options.mirror)
    else:
        final = networks.build(options.network, age_head=options.age_head, dropout=dropout, mirror=options.mirror)
        final.set_weights(network.get_weights())
    described = dataclasses.asdict(recipe) | {"precision": precision, "mirror": options.mirror}
    if batch_norm:
        described["batch normalisation"] = "after each convolution, folded into them at the end"
    bundle = finish(final, options, history, splits, report, described, second)
    if target:
        try:
            print(f"Pushed: {hub.push(bundle, target).url}")
        except hub.HubError as error:
            raise hub.HubError(
                f"{error} The bundle is in {bundle}; push it later:\n  {hub.command(bundle, target)}"
            ) from error
    return bundle


def _refuse_knowing(options: argparse.Namespace) -> None:
    """DataError if what the run starts or learns from was trained on faces that this run validates or tests with."""
    from training.evaluate import made_from

    models = {f"--teacher {model}": model for model in options.teacher or ()}
    if Path(options.init).is_file():
        models[f"--init {options.init}"] = options.init
    for option, model in models.items():
        trained, _ = made_from(model)
        if trained is None:
            print(f"{option} has no record of its training: if this run's test faces were in it, figures are too good.")
        if data.saw(trained, options.protocol, ("validation", "test")):
            raise data.DataError(
                f"{option} was trained under {trained}, and so on faces that {options.protocol} keeps apart for "
                f"validation or test: give --protocol {trained}, or choose another."
            )


def _kept(samples: data.Samples, options: argparse.Namespace, report: data.Report) -> data.Samples:
    """The training faces without those that --fold and --exclude leave out, which goes into the report."""
    if options.fold:
        rest = samples.fold(options.fold, without=True)
        report.dropped[f"training faces in fold {options.fold}"] = len(samples) - len(rest)
        samples = rest
    if options.exclude:
        listed = data.listed(options.exclude)
        kept = samples.take([digest not in listed for digest in samples.sha256])
        report.dropped["training faces listed by --exclude"] = len(samples) - len(kept)
        print(f"  {report.source}: {len(samples) - len(kept)} of {len(listed)} listed faces are left out of training")
        if not len(kept):
            raise data.DataError(
                f"{', '.join(options.exclude)} lists every training face: nothing is left to train on."
            )
        samples = kept
    return samples


def _photographs(options: argparse.Namespace, split: str):
    """Faces of --pretrain, cut from their photographs: samples, chips, report."""
    from training.framing import Cut, need_yunet

    samples, report = data.load_utkface(
        options.pretrain,
        split=split,
        policy=options.policy,
        protocol=options.protocol,
        revision=options.pretrain_revision,
    )
    if not samples.binned:
        raise data.DataError(
            f"{options.pretrain} is not like FairFace (ages as ranges of years): give it as --dataset."
        )
    if split == "train":
        samples = _kept(samples, options, report)
    samples, chips = data.decode(samples.limit(options.limit, options.seed), Cut(need_yunet(None)))
    print(report, f"  {split}: {data.describe(samples)}", sep="\n")
    return samples, chips, report


def _faces(samples: data.Samples, images):
    from training.fit import Faces

    return Faces(images, samples.age_range, samples.gender.astype("float32"))


def _taught(options: argparse.Namespace, name: str, samples: data.Samples, images):
    """Faces to train on, with what the teachers answer where there are any; kept in the run's folder."""
    import numpy as np

    from training import distill
    from training.atomic import write_beside

    faces = _faces(samples, images)
    if not options.teacher:
        return faces
    path = options.out / f"teachers-{name}-{data.fingerprint(samples)[:16]}.npz"
    if not path.exists():
        age_probs, p_female = distill.answers(options.teacher, images)
        content = io.BytesIO()
        np.savez(content, age_probs=age_probs, p_female=p_female)
        write_beside(path, content.getvalue())
    with np.load(path) as answered:
        gender = (1 - distill.SHARE) * faces.gender + distill.SHARE * answered["p_female"]
        return dataclasses.replace(faces, gender=gender, age_probs=answered["age_probs"])


def _has_accelerator() -> bool:
    import keras

    if keras.backend.backend() == "torch":  # which keras.distribution does not cover
        import torch

        return torch.cuda.is_available()
    return not keras.distribution.list_devices()[0].startswith("cpu")


def finish(network, options, history, splits, report, recipe, second) -> Path:
    """From a trained network to the bundle: export, prove, calibrate, evaluate once on test, draw, write."""
    import numpy as np

    from space.estimator import Estimator
    from training import calibrate, evaluate, export, plots, quantize
    from training.atomic import clear, new_folder
    from training.framing import need_yunet

    bundle = options.out / "bundle"
    with new_folder(bundle) as folder:
        export.write_model(network, folder, faces=splits["validation", "images"][:64])
        validation, test = splits["validation"], splits["test"]
        served = quantize.quantize(
            folder,
            quantize.sample(splits["train", "images"], *([second["train"][1]] if second else [])),
            splits["validation", "images"],
            validation.age,
            validation.gender == 1,
        )
        print(
            f"Served: {served['serve']} ({served['reason']}); "
            + ", ".join(f"{kind} {served[kind]}" for kind in ("float32", "int8"))
        )
        estimator = Estimator(folder / served["serve"])
        calibration = calibrate.fit(
            estimator.predict(splits["validation", "images"]), validation.age, validation.gender == 1
        )
        outputs = calibrate.apply(calibration, estimator.predict(splits["test", "images"]))
        metrics = evaluate.measure(test, outputs, median_age=float(np.median(splits["train"].age)))
        metrics["split"] = evaluate.split_record(options, "test")
        if second:
            photographs, chips, _ = second["test"]
            answers = calibrate.apply(calibration, estimator.predict(chips))
            views = evaluate.views(chips, need_yunet(None))
            metrics["fairface"] = {
                "dataset": options.pretrain,
                "split": evaluate.split_record(options, "test"),
                **evaluate.measure(photographs, answers, views=views),
            }
        (folder / "figures").mkdir()
        shutil.copy(options.out / "curves.png", folder / "figures" / "curves.png")
        plots.age_errors(test, outputs, folder / "figures" / "ages.png")
        plots.calibration(test, outputs, folder / "figures" / "calibration.png")
        plots.groups(test, outputs, folder / "figures" / "groups.png")
        plots.worst_faces(test, splits["test", "images"], outputs, options.out / "worst.png")
        (folder / "groups.csv").write_text(evaluate.crossed(test, outputs))
        provenance = {
            "dataset": options.dataset,
            "dataset_revision": options.dataset_revision,
            "data_report": report.as_dict(),
            "command": shlex.join(["python", "training/train.py", *_command(options)]),
            "faces": {name: {"n": len(splits[name]), "sha256": data.fingerprint(splits[name])} for name in data.SPLITS},
            "pretrain": second
            and {
                "dataset": options.pretrain,
                "dataset_revision": options.pretrain_revision,
                "data_report": second["train"][2].as_dict(),
                **{
                    name: {"n": len(samples), "sha256": data.fingerprint(samples)}
                    for name, (samples, _, _) in second.items()
                },
            },
            "epochs_run": len(history),
            "recipe": recipe,
            "seed": options.seed,
            "fold": options.fold,
            "commit": options.commit,
        }
        export.write_card(folder, network, options.age_head, calibration, metrics, provenance, served)
    clear(bundle)  # of runs that were killed here
    print(evaluate.table(metrics))
    print(f"Bundle: {bundle}   serve it with: python app.py --model {bundle}")
    return bundle


@contextlib.contextmanager
def _alone(options: argparse.Namespace):
    """Nobody else trains into the same --out meanwhile. The lock goes with the process, however that ends."""
    out = _out(options)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise data.DataError(f"Another training writes to {out} now: wait for it, or choose another --out.") from None


def _out(options: argparse.Namespace) -> Path:
    return options.out or Path("runs") / options.network


def _command(options: argparse.Namespace) -> list[str]:
    """The options that repeat this run, those of the preset spelled out."""
    words = []
    for name in (
        "network preset init age_head unfreeze dataset dataset_revision policy protocol pretrain pretrain_revision "
        "limit fold exclude epochs augment balance mixup gender_weight teacher batch_size learning_rate schedule "
        "patience precision seed"
    ).split():
        value = getattr(options, name)
        if value is not None and value is not False and not (name == "unfreeze" and options.network == "compact"):
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return [*words, *(f"--{'' if getattr(options, name) else 'no-'}{name}" for name in ("average", "mirror"))]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        with _alone(parse(arguments)):
            run(settle(arguments))
    except KeyboardInterrupt:
        print("\nStopped. The same command with --resume goes on from the last finished epoch.", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
