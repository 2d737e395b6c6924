"""The page and its API, in Gradio: the frame around `tabs/`. Knows no more than which tabs there are."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import WebSocketRoute

from ..analyzer import FaceAnalyzer
from ..annotate import COLORS
from ..live.server import PATH, LiveServer
from ..sandbox.client import Sandbox
from ..text import CAUTION, TITLE
from ..video.limits import MAX_BYTES
from . import access, fetching, gradio_patches, guard, modules, uploads
from .components import MAX_QUEUED
from .reader import Reader
from .tabs import about, api, folder, live, photo, video

DESCRIPTION = (
    "Estimate the apparent age and gender of every face in photos, live camera streams, videos and folders of images."
)
UPLOADS = (
    "Uploads are analyzed on this server, deleted within an hour or when the server stops, and not sent anywhere else."
)
# Gradio's own words are in the page's language.
LANGUAGE = f"""{modules.PREFERRED.read_text(encoding="utf-8")}
Object.defineProperty(navigator, "language", {{get: () => pageLanguage.code === "zh" ? "zh-CN" : pageLanguage.code}});
addEventListener("DOMContentLoaded", () => {{ document.title ||= {TITLE!r}; }}); // the login page has none
"""
HEAD = f"""<meta name="description" content="{DESCRIPTION}">
<meta property="og:title" content="{TITLE}"><meta property="og:description" content="{DESCRIPTION}">
<meta property="og:type" content="website"><meta name="twitter:card" content="summary">"""

# System fonts: the page asks no other server for anything.
THEME = gr.themes.Soft(
    primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    body_background_fill="*neutral_100",
    body_background_fill_dark="*neutral_950",
    block_background_fill="white",
    block_background_fill_dark="*neutral_900",
    block_border_width="1px",
    block_border_color="*neutral_300",
    block_border_color_dark="*neutral_700",
    border_color_primary="*neutral_300",
    border_color_primary_dark="*neutral_700",
    border_color_accent="*primary_400",
    border_color_accent_dark="*primary_500",
    block_shadow="none",
    checkbox_border_color="*neutral_500",
    checkbox_border_color_dark="*neutral_400",
    checkbox_background_color="white",
    # Darker than the theme's own, so that text stands out as WCAG asks.
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_label_text_color="*primary_800",
    block_label_text_color_dark="white",
    block_title_text_color="*primary_800",
    block_title_text_color_dark="white",
    block_label_background_fill_dark="*primary_800",
    block_title_background_fill_dark="*primary_800",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
)
_HERE = Path(__file__).resolve().parent
_VARIABLES = " ".join(f"--{name}: rgb{color};" for name, color in COLORS.items())
CSS = f":root {{{_VARIABLES}}}\n" + "".join(
    path.read_text(encoding="utf-8") for path in (_HERE / "page.css", modules.STYLES, modules.BROWSER / "live.css")
)
SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")


def build(analyzer: FaceAnalyzer, sandbox: Sandbox, *, allow_urls: bool = False) -> gr.Blocks:
    """The whole page; launch it with `launch_options()`. `allow_urls`: whether to fetch images that visitors name."""
    gradio_patches.patch_gradio()
    gradio_patches.run_before_gradio(LANGUAGE)
    reader = Reader(sandbox)
    with gradio_patches.Page(title=TITLE, analytics_enabled=False) as page:
        page.fetch = fetching.fetch if allow_urls else None
        gr.Markdown(f"# {TITLE}\n{DESCRIPTION}", elem_id="head")
        gr.HTML('<select id="language" aria-label="Language"></select>', elem_id="languages", apply_default_css=False)
        language = gr.Textbox(visible=False)
        page.load(None, None, language, js="() => pageLanguage.code", api_visibility="private")
        with gr.Tabs():
            with gr.Tab("Photo", id="photo"):
                photo.tab(analyzer, reader, links=allow_urls)
            with gr.Tab("Live", id="live"):
                live.tab()
            with gr.Tab("Video", id="video"):
                video.tab(analyzer, reader, language)
            with gr.Tab("Folder", id="folder"):
                folder.tab(analyzer, reader, language)
            with gr.Tab("API", id="api"):
                api.tab(page)
            with gr.Tab("About", id="about") as selected:
                about.tab(analyzer, selected)
        gr.Markdown(f"{CAUTION}\n\n{UPLOADS}", elem_classes="caution")
        gr.Markdown(about.describe(analyzer), elem_classes="caution", elem_id="model")
        page.load(None, None, None, js=SCRIPT, api_visibility="private")
    # Later visitors are told that it is busy instead of filling the memory, and nothing runs beside the queue.
    page.queue(max_size=MAX_QUEUED, api_open=False)
    return page


def sweep_regularly(page: gr.Blocks, every: float = 300.0) -> None:
    """Delete what visitors left, every so many seconds, until the program ends: nothing is older than an hour then."""

    def sweep() -> None:
        while True:
            time.sleep(every)
            # Files of the page itself.
            kept = {os.path.realpath(path) for block in page.blocks.values() for path in block.keep_in_cache}
            uploads.sweep(kept)
            for files in page.temp_file_sets:  # those that Gradio serves
                files -= {path for path in list(files) if not os.path.exists(path)}

    threading.Thread(target=sweep, daemon=True).start()


def launch_options(
    analyzer: FaceAnalyzer,
    sandbox: Sandbox,
    *,
    root_path: str = "",
    hosts: frozenset[str] | None = None,
    allowed: frozenset[str] = frozenset(),
) -> dict:
    """`Blocks.launch` arguments besides address and port; `root_path`, `hosts`, `allowed`: as for `access.Origins`."""
    return {
        "root_path": root_path or None,
        "theme": THEME,
        "css": CSS,
        "head": HEAD,
        # The page needs nothing of visitors' sessions. Gradio keeps 10,000 of 0.2 MB; each call of the API is one more.
        "state_session_capacity": 100,
        "max_threads": MAX_QUEUED + 16,  # photos that wait keep a thread
        "run_history": False,  # it would keep visitors' calls in their browser
        "ssr_mode": False,
        "max_file_size": MAX_BYTES,  # of any upload; photos have a limit of their own
        "footer_links": ["api"],
        "show_error": True,
        "enable_monitoring": False,
        "app_kwargs": {
            "routes": [
                WebSocketRoute(PATH, LiveServer(analyzer, sandbox, access.signed_in, access.key_of).serve),
                modules.route(),
            ],
            "middleware": [
                Middleware(CORSMiddleware, allow_origins=list(allowed), allow_methods=["*"], allow_headers=["*"]),
                Middleware(guard.Guard, root_path=root_path, hosts=hosts, allowed=allowed),
            ],
            "exception_handlers": {RequestValidationError: guard.validation_error},
        },
    }
