"""The model card of a finished run says what ran, and what it gave."""

from __future__ import annotations

import json

from huggingface_hub import ModelCard

from space.hub.card import CARD


def test_the_hub_gets_the_figures_of_the_test_faces(trained):
    metrics = json.loads((trained / "bundle" / CARD).read_text())["metrics"]
    results = {r.metric_type: r for r in ModelCard.load(trained / "bundle" / "README.md").data.eval_results}
    assert results["mae"].metric_value == round(metrics["age_mae"]["value"], 3)
    assert results["cs5"].metric_value == round(metrics["cs5"]["value"], 4)
    assert results["accuracy"].metric_value == round(metrics["gender_accuracy"]["value"], 4)
