"""Scores of test faces and photographs."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes

from tests.support import ROOT
from tests.support.app import python
from tests.support.faces import three
from training import evaluate
from training.data.report import Report
from training.data.samples import Samples
from training.evaluation import calibrate, plots
from training.evaluation.metrics import _mean, _share, age_gates, cross_table_csv, group_masks, measure, per_face
from training.evaluation.plots import age_errors, training_curves
from training.evaluation.tables import gate_rows, table

pytestmark = pytest.mark.usefixtures("tiny")


def row_of_all(table: str) -> list[str]:
    return re.split(r" {2,}", next(line for line in table.splitlines() if line.startswith("all ")))


def test_evaluate_reprints_what_the_bundle_records(trained, made_up):
    result = python("training/evaluate.py", "--model", trained / "bundle", "--dataset", made_up)
    assert result.returncode == 0, result.stderr
    assert "match those recorded in the bu" in result.stdout
    expected = row_of_all((trained / "output.txt").read_text())
    assert row_of_all(result.stdout) == expected
    plain = python("training/evaluate.py", "--model", trained / "bundle" / "model.onnx", "--dataset", made_up)
    assert plain.returncode == 0, plain.stderr
    assert row_of_all(plain.stdout)[5] == "–"  # intervals are the bundle's, not the network's
    assert float(row_of_all(plain.stdout)[2].split()[0]) == pytest.approx(
        float(expected[2].split()[0]), abs=0.5
    )  # int8


def four_faces() -> tuple[Samples, dict[str, np.ndarray]]:
    """One face of each of four age bands, and the outputs for them."""
    samples = Samples(
        name=np.array(["a", "b", "c", "d"]), age_range=np.array([[a, a] for a in (10, 20, 30, 40)], np.float32),
        gender=np.array([0, 0, 1, 1], np.int8), race=np.array([0, 1, 2, -1], np.int8),
        sha256=np.array(["0", "1", "2", "3"]), encoded=(b"",) * 4,
    )  # fmt: skip
    return samples, {"age": np.array([12.0, 14.0, 30.0, 46.0]), "p_female": np.array([0.2, 0.6, 0.9, 0.5])}


def test_measures_are_right_on_an_example_by_hand():
    samples, outputs = four_faces()
    metrics = measure(samples, outputs, median_age=25.0)
    assert metrics["age_mae"]["value"] == pytest.approx((2 + 6 + 0 + 6) / 4)
    assert metrics["age_bias"]["value"] == pytest.approx((2 - 6 + 0 + 6) / 4)
    assert metrics["cs5"]["value"] == 0.5
    assert metrics["gender_accuracy"]["value"] == metrics["gender_balanced_accuracy"] == 0.75
    assert metrics["gender_auc"] == 0.75
    assert metrics["baseline"] == {"median_age": 25.0, "age_mae": 10.0, "gender_accuracy": 0.5}
    assert "interval_coverage" not in metrics
    bounds = {"age_low": np.array([9.0, 10, 31, 40]), "age_high": np.array([14.0, 19, 33, 50])}
    both = measure(samples, outputs | bounds, median_age=25.0)
    assert both["interval_coverage"]["value"] == 0.5 and both["interval_width"]["value"] == pytest.approx(6.5)
    assert metrics["by"]["gender"]["male"]["gender_accuracy"]["value"] == 0.5
    assert metrics["by"]["age band"]["10-19"]["n"] == 1 and set(metrics["by"]["race"]) == {"White", "Black", "Asian"}
    assert metrics["age_mae"]["low"] <= metrics["age_mae"]["value"] <= metrics["age_mae"]["high"]
    assert "baseline" in table(metrics)


def test_age_gates_count_minors_who_would_pass():
    ages = np.array([13, 14, 15, 16, 17, 17.5, 18, 25, 30], np.float32)
    samples = Samples(
        name=ages.astype(str), age_range=np.stack([ages, ages], axis=1),
        gender=np.array([0, 0, 0, 1, 1, 1, 0, 1, 0], np.int8),
        race=np.zeros(9, np.int8), sha256=ages.astype(str), encoded=(b"",) * 9,
    )  # fmt: skip
    gates = age_gates(samples, np.array([30, 17.9, 18.0, 26, 17, 25, 20, 22, 34], np.float64))
    assert gates["n"] == 5 and gates["over_18"]["value"] == 0.6 and gates["over_25"]["value"] == 0.4
    assert gates["by"]["gender"]["male"]["n"] == 2 and gates["by"]["gender"]["female"]["over_25"]["value"] == 2 / 3
    assert gates["mae_18_30"] == pytest.approx(((2 + 4) / 2 + 3) / 2)
    assert [row[0] for row in gate_rows(gates)] == ["aged 14 to 17", "all", "male", "female", "White"]


def test_age_gates_count_ranges_that_lie_within_their_ages():
    samples = three([10, 19], [14, 17], [20, 29])
    samples = replace(samples, gender=np.array([0, 0, 1], np.int8))
    gates = age_gates(samples, np.array([19.0, 17.0, 31.0]))
    assert gates["n"] == 1 and gates["over_18"]["value"] == 0
    assert gates["mae_18_30"] is None  # nobody of one gender
    samples = replace(samples, age_range=np.array([[18, 24], [14, 17], [20, 29]], np.float32))
    assert age_gates(samples, np.array([19.0, 17.0, 31.0]))["mae_18_30"] == pytest.approx((0 + 2) / 2)


@pytest.mark.slow
def test_photographs_are_scored_through_the_detector(photographs, tmp_path):
    result = python(
        "training/evaluate.py", "--model", ROOT / "space/models/compact", "--dataset", photographs, "--split", "train",
        "--json", tmp_path / "figures.json", "--csv", tmp_path / "groups.csv",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["detector"] == "yunet" and figures["n"] > 30
    assert figures["age_band"]["value"] > 0.4 and figures["age_band_or_next"]["value"] > 0.8
    assert "age band correct" in result.stdout and "Southeast Asian" in result.stdout
    assert (tmp_path / "groups.csv").read_text().count("\n") > 20


@pytest.mark.slow
def test_the_robustness_table(utkface):
    result = python(
        "training/robustness.py", "--model", ROOT / "space/models/compact", "--dataset", utkface,
        "--split", "validation", "--limit", "24",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in result.stdout.splitlines() if line[:1] == "|"}
    assert float(rows["200 pixels"][0]) > 90 and float(rows["turned by 30°"][0]) > 90
    assert float(rows["200 pixels"][1].split()[0]) < 8


def test_ranges_of_the_oldest_have_a_coverage():
    samples = three([90, 120], [92, 92], [20, 29])
    outputs = {"age": np.array([91.0, 60.0, 25.0]), "p_female": np.array([0.1, 0.9, 0.2])}
    outputs |= {"age_low": np.array([80.0, 50.0, 20.0]), "age_high": np.array([99.0, 70.0, 24.0])}
    probs = np.full((3, 102), 1 / 102)
    probs[0] = np.eye(102)[91]
    outputs["weighted_probs"] = probs
    assert per_face(samples, outputs)["interval_coverage"].tolist() == [1.0, 0.0, 0.5]


def test_an_interval_up_to_the_oldest_age_holds_all_above():
    """As in calibration: the distribution's last age stands for all from it on."""
    samples = three([110, 110], [110, 110], [101, 101])
    outputs = {"age": np.array([99.0, 95.0, 99.0]), "p_female": np.array([0.1, 0.9, 0.2])}
    outputs |= {"age_low": np.array([90.0, 90.0, 90.0]), "age_high": np.array([101.0, 100.0, 101.0])}
    assert per_face(samples, outputs)["interval_coverage"].tolist() == [True, False, True]
    assert per_face(samples, outputs)["age_mae"].tolist() == [11.0, 15.0, 2.0]


