"""The model card (README.md of a bundle and of its Hub repository): `model_card.md`, filled in from the bundle's JSON.

All figures come from the JSON. The card omits figures that the JSON lacks.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from space.hub.card import hub_id, learned, license_of
from space.text import counted
from training.bundle import licenses
from training.data.samples import RACES
from training.evaluation.calibrate import MARGIN
from training.evaluation.tables import gate_rows, gender_line, rows
from training.model.files import KERAS_FILES

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


_KERAS = """
To load the same model in Keras 3.12 or later (from `config.json`, `metadata.json` and `model.weights.h5`):

```python
import keras
network = keras.saving.load_model("hf://{name}")
```
"""


def render(card: dict) -> str:
    """The card as markdown with YAML metadata. USER/NAME stands for the repository, which `training.push` puts in.

    Args:
        card: what `age_gender.json` holds; of `files` only the names matter.

    Raises:
        KeyError: the JSON lacks something that every bundle has.
    """
    name, license = "USER/NAME", card["license"]
    metadata = ModelCardData(
        license=license["id"],
        license_name=license["name"],
        license_link=license["link"],
        library_name="keras" if _has_keras(card) else "onnx",
        pipeline_tag="image-classification",
        tags=["age-estimation", "gender-classification", "face", "onnx", card["network"]],
        datasets=learned(card["provenance"]) or None,
        metrics=["mae", "accuracy"],
        model_name=name.split("/")[-1],
        widget=[{"src": EXAMPLE, "example_title": "An average of FairFace photos (CC BY 4.0), not a real person"}]
        if EXAMPLE in card["files"]
        else None,
        eval_results=[result for figures in _all_metrics(card) for result in _eval_results(figures)],
    )
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{_body(card, name)}"))


def _has_keras(card: dict) -> bool:
    """Whether `keras.saving.load_model("hf://…")` can load the bundle."""
    return set(KERAS_FILES) <= set(card["files"])


def _all_metrics(card: dict) -> list[dict]:
    return [card["metrics"], *card["metrics"]["others"]]


def _eval_results(metrics: dict) -> list[EvalResult]:
    split = metrics["split"]
    where = dict(
        task_type="image-classification",
        task_name="Apparent age and gender",
        dataset_type=hub_id(metrics) or "faces",
        dataset_name=f"{metrics['collection'] or metrics['dataset']}, {split['protocol']} by content hash, "
        f"{split['policy']}{_limit(split)}",
        dataset_split=split["name"],
    )
    figures = (
        ("mae", "Age MAE, years", "age_mae", 3),
        ("cs5", "Age within 5 years", "cs5", 4),
        ("accuracy", "Age band accuracy", "age_band", 4),
        ("accuracy", "Gender accuracy", "gender_accuracy", 4),
    )
    return [
        EvalResult(metric_type=type_, metric_name=label, metric_value=round(metrics[key]["value"], digits), **where)
        for type_, label, key, digits in figures
        if key in metrics
    ]


def headline(metrics: dict) -> str:
    """The figures in words: `the mean absolute error for age is 4.18 years and the gender accuracy is 94.9%`."""
    gender = f"the gender accuracy is {100 * metrics['gender_accuracy']['value']:.1f}%"
    if "age_mae" in metrics:
        return f"the mean absolute error for age is {metrics['age_mae']['value']:.2f} years and {gender}"
    return f"{100 * metrics['age_band']['value']:.1f}% of ages are in the right band and {gender}"


def _body(card: dict, name: str) -> str:
    metrics, provenance = card["metrics"], card["provenance"]
    return _TEMPLATE.read_text(encoding="utf-8").format(
        name=name,
        model=card["name"],
        serve=card["serve"],
        summary=" ".join(map(_sentence, _all_metrics(card))),
        license=license_of(card)[1],
        probs=", `age_probs` float32 [N, 102]" if card["age_head"] == "distribution" else "",
        keras=_KERAS.format(name=name) if _has_keras(card) else "",
        failures=_failures(metrics),
        races=", ".join(RACES),
        results="\n".join(_results(card, figures, name) for figures in _all_metrics(card)) + _age_gates(metrics),
        calibration=_calibration(card),
        architecture=_ARCHITECTURES[card["network"]],
        parameters=card["parameters"],
        age_head=_HEADS[card["age_head"]],
        mirror=" and averaging over a face and its mirror image" if card["mirror"] else "",
        served=_served(card),
        training=_training(card),
        code=_code(provenance, name),
        commit=_commit(provenance),
        date=provenance["date"],
        python=provenance["python"],
        packages=", ".join(f"{package} {version}" for package, version in provenance["packages"].items()),
        sources=_sources(provenance),
    )


def _sentence(metrics: dict) -> str:
    """A dataset's figures in a sentence, which calls faces held out only if that is certain."""
    certain = not metrics["doubt"]
    held_out = "held-out " if certain and metrics["learned"] else ""
    never = ", which it never learned from" if certain and not metrics["learned"] and metrics["collection"] else ""
    return f"On {metrics['n']:,} {held_out}faces of {_title(metrics)}{never}, {headline(metrics)}."


