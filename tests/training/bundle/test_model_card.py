"""The model card of a finished run says what ran, and what it gave."""

from __future__ import annotations

import json
import shlex

import pytest
from huggingface_hub import ModelCard

from space.hub.bundle import MODELS
from space.hub.card import CARD
from training.bundle import model_card
from training.bundle.model_card import render


def test_the_hub_gets_the_figures_of_the_test_faces(trained):
    metrics = json.loads((trained / "bundle" / CARD).read_text())["metrics"]
    results = {r.metric_type: r for r in ModelCard.load(trained / "bundle" / "README.md").data.eval_results}
    assert results["mae"].metric_value == round(metrics["age_mae"]["value"], 3)
    assert results["cs5"].metric_value == round(metrics["cs5"]["value"], 4)
    assert results["accuracy"].metric_value == round(metrics["gender_accuracy"]["value"], 4)


@pytest.fixture
def card(trained) -> dict:
    return json.loads((trained / "bundle" / CARD).read_text())


def test_figures_that_may_be_too_good_say_so_and_are_not_called_held_out(card):
    assert "held-out faces of" in render(card) and "too optimistic" not in render(card)
    card["metrics"]["doubt"] = "learned from another copy of UTKFace, which is split differently"
    assert "held-out faces of" not in render(card) and "not used for training" not in render(card)
    card["metrics"]["learned"] = False
    assert "never learned from" not in render(card) and "none of its faces" not in render(card)
    doubt = card["metrics"]["doubt"]
    assert f"This model, or one of its parent models, {doubt}. The results may be too optimistic." in render(card)


@pytest.mark.parametrize(
    ("initial", "mean_of", "words"),
    [
        (True, [], "No epoch lowered the validation error"),
        (False, [0, 1, 3], "the mean of the stage's initial weights, branch 1 and branch 3."),
        (False, [2], None),
        (False, [], None),
    ],
)
def test_the_card_tells_what_became_of_the_epochs(card, initial, mean_of, words):
    card["provenance"]["weights"] = {"initial": initial, "mean_of": mean_of}
    text = render(card)
    assert words is None or words in text
    assert ("No epoch lowered" in text) == initial and ("are the mean of" in text) == (len(mean_of) > 1)


def test_a_calibration_that_was_kept_is_the_initial_model_s(card):
    assert "Fitted on" in render(card) and "Kept from" not in render(card)
    card["provenance"]["calibrated_by"] = "compact"
    assert "Kept from compact, because this run had too few validation faces. Fitted on" in render(card)


def test_faces_of_a_selection_are_not_called_the_hub_s_dataset(card):
    """The made-up faces have UTKFace's names, but are too few to be a copy of it."""
    assert card["metrics"]["collection"] == "UTKFace"
    assert "py97/UTKFace-Cropped" not in render(card)
    for entry in (card["metrics"], *(dataset["report"] for dataset in card["provenance"]["datasets"])):
        entry["rows"] = 20_000
    assert "--dataset py97/UTKFace-Cropped" in render(card) and "- py97/UTKFace-Cropped: " in render(card)


@pytest.mark.parametrize(("n", "named"), [(29, False), (30, True)])
def test_the_weakest_group_has_thirty_faces_at_least(card, n, named):
    group = {"n": 500, "gender_accuracy": {"value": 0.9}, "age_mae": {"value": 4.0}}
    weak = {"n": n, "gender_accuracy": {"value": 0.5}, "age_mae": {"value": 9.0}}
    card["metrics"]["by"] = {"age band": {"20-29": group, "30-39": group, "60-69": weak}}
    text = model_card._failures(card["metrics"])
    assert ("`60-69` (MAE 9.0 years)" in text) == named


def test_every_source_of_the_weights_is_named():
    record = {"collection": "UTKFace", "learned": True}
    parent = {"datasets": [{"collection": "FairFace", "learned": True}], "parents": []}
    unknown = {"datasets": None, "parents": []}
    text = model_card._sources({"datasets": [record], "parents": [parent, unknown]})
    assert text.startswith("The weights are derived from FairFace (") and "They are also derived from UTKFace (" in text
    assert text.endswith("They are also derived from faces with an unknown license.")
    assert model_card._sources({"datasets": [], "parents": []}) == "The weights are untrained."


@pytest.mark.parametrize("limit", [0, 300])
def test_a_command_repeats_the_selection_of_faces(card, limit):
    card["metrics"]["split"] |= {"limit": limit, "seed": 7, "protocol": "60/20/20", "policy": "all"}
    command = next(line for line in render(card).splitlines() if line.startswith("python training/evaluate.py"))
    words = shlex.split(command)
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options.pop("--model") and options.pop("--dataset")
    expected = {"--limit": "300", "--seed": "7"} if limit else {}
    assert options == {"--protocol": "60/20/20", "--policy": "all"} | expected
    assert ("at most 300 faces" in render(card)) == bool(limit)


def test_figures_by_group_follow_the_dataset_that_they_are_of():
    card = json.loads((MODELS / "compact" / CARD).read_text())
    first, *_ = [part for part in render(card).split("\n### ") if "training/evaluate.py" in part]
    assert first.count("`groups.csv` has these figures") == render(card).count("`groups.csv` has these figures") == 1


def test_a_local_copy_of_photos_is_asked_for_again(card):
    photos = json.loads((MODELS / "compact" / CARD).read_text())["metrics"]["others"][0]
    card["metrics"]["others"] = [photos]
    assert "with the same copy of the photos in the folder `FairFace`" in render(card)
    assert "--dataset FairFace " in render(card)
    card["metrics"]["others"] = [photos | {"dataset": "HuggingFaceM4/FairFace", "revision": "abc"}]
    assert "same copy" not in render(card) and "--dataset HuggingFaceM4/FairFace " in render(card)
