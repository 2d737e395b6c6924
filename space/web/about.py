"""The short text about models, limitations and licenses, for both pages."""

from __future__ import annotations

from html import escape

from ..hub.bundle import Bundle
from ..hub.card import license_of
from ..text import printable
from .modules import BROWSER

_NOTE = "<p>* The training images may include some of these faces. The results may be too optimistic.</p>\n"


def about_html(bundles: list[Bundle], privacy: str) -> str:
    """HTML with a row for each model; `privacy`: HTML on what happens to photos, which differs between the pages."""
    rows = "".join(map(_row, bundles))
    text = (BROWSER / "about.html").read_text(encoding="utf-8")
    doubts = any(bundle.card["metrics"].get("doubt") for bundle in bundles)
    return text.replace("{PRIVACY}", privacy).replace("{ROWS}", rows).replace("{NOTE}", _NOTE if doubts else "")


def _row(bundle: Bundle) -> str:
    metrics = bundle.card["metrics"]
    faces = f"{metrics['n']:,} of {printable(metrics.get('collection') or 'an unnamed dataset')}"
    texts = [
        faces + ("*" if metrics.get("doubt") else ""),
        f"{metrics['age_mae']['value']:.2f} years" if "age_mae" in metrics else "–",
        *(f"{100 * metrics[key]['value']:.1f}%" for key in ("gender_accuracy", "interval_coverage")),
        license_of(bundle.card)[0],
    ]
    cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
    return f'<tr><th scope="row">{escape(bundle.card["name"])}</th>{cells}</tr>'
