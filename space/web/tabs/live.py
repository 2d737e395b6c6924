"""The Live tab: the visitor's camera. It runs `browser/live-view.js`, which talks to `space/live/server.py`."""

from __future__ import annotations

import gradio as gr

from .. import modules


def tab() -> None:
    """Build the tab."""
    html = (modules.BROWSER / "live.html").read_text(encoding="utf-8")
    html = html.replace("PRIVACY", "Frames are analyzed on this server and not stored.")
    script = modules.script(
        ["live-view.js", "live-socket.js"],
        "([{default: liveView}, {default: openSocket}], {element}) => liveView(element, openSocket)",
    )
    gr.HTML(html_template=html, js_on_load=script, elem_id="live", apply_default_css=False)