def test_bands_by_hand():
    outputs = {"age": np.array([29.6, 40.2, 2.4]), "p_female": np.zeros(3)}
    values = per_face(three([20, 29], [20, 29], [0, 2]), outputs)
    assert values["age_band"].tolist() == [False, False, True]
    assert values["age_band_or_next"].tolist() == [True, False, True]


def test_a_label_s_own_range_counts_not_the_kit_s_bands():
    samples = three([18, 24], [25, 34], [31, 31])  # the last is exact: its band counts
    values = per_face(samples, {"age": np.array([22.0, 24.4, 38.0]), "p_female": np.zeros(3)})
    assert values["age_band"].tolist() == [True, False, True]
    assert values["age_band_or_next"].tolist() == [True, True, True]
    groups = {name for name, mask in group_masks(samples)["age band"].items() if mask.any()}
    assert groups == {"20-29", "30-39"}  # by the middle of a range


def test_an_open_ended_range_is_in_the_band_where_it_begins():
    samples = three([60, 120], [70, 120], [25, 34])
    groups = {name for name, mask in group_masks(samples)["age band"].items() if mask.any()}
    assert groups == {"20-29", "60-69", "70+"}
    values = per_face(samples, {"age": np.array([55.0, 55.0, 12.0]), "p_female": np.zeros(3)})
    assert values["age_band_or_next"].tolist() == [True, False, True] and not values["age_band"].any()


