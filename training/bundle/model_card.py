"""The model card (README.md of a bundle and of its Hub repository): `model_card.md`, filled in from the bundle's JSON.

No figure is typed by hand: what the JSON lacks, the card lacks.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from space.text import counted
from training.data.samples import RACES
from training.data.sources import DATASET, FAIRFACE
from training.evaluation.tables import gender_line, rows

_TEMPLATE = Path(__file__).with_name("model_card.md")
EXAMPLE = "example.jpg"  # an averaged face, shown by the Hub's widget
_ARCHITECTURES = {
    "vgg16": """VGG16 without its top (13 convolutions; Simonyan & Zisserman 2014,
[arXiv 1409.1556](https://arxiv.org/abs/1409.1556)). Its output, 6 × 6 × 512, is flattened and feeds two branches, age and
gender, each with fully connected layers of 512, 512 and 32 units, dropout and one batch normalization.""",
    "compact": """Two convolutions of stride 2, then a small residual network (He et al. 2015,
[arXiv 1512.03385](https://arxiv.org/abs/1512.03385)). Its last feature map is pooled with one
learned weight per position, because faces
are aligned (Chen et al. 2018, [arXiv 1804.07573](https://arxiv.org/abs/1804.07573)). Age and gender share the features.""",
}
_HEADS = {
    "distribution": "a probability for each age from 0 to 101 years; the estimate is the expected value",
    "regression": "one linear unit, trained with the mean absolute error",
}


_EXPORTED = ("age_head", "mirror", "sharpness")  # settings of the recipe that an export alone applies
_KERAS = """
To load the same model in Keras 3 (from `config.json`, `metadata.json` and `model.weights.h5`):

```python
import keras
network = keras.saving.load_model("hf://{name}")
```
"""


def render(card: dict, repo_id: str | None = None) -> str:
    """The card as markdown with YAML metadata.

    Args:
        card: what `age_gender.json` holds; of `files` only the names matter.
        repo_id: where it will be published, for the examples of use.

    Raises:
        KeyError: the JSON lacks something that every bundle has.
    """
    name = repo_id or "USER/NAME"
    metadata = ModelCardData(
        license="other",
        license_name="utkface-non-commercial-research",
        license_link="https://susanqq.github.io/UTKFace/",
        library_name="keras" if _has_keras(card) else "onnx",
        pipeline_tag="image-classification",
        tags=["age-estimation", "gender-classification", "face", "onnx", card["network"]],
        datasets=[name for name in (_dataset(card), _pretrained_on(card)) if name and "/" in name] or None,
        metrics=["mae", "accuracy"],
        model_name=name.split("/")[-1],
        widget=[{"src": EXAMPLE, "example_title": "An averaged face (not a real person)"}]
        if EXAMPLE in card["files"]
        else None,
        eval_results=_eval_results(card),
    )
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_body(card, name)}"))


def _has_keras(card: dict) -> bool:
    """Whether `keras.saving.load_model("hf://…")` can load the bundle."""
    return {"config.json", "metadata.json", "model.weights.h5"} <= set(card["files"])


def _dataset(card: dict) -> str:
    """The Hub id of the dataset. A local copy of UTKFace gets UTKFace's id, and other local faces get "utkface"."""
    given = card["provenance"]["dataset"]
    if "utkface" in given.lower() and "/" not in given:
        return DATASET
    return given if given == DATASET or card["provenance"]["data_report"].get("revision") else "utkface"


def _pretrained_on(card: dict) -> str | None:
    """The Hub id of the second set of faces, None without one. A local copy is FairFace's too."""
    return FAIRFACE if card["provenance"].get("pretrain") else None


def _eval_results(card: dict) -> list[EvalResult]:
    metrics = card["metrics"]
    split = metrics["split"]
    where = dict(
        task_type="image-classification",
        task_name="Apparent age and gender",
        dataset_type=_dataset(card),
        dataset_name=f"UTKFace, {split['protocol']} by content hash, {split['policy']}"
        + (f", at most {split['limit']} faces" if split["limit"] else ""),
        dataset_split=split["name"],
        dataset_revision=card["provenance"]["data_report"].get("revision"),
    )
    figures = (
        ("mae", "Age MAE, years", metrics["age_mae"]["value"], 3),
        ("cs5", "Age within 5 years", metrics["cs5"]["value"], 4),
        ("accuracy", "Gender accuracy", metrics["gender_accuracy"]["value"], 4),
    )
    return [
        EvalResult(metric_type=type_, metric_name=label, metric_value=round(value, digits), **where)
        for type_, label, value, digits in figures
    ]


def _body(card: dict, name: str) -> str:
    metrics, provenance = card["metrics"], card["provenance"]
    split, report, second = metrics["split"], provenance["data_report"], provenance.get("pretrain")
    dropped = (f"{count} ({reason})" for reason, count in {**report["rejected"], **report["dropped"]}.items())
    ran = provenance["epochs_run"]
    # Without training, only the settings of the export took effect.
    recipe = _settings(
        provenance["recipe"] if ran else {k: v for k, v in provenance["recipe"].items() if k in _EXPORTED}
    )
    settings = "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in recipe.items())
    return _TEMPLATE.read_text(encoding="utf-8").format(
        name=name,
        network=card["network"],
        serve=card["serve"],
        n=metrics["n"],
        mae=metrics["age_mae"]["value"],
        gender=100 * metrics["gender_accuracy"]["value"],
        probs=", `age_probs` float32 [N, 102]" if card["age_head"] == "distribution" else "",
        keras=_KERAS.format(name=name) if _has_keras(card) else "",
        failures=_failures(metrics),
        races=", ".join(RACES),
        split=split["name"],
        protocol=split["protocol"],
        policy=split["policy"],
        limit=_limit(split),
        table=_table(metrics),
        gender_line=gender_line(metrics),
        evaluation=_evaluation(card, name),
        figures=_figures(card, ("ages", "Errors by age"), ("groups", "By race, gender and age band")),
        groups="`groups.csv` has these figures for every combination of race, gender and age band."
        if "groups.csv" in card["files"]
        else "",
        fairface=_fairface(card, name),
        calibration=_calibration(card),
        architecture=_ARCHITECTURES[card["network"]],
        parameters=card["parameters"],
        age_head=_HEADS[card["age_head"]],
        mirror=" and averaging over a face and its mirror image" if provenance["recipe"].get("mirror") else "",
        served=_served(card),
        epochs=f"{ran} epoch{'s' * (ran != 1)}"
        if ran
        else "The command below exports previously trained weights (see training/RESULTS.md)",
        faces=", ".join(f"{entry['n']:,} {part}" for part, entry in provenance["faces"].items()),
        dataset=_dataset(card),
        rows=report["rows"],
        dropped=", ".join(dropped) or "none",
        second=f" Also {second['train']['n']:,} training faces "
        f"from {FAIRFACE} ({second['data_report']['rows']:,} rows), "
        "cropped from photos."
        if second
        else "",
        command=provenance["command"],
        settings=f"{settings}\n\n{_figures(card, ('curves', 'Training'))}",
        commit=provenance["commit"] or "unknown",
        date=provenance["date"],
        python=provenance["python"],
        packages=", ".join(f"{package} {version}" for package, version in provenance["packages"].items()),
        second_licence=" They are also derived from FairFace (Kärkkäinen & Joo 2021, "
        "[arXiv 1908.04913](https://arxiv.org/abs/1908.04913)), which is licensed under CC BY 4.0."
        if second
        else "",
    )


def _limit(split: dict) -> str:
    return f", at most {split['limit']} faces" if split["limit"] else ""


def _calibration(card: dict) -> str:
    metrics, tables = card["metrics"], card["calibration"]
    if not tables:
        return "Not calibrated: `age_low` and `age_high` are absent, and the gender probability is the network's own."
    photos = metrics.get("fairface") or {}
    elsewhere = ""
    if "interval_coverage" in photos:
        elsewhere = (
            f" On FairFace test faces it is {100 * photos['interval_coverage']['value']:.1f}%, assuming that ages are "
            "uniformly distributed within each band."
        )
    return f"""Fitted on {tables["faces"]:,} validation faces{" from UTKFace and FairFace" if photos else ""}.
The interval targets {100 * tables["age"]["coverage"]:.0f}%
coverage (split conformal prediction by true age band, scaled by the spread of the predicted distribution). On UTKFace
test faces the coverage is {100 * metrics["interval_coverage"]["value"]:.1f}%.{elsewhere} The mean interval width is
{metrics["interval_width"]["value"]:.1f} years. On other data the coverage may be lower.

Gender is calibrated by temperature scaling (temperature {tables["gender"]["temperature"]:.3f}). The
expected calibration error on the test split is {100 * metrics["gender_ece"]:.1f}%.

{_figures(card, ("calibration", "Calibration"))}"""


def _settings(recipe: dict) -> dict:
    """The recipe as rows of a table."""
    shares = {"gray": "in grayscale", "blur": "blurred", "jpeg": "compressed", "erase": "partly covered"}
    rows = {
        name: f"{value:.4g}" if isinstance(value, float) else value
        for name, value in recipe.items()
        if name != "augment"
    }
    for name, value in recipe.get("augment", {}).items():
        rows[f"augmentation: share {shares[name]}" if name in shares else f"augmentation: {name}"] = (
            value if name in shares or name == "grain" else f"± {value}"
        )
    return rows


def _served(card: dict) -> str:
    """Which file is served, and what quantization costs."""
    record = card["quantization"]
    before, after = record["float32"], record["int8"]
    kept = f" ({counted(len(record['kept_float']), 'layer')} kept in float32)" if record["kept_float"] else ""
    gender = " → ".join(f"{100 * scores['gender_accuracy']:.2f}" for scores in (before, after))
    return f"""The app serves `{card["serve"]}`: {record["reason"]}. Quantization is static and per channel, with ranges
from {record["faces"]} training faces{kept}. On {record["validation_faces"]} validation faces, float32 → int8: age MAE
{before["age_mae"]:.3f} → {after["age_mae"]:.3f} years, gender {gender}%. On the export machine, one face takes
{before["ms"]:.1f} → {after["ms"]:.1f} ms."""


def _figures(card: dict, *figures: tuple[str, str]) -> str:
    """Those figures that the bundle has."""
    return "\n".join(
        f"![{caption}](figures/{name}.png)" for name, caption in figures if f"figures/{name}.png" in card["files"]
    )


def _fairface(card: dict, name: str) -> str:
    """The figures on FairFace's photos, where they were measured."""
    figures = card["metrics"].get("fairface")
    if not figures:
        return ""
    split, given = figures["split"], card["provenance"]["pretrain"]
    # The path of a local copy says nothing to a reader.
    revision = given["data_report"].get("revision")
    source = given["dataset"] if given["dataset"] == FAIRFACE or revision else FAIRFACE
    return f"""
### FairFace

FairFace photos (`{split["name"]}` split, {split["protocol"]} by content hash{_limit(split)}; not used for training).
YuNet detects the faces, as in the app. The labels are age bands. Splits depend on the bytes of the files: a copy of
FairFace with a different image size or compression has different faces in this split, some of
which may have been used for training.

{_table(figures)}

```
{_command(name, source, revision, split)}
```
"""


def _evaluation(card: dict, name: str) -> str:
    """The command that prints the results again."""
    provenance = card["provenance"]
    revision = provenance["data_report"].get("revision")
    return _command(name, provenance["dataset"] if revision else DATASET, revision, card["metrics"]["split"])


def _command(name: str, dataset: str, revision: str | None, split: dict) -> str:
    words = ["python", "training/evaluate.py", "--model", name, "--dataset", dataset]
    words += ["--dataset-revision", revision] if revision else []
    words += ["--protocol", split["protocol"], "--policy", split["policy"]]
    return shlex.join(
        words + (["--limit", str(split["limit"]), "--seed", str(split["seed"])] if split["limit"] else [])
    )


def _failures(metrics: dict) -> str:
    """The groups that fare worst, from the figures."""
    lines = []
    for kind, members in metrics["by"].items():
        sizable = {name: group for name, group in members.items() if group["n"] >= 30}
        if len(sizable) > 1:
            age = max(sizable, key=lambda name: sizable[name]["age_mae"]["value"])
            gender = min(sizable, key=lambda name: sizable[name]["gender_accuracy"]["value"])
            lines.append(
                f"- By {kind}: the age error is largest for `{age}` (MAE "
                f"{sizable[age]['age_mae']['value']:.1f} years), and "
                f"the gender accuracy is lowest for `{gender}` "
                f"({100 * sizable[gender]['gender_accuracy']['value']:.1f}%)."
            )
    return "\n".join(lines) or "- Too few test faces to compare groups."


def _table(metrics: dict) -> str:
    header, *lines = rows(metrics)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ("---",) * len(header), *lines))
