"""The live tab: the visitor's camera. `live.js` is its part in the browser, `space/live/server.py` that on the server."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_HERE = Path(__file__).resolve().parent


def tab() -> None:
    """Build the tab."""
    template, css, script = ((_HERE / f"live.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    template = template.replace("PRIVACY", "Frames are analyzed on this server and not stored.")
    gr.HTML(html_template=template, css_template=css, js_on_load=script, elem_id="live", apply_default_css=False)