@pytest.mark.parametrize("ranges", [([25, 34], [35, 44], [25, 34]), ([9.5, 9.5], [18, 24], [70, 120])])
def test_errors_by_age_are_plotted_for_any_labels(tmp_path, monkeypatch, ranges):
    drawn = []
    monkeypatch.setattr(Axes, "boxplot", lambda axis, values, tick_labels, **_: drawn.append((tick_labels, values)))
    age_errors(three(*ranges), {"age": np.array([30.0, 30.0, 75.0])}, tmp_path / "ages.png")
    ((names, values),) = drawn
    assert sum(map(len, values)) == 3 and sum(int(name.split("n=")[1]) for name in names) == 3
    assert (
        any(0 in part for part in values) and (tmp_path / "ages.png").stat().st_size > 1000
    )  # within its range: no error


@pytest.mark.parametrize(("age", "bias", "high", "covered"), [(75.0, 0, 80, True), (66.0, -4, 69, False)])
def test_a_range_among_exact_ages_has_no_error_inside_of_it(age, bias, high, covered):
    samples = three([70, 120], [30, 30], [31, 31])
    assert not samples.binned
    outputs = {"age": np.array([age, 33.0, 30.0]), "p_female": np.zeros(3)}
    values = per_face(samples, outputs | {"age_low": np.array([60, 25, 31]), "age_high": np.array([high, 40, 40])})
    assert values["age_mae"].tolist() == [abs(bias), 3, 1] and values["age_bias"].tolist() == [bias, 3, -1]
    assert values["cs5"].all() and values["interval_coverage"].tolist() == [covered, True, True]
    metrics = measure(samples, outputs, median_age=60.0)
    assert metrics["baseline"]["age_mae"] == pytest.approx((10 + 30 + 29) / 3)


def test_few_exact_ages_of_a_dataset_of_ranges_are_scored_too(monkeypatch):
    """Of a dataset whose ages are mostly ranges, a small part may be mostly exact."""
    ranges = three([20, 29], [30, 39], [31, 31])
    exact = three([30, 30], [40, 40], [20, 29])
    monkeypatch.setattr(evaluate, "load_samples", lambda *_, **__: (ranges, Report("x", "clean")))
    monkeypatch.setattr(Samples, "limit", lambda self, count, seed: exact)
    monkeypatch.setattr(
        evaluate, "decode", lambda samples, cropper, framed: (samples, np.zeros((3, 200, 200, 3), np.uint8))
    )
    outputs = {"age": np.array([31.0, 40.0, 25.0]), "p_female": np.zeros(3)}
    monkeypatch.setattr(evaluate, "predict", lambda *_: outputs)
    options = SimpleNamespace(
        dataset="x", model="m", split="all", protocol="80/10/10", policy="clean", limit=3, seed=1
    )  # fmt: skip
    _, _, metrics, _ = evaluate.score(options)
    assert metrics["age_mae"]["value"] == pytest.approx(1 / 3)


def test_the_bootstrap_interval_is_that_of_95_percent():
    values = np.arange(400)
    found, half = _mean(values), 1.96 * values.std() / 20  # of a mean, by the normal distribution
    assert (found["value"] - found["low"], found["high"] - found["value"]) == pytest.approx((half, half), rel=0.1)


def test_the_balanced_accuracy_of_one_gender_is_its_own():
    samples, outputs = four_faces()
    women = replace(samples, gender=np.ones(4, np.int8))
    metrics = measure(women, outputs, median_age=25.0)
    assert metrics["gender_balanced_accuracy"] == metrics["gender_accuracy"]["value"] == 0.75
    assert metrics["gender_auc"] is None


def test_wilson_s_interval_of_shares():
    """The closed form, and the published example of Agresti & Coull (1998): no success in ten trials."""
    none, half, one = (_share(np.arange(n) < k) for k, n in ((0, 10), (50, 100), (1, 1)))
    assert none == {"value": 0, "low": 0, "high": pytest.approx(0.2775, abs=1e-4)}
    assert (half["low"], half["high"]) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert (one["value"], one["high"]) == (1, 1) and one["low"] == pytest.approx(0.2065, abs=1e-4)


def test_few_faces_have_no_interval_without_width():
    samples, outputs = four_faces()
    metrics = measure(samples, outputs, median_age=25.0)
    groups = [group for members in metrics["by"].values() for group in members.values()]
    assert {group["n"] for group in groups} == {1, 2}
    for group in groups:
        assert all(group[share]["high"] - group[share]["low"] > 0.5 for share in ("cs5", "gender_accuracy"))
        assert (group["age_mae"]["low"] is None) == (group["n"] == 1)
    lines = csv.DictReader(io.StringIO(cross_table_csv(samples, outputs)))
    assert {(line["n"] == "1", line["age_mae_low"] == "") for line in lines} == {(True, True), (False, False)}
    lines = [re.split(r" {2,}", line) for line in table(metrics).splitlines()]
    assert ["10-19", "1", "2.00", "100.0 [20.7, 100.0]", "+2.00", "–", "100.0 [20.7, 100.0]"] in lines


