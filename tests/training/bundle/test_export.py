"""Bundles of a run: ONNX, int8, Keras."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from space.estimator import Estimator
from space.hub.bundle import MODELS, open_bundle
from space.hub.download import ModelError
from tests.support import EMBEDDED, EXAMPLES, ROOT, files_of
from tests.support.app import python
from training.bundle import export, model_card, quantize
from training.data.decode import decode
from training.data.load import load_samples
from training.model import files, networks

pytestmark = pytest.mark.usefixtures("tiny")


def test_int8_is_served_only_where_it_is_as_good_and_faster(trained, made_up, tmp_path, monkeypatch):
    bundle = open_bundle(str(trained / "bundle"))
    record = bundle.card["quantization"]
    assert {"model.onnx", bundle.card["serve"]} <= set(bundle.card["files"])
    # A network that has learned from 48 made-up faces may be too coarse for int8.
    assert bundle.card["serve"] == "model.int8.onnx" or re.search("not faster|less accurate", record["reason"])
    validation, images = decode(load_samples(made_up)[0].split("validation"))
    shutil.copy(trained / "bundle" / "model.onnx", tmp_path)

    def attempt(float32, int8):
        times = itertools.cycle([float32, int8])
        monkeypatch.setattr(quantize, "call_ms", lambda call: next(times))
        (tmp_path / "model.int8.onnx").unlink(missing_ok=True)
        return quantize.quantize(tmp_path, images[:32], images, validation.age_range, validation.gender == 1)

    monkeypatch.setattr(quantize, "MAE_RISE", 5.0)  # a network of 48 faces has little to lose
    monkeypatch.setattr(quantize, "GENDER_FALL", 1.0)
    record = attempt(2.0, 1.0)
    assert record["serve"] == "model.int8.onnx" and record["kept_float"] == []
    plain, small = (Estimator(tmp_path / name).predict(images)["age"] for name in ("model.onnx", "model.int8.onnx"))
    assert 0 < np.abs(plain - small).max() < 3
    assert (tmp_path / "model.int8.onnx").stat().st_size < 0.7 * (tmp_path / "model.onnx").stat().st_size
    slower = attempt(1.0, 2.0)
    assert slower["serve"] == "model.onnx" and not (tmp_path / "model.int8.onnx").exists()
    some = quantize._layers
    monkeypatch.setattr(quantize, "_layers", lambda path: some(path)[:7])  # each layer takes a second
    monkeypatch.setattr(quantize, "MAE_RISE", -10.0)  # nothing is that good: more and more layers stay float
    worse = attempt(9.0, 1.0)
    assert worse["serve"] == "model.onnx" and "less accurate" in worse["reason"]
    assert len(worse["kept_float"]) == quantize.FLOAT_LAYER_COUNTS[-1] and not (tmp_path / "model.int8.onnx").exists()
    monkeypatch.setattr(quantize, "MAE_RISE", 99.0)
    monkeypatch.setattr(quantize, "GENDER_FALL", -10.0)  # nor at genders
    assert "less accurate" in attempt(9.0, 1.0)["reason"]


def test_folding_pools_keeps_the_outputs_and_relus_run_in_int8(trained, made_up, tmp_path):
    onnx = pytest.importorskip("onnx")
    _, images = decode(load_samples(made_up)[0].split("validation"))
    quantizer = quantize.Quantizer.measure(trained / "bundle" / "model.onnx", images[:16], tmp_path)
    before, after = (
        Estimator(path).predict(images) for path in (trained / "bundle" / "model.onnx", quantizer.prepared)
    )
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-3)
    quantizer.write(tmp_path / "int8.onnx", list(quantizer.layers))
    nodes = onnx.load(tmp_path / "int8.onnx").graph.node
    assert not [node.name for node in nodes if node.op_type == "AveragePool"]
    made = {name: node.op_type for node in nodes for name in node.output}
    # A ReLU after a convolution is part of the convolution's range; a separate ReLU would run in float.
    assert all(made[node.input[0]] != "DequantizeLinear" for node in nodes if node.op_type == "Relu")


def test_onnx_equals_keras(trained, made_up):
    _, images = decode(load_samples(made_up)[0].split("validation"))
    network = files.load_keras(trained / "bundle")
    expected = {name: np.asarray(value) for name, value in network.predict_on_batch(np.asarray(images)).items()}
    answers = Estimator(trained / "bundle" / "model.onnx").predict(images)
    assert set(answers) == {"age", "p_female", "age_probs"}
    # The Keras files hold float16.
    assert np.abs(answers["age"] - expected["age"]).max() < 0.1
    assert np.abs(answers["p_female"] - expected["p_female"]).max() < 0.01
    assert answers["age"].std() > 5  # no constant


def test_weights_are_restored_from_onnx(trained, made_up):
    _, images = decode(load_samples(made_up)[0].split("validation"))
    vgg16 = networks.build("vgg16")
    embedded = open_bundle("vgg16").model_path  # in int8
    files.read_onnx(vgg16, embedded)
    images = np.asarray(images[:4])
    assert np.abs(vgg16.predict_on_batch(images)["age"] - Estimator(embedded).predict(images)["age"]).max() < 2
    with pytest.raises(ModelError, match="no weights for the layer"):
        files.read_onnx(networks.build("compact"), embedded)


def test_saved_keras_weights_take_two_bytes_each_and_give_the_same_ages(trained, tmp_path):
    network = networks.build("compact")
    files.save_keras(network, tmp_path)
    assert (tmp_path / "model.weights.h5").stat().st_size < 2.6 * network.count_params() + 300_000
    faces = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), np.uint8)
    ages = [model.predict_on_batch(faces)["age"] for model in (network, files.load_keras(tmp_path))]
    assert 0 < np.abs(ages[0] - ages[1]).max() < 0.1


@pytest.mark.parametrize("network", ["built", "compact", "open"])
def test_the_keras_config_has_only_settings_that_differ_from_keras_s_defaults(network, tmp_path):
    """Older versions of Keras 3 refuse a file with settings that they don't know, whatever the value."""
    if network == "built":
        files.save_keras(networks.build("compact"), tmp_path)
    config = json.loads(((tmp_path if network == "built" else MODELS / network) / "config.json").read_text())
    layers = {entry["name"]: entry for entry in config["config"]["layers"]}
    convolution, norm = layers["stem1"]["config"], layers["stem1_norm"]["config"]
    assert {"name", "filters", "kernel_size", "strides", "padding", "use_bias"} <= set(convolution)
    assert not {"groups", "activity_regularizer", "kernel_initializer"} & set(convolution)
    assert not {"renorm", "gamma_initializer", "moving_mean_initializer"} & set(norm)


