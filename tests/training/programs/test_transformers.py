"""A published bundle in the transformers library: `pip install torch transformers` runs these tests, else they skip."""

from __future__ import annotations

import json
import re

import pytest

from space.analyzer import FaceAnalyzer
from space.detector import FILE, yunet_file
from space.hub.bundle import MODELS, embedded
from tests.support import EXAMPLES, files_of
from tests.support.app import python
from training import programs

GROUP = EXAMPLES / "group.jpg"


def published(name: str) -> dict[str, bytes]:
    """The files of an embedded bundle as a push uploads them."""
    files = files_of(MODELS / name)
    return files | programs.files(json.loads(files["age_gender.json"]), files.get("config.json"))


def test_the_labels_of_the_configuration_are_those_of_the_model():
    text = (programs._FOLDER / programs.MODELING).read_text()
    bands = re.findall(r"\((\d+), (\d+)\)", text.split("BANDS = ")[1].split("\n")[0])
    names = [f"{low}-{high}" for low, high in bands]
    names[-1] = f"{bands[-1][0]}+"
    assert tuple(names) == programs.BANDS and programs.LABELS[:2] == ("female", "male")


@pytest.mark.parametrize("name", embedded())
def test_one_config_serves_both_libraries(name):
    files = published(name)
    config = json.loads(files["config.json"])
    assert config["auto_map"]["AutoConfig"] == "modeling_age_gender.AgeGenderConfig" and config["onnx"] in files
    keras = json.loads((MODELS / name / "config.json").read_text()) if (MODELS / name / "config.json").exists() else {}
    assert not set(keras) & {"model_type", "auto_map", "id2label", "architectures"}
    assert {key: config[key] for key in keras} == keras


@pytest.mark.slow
@pytest.mark.parametrize("name", embedded())
def test_the_pipeline_answers_as_the_app(name, hub, reader):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    hub.add("opencv/face_detection_yunet", {FILE: yunet_file().read_bytes()})
    hub.add("you/mine", published(name))
    readme = published(name)["README.md"].decode().replace("USER/NAME", "you/mine")
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "transformers" in block)
    more = f"""
import json
from PIL import Image
model, processor = classify.model, classify.image_processor
answer = model(**processor(Image.open({str(GROUP)!r}), return_tensors="pt"))
values = {{name: float(answer[name][0]) for name in ("age", "age_low", "age_high", "p_female")}}
print("JSON", json.dumps([values, classify({str(GROUP)!r}, top_k=11)]))"""
    done = python("-c", block.replace("photo.jpg", str(GROUP)) + more, env=reader, timeout=300)
    assert done.returncode == 0, done.stderr
    values, scores = json.loads(done.stdout.split("JSON ")[1])
    face = FaceAnalyzer.load(name).analyze(GROUP)[0]
    for key, apart in (("age", 1.0), ("p_female", 0.06), ("age_low", 3), ("age_high", 3)):
        assert values[key] == pytest.approx(getattr(face, key), abs=apart), key
    found = {entry["label"]: entry["score"] for entry in scores}
    assert set(found) == set(programs.LABELS) and found["female"] == pytest.approx(values["p_female"], abs=0.01)
    assert sum(found[band] for band in programs.BANDS) == pytest.approx(1, abs=0.02)
