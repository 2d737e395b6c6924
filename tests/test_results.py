"""The figures that people read are those of the bundle, and the bundle's are true."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT, python

from space.bundle import CARD, EMBEDDED
from training import data, evaluate, model_card

METRICS = json.loads((EMBEDDED / CARD).read_text(encoding="utf-8"))["metrics"]


def figures() -> list[str]:
    """The row of all faces, as the documents show it."""
    return [cell for cell in evaluate.rows(METRICS)[1] if cell != "all"]


@pytest.mark.parametrize("document", ["README.md", "training/RESULTS.md", "space/models/compact/README.md"])
def test_documents_agree_with_the_bundle(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert any(all(figure in line for figure in figures()) for line in text.splitlines()), figures()


def test_the_card_is_made_from_the_bundle():
    card = json.loads((EMBEDDED / CARD).read_text(encoding="utf-8"))
    assert (EMBEDDED / "README.md").read_text(encoding="utf-8") == model_card.render(card)


def test_the_embedded_network_is_good_enough_to_be_the_default():
    """The bar of the first release; on the whole clean test split, chosen on validation."""
    assert METRICS["split"] == {"name": "test", "protocol": "80/10/10", "policy": "clean", "limit": None, "seed": 0}
    assert METRICS["age_mae"]["value"] < 5.5 and METRICS["gender_accuracy"]["value"] > 0.91


def test_it_was_trained_on_training_faces_only(utkface):
    """The bundle names its faces by content: they are the splits of the real data, which share no picture."""
    faces = json.loads((EMBEDDED / CARD).read_text(encoding="utf-8"))["provenance"]["faces"]
    samples, _ = data.load_utkface(utkface)
    for name in data.SPLITS:
        part = samples.split(name)
        assert faces[name] == {"n": len(part), "sha256": data.fingerprint(part)}


def test_evaluation_reprints_the_recorded_figures(utkface):
    result = python("training/evaluate.py", "--model", EMBEDDED, "--dataset", utkface)
    assert result.returncode == 0, result.stderr
    assert "The figures recorded in the bundle are the same." in result.stdout
