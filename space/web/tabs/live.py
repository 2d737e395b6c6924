"""The live tab: the visitor's camera. What it does in the browser is `live.js`, on the server `space/live.py`."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_SCRIPT = (Path(__file__).resolve().parent / "live.js").read_text(encoding="utf-8")
_TEMPLATE = """
<div class="live-stage">
  <video class="live-video live-mirrored" playsinline muted aria-label="The camera's picture"></video>
  <canvas class="live-overlay" aria-hidden="true"></canvas>
</div>
<div class="live-controls">
  <button type="button" class="live-start">Start the camera</button>
  <label><input type="checkbox" class="live-mirror" checked> Mirror</label>
  <select class="live-camera" aria-label="Camera" hidden></select>
</div>
<p class="live-status" role="status">The camera's picture is analyzed on the server and not kept.</p>
<p class="live-rate"></p>
<ul class="live-people" aria-label="Everyone in the picture"></ul>
"""
# Heights are fixed, so that nothing moves while it streams.
_CSS = """
.live-stage {position: relative; width: min(100%, 96vh, 960px); aspect-ratio: 4 / 3; margin: 0 auto;
  background: #111; border-radius: 8px; overflow: hidden}
.live-video, .live-overlay {position: absolute; inset: 0; width: 100%; height: 100%}
.live-video {object-fit: contain}
.live-mirrored {transform: scaleX(-1)}
.live-overlay {pointer-events: none}
.live-controls {display: flex; flex-wrap: wrap; gap: 12px; align-items: center; justify-content: center; margin: 12px 0}
.live-start {padding: 10px 22px; border: 0; border-radius: 8px; font-weight: 600; cursor: pointer; color: #fff;
  background: #1d4ed8}
.live-start:focus-visible {outline: 3px solid #93c5fd}
.live-start:disabled {opacity: 0.6}
.live-mirror {appearance: auto !important; width: 16px; height: 16px; vertical-align: middle}
.live-camera {padding: 6px; max-width: 60%; border-radius: 6px; color: var(--body-text-color);
  background: var(--input-background-fill); border: 1px solid var(--border-color-primary)}
.live-rate {min-height: 1.6em; text-align: center; margin: 0; font-variant-numeric: tabular-nums}
.live-status {min-height: 1.6em; text-align: center; margin: 0; font-variant-numeric: tabular-nums}
.live-alarm {font-weight: 600; color: var(--error-text-color, #b91c1c)}
.live-people {min-height: 6em; list-style: none; padding: 0; margin: 0 auto; max-width: 24em;
  font-variant-numeric: tabular-nums}
"""


def tab() -> None:
    """Build the tab."""
    gr.HTML(html_template=_TEMPLATE, css_template=_CSS, js_on_load=_SCRIPT, elem_id="live", apply_default_css=False)
