"""The benchmark runs, and its figures are of what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from space.bench import __main__ as bench
from space.bench import measure, peers, timing
from tests.support import EMBEDDED
from tests.support.app import python


@pytest.mark.parametrize(("seconds", "calls"), [(0, 5), (1.5, 8), (4.9, 25)])
def test_a_figure_is_the_median_of_five_calls_and_more(monkeypatch, seconds, calls):
    now, took = [0.0], [9.0, 9.0, 0.1, 0.3, *[0.2] * 999]  # seconds; the first two calls are for warm-up
    done = iter(took)
    monkeypatch.setattr(timing, "SECONDS", seconds)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def call():
        now[0] += next(done)

    assert timing.median_ms(call) == pytest.approx(200)
    assert len(list(done)) == len(took) - 2 - calls


def test_the_machine_s_speed_is_that_of_a_matrix_product(monkeypatch):
    def median_ms(call):
        assert call().shape == (2048, 2048) and call().dtype == "float32"
        return 1000

    monkeypatch.setattr(measure, "median_ms", median_ms)
    assert measure.machine()["gflops"] == 17.2  # 2 * 2048**3 operations in a second


def test_the_table_has_a_row_for_each_figure():
    models = {
        "a": {"faces found": {5: 4}, "crop": 1.234, "page, s": 2.0, "resident, MB": None},
        "b": {"faces found": {5: 5}, "crop": 10.0},
    }
    about = {"processor": "CPU", "cores": 2, "gflops": 99.5, "python": "3.11", "packages": {"numpy": "2.0"}}
    report = {"machine": about, "detector": "yunet", "models": models, "peers": {"other": 12.34, "absent": "–"}}
    text = bench.table(report)
    assert text.splitlines() == [
        "CPU, 2 cores, 99.5 GFLOP/s in a float32 matrix product; Python 3.11, numpy 2.0; detector yunet.",
        "",
        "| | a | b |",
        "| --- | --- | --- |",
        "| faces found | 4 of 5 | 5 of 5 |",
        "| crop, ms | 1.23 | 10.00 |",
        "| page, s | 2.00 | – |",
        "| resident, MB | – | – |",
        "",
        "| other programs, whole photo | ms |",
        "| --- | --- |",
        "| other | 12.3 |",
        "| absent | – |",
    ]


def test_the_networks_of_a_bundle_are_measured(tmp_path):
    ((name, path, bundle),) = bench._networks(None)  # the embedded bundle has no float32 network
    assert (name, path, bundle.folder) == ("compact, int8", EMBEDDED / "model.int8.onnx", EMBEDDED)
    assert bench._networks(str(tmp_path / "own.onnx")) == [("own", tmp_path / "own.onnx", None)]


@pytest.mark.slow
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


def test_times_are_per_face(analyzer, monkeypatch):
    monkeypatch.setattr(measure, "median_ms", lambda call: 60.0)
    times = measure.serving(analyzer)
    assert times["prediction, batch of 4, per face"] == 15.0 and times["prediction, batch of 300, per face"] == 0.2
    assert times["prediction, 20 separate calls, per face"] == 3.0


def test_separate_calls_have_one_face_each(analyzer, monkeypatch):
    sizes = []
    predict = analyzer.estimator.predict
    estimator = SimpleNamespace(predict=lambda faces: sizes.append(len(faces)) or predict(faces))

    def median_ms(call) -> float:
        call()
        return 60.0

    monkeypatch.setattr(measure, "median_ms", median_ms)
    monkeypatch.setattr(measure, "SCENES", {1: measure.SCENES[1]})
    measure.serving(replace(analyzer, estimator=estimator))
    assert sizes[:5] == [1, 4, 16, 20, 300] and sizes[5:25] == [1] * 20


def test_only_the_served_network_is_started_and_vgg16_goes_to_the_peers(monkeypatch, capsys):
    started, given = [], []
    monkeypatch.setattr(
        bench, "machine", lambda: {"processor": "CPU", "cores": 2, "gflops": 1.0, "python": "3", "packages": {}}
    )
    monkeypatch.setattr(bench, "serving", lambda analyzer: {"crop": 1.0})
    monkeypatch.setattr(bench, "start_up", lambda options: started.append(options) or {"page, s": 2.0})
    monkeypatch.setattr(peers, "engines", lambda path: {"engine": 3.0})
    monkeypatch.setattr(peers, "programs", lambda one, five, vgg16: given.append((one.shape, five.shape, vgg16)) or {})
    network = EMBEDDED.parent / "vgg16" / "model.int8.onnx"
    bundle = SimpleNamespace(model_path=network)
    networks = {
        "vgg16": [("vgg16, int8", network, bundle), ("vgg16, float32", EMBEDDED / "model.int8.onnx", bundle)],
        "open": [("open, int8", EMBEDDED.parent / "open" / "model.int8.onnx", None)],
    }
    monkeypatch.setattr(bench, "_networks", networks.get)
    assert bench.main(["--model", "vgg16", "--model", "open", "--peers"]) == 0
    assert started == [["--model=vgg16"]]
    assert given == [((480, 640, 3), (768, 1024, 3), EMBEDDED / "model.int8.onnx")]  # the last of vgg16's
    assert "| page, s | 2.00 | – | – |" in capsys.readouterr().out


def test_what_another_program_fails_with_is_its_line_of_the_table():
    def failing(error):
        def build():
            raise error

        return peers._timed(build)

    assert failing(ValueError("first line\nsecond")) == "ValueError: first line"
    assert failing(ValueError("x" * 99)) == f"ValueError: {'x' * 60}"
    assert failing(ModuleNotFoundError("no", name="deepface")) == "not installed (deepface)"
    assert failing(ValueError()) == "failed"


def test_the_faces_of_a_scene_stand_in_rows():
    scene, empty = measure.scene(5, 1024, 768, 256), (128, 132, 138)
    assert tuple(scene[384, 128]) != empty and tuple(scene[384, 384]) == empty
