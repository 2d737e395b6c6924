"""How many cores ONNX Runtime gets, which networks are accepted and which crops."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from space import estimator
from space.hub.download import ModelError


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 2), ("max 100000", 8), ("10000 100000", 1), ("900000 100000", 8), (None, 8)]
)
def test_a_container_s_quota_limits_the_cores(monkeypatch, quota, cores):
    def read_text(path):
        if quota is None:
            raise FileNotFoundError
        return quota

    monkeypatch.setattr(estimator.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert estimator.cpus() == cores


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_a_network_uses_four_threads_at_most(monkeypatch, cores, threads):
    monkeypatch.setattr(estimator, "cpus", lambda: cores)
    monkeypatch.setattr(estimator.onnxruntime, "InferenceSession", lambda model, options, **_: options)
    assert estimator.open_session(b"").intra_op_num_threads == threads


ANSWERS = {"age": ["N"], "p_female": ["N"], "age_probs": ["N", estimator.AGES]}


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (["N", 200, 100, 3], {}),
        (["N", 200, 200, 4], {}),
        (["N", "H", "H", 3], {}),
        (["N", 200, 200], {}),
        ([1, 200, 200, 3], {}),
        (["N", 200, 200, 3], {"age": ["N", 1]}),
        (["N", 200, 200, 3], {"age_probs": ["N", 100]}),
        (["N", 200, 200, 3], {"p_female": None}),
        (["N", 200, 200, 3], {"type": "tensor(float)"}),
        (["N", 96, 96, 3], None),
    ],
)
def test_a_network_must_follow_the_contract(monkeypatch, tmp_path, shape, changes):
    outputs = ANSWERS | {name: shape for name, shape in (changes or {}).items() if name != "type"}
    session = SimpleNamespace(
        get_inputs=lambda: [
            SimpleNamespace(name="face", shape=shape, type=(changes or {}).get("type", "tensor(uint8)"))
        ],
        get_outputs=lambda: [SimpleNamespace(name=name, shape=shape) for name, shape in outputs.items() if shape],
    )
    monkeypatch.setattr(estimator, "open_session", lambda model: session)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"12345")
    if changes is None:
        opened = estimator.Estimator(path)
        assert (opened.size, opened.bytes, opened.outputs) == (96, 5, list(ANSWERS))
    else:
        with pytest.raises(ModelError, match="isn't an age and gender network"):
            estimator.Estimator(path)


def test_crops_of_another_shape_or_type_are_refused(analyzer):
    size = analyzer.estimator.size
    for crops in (np.zeros((1, size, size, 3), np.float32), np.zeros((1, size, size - 1, 3), np.uint8)):
        with pytest.raises(ValueError, match=rf"Crops must be uint8 \[N, {size}, {size}, 3\], not "):
            analyzer.estimator.predict(crops)
    answers = analyzer.estimator.predict(np.zeros((0, size, size, 3), np.uint8))
    assert {name: values.shape for name, values in answers.items()}["age"] == (0,)