def test_the_embedded_compact_network_holds_its_keras_weights():
    faces = np.stack(
        [np.asarray(Image.open(path).convert("RGB").resize((200, 200))) for path in sorted(EXAMPLES.glob("age-*.jpg"))]
    )
    expected = Estimator(open_bundle().model_path).predict(faces)  # in int8
    found = files.load_keras(EMBEDDED).predict_on_batch(faces)
    assert np.abs(expected["age"] - found["age"]).mean() < 1 and np.abs(expected["age"] - found["age"]).max() < 3
    assert np.abs(expected["p_female"] - found["p_female"]).max() < 0.1


def test_the_slim_bundle_leaves_out_large_keras_weights(trained, tmp_path, monkeypatch):
    from training.bundle import export

    export.embed(trained / "bundle", tmp_path / "all")
    assert all((tmp_path / "all" / name).exists() for name in files.KERAS_FILES)
    monkeypatch.setattr(export, "MAX_EMBEDDED", (trained / "bundle" / "model.weights.h5").stat().st_size - 1)
    export.embed(trained / "bundle", tmp_path / "slim")
    assert not any((tmp_path / "slim" / name).exists() for name in (*files.KERAS_FILES, "predict.py"))
    assert "hf://" not in (tmp_path / "slim" / "README.md").read_text()


