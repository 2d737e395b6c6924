"""The texts of the browser page, as its language tables name them."""

from __future__ import annotations

import re

from space.web.modules import BROWSER

LANGUAGES = BROWSER / "languages"
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`')
_NUMBER = re.compile(r"(?<![\w.])\d+(,\d{3})*(\.\d+)?")


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
