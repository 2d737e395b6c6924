"""The card of a stranger's model on the page: without HTML, foreign images, or what only its own page needs."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest

from space.hub.download import ModelError
from space.web import model_card

README = """---
license: other
---
# USER/NAME

![Errors by age](figures/errors.png)
![tracker](https://example.com/x.png) ![by name][x] ![short]

## Use
from huggingface_hub import snapshot_download

## Limits
<script>alert(1)</script> & <img src=x>
![Missing](figures/gone.png)
"""


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    (tmp_path / "figures/errors.png").write_bytes(b"png")
    listed = ("README.md", "figures/errors.png", "figures/gone.png")
    card = {"name": "mine", "files": {name: {"sha256": name} for name in listed}}
    return SimpleNamespace(card=card, folder=tmp_path, revision=None, source="you/mine")


def test_text_and_figures(bundle):
    text, figures = model_card.about(bundle)
    assert text.startswith("# mine\n") and "snapshot_download" not in text and "## Limits" in text
    assert figures == [("Errors by age", "data:image/png;base64," + base64.b64encode(b"png").decode())]


def test_nothing_of_a_strangers_text_is_html_or_an_image(bundle):
    text, _ = model_card.about(bundle)
    assert "<" not in text and "&lt;script>" in text
    assert "![" not in text and "example.com" not in text
    assert "[tracker] [by name] [short]" in text


def test_long_cards_are_cut(bundle):
    (bundle.folder / "README.md").write_text("x" * 3 * model_card.MAX_CHARACTERS, encoding="utf-8")
    assert model_card.about(bundle)[0] == "x" * model_card.MAX_CHARACTERS


def test_documents_of_a_hub_model_are_fetched_with_their_hash(bundle, monkeypatch, tmp_path):
    asked = []

    def hub_file(source, name, revision, *, sha256):
        asked.append((source, name, revision, sha256))
        if name == "figures/gone.png":
            raise ModelError("gone")
        (tmp_path / "fetched.png").write_bytes(b"fetched")
        return revision, tmp_path / "fetched.png"

    monkeypatch.setattr(model_card, "hub_file", hub_file)
    (bundle.folder / "figures/errors.png").unlink()
    assert model_card.about(bundle)[1] == []  # not of the Hub
    assert not asked
    bundle.revision = "abc"
    _, ((_, figure),) = model_card.about(bundle)
    assert base64.b64decode(figure.partition(",")[2]) == b"fetched"
    assert asked[0] == ("you/mine", "figures/errors.png", "abc", "figures/errors.png") and len(asked) == 2


def test_a_model_without_a_listed_card(bundle):
    del bundle.card["files"]["README.md"]
    assert model_card.about(bundle) == ("you/mine has no readable model card.", [])
