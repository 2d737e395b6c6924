"""The models that a run starts from or learns from: their networks, and what they were trained on.

A bundle records its parents with theirs, so what its weights have seen can be followed to the end.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from space.hub.bundle import on_hub, open_bundle
from space.hub.card import CARD, read_card
from space.hub.download import ModelError, sha256_of
from training.data.faces import Faces
from training.data.samples import dataset_hash
from training.data.sources import DataError, public_name
from training.recipe import DATASETS, FILE, Recipe
from training.recipe import load as load_recipe

_WEIGHTS = (".h5", ".keras")
MEASURED = 512  # training faces on which merged batch normalizations are restored
IMAGENET = {  # Keras's VGG16 weights
    "datasets": [{"dataset": "ImageNet", "collection": "ImageNet", "learned": True}],
    "protocol": "",
    "parents": [],
}


# The MD5 of Keras's file of them without the top layers, as in keras.applications.
IMAGENET_BASE = "6d6bbae143d832006294945121d1f1fc"


@dataclass(frozen=True)
class Parent:
    """A model that gave a run its initial weights or taught it."""

    role: str  # "init" or "teacher"
    model: str  # as given
    sha256: str | None  # of its weights
    record: dict | None  # what `lineage` returns of it; None if unknown
    calibration: dict | None = None  # of its bundle

    def as_dict(self) -> dict:
        """Plain values for a bundle's provenance, without paths of this machine."""
        own = {"role": self.role, "model": public_name(self.model), "sha256": self.sha256}
        return own | (self.record or UNKNOWN)


UNKNOWN: dict = {"datasets": None, "protocol": None, "parents": []}  # of weights without a record


def lineage(card: dict) -> dict | None:
    """What a bundle's weights have seen: datasets, protocol, and its parents with the same each.

    None if the bundle doesn't record it.
    """
    try:
        provenance = card["provenance"]
        split = card["metrics"]["split"]
        whole = is_whole(split["limit"], split["policy"])
        return {
            "datasets": [_dataset(dataset, whole=whole) for dataset in provenance["datasets"]],
            "protocol": card["metrics"]["split"]["protocol"],
            "parents": provenance["parents"] or [],
        }
    except (KeyError, TypeError, AttributeError):
        return None


def is_whole(limit: int | None, policy: str) -> bool:
    """Whether all faces were used, once each."""
    return not limit and policy == "clean"


def _dataset(dataset: dict, *, whole: bool) -> dict:
    """What a dataset of the provenance tells of the faces that were held out of training.

    Args:
        whole: all faces were used once, so that the splits' hashes tell one copy of a dataset from another.
    """
    hashes = {split: part["sha256"] for split, part in dataset["faces"].items() if split != "train"}
    return {
        **{key: dataset[key] for key in ("dataset", "collection", "learned")},
        "rows": dataset["report"]["rows"],
        "held_out": hashes if whole else {},
        **({"copies": dataset["copies"]} if dataset.get("copies") else {}),
    }


def dataset_records(recipe: Recipe, faces: dict[str, list[Faces]]) -> list[dict]:
    """The datasets of a run, as `lineage` reads them from a bundle's provenance."""
    found = []
    for number, test in enumerate(faces["test"]):
        learned = number < len(recipe.train)
        parts = {split: part[number] for split, part in faces.items() if learned or split == "test"}
        report = test.report.as_dict()
        found.append(
            {
                "dataset": public_name(report["source"]),
                "collection": report["collection"],
                "revision": report["revision"],
                "learned": learned,
                "faces": {
                    split: {"n": len(part), "sha256": dataset_hash(part.samples)} for split, part in parts.items()
                },
                "report": report | {"source": public_name(report["source"])},
            }
        )
    return found


def read(recipe: Recipe, *, ended: bool = False) -> list[Parent]:
    """The parents of a recipe's run.

    Args:
        ended: the run has ended. Parents that no longer exist are recorded without details.

    Raises:
        ModelError: a model is unavailable, or is a file that a run can't start from or learn from.
    """
    for option, model, suffixes in (("init", recipe.init, _WEIGHTS), *(("teacher", m, ()) for m in recipe.teacher)):
        if Path(model).is_file() and not model.endswith(suffixes):
            files = f" or a file of Keras weights ({', '.join(suffixes)})" if suffixes else ""
            raise ModelError(f"--{option} {model} is a file: specify a model's name, a bundle folder, a Hub id{files}.")
    found = [Parent("init", "imagenet", None, IMAGENET)] if recipe.init == "imagenet" else []
    models = [("init", recipe.init)] if recipe.init not in ("imagenet", "none") else []
    for role, model in (*models, *(("teacher", model) for model in recipe.teacher)):
        try:
            found.append(read_model(model, role))
        except ModelError:
            if not ended or on_hub(model):  # the Hub may answer later
                raise
            found.append(Parent(role, model, None, None))
    return found


