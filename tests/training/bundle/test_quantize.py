"""How int8 is judged: error, time, and which layers cost most."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np

from training.bundle import quantize


def test_errors_count_from_a_label_s_range_and_genders_from_a_half():
    outputs = {"age": np.array([30.0, 41, 50, 60]), "p_female": np.array([0.9, 0.5, 0.2, 0.7])}
    labels = np.array([[30, 30], [40, 40], [50, 59], [62, 62.0]])
    estimator = SimpleNamespace(predict=lambda images: outputs)
    scores = quantize._score(estimator, np.zeros(4), labels, np.array([True, True, False, False]))
    assert scores == {"age_mae": 0.75, "gender_accuracy": 0.75}


def test_the_time_of_a_call_is_in_milliseconds(monkeypatch):
    times = itertools.count(2.0, 0.5)
    monkeypatch.setattr(quantize.time, "perf_counter", lambda: next(times))
    assert quantize.call_ms(lambda: None) == 500


def test_the_layers_that_move_ages_most_come_first(tmp_path, monkeypatch):
    moved = {"a": 0.1, "b": -3.0, "c": 1.0}

    def estimator(path):
        years = moved[path.read_text()] if path.name == "one.onnx" else 0
        return SimpleNamespace(predict=lambda faces: {"age": np.full(2, 40.0 + years)})

    monkeypatch.setattr(quantize.Quantizer, "write", lambda self, target, layers: target.write_text(layers[0]))
    monkeypatch.setattr(quantize, "Estimator", estimator)
    quantizer = quantize.Quantizer(tmp_path / "p.onnx", None, ("a", "b", "c"))
    assert quantizer.by_sensitivity(np.zeros(2), tmp_path) == ["b", "c", "a"]
