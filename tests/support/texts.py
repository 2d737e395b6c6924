"""The texts of both pages, as the language tables name them."""

from __future__ import annotations

import ast
import json
import re

from space.web.modules import BROWSER
from tests.support import ROOT

TABLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((BROWSER / "languages").glob("*.json"))
}
# What no language translates: numbers, units, names of models, files, licenses and languages.
NAMES = re.compile(
    r"[\d\s.,:·–×()%/+-]*|(compact|open|vgg16):?|cc-by-4.0|utkface-\S+|\S+\.(jpg|mp4)"
    r"|English|Deutsch|Español|Français|中文|[\[{].*",
    re.DOTALL,
)
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`')
_NUMBER = re.compile(r"(?<![\w.])(?<!CC BY )(?<!MPL )\d+(,\d{3})*(\.\d+)?")


def key(text: str) -> str:
    """A text with places for its numbers, as `t` in browser/text.js looks it up."""
    found = iter(range(100))
    return _NUMBER.sub(lambda _: f"{{{next(found)}}}", text)


def in_code() -> set[str]:
    """The texts in all calls of `t` in browser/*.js."""
    found = set()
    for path in set(BROWSER.glob("*.js")) - {BROWSER / "text.js"}:
        code = path.read_text(encoding="utf-8")
        for call in re.finditer(r"(?<![\w.])t\(", code):
            for literal in _LITERAL.findall(re.sub(r'=== "\w+"|\$\("[^"]*"\)', "", _argument(code, call.end()))):
                found.add(key(re.sub(r"\$\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", "0", literal[1:-1])))
    return found


# Modules whose errors visitors of the app can see. Errors that only programs can cause stay in English.
_ERRORS = (
    "photo.py", "sandbox/client.py", "batch/analyze.py", "batch/pictures.py", "video/*.py", "web/fetching.py",
    "web/guard.py", "web/queue.py", "web/reader.py", "web/tabs/photo.py", "live/server.py",
)  # fmt: skip


def errors() -> set[str]:
    """The sentences in the modules that refuse what visitors send, with {} for what changes."""
    found = set()
    for path in (path for pattern in _ERRORS for path in (ROOT / "space").glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = [node.value] if isinstance(node, (ast.Assign, ast.Return)) else []
            if isinstance(node, ast.Call) and re.search(r"(Error|Exception|Closed)$", ast.unparse(node.func)):
                values = node.args
            for value in [part for one in values for part in getattr(one, "elts", [one])]:
                parts = value.values if isinstance(value, ast.JoinedStr) else [value]
                if all(isinstance(part, (ast.FormattedValue, ast.Constant)) for part in parts):
                    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
                    if text.endswith(".") and " " in text:
                        found.add(_NUMBER.sub("{}", text))
    return found


def mark(page) -> None:
    """Give a page in German a made-up language, in which each text of the tables has a mark."""
    marked = {text: re.sub(r"^|(<[^>]*>)", r"\1§", translation) for text, translation in TABLES["de"].items()}
    page.route("**/languages/de.json", lambda route: route.fulfill(json=marked))


def not_marked(page) -> list[str]:
    """The visible texts and names of a page that should have a mark and have none."""
    texts = page.evaluate(
        """() => {
          const found = [document.title];
          const kept = "script, noscript, pre, code, style, [translate=no], .notranslate, .filename";
          const named = /^(alt|label|title|(aria-)?placeholder|aria-(label|description|roledescription|valuetext))$/;
          for (const element of document.body.querySelectorAll("*")) {
            if (element.closest(kept) || !element.checkVisibility()) continue;
            for (const node of element.childNodes)
              if (node.nodeType === Node.TEXT_NODE && node.data.trim()) found.push(node.data.trim());
            for (const {name, value} of element.attributes) if (named.test(name) && value) found.push(value);
          }
          return found;
        }"""
    )
    return [text for text in texts if "§" not in text and not NAMES.fullmatch(text)]


def _argument(code: str, start: int) -> str:
    """The first argument of a call whose parenthesis is before `start`."""
    depth, at = 0, start
    while at < len(code):
        if literal := _LITERAL.match(code, at):
            at = literal.end()
            continue
        if code[at] in "([{":
            depth += 1
        elif code[at] in ")]}" or (code[at] == "," and not depth):
            if not depth:
                break
            depth -= 1
        at += 1
    return code[start:at]
