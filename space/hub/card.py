"""`age_gender.json`, a bundle's card: read and checked before anything in it is used.

A bundle may come from a stranger. What is checked here can be used as it is: names are plain, paths stay in the bundle,
numbers are finite.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from .download import ModelError

FORMAT = 1  # of age_gender.json; raised when an older reader would misread a bundle
CARD = "age_gender.json"
MAX_BYTES = 5_000_000  # of the card; ours have 36 kB
MAX_NAME, MAX_FOLDERS = 200, 4  # characters and parts of a file's path in the bundle
MAX_ANCESTORS = 50  # generations of a training record
ROLES = frozenset(
    "onnx-float32 onnx-int8 keras keras-config keras-metadata keras-weights document figure recipe".split()
)
LICENSES = {  # of weights, by the name that the Hub shows: what they mean for users
    "utkface-non-commercial-research": "The weights are for non-commercial research only, because they are "
    "derived from UTKFace.",
    "cc-by-4.0": "The weights are licensed under CC BY 4.0. You may use them for any purpose, including commercially, "
    "with attribution.",
}
UNKNOWN_LICENSE = "The licenses of the training data determine how you may use the weights."
DATASETS = {  # of collections: their ids on the Hub, under which a local copy is published
    "UTKFace": "py97/UTKFace-Cropped",
    "FairFace": "HuggingFaceM4/FairFace",  # Kärkkäinen & Joo 2021, arXiv 1908.04913; CC BY 4.0
}
COLLECTION = 10_000  # images that a local copy of a collection has at least; fewer are somebody's selection
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_card(folder: Path) -> dict:
    """A bundle's card, of a format that this reader knows and with all that it must have.

    Raises:
        ModelError: the card is missing or invalid; the message says why and what to do.
    """
    path = folder / CARD
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is too large to be the card of a model bundle.")
        card = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{folder} isn't a model bundle: it has no {CARD}.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({error}): download or export it again.") from error
    version = card.get("format") if isinstance(card, dict) else None
    if not _is_integer(version):
        raise ModelError(f"{path} is not the card of a model bundle.")
    if version > FORMAT:
        raise ModelError(
            f"The bundle in {folder} has format {version}, but this app reads up to {FORMAT}: update the app."
        )
    try:
        _check(card)
    except KeyError as error:
        raise ModelError(f"{path} is missing {error}: download or export it again.") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path} is not the card of a model bundle: {error}.") from error
    if card["serve"] not in card["files"]:
        raise ModelError(
            f"{path} names {card['serve']} as the served file but doesn't list it: download or export it again."
        )
    return card


def license_of(card: dict) -> tuple[str, str]:
    """The license of a bundle's weights: its name, and a sentence on what it allows."""
    entry = card.get("license") or {}
    name = entry.get("name") or entry.get("id") or "unknown"
    return name, LICENSES.get(name, UNKNOWN_LICENSE)


def hub_id(dataset: dict) -> str | None:
    """The Hub id of a dataset of the provenance or of the metrics; None for faces that the Hub doesn't have."""
    if dataset.get("revision"):
        return dataset.get("dataset")
    rows = (dataset.get("report") or dataset).get("rows")
    selection = isinstance(rows, int) and rows < COLLECTION
    return None if selection else DATASETS.get(dataset.get("collection") or "")


def learned(record: dict) -> list[str]:
    """The Hub ids of the datasets that a model and its ancestors learned from, as far as they are known.

    Args:
        record: the provenance of a bundle, or a parent of it. A stranger's may lack anything.
    """
    ids = [hub_id(dataset) for dataset in record.get("datasets") or () if dataset.get("learned")]
    ids += [id for parent in record.get("parents") or () for id in learned(parent)]
    return [id for id in dict.fromkeys(ids) if id and "/" in id]


def _refuse(name: str) -> float:
    raise ValueError(f"{name} isn't valid JSON")