def read_model(model: str, role: str = "init", *, keras: bool = True) -> Parent:
    """One model, by name, folder, Hub id or file; ModelError if it is unavailable."""
    path = Path(model)
    if model.endswith((".onnx", *_WEIGHTS)) and not path.is_file():
        raise ModelError(f"No model at {model}: specify an existing file, a bundle folder, or a Hub id.")
    if not path.is_file():
        bundle = open_bundle(model, keras=keras)
        weights = bundle.folder / "model.weights.h5"
        digest = sha256_of(weights if weights.is_file() else bundle.model_path)
        return Parent(role, model, digest, lineage(bundle.card), bundle.card["calibration"])
    if (path.parent / CARD).is_file():
        card = read_card(path.parent)
        return Parent(role, model, sha256_of(path), lineage(card), card.get("calibration"))
    if (path.parent / FILE).is_file():  # a checkpoint in a run's folder
        recipe = load_recipe(path.parent / FILE)
        try:
            found = json.loads((path.parent / DATASETS).read_text(encoding="utf-8"))
            datasets = [_dataset(one, whole=is_whole(recipe.limit, recipe.policy)) for one in found] or None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            datasets = None
        parents = [parent.as_dict() for parent in read(recipe, ended=True)]
        record = {"datasets": datasets, "protocol": recipe.protocol, "parents": parents}
        return Parent(role, model, sha256_of(path), record)
    return Parent(role, model, sha256_of(path), IMAGENET if _md5(path) == IMAGENET_BASE else None)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def has_heads(init: str | None) -> bool:
    """Whether initial weights are a whole network to fine-tune: not ImageNet's, by name or as Keras's file."""
    if init in (None, "imagenet", "none"):
        return False
    if not init.endswith(".h5") or not Path(init).is_file():
        return True
    import h5py

    found: list[str] = []
    try:
        with h5py.File(init) as file:
            file.visit(found.append)
    except OSError:
        return True  # damaged: reported when it is loaded
    return any("dense" in name for name in found)


def load_network(model: str):
    """The Keras network of a bundle, and whether its batch normalizations are merged (see `files.read_onnx`).

    Raises:
        ModelError: the model is unavailable, or has no weights that Keras can take.
    """
    from training.model import files, networks

    bundle = open_bundle(model, keras=True)
    if (bundle.folder / "model.weights.h5").is_file():
        return files.load_keras(bundle.folder), False
    try:
        network = networks.build(bundle.card["network"], age_head=bundle.card.get("age_head", ""))
    except ValueError as error:
        raise ModelError(f"{model} isn't a network of this kit: {error}") from error
    whole = bundle.folder / "model.onnx"
    files.read_onnx(network, whole if whole.is_file() else bundle.model_path)
    return network, True


def load_teachers(models: tuple[str, ...]) -> list:
    """The networks of models that teach; DataError if one predicts a single age."""
    networks = [load_network(model)[0] for model in models]
    for model, network in zip(models, networks, strict=True):
        if "age_probs" not in network.output:
            raise DataError(f"{model} predicts a single age, not a distribution: choose another teacher.")
    return networks


def load_initial(network, model: str, train: list[Faces]) -> None:
    """Load the weights of a model or of a weights file into `network`, which then learns from `train`.

    Raises:
        ModelError: the model is unavailable.
        ValueError: its weights don't fit.
    """
    from training.model.networks import load_weights, restore_norms

    if model.endswith(_WEIGHTS):
        load_weights(network, model)
        return
    trained, merged = load_network(model)
    if [w.shape for w in trained.weights] != [w.shape for w in network.weights]:
        raise ModelError(
            f"The weights of {model} don't fit the network {network.name!r} of the recipe. Choose another "
            "model or another recipe."
        )
    network.set_weights(trained.get_weights())
    if merged:
        restore_norms(network, train[0].spread(MEASURED))
