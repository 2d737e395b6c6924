"""A bundle's own card and figures, for the page: its accuracy, overall and by group."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from ..hub.bundle import Bundle
from ..hub.download import ModelError, hub_file

MAX_CHARACTERS = 100_000  # of a card; ours have 13,000
_ANY_IMAGE = re.compile(r"!(\[[^\[\]\n]{0,200}\])(\([^()\n]{0,500}\)|\[[^\[\]\n]{0,200}\])?")  # of another server
_IMAGE = re.compile(r"!\[([\w ,]*)\]\((figures/[\w.-]+\.png)\)\n?")


def about(bundle: Bundle) -> tuple[str, list[tuple[str, str]]]:
    """The model card as markdown without its figures, and they as (caption, `data:` URL).

    Documents of a Hub model are fetched only now; what is unavailable is left out.
    """
    readme = _document(bundle, "README.md")
    if readme is None:
        return f"{bundle.source} has no readable model card.", []
    text = readme.read_text(encoding="utf-8", errors="replace")[:MAX_CHARACTERS]
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    # Whoever reads this uses the model already; commands name a repository that an embedded model does not have.
    text = re.sub(r"## Use\n.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
    text = text.replace("USER/NAME", bundle.card["name"])
    text = text.replace("<", "&lt;")  # a stranger's text: no HTML, which could cover the page
    figures = []
    for caption, name in _IMAGE.findall(text):
        path = _document(bundle, name)
        if path:
            figures.append((caption, "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()))
    return _ANY_IMAGE.sub(r"\1", _IMAGE.sub("", text)), figures


def _document(bundle: Bundle, name: str) -> Path | None:
    """A document that the card lists, whose hash `open_bundle` or the download has checked."""
    entry = bundle.card["files"].get(name)
    if entry is None:
        return None
    if (bundle.folder / name).is_file():
        return bundle.folder / name
    if bundle.revision is None:
        return None
    try:
        return hub_file(bundle.source, name, bundle.revision, sha256=entry["sha256"])[1]
    except ModelError:
        return None
