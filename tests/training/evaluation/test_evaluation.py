"""Scores of test faces and photographs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes

from tests.support import ROOT
from tests.support.app import python
from training import evaluate
from training.data.report import Report
from training.data.samples import Samples
from training.evaluation.metrics import _interval, age_gates, group_masks, measure, per_face
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


def test_measures_are_right_on_an_example_by_hand():
    samples = Samples(
        name=np.array(["a", "b", "c", "d"]), age_range=np.array([[a, a] for a in (10, 20, 30, 40)], np.float32),
        gender=np.array([0, 0, 1, 1], np.int8), race=np.array([0, 1, 2, -1], np.int8),
        sha256=np.array(["0", "1", "2", "3"]), encoded=(b"",) * 4,
    )  # fmt: skip
    outputs = {"age": np.array([12.0, 14.0, 30.0, 46.0]), "p_female": np.array([0.2, 0.6, 0.9, 0.5])}
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


def three(*ages: list[int]) -> Samples:
    """Three faces whose labels are these ranges of years."""
    return Samples(
        name=np.array(list("abc")), age_range=np.array(ages, np.float32), gender=np.array([0, 1, 0], np.int8),
        race=np.zeros(3, np.int8), sha256=np.array(list("abc")), encoded=(b"",) * 3,
    )  # fmt: skip


def test_ranges_of_the_oldest_have_a_coverage():
    samples = three([90, 120], [92, 92], [20, 29])
    outputs = {"age": np.array([91.0, 60.0, 25.0]), "p_female": np.array([0.1, 0.9, 0.2])}
    outputs |= {"age_low": np.array([80.0, 50.0, 20.0]), "age_high": np.array([99.0, 70.0, 24.0])}
    probs = np.full((3, 102), 1 / 102)
    probs[0] = np.eye(102)[91]
    outputs["calibrated_probs"] = probs
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
    found, half = _interval(values), 1.96 * values.std() / 20  # of a mean, by the normal distribution
    assert (found["value"] - found["low"], found["high"] - found["value"]) == pytest.approx((half, half), rel=0.1)


def test_curves_of_a_dataset_whose_ages_are_bands(tmp_path):
    row = {"stage": 1, "branch": 1, "name": "all", "loss": 1.0, "val_band": 0.5, "val_gender_accuracy": 0.9}
    training_curves([row, row], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
