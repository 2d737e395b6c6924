"""The browser page's modules, which the app's page shares: results and the Live tab are written once, in `browser/`."""

from __future__ import annotations

import json
from pathlib import Path

from ..annotate import COLORS

BROWSER = Path(__file__).resolve().parent.parent.parent / "browser"
NAMES = (
    "annotate.js", "camera.js", "cards.js", "downloads.js", "face.js", "languages.js", "live-socket.js", "live-view.js",
    "photo.js", "preferred.js", "result.js", "scroll.js", "strip.js", "text.js", "zoom.js",
)  # fmt: skip
PREFERRED = BROWSER / "preferred.js"  # which language the page is in
STYLES = BROWSER / "results.css"
_TABLES = [f"languages/{path.name}" for path in sorted((BROWSER / "languages").glob("*.json"))]  # besides English
# All that the app reads of `browser/`.
FILES = tuple(BROWSER / name for name in (*NAMES, *_TABLES, "results.css", "live.html", "live.css", "about.html"))
_FAILED = "Part of the page couldn't be loaded. Check the network, then reload the page."


def label_words(language: str) -> dict[str, str]:
    """What labels on images say in a language, for `annotate.label`; empty, which is English, for unknown languages and
    for Chinese, whose signs the font lacks."""
    name = f"languages/{language}.json"
    if name not in _TABLES or language == "zh":
        return {}
    table = json.loads((BROWSER / name).read_text(encoding="utf-8"))
    return {word: table[word] for word in COLORS}


def route():
    """A Starlette route that serves the modules at /browser/."""
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Route

    async def module(request):
        name = request.path_params["name"]
        if name not in (*NAMES, *_TABLES):
            return PlainTextResponse("Not found", 404)
        kind = "application/json" if name in _TABLES else "text/javascript"
        # Browsers ask each time whether it has changed: an update of the app never mixes two versions.
        return FileResponse(BROWSER / name, media_type=kind, headers={"cache-control": "no-cache"})

    return Route("/browser/{name:path}", module)


def script(names: list[str], use: str, *values) -> str:
    """JavaScript for `js_on_load` of a gr.HTML.

    Args:
        names: modules to load.
        use: a JavaScript function, called with the list of modules, an object with what Gradio gives to `js_on_load`,
            and `values`.
    """
    addresses = json.dumps([f"browser/{name}" for name in names])
    given = ", ".join(["modules", "{element, props, trigger}", *map(json.dumps, values)])
    return f"""const root = (window.gradio_config?.root || location.origin + location.pathname).replace(/[/]*$/, "/");
const load = (name) => import(new URL(name, root).href), loading = {addresses}.map(load);
const loaded = load("browser/languages.js").then(({{chosen}}) => chosen()).then(() => Promise.all(loading));
loaded.then((modules) => ({use})({given})).catch((error) => {{
  console.error(error);
  element.textContent = {json.dumps(_FAILED)};
}});"""
