"""The benchmark runs, and its figures are of what they say."""

from __future__ import annotations

import json

import pytest

from tests.support import EMBEDDED
from tests.support.app import python

pytestmark = pytest.mark.slow


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path):
    code = (
        "import sys; from space.bench import timing; timing.SECONDS = 0.05; from space.bench.__main__ import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "bench.json"
    arguments = ("--model", EMBEDDED, "--model", EMBEDDED / "model.int8.onnx", "--peers", "--json", out)
    result = python("-c", code, *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    values = report["models"]["compact, int8"]
    assert report["machine"]["gflops"] > 1 and report["machine"]["cores"] >= 1
    assert values["faces found"] == {"1": 1, "5": 5, "20": 20}
    assert 0 < values["crop, one face"] < values["prediction, batch of 1, per face"] < values["whole photo, 20 faces"]
    assert values["page, s"] < values["first answer, s"] < 60 and 100 < values["resident, MB"] < 1000
    assert "DeepFace, age and gender, 1 face" in report["peers"]
    assert "page, s" not in report["models"]["model.int8"]  # a network alone cannot be started
    assert "| whole photo, 20 faces, ms |" in result.stdout and report["machine"]["processor"] in result.stdout
