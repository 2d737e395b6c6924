"""The browser page's modules, as the app serves them."""

from __future__ import annotations

import json
import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from space.annotate import label
from space.face import Face
from space.web import modules


@pytest.fixture(scope="module")
def client():
    return TestClient(Starlette(routes=[modules.route()]))


def test_every_listed_module_and_language_is_served(client):
    for name in modules.NAMES:
        answer = client.get(f"/browser/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/javascript"), name
    for code in ("de", "es", "fr", "zh"):
        answer = client.get(f"/browser/languages/{code}.json")
        assert answer.json() and answer.headers["cache-control"] == "no-cache"


def test_a_module_imports_only_what_is_served(client):
    for name in modules.NAMES:
        for imported in re.findall(r'(?:from|import|import\() ?"\./([\w./-]+)"', client.get(f"/browser/{name}").text):
            assert client.get(f"/browser/{imported}").status_code == 200, f"{name} imports {imported}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "index.html",
        "worker.js",
        "biome.json",
        "languages/",
        "languages/xx.json",
        "../app.py",
        "%2e%2e/app.py",
        "/etc/passwd",
    ],
)
def test_no_other_file_is_served(client, name):
    assert client.get(f"/browser/{name}").status_code == 404


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", ["weiblich", "männlich", "unsicher"]),
        ("fr", None),
        ("es", None),
        ("zh", []),  # the font has none of its signs
        ("en", []),
        ("xx", []),
        ("../../space/models/compact/age_gender", []),
        (None, []),
    ],
)
def test_labels_are_in_the_languages_of_the_page(language, words):
    found = modules.label_words(language)
    assert sorted(found) in ([], ["female", "male", "uncertain"])
    assert words is None or list(found.values()) == words
    if found:
        face = Face((0, 0, 9, 9), 0.9, age=31.0, p_female=0.01)
        assert label(face, found) == f"{found['male']}, 31" != label(face) == "male, 31"


def test_a_script_loads_its_modules_and_passes_its_values():
    script = modules.script(["cards.js", "zoom.js"], "start", {"threshold": 0.7}, "</b>")
    assert json.dumps(["browser/cards.js", "browser/zoom.js"]) in script
    assert '(start)(modules, {element, props, trigger}, {"threshold": 0.7}, "</b>")' in script
