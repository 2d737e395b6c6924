"""Figures as text."""

from __future__ import annotations

import pytest

from training.evaluation.tables import compare, gate_rows, gender_line, rows, table


def figure(value: float, spread: float = 0.01) -> dict:
    return {"value": value, "low": value - spread, "high": value + spread}


EXACT = {
    "n": 100,
    "age_mae": figure(4.256, 0.1),
    "cs5": figure(0.699),
    "age_bias": figure(-0.514, 0.1),
    "gender_accuracy": figure(0.949),
    "interval_coverage": figure(0.881),
    "interval_width": figure(15.62),
}
ALONE = {key: value for key, value in EXACT.items() if not key.startswith("interval")}
METRICS = EXACT | {
    "baseline": {"median_age": 29.0, "age_mae": 15.27, "gender_accuracy": 0.505},
    "by": {"gender": {"male": ALONE | {"n": 40}}},
    "gender_auc": 0.98765,
    "gender_balanced_accuracy": 0.9481,
    "gender_ece": 0.0163,
}
BANDS = {
    "n": 7,
    "age_band": figure(0.569),
    "age_band_or_next": figure(0.953),
    "gender_accuracy": figure(0.913),
    "baseline": {"age_band": "20-29", "age_band_share": 0.3, "gender_accuracy": 0.53},
    "by": {},
}


def test_rows_of_exact_ages():
    assert rows(METRICS) == [
        ("", "n", "age MAE, years", "CS@5, %", "bias, years", "% in interval", "gender, %"),
        ("all", "100", "4.26 [4.16, 4.36]", "69.9 [68.9, 70.9]", "-0.51", "88.1 in ± 7.8", "94.9 [93.9, 95.9]"),
        ("", "", "", "", "", "", ""),
        ("male", "40", "4.26 [4.16, 4.36]", "69.9 [68.9, 70.9]", "-0.51", "–", "94.9 [93.9, 95.9]"),
        ("", "", "", "", "", "", ""),
        ("baseline", "", "15.27 (always 29)", "", "", "", "50.5"),
    ]


def test_rows_of_bands():
    assert rows(BANDS)[1:] == [
        ("all", "7", "56.9 [55.9, 57.9]", "95.3 [94.3, 96.3]", "–", "91.3 [90.3, 92.3]"),
        ("", "", "", "", "", ""),
        ("baseline", "", "30.0 (always 20-29)", "", "", "53.0"),
    ]


def test_age_gates():
    group = {"n": 12, "over_18": figure(0.61, 0.1), "over_25": figure(0.2, 0.05)}
    assert gate_rows({"n": 0}) == []
    assert gate_rows(group | {"by": {"race": {"Asian": group | {"n": 5}}}}) == [
        ("aged 14 to 17", "n", "estimated 18 or older, %", "estimated 25 or older, %"),
        ("all", "12", "61 [51, 71]", "20 [15, 25]"),
        ("Asian", "5", "61 [51, 71]", "20 [15, 25]"),
    ]


def test_the_table_is_aligned_and_ends_with_gender():
    text = table(METRICS)
    lines = text.splitlines()
    assert lines[0].index("age MAE") == lines[1].index("4.26") and not any(line.endswith(" ") for line in lines)
    assert (
        lines[-1]
        == "Gender: balanced accuracy 94.8%, AUC 0.9877, expected calibration error 1.6%"
        == gender_line(METRICS)
    )
    assert ", AUC" not in gender_line(METRICS | {"gender_auc": None})
    gates = {"n": 1, "over_18": figure(0.5), "over_25": figure(0.5), "by": {}}
    assert "aged 14 to 17" in table(METRICS | {"age_gates": gates})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"age_mae": figure(4.265)}, True),
        ({"age_mae": figure(4.267)}, False),
        ({"cs5": figure(0.7005)}, False),
        ({"gender_accuracy": figure(0.9475)}, False),
        ({"n": 101}, False),
    ],
)
def test_a_bundle_s_figures_are_compared(change, same):
    text = compare(METRICS | change, METRICS)
    assert text.startswith("The results match") == same
    assert same or text.endswith("n 100, age MAE 4.256, CS@5 69.9%, gender 94.9%.")
