"""The page and its API, in Gradio: the frame around `space/web/tabs/`. Knows no more than which tabs there are."""

from __future__ import annotations

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from space.analyzer import FaceAnalyzer
from space.web import guard
from space.web.live_server import PATH, LiveServer
from space.web.tabs import about, folder, photo, video
from space.web.tabs import api as programs
from space.web.tabs import live as live_tab

TITLE = "Apparent age and gender"
INTRO = f"""# {TITLE}
Estimate the apparent age and gender of every face in a photo, a live camera, a video or a folder.
See About for the model and its accuracy.
"""
CAUTION = """These are a neural network's estimates from appearance alone, trained on labels that are themselves
estimates. They are often wrong. Do not use them to make decisions about people. What you send is analyzed on this
server, deleted after about an hour or when it stops, and sent nowhere else."""

# System fonts: the page asks no other server for anything.
THEME = gr.themes.Soft(
    primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(  # darker than the theme's own, so that text stands out as WCAG asks
    block_label_text_color="*primary_800",
    block_title_text_color="*primary_800",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
)
CSS = """
.caution {font-size: 0.95em}
.people {list-style: none; padding: 0; margin: 0; display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr))}
.person {display: flex; gap: 12px; padding: 12px; border-radius: 10px; font-size: 0.9em;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill)}
.person img {width: 96px; height: 96px; border-radius: 8px; flex: none}
.person > div {flex: 1; min-width: 0; display: flex; flex-direction: column; gap: 3px}
.person strong {font-size: 1.1em}
.person svg {width: 100%; max-height: 90px}
.person rect {fill: rgb(86, 180, 233); opacity: 0.45}
.person polyline {fill: none; stroke: var(--body-text-color); stroke-width: 1}
.person line {stroke: rgb(213, 94, 0); stroke-width: 1.5}
.person line.axis {stroke: var(--body-text-color-subdued); stroke-width: 0.5}
.person text {font-size: 8px; text-anchor: middle; fill: var(--body-text-color)}
.bar {height: 8px; border-radius: 4px; background: var(--border-color-primary); overflow: hidden}
.bar .female {height: 100%; background: rgb(213, 94, 0)}
.bar .male {height: 100%; background: rgb(0, 114, 178)}
/* Trimming would fetch a program from another server. */
#video button[title^="Trim"], #video button[title^="Reset"] {display: none}
.figures {display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr))}
.figures img {max-width: 100%; background: #fff; border-radius: 8px}
"""


def build(analyzer: FaceAnalyzer) -> gr.Blocks:
    """The whole page; launch it with `launch_options()`."""
    guard.tame()
    # Uploads and results are deleted within the hour: looked for every 5 minutes, when older than 55.
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(300, 3300)) as page:
        gr.Markdown(INTRO)
        if analyzer.note:
            gr.Markdown(f"⚠️ {analyzer.note.splitlines()[0]}", elem_id="note")
        with gr.Tab("Photo"):
            photo.tab(analyzer, page)
        with gr.Tab("Live"):
            live_tab.tab()
        with gr.Tab("Video"):
            video.tab(analyzer)
        with gr.Tab("Folder"):
            folder.tab(analyzer)
        with gr.Tab("API"):
            programs.tab(page)
        with gr.Tab("About") as selected:
            about.tab(analyzer, selected)
        gr.Markdown(CAUTION, elem_classes="caution")
        gr.Markdown(about.describe(analyzer), elem_classes="caution", elem_id="model")
    # Later visitors are told that it is busy instead of filling the memory, and nothing runs beside the queue.
    page.queue(max_size=64, api_open=False)
    return page


def launch_options(
    analyzer: FaceAnalyzer, *, root_path: str = "", hosts: frozenset[str] | None = None, login: bool = False
) -> dict:
    """What `Blocks.launch` must be given beside address and port; the others: as for `guard.Guard`."""
    return {
        "root_path": root_path or None,
        "theme": THEME,
        "css": CSS,
        # The page needs nothing of visitors' sessions. Gradio keeps 10,000 of 0.2 MB; each call of the API is one more.
        "state_session_capacity": 100,
        "run_history": False,  # it would keep visitors' calls in their browser
        "ssr_mode": False,
        "max_file_size": video.MAX_BYTES,  # of any upload; photos have a limit of their own
        "footer_links": ["api"],
        "show_error": True,
        "enable_monitoring": False,
        "app_kwargs": {
            "routes": [WebSocketRoute(PATH, LiveServer(analyzer).serve)],
            "middleware": [Middleware(guard.Guard, root_path=root_path, hosts=hosts, login=login)],
            "exception_handlers": {RequestValidationError: guard.validation_error},
        },
    }
