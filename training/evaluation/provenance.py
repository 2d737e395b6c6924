"""Which faces a model was trained on, as its bundle or run records it."""

from __future__ import annotations

import json
from pathlib import Path

from space.hub.bundle import open_bundle
from space.hub.card import CARD, read_card
from space.hub.download import ModelError


def trained_under(model: str) -> str | None:
    """The protocol that a model was trained under, as its bundle or run records it; None without a record.

    Raises:
        ModelError: there is no such model, or its bundle's card is damaged.
    """
    path = Path(model)
    if model.endswith((".onnx", ".h5", ".keras")) and not path.is_file():
        raise ModelError(f"No model at {model}: specify an existing file, a bundle folder, or a Hub id.")
    if path.is_file() and not (path.parent / CARD).is_file():
        try:
            return str(json.loads((path.parent / "config.json").read_text(encoding="utf-8"))["protocol"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    card = read_card(path.parent) if path.is_file() else open_bundle(model).card
    try:
        return str(card["metrics"]["split"]["protocol"])
    except (KeyError, TypeError):
        return None