def test_curves_of_a_dataset_whose_ages_are_bands(tmp_path):
    row = {"stage": 1, "branch": 1, "name": "all", "loss": 1.0, "val_band": 0.5, "val_gender_accuracy": 0.9}
    training_curves([row, row], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_the_calibration_error_of_five_faces_in_bins_of_their_own():
    p, female = np.array([0.53, 0.54, 0.8, 0.9, 1.0]), np.array([False, True, False, True, True])
    assert calibrate.expected_calibration_error(p, female) == pytest.approx((0.53 + 0.46 + 0.8 + 0.1 + 0) / 5)


def test_figures_of_ranges_and_of_one_gender():
    outputs = {"age": np.array([25.0, 35, 1]), "p_female": np.array([0.1, 0.9, 0.2])}
    metrics = measure(three([20, 29], [20, 29], [0, 2]), outputs)
    share = pytest.approx(2 / 3)
    assert metrics["baseline"] == {"gender_accuracy": share, "age_band": "20-29", "age_band_share": share}
    assert "age_gates" not in metrics and metrics["gender_auc"] == 1.0
    men = replace(three([20, 20], [30, 30], [40, 40]), gender=np.zeros(3, np.int8))
    metrics = measure(men, outputs, median_age=30.0)
    assert metrics["gender_auc"] is None and "age_gates" in metrics


def test_the_confusion_matrix_has_labels_as_rows(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_cells", lambda axis, color, table, *_, **__: drawn.append((color, table)))
    samples = replace(three([20, 20], [30, 30], [40, 40]), gender=np.array([0, 0, 1], np.int8))
    plots.calibration(
        samples, {"age": np.array([20.0, 30, 40]), "p_female": np.array([0.1, 0.7, 0.9])}, tmp_path / "a.png"
    )
    ((shares, table_),) = drawn
    assert table_.tolist() == [[1, 1], [0, 1]] and shares.tolist() == [[0.5, 0.5], [0, 1]]


def scored(monkeypatch, samples: Samples, split: str, collection: str | None = None, **outputs) -> tuple[dict, tuple]:
    """The metrics of `evaluate.score`, and how the images were decoded."""
    how = []

    def decode(samples, cropper, framed):
        how.append((cropper is not None, framed))
        return samples, np.zeros((len(samples), 200, 200, 3), np.uint8)

    monkeypatch.setattr(
        evaluate, "load_samples", lambda *_, **__: (samples, Report("x", "clean", collection=collection))
    )
    monkeypatch.setattr(evaluate, "decode", decode)
    monkeypatch.setattr(evaluate, "pose_masks", lambda images: {"frontal": np.array([True, True, False])})
    monkeypatch.setattr(evaluate, "predict", lambda *_: outputs)
    options = {"dataset": "x", "model": "m", "split": split, "protocol": "80/10/10", "policy": "clean"}
    return evaluate.score(SimpleNamespace(**options, limit=None, seed=0))[2], how[0]


@pytest.mark.parametrize("collection", ["UTKFace", None])
def test_the_baseline_is_of_the_training_faces_and_only_utkface_s_crops_are_trusted(monkeypatch, collection):
    samples = replace(three([10, 10], [20, 20], [90, 90]), sha256=np.array(["0", "1", "9"]))
    outputs = {"age": np.array([80.0]), "p_female": np.zeros(1)}
    metrics, how = scored(monkeypatch, samples, "test", collection, **outputs)
    assert metrics["n"] == 1 and metrics["baseline"]["median_age"] == 15.0 and "detector" not in metrics
    assert how == (False, collection == "UTKFace")


def test_photos_are_measured_by_view(monkeypatch):
    outputs = {"age": np.array([25.0, 50, 1]), "p_female": np.zeros(3)}
    metrics, how = scored(monkeypatch, three([20, 29], [30, 39], [0, 2]), "all", **outputs)
    frontal = metrics["by"]["view"]["frontal"]
    assert metrics["detector"] == "yunet" and frontal["n"] == 2 and frontal["age_band"]["value"] == 0.5 and how[0]


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_path_that_can_not_be_written_is_refused_first(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr(evaluate, "read_model", lambda *_, **__: pytest.fail("measured"))
    for path in (tmp_path / "gone" / "a.json", tmp_path):
        with pytest.raises(SystemExit):
            evaluate.main(["--model", "compact", option, str(path)])
        assert "can't be written" in capsys.readouterr().err
