"""The figures that people read are those of the bundle, and the bundle's are true."""

from __future__ import annotations

import json

import pytest

from space.hub.bundle import DEFAULT, MODELS, embedded
from space.hub.card import CARD
from tests.support import ROOT, shared
from tests.support.app import python
from training.bundle import licenses, model_card
from training.data.load import load_samples
from training.data.samples import dataset_hash
from training.evaluation.tables import rows

NAMES = embedded()
CARDS = {name: json.loads((MODELS / name / CARD).read_text(encoding="utf-8")) for name in NAMES}
FIGURES = {name: card["metrics"] for name, card in CARDS.items()}
# Years, gender, FairFace gender and band or next; "open" has never seen UTKFace.
BARS = {"open": (6.2, 0.91, 0.875, 0.92)}
PHOTOS = {
    name: next(m for m in metrics["others"] if m["collection"] == "FairFace") for name, metrics in FIGURES.items()
}


def figures(metrics: dict) -> list[str]:
    """The row of all faces, as the documents show it."""
    return [cell for cell in rows(metrics)[1] if cell != "all"]


def under_20(photos: dict) -> float:
    """Gender accuracy of the three bands below 20 years together."""
    bands = [photos["by"]["age band"][name] for name in ("0-2", "3-9", "10-19")]
    right = sum(band["n"] * band["gender_accuracy"]["value"] for band in bands)
    return right / sum(band["n"] for band in bands)


def worst_race(photos: dict) -> tuple[str, float]:
    races = {name: group["gender_accuracy"]["value"] for name, group in photos["by"]["race"].items()}
    return min(races.items(), key=lambda item: item[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("document", ["README.md", "training/RESULTS.md", "space/models/NAME/README.md"])
def test_documents_agree_with_the_bundles(document, name):
    text = (ROOT / document.replace("NAME", name)).read_text(encoding="utf-8")
    assert any(all(figure in line for figure in figures(FIGURES[name])) for line in text.splitlines())
    photos = PHOTOS[name]
    for figure in figures(photos)[1:]:  # the number of faces is written with a comma in some places
        assert figure in text, figure


@pytest.mark.parametrize("name", NAMES)
def test_what_results_says_of_groups_is_the_bundle_s(name):
    photos = PHOTOS[name]
    race, accuracy = worst_race(photos)
    text = (ROOT / "training/RESULTS.md").read_text(encoding="utf-8")
    row = f"{100 * accuracy:.1f} ({race}) | {100 * under_20(photos):.1f} |"
    assert row in text, row
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    children = FIGURES[DEFAULT]["by"]["age band"]["0-2"]["gender_accuracy"]["value"]
    assert f"({100 * children:.0f}% accuracy at ages 0 to 2)" in readme


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_made_from_the_bundle(name):
    text = (MODELS / name / "README.md").read_text(encoding="utf-8")
    assert text == model_card.render(CARDS[name])
    assert "/root" not in text and "/work" not in json.dumps(CARDS[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_networks_are_good_enough(name):
    """On the whole clean test split, chosen on validation; the bars are a little below what was measured."""
    metrics = FIGURES[name]
    whole = {"name": "test", "protocol": "80/10/10", "policy": "clean", "limit": None, "seed": 0}
    assert metrics["split"] == whole
    years, gender, photos, bands = BARS.get(name, (4.35, 0.94, 0.91, 0.945))
    assert metrics["age_mae"]["value"] < years and metrics["gender_accuracy"]["value"] > gender
    assert PHOTOS[name]["gender_accuracy"]["value"] > photos
    assert PHOTOS[name]["age_band_or_next"]["value"] > bands
    # On UTKFace's and on FairFace's test faces.
    assert metrics["interval_coverage"]["value"] >= 0.78 and metrics["gender_ece"] < 0.02
    assert PHOTOS[name]["interval_coverage"]["value"] >= 0.78
    bands = [group for group in metrics["by"]["age band"].values() if group["n"] >= 50]
    if metrics["learned"]:  # else the intervals are calibrated on other faces
        assert len(bands) == 9 and min(group["interval_coverage"]["value"] for group in bands) >= 0.72


def test_the_open_network_and_all_its_parents_learned_from_fairface_alone():
    provenance = CARDS["open"]["provenance"]
    assert set(licenses.collections(provenance)) == {"FairFace"} and provenance["parents"] == []
    assert CARDS["open"]["license"] == licenses.FAIRFACE
    assert not FIGURES["open"]["learned"] and PHOTOS["open"]["learned"]
    for other in {*NAMES} - {"open"}:
        assert "UTKFace" in licenses.collections(CARDS[other]["provenance"])
        assert CARDS[other]["license"] == licenses.UTKFACE


@pytest.mark.parametrize("name", NAMES)
def test_it_was_trained_on_training_faces_only(utkface, name):
    """The bundle names its faces by content: they are the splits of the real data, which share no picture."""
    datasets = {dataset["collection"]: dataset["faces"] for dataset in CARDS[name]["provenance"]["datasets"]}
    samples, _ = load_samples(utkface)
    for split, found in datasets["UTKFace"].items():
        part = samples.split(split)
        assert found == {"n": len(part), "sha256": dataset_hash(part)}
    known = datasets["FairFace"]["train"]["n"]
    photographs = load_samples(shared("data/FairFace"))[0].split("train")
    assert known <= len(photographs) < 1.02 * known  # but for those without a face


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "vgg16"])  # which takes minutes: by hand
def test_evaluation_reprints_the_recorded_figures(utkface, name):
    result = python("training/evaluate.py", "--model", name, "--dataset", utkface)
    assert result.returncode == 0, result.stderr
    assert "match those recorded in the bu" in result.stdout


@pytest.mark.slow
def test_evaluation_of_photographs_reprints_the_recorded_figures(tmp_path):
    result = python(
        "training/evaluate.py", "--model", DEFAULT, "--dataset", shared("data/FairFace"),
        "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    measured = json.loads((tmp_path / "figures.json").read_text())
    for name in ("age_band", "age_band_or_next", "gender_accuracy"):
        assert measured[name]["value"] == pytest.approx(PHOTOS[DEFAULT][name]["value"], abs=0.001)
    assert measured["n"] == PHOTOS[DEFAULT]["n"]