def test_the_slim_bundle_is_a_bundle(trained, tmp_path):
    result = python("-m", "training.bundle.export", trained / "bundle", tmp_path / "slim")
    assert result.returncode == 0, result.stderr
    bundle = open_bundle(str(tmp_path / "slim"))
    assert bundle.card["metrics"] == open_bundle(str(trained / "bundle")).card["metrics"]
    assert all((tmp_path / "slim" / name).is_file() for name in bundle.card["files"])


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(export.ExportError, match="contains other files"):
        export.embed(EMBEDDED, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").touch()
    with pytest.raises(export.ExportError, match="contains other files"):
        export.embed(EMBEDDED, tmp_path / "file")
    for _ in range(2):  # an earlier copy is replaced
        export.embed(EMBEDDED, tmp_path / "copy")
    assert open_bundle(str(tmp_path / "copy")).card["name"] == "compact"


def test_a_whole_bundle_is_not_replaced_by_its_slim_copy(trained, tmp_path):
    whole = shutil.copytree(trained / "bundle", tmp_path / "whole")
    before = files_of(whole)
    for source in (whole, trained / "bundle", EMBEDDED):
        with pytest.raises(export.ExportError, match="contains other files"):
            export.embed(source, whole)
    assert files_of(whole) == before


def test_files_are_exported_by_tensorflow_whatever_the_backend_of_training(tmp_path, monkeypatch):
    """JAX writes no LiteRT file, and needs another package for ONNX."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    used = []
    monkeypatch.setattr(export, "export", lambda bundle, target: used.append(os.environ["KERAS_BACKEND"]))
    assert export.main([str(EMBEDDED), str(tmp_path / "a.tflite")]) == 0 and used == ["tensorflow"]


@pytest.mark.slow
def test_other_runtimes_give_equal_answers(tmp_path):
    """The commands of training/README.md, with the embedded compact network."""
    faces = np.stack([np.asarray(Image.open(path).resize((200, 200))) for path in sorted(EXAMPLES.glob("age-*.jpg"))])
    done = python("-m", "training.bundle.export", EMBEDDED, tmp_path / "compact.tflite")
    assert done.returncode == 0, done.stderr
    program = f"""
import numpy as np, tensorflow as tf
interpreter = tf.lite.Interpreter({str(tmp_path / "compact.tflite")!r})
faces = np.load({str(tmp_path / "faces.npy")!r})
run = interpreter.get_signature_runner()
ages = [run(face=face[None])["age"][0] for face in faces]
np.save({str(tmp_path / "ages.npy")!r}, ages)"""
    np.save(tmp_path / "faces.npy", faces)
    ran = python("-c", program)
    assert ran.returncode == 0, ran.stderr
    expected = files.load_keras(EMBEDDED).predict_on_batch(faces)["age"]
    np.testing.assert_allclose(np.load(tmp_path / "ages.npy"), np.asarray(expected), atol=0.01)


@pytest.mark.slow
def test_openvino_gives_the_served_network_s_answers(tmp_path):
    openvino = pytest.importorskip("openvino")
    faces = np.stack([np.asarray(Image.open(path).resize((200, 200))) for path in sorted(EXAMPLES.glob("age-*.jpg"))])
    export.export(EMBEDDED, tmp_path / "compact.xml")
    compiled = openvino.compile_model(tmp_path / "compact.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = Estimator(EMBEDDED / "model.int8.onnx").predict(faces)["age"]
    np.testing.assert_allclose(compiled({"face": faces})["age"], expected, atol=0.5)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/you/age-gender.git", "https://github.com/you/age-gender"),
        ("https://you:secret-token@github.com/you/age-gender", "https://github.com/you/age-gender"),
        ("git@github.com:you/age-gender.git", "https://github.com/you/age-gender"),
        ("ssh://git@gitlab.com/a/b/c.git", "https://gitlab.com/a/b/c"),
        ("/home/you/age-gender", None),
        ("../other", None),
        ("file:///srv/git/age-gender.git", None),
        ("http://localhost:3000/you/age-gender", None),
        ("", None),
    ],
)
def test_the_card_links_the_public_repository_without_passwords(remote, address, monkeypatch, trained):
    answers = {"rev-parse --show-toplevel": str(ROOT), "remote get-url origin": remote, "rev-parse HEAD": "0" * 40}
    monkeypatch.setattr(export, "_git", lambda root, *words: answers.get(" ".join(words), ""))
    assert export.checkout() == {"commit": "0" * 40, "modified": False, "repository": address}
    card = open_bundle(str(trained / "bundle")).card
    card["provenance"] |= export.checkout()
    text = model_card.render(card)
    assert "with local changes" not in text
    assert (f"pip install git+{address}@{'0' * 40}" in text) == (address is not None) and "secret-token" not in text


def test_provenance_names_this_repository_and_its_local_changes(tmp_path, monkeypatch, trained):
    def git(*words):
        author = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    module = tmp_path / "kit" / "training" / "bundle" / "export.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(export, "__file__", str(module))
    git("init")
    git("commit", "--allow-empty", "-m", "of another project")
    assert export.checkout() == {"commit": None, "modified": False, "repository": None}
    shutil.move(tmp_path / ".git", tmp_path / "kit")
    monkeypatch.setattr(export, "__file__", str(module))
    found = export.checkout()
    assert len(found["commit"]) == 40 and not found["modified"]
    subprocess.run(["git", "add", "."], cwd=tmp_path / "kit", check=True)
    assert export.checkout()["modified"]
    card = open_bundle(str(trained / "bundle")).card
    card["provenance"] |= export.checkout()
    assert "with local changes" in model_card.render(card)


def test_files_that_give_other_results_are_refused():
    one = {"age": np.zeros(2), "p_female": np.zeros(2)}
    for name, value in (("age", 0.02), ("p_female", 0.002), ("age", np.nan)):
        with pytest.raises(export.ExportError, match="differ on real faces"):
            export._compare("f", one | {name: np.array([0, value])}, one, 0.01)


def test_the_suffix_decides_the_format(tmp_path, monkeypatch):
    made = []

    def keras_export(path, format, verbose):
        made.append((format, path))

    monkeypatch.setattr(export, "load_keras", lambda bundle: SimpleNamespace(export=keras_export))
    monkeypatch.setattr(export, "convert", lambda network, path: made.append(("onnx", str(path))))
    for suffix in (".onnx", ".tflite"):
        export.export(EMBEDDED, tmp_path / f"a{suffix}")
    assert made == [("onnx", str(tmp_path / "a.onnx")), ("litert", str(tmp_path / "a.tflite"))]
    with pytest.raises(export.ExportError, match="unknown suffix"):
        export.export(EMBEDDED, tmp_path / "a.mlmodel")
