"""A network's Keras files: the members of a `.keras` archive, which is what `hf://user/name` loads."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from space.hub.download import ModelError

KERAS_FILES = ("config.json", "metadata.json", "model.weights.h5")


def save_keras(network, folder: Path) -> None:
    """Write a network as the members of its `.keras` archive."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "model.keras"
        network.save(archive)
        with zipfile.ZipFile(archive) as members:
            for name in KERAS_FILES:
                members.extract(name, folder)


def load_keras(folder: Path):
    """The network that `save_keras` wrote; ModelError if the folder has none."""
    import keras

    folder = Path(folder)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "model.keras"
        try:
            with zipfile.ZipFile(archive, "w") as members:
                for name in KERAS_FILES:
                    members.write(folder / name, name)
            return keras.saving.load_model(archive, compile=False)
        except FileNotFoundError as error:
            raise ModelError(f"{folder} has no Keras weights ({Path(error.filename).name} is missing).") from error
