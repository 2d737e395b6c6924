"""The models that a run starts from or learns from: their networks, and what they were trained on.

A bundle records its parents with theirs, so what its weights have seen can be followed to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from space.hub.bundle import open_bundle
from space.hub.card import CARD, read_card
from space.hub.download import ModelError, sha256_of
from training.data.samples import splits_overlap
from training.data.sources import DataError, public_name
from training.recipe import FILE, Recipe
from training.recipe import load as load_recipe


@dataclass(frozen=True)
class Parent:
    """A model that gave a run its initial weights or taught it."""

    role: str  # "init" or "teacher"
    model: str  # as given
    sha256: str | None  # of its weights
    record: dict | None  # what `lineage` returns of it; None if it has none

    def as_dict(self) -> dict:
        """Plain values for a bundle's provenance, without paths of this machine."""
        return {
            "role": self.role,
            "model": public_name(self.model),
            "sha256": self.sha256,
            **(self.record or {"train": None, "protocol": None, "parents": []}),
        }


def lineage(card: dict) -> dict:
    """What a bundle's weights have seen: train (names of datasets), protocol, and parents with the same each."""
    provenance = card["provenance"]
    return {
        "train": [dataset["dataset"] for dataset in provenance["datasets"]] if provenance["epochs_run"] else [],
        "protocol": card["metrics"]["split"]["protocol"],
        "license": card["license"],
        "parents": provenance["parents"],
    }


def read(recipe: Recipe) -> list[Parent]:
    """The parents of a recipe's run.

    Raises:
        ModelError: a model is unavailable.
    """
    models = [("init", recipe.init)] if recipe.init not in ("imagenet", "none") else []
    return [_read(role, model) for role, model in [*models, *(("teacher", model) for model in recipe.teacher)]]


def _read(role: str, model: str) -> Parent:
    path = Path(model)
    if not path.is_file():
        bundle = open_bundle(model, keras=True)
        weights = bundle.folder / "model.weights.h5"
        digest = sha256_of(weights if weights.is_file() else bundle.model_path)
        return Parent(role, model, digest, lineage(bundle.card))
    if (path.parent / CARD).is_file():
        return Parent(role, model, sha256_of(path), lineage(read_card(path.parent)))
    if (path.parent / FILE).is_file():  # a checkpoint in a run's folder
        recipe = load_recipe(path.parent / FILE)
        record = {"train": list(recipe.train), "protocol": recipe.protocol, "license": None}
        return Parent(role, model, sha256_of(path), {**record, "parents": [p.as_dict() for p in read(recipe)]})
    return Parent(role, model, sha256_of(path), None)


def protocols(record: dict) -> set[str | None]:
    """The protocols that a model and all its ancestors were trained under; None stands for unknown."""
    own = {record["protocol"]} if record["train"] != [] else set()
    return own.union(*(protocols(parent) for parent in record["parents"]))


def check_no_leakage(parents: list[Parent], protocol: str) -> None:
    """DataError if a parent, or one of its ancestors, was trained on faces that this run validates or tests with."""
    for parent in parents:
        option = f"--{parent.role} {parent.model}"
        for trained in protocols(parent.as_dict()):
            if trained is None:
                print(
                    f"{option} has no training record. If it was trained on this run's test faces, the results will be "
                    "too optimistic."
                )
            elif splits_overlap(trained, protocol, ("validation", "test")):
                raise DataError(
                    f"{option} was trained with {trained}, which includes faces in the validation or test split of "
                    f"{protocol}: use a recipe with protocol = {trained!r}, or choose another model."
                )


def load_network(model: str):
    """The Keras network of a bundle that predicts a distribution of ages.

    Raises:
        ModelError: the model is unavailable or has no weights that Keras can take.
        DataError: it predicts one age.
    """
    from training.model.files import load_keras

    bundle = open_bundle(model, keras=True)
    network = load_keras(bundle.folder)
    if "age_probs" not in network.output:
        raise DataError(f"{model} predicts a single age, not a distribution: choose another teacher.")
    return network


def load_initial(network, model: str) -> bool:
    """Load the weights of a model or of a weights file into `network`.

    Returns:
        Whether it is the whole network, heads included.

    Raises:
        ModelError: the model is unavailable.
        ValueError: its weights don't fit.
    """
    from training.model.files import load_keras
    from training.model.networks import load_weights

    if Path(model).is_file() or model.endswith((".h5", ".keras")):
        return load_weights(network, model)
    trained = load_keras(open_bundle(model, keras=True).folder)
    if [w.shape for w in trained.weights] != [w.shape for w in network.weights]:
        raise ModelError(f"The weights of {model} don't fit the network {network.name!r} of the recipe.")
    network.set_weights(trained.get_weights())
    return True