def _check(card: dict) -> None:
    """Raise KeyError for what is missing, and another error, which says what is wrong, for the rest."""
    if not (isinstance(card["network"], str) and _NAME.fullmatch(card["network"])):
        raise ValueError("the network's name must have at most 64 letters, digits, _, . and -")
    entry = card.get("license") or {}
    for value in (card["name"], entry.get("id") or "none", entry.get("name") or "none"):
        if not (isinstance(value, str) and _NAME.fullmatch(value)):
            raise ValueError("the name of the model or of its license isn't a plain name")
    if not isinstance(card["serve"], str):
        raise ValueError("the name of the served file has the wrong type")
    for name, entry in card["files"].items():
        parts = PurePosixPath(name).parts
        plain = name == "/".join(parts) and all(_NAME.fullmatch(part) for part in parts)
        if not plain or not 0 < len(parts) <= MAX_FOLDERS or len(name) > MAX_NAME:
            raise ValueError(f"it lists {name[:100]!r}, which is outside the bundle or not a plain name")
        if not (isinstance(entry["sha256"], str) and _SHA256.fullmatch(entry["sha256"])):
            raise ValueError(f"the SHA-256 of {name} is invalid")
        if entry.get("role") not in ROLES:
            raise ValueError(f"the role of {name} is unknown")
    served = card["files"].get(card["serve"])
    if served and not served["role"].startswith("onnx"):
        raise ValueError("the served file isn't an ONNX network")
    _check_crop(card["crop"])
    _check_calibration(card["calibration"])
    _check_metrics(card["metrics"])
    _check_record(card.get("provenance") or {})


def _check_crop(crop: dict) -> None:
    if not (_is_integer(crop["size"]) and 16 <= crop["size"] <= 1024):
        raise ValueError("the crop template's size must be 16 to 1024 pixels")
    points = crop["landmarks"]
    if not (isinstance(points, list) and len(points) == 5 and all(len(point) == 2 for point in points)):
        raise ValueError("the crop template must have five landmarks")
    places = [value for point in points for value in point]
    _check_numbers("a landmark of the crop template", *places)
    if max(map(abs, places)) > 10 * crop["size"]:
        raise ValueError("a landmark of the crop template is far outside of the crop")


def _check_calibration(tables: dict) -> None:
    age = tables["age"]
    columns = [age[key] for key in ("at", "temperature", "log_weight")]
    if not all(isinstance(column, list) and 0 < len(column) == len(columns[0]) <= 200 for column in columns):
        raise ValueError("the calibration tables have the wrong type or different lengths")
    (at, temperatures, weights), gender = columns, tables["gender"]["temperature"]
    numbers = (age["coverage"], age["level"], gender, *at, *temperatures, *weights)
    _check_numbers("a value of the calibration", *numbers)
    if not (all(low < high for low, high in pairwise(at)) and 0 < age["level"] < 1):
        raise ValueError("the calibration's ages must increase and its level be between 0 and 1")
    # Beyond these, exponentials overflow.
    if not all(0.001 <= value <= 1e6 for value in (gender, *temperatures)) or max(map(abs, weights)) > 100:
        raise ValueError("the calibration's temperatures must be 0.001 to 1,000,000, its weights -100 to 100")


def _check_metrics(metrics: dict) -> None:
    """The figures that the page and the tools show."""
    if not _is_integer(metrics["n"]):
        raise ValueError("the number of test faces has the wrong type")
    if not all(isinstance(metrics.get(key) or "", str) for key in ("collection", "doubt")):
        raise ValueError("the name of the test faces, or the doubt about them, has the wrong type")
    ages = [key for key in ("age_mae", "age_band") if key in metrics]  # of exact ages, or of bands
    for key in (*ages, "gender_accuracy", "interval_coverage", "interval_width"):
        _check_numbers(f"the metric {key}", metrics[key]["value"])


def _check_record(record: dict, depth: int = 0) -> None:
    """Check the training record of a model, or of an ancestor."""
    datasets, parents = record.get("datasets") or [], record.get("parents") or []
    lists = isinstance(datasets, list) and isinstance(parents, list)
    if depth > MAX_ANCESTORS or not (lists and isinstance(record.get("protocol") or "", str)):
        raise ValueError("a training record has the wrong form")
    for dataset in datasets:
        names = [dataset.get(key) or "" for key in ("dataset", "collection", "revision")]
        parts = [dataset.get(key) or {} for key in ("report", "faces", "held_out", "copies")]
        if not (all(isinstance(name, str) for name in names) and all(isinstance(part, dict) for part in parts)):
            raise ValueError("a dataset of a training record has the wrong form")
        if not all(_is_integer(count) for count in parts[-1].values()):
            raise ValueError("the number of copies in a training record has the wrong type")
    for parent in parents:
        _check_record(parent, depth + 1)


def _is_integer(value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_numbers(what: str, *values) -> None:
    for value in values:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{what} must be a finite number")
