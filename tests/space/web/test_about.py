"""The About tab's table of models."""

from __future__ import annotations

import re
from types import SimpleNamespace

from space.web.about import about_html
from space.web.tabs.about import describe


def row(card: dict) -> list[str]:
    return re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", about_html([SimpleNamespace(card=card)], "").split("<tbody>")[1])


def test_a_row_has_the_figures_of_the_card():
    metrics = {
        "n": 2303,
        "collection": "faces <of> UTKFace\x1b",
        "age_mae": {"value": 4.184},
        "gender_accuracy": {"value": 0.9492},
        "interval_coverage": {"value": 0.8811},
    }
    cells = row({"name": "<b>mine", "network": "compact", "metrics": metrics, "license": {"name": "cc-by-4.0"}})
    faces = "2,303 of faces &lt;of&gt; UTKFace\N{REPLACEMENT CHARACTER}"
    assert cells == ["&lt;b&gt;mine", faces, "4.18 years", "94.9%", "88.1%", "cc-by-4.0"]


def test_a_model_of_age_bands_has_no_error_in_years():
    metrics = {"n": 12, "gender_accuracy": {"value": 0.9}, "interval_coverage": {"value": 0.8}}
    assert row({"name": "mine", "metrics": metrics}) == [
        "mine",
        "12 of an unnamed dataset",
        "–",
        "90.0%",
        "80.0%",
        "unknown",
    ]


def test_faces_that_a_model_may_have_learned_from_are_marked():
    metrics = {"n": 12, "collection": "UTKFace", "gender_accuracy": {"value": 0.9}, "interval_coverage": {"value": 0.8}}
    doubtful = metrics | {"doubt": "learned from another copy of UTKFace, which is split differently"}
    note = "<p>* The training images may include some of these faces."
    plain = {"name": "plain", "metrics": metrics | {"doubt": None}}
    for card, faces in ((plain, "12 of UTKFace"), ({"name": "mine", "metrics": doubtful}, "12 of UTKFace*")):
        assert row(card)[1] == faces
        text = about_html([SimpleNamespace(card=plain), SimpleNamespace(card=card)], "")
        assert (note in text) == faces.endswith("*") and "not used" not in text


def test_the_text_on_photos_is_put_in():
    text = about_html([], "<p>Photos stay here.</p>")
    assert "<p>Photos stay here.</p>" in text and "{" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_the_figures_of_the_model_are_those_of_its_card(analyzer):
    text = describe(analyzer)
    for words in (
        "mean absolute error for age is 4.2 years and the gender accuracy is 94.9%.",
        "for 88% of these faces and is 16 years wide",
        "below 75%",
        "up to 97%",
    ):
        assert words in text
