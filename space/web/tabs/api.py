"""The tab for programmers: `api.md`, with the address that the page was opened at."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_TEXT = (Path(__file__).resolve().parent / "api.md").read_text(encoding="utf-8")
_ADDRESS = """(text) => text.replaceAll("http://127.0.0.1:7860",
  (window.gradio_config?.root || location.origin).replace(/\\/$/, ""))"""


def tab(page: gr.Blocks) -> None:
    """Build the tab."""
    text = gr.Markdown(_TEXT, elem_id="programs", elem_classes="notranslate")
    page.load(None, text, text, js=_ADDRESS, api_visibility="private")