def _code(provenance: dict, name: str) -> str:
    """How a reader, who may have nothing but the card, gets the code."""
    address = provenance.get("repository")
    if not address:
        return (
            f"In a checkout of the code that built this model, `python app.py --model {name}` starts the app with it."
        )
    at = f"@{provenance['commit']}" if provenance["commit"] else ""
    return f"""The code is at {_commit(provenance)}. `pip install git+{address}{at}` installs the command `age-gender`
(`age-gender photo.jpg --model {name}`) and the package `age_gender` (`FaceAnalyzer.load("{name}")`). In a checkout,
`python app.py --model {name}` starts the app, and the commands below evaluate the model."""


def _commit(provenance: dict) -> str:
    commit, address = provenance["commit"] or "an unknown commit", provenance.get("repository")
    linked = f"[{commit}]({address}/tree/{commit})" if address and provenance["commit"] else commit
    return f"{linked} with local changes" if provenance.get("modified") else linked


def _title(metrics: dict) -> str:
    return metrics["collection"] or f"`{metrics['dataset']}`"


def _results(card: dict, metrics: dict, name: str) -> str:
    """One dataset's figures."""
    split, photos = metrics["split"], "age_band" in metrics
    seen = "; not used for training" if metrics["learned"] else "; none of its faces were used for training"
    seen = "" if metrics["doubt"] else seen
    lines = [
        f"### {_title(metrics)}",
        f"`{split['name']}` split ({split['protocol']} by content hash, policy `{split['policy']}`{_limit(split)}{seen}).",
    ]
    if photos:
        lines.append("YuNet detects the faces, as in the app. The labels are age bands.")
    if metrics["doubt"]:
        lines.append(f"This model, or one of its parent models, {metrics['doubt']}. The results may be too optimistic.")
    dataset, where = hub_id(metrics) or metrics["dataset"], "in the kit's repository"
    if photos and metrics["learned"] and not metrics["revision"]:
        dataset = metrics["dataset"]
        where += f", with the same copy of the photos in the folder `{dataset}`"
        lines.append(
            "Splits depend on the bytes of the files: a copy with a different image size or compression, such as the Hub's, "
            "has different faces in this split, some of which were used for training."
        )
    parts = [
        "\n".join(lines),
        _markdown(rows(metrics)),
        f"{gender_line(metrics)}. To reproduce these results, run this command {where}:",
        f"```\n{_command(name, dataset, split)}\n```",
    ]
    if metrics is card["metrics"]:
        parts.append(_figures(card, ("ages", "Errors by age"), ("groups", "By race, gender and age band")))
        if "groups.csv" in card["files"]:
            parts.append("`groups.csv` has these figures for every combination of race, gender and age band.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _age_gates(metrics: dict) -> str:
    """Why ages must not be checked with it, in figures."""
    gates = metrics.get("age_gates") or {"n": 0}
    if gates["n"] < 20:
        return ""
    young = f" The MAE for ages 18 to 30 is {gates['mae_18_30']:.1f} years." if gates["mae_18_30"] else ""
    return f"""### Not for age checks

The model estimates {100 * gates["over_18"]["value"]:.0f}% of the {gates["n"]} people labeled 14 to 17 as 18 or older, and
{100 * gates["over_25"]["value"]:.0f}% as 25 or older. An age check based on this model would let them pass.{young} The figures
use the test faces of {_title(metrics)} and follow NIST's evaluation of age estimation (NIST IR 8525).

{_markdown(gate_rows(gates))}
"""


def _training(card: dict) -> str:
    """What ran: the stages from the log, the datasets, and the chain of parents."""
    provenance = card["provenance"]
    lines = []
    if provenance["stages"]:
        stages = ", ".join(
            f'{counted(stage["epochs"], "epoch")} of "{stage["name"]}"'
            + (f" (branch {stage['branch']})" if _branches(provenance["stages"], stage["stage"]) > 1 else "")
            for stage in provenance["stages"]
        )
        lines.append(f"This run trained {stages}, in {provenance['precision']}.")
        lines += _weights(provenance["weights"])
    else:
        lines.append("This run exported existing weights without training them.")
    if provenance["sharpness"] not in (None, 1.0):
        lines.append(
            f"It then raised the age distribution to the power of {provenance['sharpness']:g}, which was chosen on the "
            "validation split."
        )
    for dataset in provenance["datasets"]:
        report, faces = dataset["report"], dataset["faces"]
        counts = ", ".join(f"{part['n']:,} {split}" for split, part in faces.items())
        dropped = ", ".join(
            f"{count} {reason}" for reason, count in {**report["rejected"], **report["dropped"]}.items()
        )
        use = "" if dataset["learned"] else " (test only)"
        lines.append(
            f"- {hub_id(dataset) or dataset['dataset']}{use}: {counts} faces, from {report['rows']:,} rows. Skipped: "
            f"{dropped or 'none'}."
        )
    chain = _chain(provenance["parents"])
    return (
        "\n".join(lines)
        + (f"\n\nParent models (initial weights and teachers):\n\n{chain}" if chain else "")
        + _settings(card)
    )


def _weights(weights: dict | None) -> list[str]:
    """What the weights are, unless they are those of the best epoch."""
    if weights and weights["initial"]:
        return ["No epoch lowered the validation error: the weights are those that the run started from."]
    if weights and len(weights["mean_of"]) > 1:
        parts = [f"branch {number}" if number else "the stage's initial weights" for number in weights["mean_of"]]
        return [f"The weights are the mean of {', '.join(parts[:-1])} and {parts[-1]}."]
    return []


def _branches(stages: list[dict], number: int) -> int:
    return sum(stage["stage"] == number for stage in stages)


def _chain(parents: list[dict], depth: int = 0) -> str:
    """The parents as a nested list."""
    lines = []
    for parent in parents:
        if parent["datasets"] is None:
            seen = "training not recorded"
        else:
            names = ", ".join(dataset["dataset"] for dataset in parent["datasets"] if dataset["learned"])
            seen = f"learned from {names}" if names else "untrained"
        role = {"init": "initial weights", "teacher": "teacher"}[parent["role"]]
        digest = f", SHA-256 {parent['sha256'][:12]}…" if parent["sha256"] else ""
        note = f" {parent['note']}" if parent.get("note") else ""
        lines.append(f"{'  ' * depth}- {role}: {parent['model']} ({seen}{digest}).{note}")
        if parent["parents"]:
            lines.append(_chain(parent["parents"], depth + 1))
    return "\n".join(lines)


def _settings(card: dict) -> str:
    """The command and the recipe; both only where something was trained."""
    provenance = card["provenance"]
    if not provenance["stages"]:
        return ""
    recipe = "download `recipe.toml`, which has all settings, into the kit's folder. Then "
    return (
        f"\n\nTo repeat the training, {recipe if 'recipe.toml' in card['files'] else ''}run this command in the kit's folder:\n\n"
        f"```\n{provenance['command']}\n```\n\n{_figures(card, ('curves', 'Training'))}"
    )


_SOURCES = {
    "ImageNet": "Keras's VGG16 weights, which were trained on ImageNet (Simonyan & Zisserman 2014, "
    "[arXiv 1409.1556](https://arxiv.org/abs/1409.1556))",
    "UTKFace": "UTKFace (Zhang, Song & Qi 2017, [arXiv 1702.08423](https://arxiv.org/abs/1702.08423)), which is for "
    "non-commercial research only",
    "FairFace": "FairFace (Kärkkäinen & Joo 2021, [arXiv 1908.04913](https://arxiv.org/abs/1908.04913)), which is licensed "
    "under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/)",
}


def _sources(provenance: dict) -> str:
    """What the weights are derived from."""
    found = sorted(set(licenses.collections(provenance)), key=lambda name: (name is None, name))
    names = [_SOURCES[name] if name else "faces with an unknown license" for name in found]
    if not names:
        return "The weights are untrained."
    return " ".join(
        [f"The weights are derived from {names[0]}.", *(f"They are also derived from {n}." for n in names[1:])]
    )


def _limit(split: dict) -> str:
    return f", at most {split['limit']} faces" if split["limit"] else ""


def _calibration(card: dict) -> str:
    tables = card["calibration"]
    learned = " and ".join(d["collection"] or d["dataset"] for d in card["provenance"]["datasets"] if d["learned"])
    coverage = " ".join(
        f"On the test faces of {_title(figures)}, the coverage is "
        f"{100 * figures['interval_coverage']['value']:.1f}%, the mean interval width is "
        f"{figures['interval_width']['value']:.1f} years, and the expected calibration error of the gender is "
        f"{100 * figures['gender_ece']:.1f}%."
        for figures in _all_metrics(card)
    )
    kept = card["provenance"]["calibrated_by"]
    fitted = (
        f"Kept from {kept}, because this run had too few validation faces. Fitted on {tables['faces']:,} faces of that model's validation split."
        if kept
        else f"Fitted on {tables['faces']:,} validation faces of {learned}."
    )
    return f"""{fitted} The interval targets
{100 * tables["age"]["coverage"]:.0f}% coverage (quantiles of the predicted distribution, which is flattened by a temperature
and weighted by age). {coverage} If a label is a band, ages within the band are assumed to follow this distribution.
Coverage is lower on other data, so the tables are fitted to {100 * (tables["age"]["coverage"] + MARGIN):.0f}% coverage on the validation faces.

The gender is calibrated by temperature scaling (temperature {tables["gender"]["temperature"]:.3f}).

{_figures(card, ("calibration", "Calibration"))}"""


def _served(card: dict) -> str:
    """Which file is served, and what quantization costs."""
    record = card["quantization"]
    before, after = record["float32"], record["int8"]
    kept = f" ({counted(len(record['kept_float']), 'layer')} kept in float32)" if record["kept_float"] else ""
    gender = " → ".join(f"{100 * scores['gender_accuracy']:.2f}" for scores in (before, after))
    return f"""The app serves `{card["serve"]}`: {record["reason"]}. Quantization is static and per channel, with ranges
from {record["faces"]} training faces{kept}. On {record["validation_faces"]} validation faces, float32 → int8: mean age
error (distance to the band if the label is a band) {before["age_mae"]:.3f} → {after["age_mae"]:.3f} years, gender {gender}%. On the export machine, one face takes
{before["ms"]:.1f} → {after["ms"]:.1f} ms."""


def _figures(card: dict, *figures: tuple[str, str]) -> str:
    """Those figures that the bundle has."""
    return "\n".join(
        f"![{caption}](figures/{name}.png)" for name, caption in figures if f"figures/{name}.png" in card["files"]
    )


def _command(name: str, dataset: str, split: dict) -> str:
    """The command that prints the results again."""
    words = ["python", "training/evaluate.py", "--model", name, "--dataset", dataset]
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
            gender = min(sizable, key=lambda name: sizable[name]["gender_accuracy"]["value"])
            if "age_mae" in metrics:
                age = max(sizable, key=lambda name: sizable[name]["age_mae"]["value"])
                error = f"the age error is largest for `{age}` (MAE {sizable[age]['age_mae']['value']:.1f} years)"
            else:
                age = min(sizable, key=lambda name: sizable[name]["age_band"]["value"])
                right = 100 * sizable[age]["age_band"]["value"]
                error = f"the fewest ages are in the right band for `{age}` ({right:.1f}%)"
            lines.append(
                f"- By {kind}: {error}, and the gender accuracy is lowest for `{gender}` "
                f"({100 * sizable[gender]['gender_accuracy']['value']:.1f}%)."
            )
    return "\n".join(lines) or "- Too few test faces to compare groups."


def _markdown(lines: list[tuple[str, ...]]) -> str:
    """Rows of text, the header first, as a table."""
    header, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ("---",) * len(header), *rest))
