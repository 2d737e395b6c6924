"""The model card (README.md of a bundle and of its Hub repository), from the bundle's own JSON alone.

Nothing in a card is typed by hand: a figure that is not in the JSON is not in the card.
"""

from __future__ import annotations

import shlex

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from training import evaluate
from training.data import RACES
from training.sources import DATASET, FAIRFACE

_ARCHITECTURES = {
    "vgg16": """VGG16 without its top (13 convolutions; Simonyan & Zisserman 2014, [arXiv 1409.1556](https://arxiv.org/abs/1409.1556)). Its 6 × 6 × 512
output is flattened (18,432 values) and feeds two branches, age and gender, each of fully connected layers of 512, 512
and 32 with dropout and one batch normalisation, then the output.""",
    "compact": """A small residual network (He et al. 2015, [arXiv 1512.03385](https://arxiv.org/abs/1512.03385)) after two convolutions of stride 2. Its
last feature map is summed with a learned weight for each position, since faces are aligned (Chen et al. 2018, arXiv
1804.07573). Age and gender share the features.""",
}
_HEADS = {
    "distribution": "a probability for each age from 0 to 101 years, and their expected value",
    "regression": "one linear unit, trained with the mean absolute error",
}


_KERAS = """
The same network for Keras 3, from `config.json`, `metadata.json` and `model.weights.h5`:

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
        library_name="keras",
        pipeline_tag="image-classification",
        tags=["age-estimation", "gender-classification", "face", "onnx", card["network"]],
        datasets=[name for name in (_dataset(card), _pretrained_on(card)) if name and "/" in name] or None,
        metrics=["mae", "accuracy"],
        model_name=name.split("/")[-1],
        eval_results=_eval_results(card),
    )
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_body(card, name)}"))


def _dataset(card: dict) -> str:
    """The Hub id of the faces; of a local copy only that it was UTKFace: its path says nothing to a reader."""
    given = card["provenance"]["dataset"]
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
    split = metrics["split"]
    report = provenance["data_report"]
    recipe = "\n".join(
        f"| {key.replace('_', ' ')} | {value} |" for key, value in _settings(provenance["recipe"]).items()
    )
    packages = ", ".join(f"{package} {version}" for package, version in provenance["packages"].items())
    dropped = ", ".join(f"{count} {reason}" for reason, count in {**report["rejected"], **report["dropped"]}.items())
    limit = f", at most {split['limit']} faces of it" if split["limit"] else ""
    epochs = f"{provenance['epochs_run']} epoch{'s' * (provenance['epochs_run'] != 1)}"
    if not provenance["epochs_run"]:
        epochs = "No epochs in this command: it exports weights that were trained before (training/RESULTS.md)"
    faces = ", ".join(f"{entry['n']:,} {part}" for part, entry in provenance["faces"].items())
    second, and_second = provenance.get("pretrain"), ""
    if second:
        rows = second["data_report"]["rows"]
        and_second = (
            f" Beside them {second['train']['n']:,} train faces of {FAIRFACE} ({rows:,} rows), cut from photographs."
        )
    calibration = (
        "Not calibrated: there is no `age_low` and `age_high`, and the gender probability is the network's own."
    )
    if card["calibration"]:
        tables = card["calibration"]
        photos = metrics.get("fairface") or {}
        elsewhere = (
            f" and {100 * photos['interval_coverage']['value']:.1f}% on FairFace's test faces, where a band counts as "
            "the age spread evenly over it"
            if "interval_coverage" in photos
            else ""
        )
        calibration = f"""Fitted on {tables["faces"]:,} validation faces. The interval aims to contain
{100 * tables["age"]["coverage"]:.0f}% of labelled ages (split conformal prediction for each band of true ages, in units
of the distribution's spread). On UTKFace's test faces {100 * metrics["interval_coverage"]["value"]:.1f}% of labelled
ages fell inside it{elsewhere}. Its mean width is {metrics["interval_width"]["value"]:.1f} years. On other collections
fewer ages may fall inside.
The gender logit is divided by {tables["gender"]["temperature"]:.3f}; the expected calibration error on test is
{100 * metrics["gender_ece"]:.1f}%.

{_figures(card, ("calibration", "Calibration"))}"""
    return f"""# Apparent age and gender of faces: {card["network"]}

Estimates the apparent age and gender of a face. On {
        metrics["n"]:,} held-out UTKFace faces the mean absolute error of age
is {metrics["age_mae"]["value"]:.2f} years and the gender accuracy {100 * metrics["gender_accuracy"]["value"]:.1f}%.

## Use

Photos, with one file of this repository (`pip install huggingface_hub numpy onnxruntime opencv-python-headless`). It finds
the faces, aligns them and calibrates the output:

```python
import sys
import cv2
from huggingface_hub import snapshot_download
sys.path.append(snapshot_download("{name}", allow_patterns=["predict.py", "age_gender.json", "{card["serve"]}"]))
from predict import Predictor
print(Predictor().predict(cv2.cvtColor(cv2.imread("photo.jpg"), cv2.COLOR_BGR2RGB)))
```

With the kit's app: `python app.py --model {name}`.

Input `face`: uint8 [N, 200, 200, 3] RGB, framed as in UTKFace (`crop` in `age_gender.json`). Outputs: `age` float32 [N]
in years, `p_female` float32 [N]{", `age_probs` float32 [N, 102]" if card["age_head"] == "distribution" else ""}.
{_KERAS.format(name=name) if "model.weights.h5" in card["files"] else ""}

## Network

{_ARCHITECTURES[card["network"]]}
{card["parameters"]:,} parameters. Age head: {_HEADS[card["age_head"]]}. Scaling is part of the graph{
        ", and so is the mean over the answers for a face and for its mirror image"
        if provenance["recipe"].get("mirror")
        else ""
    }.
{_served(card)}

## Training

```
{provenance["command"]}
```

| setting | value |
| --- | --- |
{recipe}

{epochs}; {faces} faces of {_dataset(card)} ({report["rows"]:,} rows; left out:
{dropped or "none"}).{and_second}
Commit {provenance["commit"] or "unknown"}, {provenance["date"]}, Python {provenance["python"]}, {packages}.

## Results

Split `{split["name"]}` of {split["protocol"]} by content hash, policy `{split["policy"]}`{limit}: no picture is in two
splits, and the epoch was chosen on `validation`. 95 % bootstrap intervals in brackets; CS@5 is the share of ages within
5 years; the baseline always answers the training median and the commoner gender.

{_table(metrics)}

For {evaluate.gender_line(metrics)}. The same table again:

```
{_evaluation(card, name)}
```

{_figures(card, ("curves", "Training"), ("ages", "Errors by age"), ("groups", "By race, gender and age band"))}

{"`groups.csv` has these figures by race × gender × age band." if "groups.csv" in card["files"] else ""}
{_beyond(card, name)}
## Calibration

{calibration}

## Intended use, and what it must not be used for

For research, teaching and demonstrations: anonymous statistics of apparent age, showing what such networks do and where
they fail. It estimates appearance; it does not know anyone's age, gender or identity. Do not use it to make decisions
about people (access, age checks, hiring, insurance, policing), to infer gender identity, or on people who did not
consent.

## Known failures

{_failures(metrics)}
- Blurred, dark, turned and covered faces cost accuracy (`training/robustness.py` measures how much); make-up, filters
  and drawings were not measured. Expect larger errors at the same confidence.
- UTKFace's ages and genders are themselves estimates, with two genders only and five groups of origin
  ({", ".join(RACES)}); its mistakes are learned too.

## Licence

The weights derive from UTKFace (Zhang, Song & Qi 2017, [arXiv 1702.08423](https://arxiv.org/abs/1702.08423)), which is for
non-commercial research only; so are they.{
        " They also derive from FairFace (Kärkkäinen & Joo 2021, [arXiv 1908.04913](https://arxiv.org/abs/1908.04913)), which is CC BY 4.0."
        if second
        else ""
    } The kit's
code is MIT.
"""


def _settings(recipe: dict) -> dict:
    """The recipe as rows of a table."""
    shares = {"grey": "turned grey", "blur": "blurred", "jpeg": "compressed", "erase": "covered in part"}
    rows = {name: value for name, value in recipe.items() if name != "augment"}
    for name, value in recipe["augment"].items():
        rows[f"augmentation: share {shares[name]}" if name in shares else f"augmentation: {name}"] = (
            value if name in shares or name == "grain" else f"± {value}"
        )
    return rows


def _served(card: dict) -> str:
    """Which file is served, and what quantization costs."""
    record = card["quantization"]
    before, after = record["float32"], record["int8"]
    kept = f", {len(record['kept_float'])} layers left in float" if record["kept_float"] else ""
    gender = " → ".join(f"{100 * scores['gender_accuracy']:.2f}" for scores in (before, after))
    return f"""
The app serves `{card["serve"]}`: {record["reason"]}. Static quantization, per channel, ranges from {record["faces"]}
training faces{kept}. On {record["validation_faces"]} validation faces, float32 → int8: age MAE
{before["age_mae"]:.3f} → {after["age_mae"]:.3f} years, gender {gender}%, one face
{before["ms"]:.1f} → {after["ms"]:.1f} ms on the
machine that exported it.
"""


def _figures(card: dict, *figures: tuple[str, str]) -> str:
    """Those figures that the bundle has."""
    return "\n".join(
        f"![{caption}](figures/{name}.png)" for name, caption in figures if f"figures/{name}.png" in card["files"]
    )


def _beyond(card: dict, name: str) -> str:
    """The figures on FairFace's photographs, where they were measured."""
    figures = card["metrics"].get("fairface")
    if not figures:
        return ""
    split, given = figures["split"], card["provenance"]["pretrain"]
    limit = f", at most {split['limit']} faces of it" if split["limit"] else ""
    # The path of a local copy says nothing to a reader.
    revision = given["data_report"].get("revision")
    source = given["dataset"] if given["dataset"] == FAIRFACE or revision else FAIRFACE
    return f"""
### Beyond UTKFace

Photographs of FairFace (split `{split["name"]}` of {split["protocol"]} by content hash{limit}; not trained on), faces
found and cropped by YuNet like a user's photos. Their ages are known as bands of years. Splits go by bytes: of another
copy of FairFace, of another size or compression, other faces are in this split, and some of them may have been trained
on.

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
                f"- By {kind}: ages are worst for {age} ({sizable[age]['age_mae']['value']:.1f} years off), genders "
                f"for {gender} ({100 * sizable[gender]['gender_accuracy']['value']:.1f} % as labelled)."
            )
    return "\n".join(lines) or "- Too few test faces to say which groups fare worst."


def _table(metrics: dict) -> str:
    header, *lines = evaluate.rows(metrics)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ("---",) * len(header), *lines))
