"""The live tab: the visitor's camera. Its browser part is `live.js`, its server part `space/live/server.py`."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_HERE = Path(__file__).resolve().parent


def tab() -> None:
    """Build the tab."""
    template, css, script = ((_HERE / f"live.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    template = template.replace("PRIVACY", "Frames are analyzed on this server and not stored.")
    gr.HTML(html_template=template, css_template=css, js_on_load=script, elem_id="live", apply_default_css=False)
