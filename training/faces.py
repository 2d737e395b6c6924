"""The faces of a run: what a config names, split, decoded and ready to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from space.hub.bundle import open_bundle
from training.config import TrainConfig
from training.data.decode import decode
from training.data.framing import FaceCropper
from training.data.load import load_samples
from training.data.report import Report
from training.data.samples import AGE_BANDS, SPLITS, Samples, describe, splits_overlap
from training.data.sources import DataError
from training.evaluation.metrics import pose_masks
from training.evaluation.provenance import trained_under

TURNED = 1.5  # how much more often turned faces of photographs are sampled with --balance
RARITY = 0.25  # exponent: a group of a sixteenth of the faces of another is sampled twice as often


@dataclass(frozen=True)
class FaceSet:
    """One split of one source."""

    samples: Samples
    images: np.ndarray  # uint8 [N, 200, 200, 3] RGB
    report: Report


def load_faces(config: TrainConfig) -> dict[str, FaceSet]:
    """The splits of --dataset: train, validation and test.

    Raises:
        DataError: the data can't be used; the message says why and what to do.
    """
    everything, report = load_samples(
        config.dataset, policy=config.policy, protocol=config.protocol, revision=config.dataset_revision
    )
    print(report)
    if everything.binned:
        raise DataError(f"{config.dataset} has age ranges, not exact ages: use it with --pretrain.")
    sets = {}
    for name in SPLITS:
        samples, images = decode(everything.split(name, config.protocol).limit(config.limit, config.seed))
        print(f"  {name}: {describe(samples)}")
        sets[name] = FaceSet(samples, images, report)
    train = sets["train"].samples
    for what, values in (("age", train.age), ("gender", train.gender)):
        if len(np.unique(values)) < 2:
            print(f"warning: all training faces have the same {what}: check the labels. The network can't learn it.")
    return sets


def load_photos(config: TrainConfig) -> dict[str, FaceSet] | None:
    """The splits of --pretrain, faces cropped from its photos; None without it.

    Raises:
        DataError: the data can't be used.
        ModelError: YuNet is unavailable.
    """
    if not config.pretrain:
        return None
    everything, report = load_samples(
        config.pretrain, policy=config.policy, protocol=config.protocol, revision=config.pretrain_revision
    )
    if not everything.binned:
        raise DataError(f"{config.pretrain} has no age ranges, unlike FairFace: use it with --dataset.")
    print(report)
    cut, sets = FaceCropper(), {}
    for name in SPLITS:
        samples, images = decode(everything.split(name, config.protocol).limit(config.limit, config.seed), cut)
        print(f"  {name}: {describe(samples)}")
        sets[name] = FaceSet(samples, images, report)
    return sets


def to_learn(config: TrainConfig, sets: dict[str, FaceSet], photos: dict[str, FaceSet] | None):
    """What `fit` takes: training and validation faces of both sources, as `loop.TrainingData`."""
    from training.fitting.batches import Faces
    from training.fitting.loop import TrainingData

    def faces(face_set: FaceSet, weight: np.ndarray | None = None) -> Faces:
        samples = face_set.samples
        return Faces(face_set.images, samples.age_range, samples.gender.astype(np.float32), weight)

    weights = {}
    if config.balance:
        weights["train"] = sampling_weights(sets["train"].samples)
        if photos:
            turned = pose_masks(photos["train"].images)["turned"]
            weights["photos"] = sampling_weights(photos["train"].samples) * np.where(turned, TURNED, 1.0)
    return TrainingData(
        faces(sets["train"], weights.get("train")),
        faces(sets["validation"]),
        faces(photos["train"], weights.get("photos")) if photos else None,
        faces(photos["validation"]) if photos else None,
    )


def sampling_weights(samples: Samples) -> np.ndarray:
    """float64 [N], relative: the smaller a face's group of age band, gender and race is, the more often it is drawn."""
    band = np.searchsorted([low for low, _ in AGE_BANDS], samples.age_range[:, 0], side="right")
    group = (band * 2 + samples.gender) * (len(samples.races) + 1) + samples.race + 1
    _, member, count = np.unique(group, return_inverse=True, return_counts=True)
    return np.maximum(count[member], 10.0) ** -RARITY


def check_no_leakage(config: TrainConfig) -> None:
    """DataError if an initial network or a teacher was trained on faces that this run validates or tests with."""
    models = {f"--teacher {model}": model for model in config.teacher}
    if Path(config.init).is_file():
        models[f"--init {config.init}"] = config.init
    for option, model in models.items():
        trained = trained_under(model)
        if trained is None:
            print(
                f"{option} has no training record. If it was trained on this run's test faces, the results will be too "
                "optimistic."
            )
        if splits_overlap(trained, config.protocol, ("validation", "test")):
            raise DataError(
                f"{option} was trained with {trained}, which includes faces in the validation or test split of "
                f"{config.protocol}: use --protocol {trained}, or choose another model."
            )


def load_teachers(models: tuple[str, ...]) -> list:
    """The networks of bundles, as Keras models.

    Raises:
        ModelError: a model is unavailable or has no Keras weights.
        DataError: it predicts one age, not a distribution.
    """
    from training.model.files import load_keras

    teachers = []
    for model in models:
        bundle = open_bundle(model, keras=True)
        network = load_keras(bundle.folder)
        if "age_probs" not in network.output:
            raise DataError(f"{model} predicts a single age, not a distribution: choose another teacher.")
        teachers.append(network)
    return teachers
