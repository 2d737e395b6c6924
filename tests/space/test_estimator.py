"""How many cores ONNX Runtime gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from space import estimator


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
