"""Networks: published parameter counts, the contract of inputs and outputs, initial weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from tests.support import EMBEDDED, EXAMPLES
from training import recipe
from training.fitting.loop import set_trainable
from training.model import files, networks


@pytest.fixture(scope="module")
def vgg16():
    keras.utils.set_random_seed(0)
    return networks.build("vgg16", age_head="regression")


def count(variables) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def test_vgg16_has_exactly_the_published_parameters(vgg16):
    assert vgg16.count_params() == 34_148_546
    heads, block5 = (stage.layers for stage in recipe.load("published").stages)
    set_trainable(vgg16, heads)
    assert count(vgg16.trainable_weights) == 19_433_730
    assert count(vgg16.non_trainable_weights) == 14_714_816  # the base, and 128 moving averages
    set_trainable(vgg16, block5)
    assert count(vgg16.trainable_weights) == 26_513_154
    set_trainable(vgg16, "all")
    assert count(vgg16.trainable_weights) == 34_148_546 - 128


def test_pretrained_layers_learn_the_slower_the_deeper_they_lie():
    rates = recipe.load("vgg16").stages[-1].rates

    def share(layer):
        return next((share for name, share in rates.items() if layer.startswith(name)), 1.0)

    shares = [share(name) for name in ("block1_conv1", "block2_conv1", "block3_conv1", "block4_conv1", "block5_conv1")]
    assert shares == sorted(shares) and shares[-1] < share("age_dense1") <= 1


def test_vgg16_layers(vgg16):
    shapes = [tuple(layer.output.shape[1:]) for layer in vgg16.layers if layer.name.startswith("block5")]
    assert shapes[-1] == (6, 6, 512)
    assert vgg16.get_layer("flatten").output.shape[1:] == (18432,)
    convolutions = [layer for layer in vgg16.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 13
    for branch in ("age", "gender"):
        assert [vgg16.get_layer(f"{branch}_dense{i}").units for i in (1, 2, 3)] == [512, 512, 32]
        assert vgg16.get_layer(branch).units == 1


def test_vgg16_sees_what_keras_applications_would_feed_it(vgg16):
    faces = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), np.uint8)
    inside = keras.Model(vgg16.input, vgg16.get_layer("imagenet_mean").output)(faces)
    outside = keras.applications.vgg16.preprocess_input(faces.astype("float32"))
    np.testing.assert_allclose(np.asarray(inside), outside, atol=1e-3)


@pytest.mark.parametrize("network", ["compact", "vgg16"])
@pytest.mark.parametrize("head", networks.AGE_HEADS)
def test_outputs_follow_the_contract(network, head):
    model = networks.build(network, age_head=head)
    faces = np.random.default_rng(0).integers(0, 256, (3, 200, 200, 3), np.uint8)
    outputs = {name: np.asarray(value) for name, value in model(faces).items()}
    assert outputs["age"].shape == outputs["p_female"].shape == (3,)
    assert all(value.dtype == np.float32 for value in outputs.values())
    assert ((outputs["p_female"] >= 0) & (outputs["p_female"] <= 1)).all()
    assert ("age_probs" in outputs) == (head == "distribution")
    if head == "distribution":
        assert outputs["age_probs"].shape == (3, 102)
        np.testing.assert_allclose(outputs["age_probs"].sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(outputs["age"], outputs["age_probs"] @ np.arange(102), atol=1e-3)


def test_compact_is_small():
    assert networks.build("compact").count_params() <= 2_300_000


def test_imagenet_weights_are_those_of_keras_applications(tmp_path, monkeypatch):
    """`--init imagenet` asks Keras for its published file and puts it into the base; the download is replaced."""
    donor = keras.applications.VGG16(include_top=False, weights=None, input_shape=(200, 200, 3))
    donor.save_weights(tmp_path / "donor.weights.h5")
    asked = []

    def get_file(name, origin, **_):
        asked.append(origin)
        return tmp_path / "donor.weights.h5"

    monkeypatch.setattr(keras.src.applications.vgg16.file_utils, "get_file", get_file)
    model = networks.build("vgg16", init="imagenet")
    assert len(asked) == 1 and asked[0].endswith("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")
    for name in ("block1_conv1", "block5_conv3"):
        np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], donor.get_layer(name).get_weights()[0])


def test_initial_weights_from_a_file(tmp_path):
    first = networks.build("compact")
    faces = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), np.uint8)
    for name, save in (("w.weights.h5", first.save_weights), ("m.keras", first.save)):
        save(tmp_path / name)
        again = networks.build("compact")
        networks.load_weights(again, tmp_path / name)
        np.testing.assert_array_equal(np.asarray(again(faces)["age"]), np.asarray(first(faces)["age"]))
    (tmp_path / "bad.weights.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        networks.load_weights(first, tmp_path / "bad.weights.h5")
    with pytest.raises(ValueError, match="age_head"):
        networks.load_weights(networks.build("compact", age_head="regression"), tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match="No weights at"):
        networks.load_weights(first, tmp_path / "missing.weights.h5")


def test_a_file_of_the_base_alone_fills_the_base(tmp_path):
    base = keras.applications.VGG16(include_top=False, weights=None)
    base.save_weights(tmp_path / "notop.weights.h5")
    model = networks.build("vgg16")
    networks.load_weights(model, tmp_path / "notop.weights.h5")
    for name in ("block1_conv1", "block5_conv3"):
        np.testing.assert_array_equal(model.get_layer(name).get_weights()[0], base.get_layer(name).get_weights()[0])


def test_vgg16_at_100_pixels_has_the_same_weights_and_sees_the_small_face(vgg16):
    half = networks.at_size(vgg16, 100)
    assert half.count_params() == vgg16.count_params() and half.input.shape == vgg16.input.shape
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (2, 100, 100, 3), np.uint8)
    outputs = half(small.repeat(2, axis=1).repeat(2, axis=2))
    x = keras.applications.vgg16.preprocess_input(small.astype("float32"))
    for layer in networks.convolutional_base(vgg16)[:-1]:  # all but block5_pool
        x = layer(x)
    age = vgg16.get_layer("flatten")(x)
    for name in ("age_dense1", "age_dense2", "age_dense3", "age_norm", "age"):
        age = vgg16.get_layer(name)(age)
    np.testing.assert_allclose(np.asarray(outputs["age"]), np.asarray(age)[:, 0], rtol=1e-3, atol=1e-4)


def test_compact_at_another_size_has_the_same_weights_and_similar_answers():
    model = networks.build("compact")
    model.set_weights(files.load_keras(EMBEDDED).get_weights())
    small = networks.at_size(model, 160)
    assert {id(w) for w in small.weights} == {id(w) for w in model.weights} and networks.at_size(model, 200) is model
    pictures = [Image.open(path).convert("RGB").resize((200, 200)) for path in sorted(EXAMPLES.glob("age-*.jpg"))]
    faces = np.stack([np.asarray(picture) for picture in pictures])
    ages = [np.asarray(network(faces)["age"]) for network in (model, small)]
    assert 0 < np.median(np.abs(ages[0] - ages[1])) < 6


def test_measured_norms_have_the_statistics_of_the_faces():
    keras.utils.set_random_seed(0)
    model = networks.build("vgg16")
    faces = np.random.default_rng(0).integers(0, 256, (8, 200, 200, 3), np.uint8)
    networks.measure_norms(model, networks.head_inputs(model), faces)
    norm = model.get_layer("age_norm")
    values = np.asarray(keras.Model(model.input, norm.output)(faces)) - norm.get_weights()[1]
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-3)
    before = np.asarray(keras.Model(model.input, norm.input)(faces))
    np.testing.assert_allclose(norm.get_weights()[3], before.var(axis=0), rtol=0.01, atol=1e-6)


def test_merged_norms_get_statistics_that_training_expects():
    """Weights that come back from ONNX give the same ages after that, and nearly the same in training mode."""
    model = networks.build("compact", dropout=0.0)
    model.set_weights(files.load_keras(EMBEDDED).get_weights())
    pictures = [Image.open(path).convert("RGB").resize((200, 200)) for path in sorted(EXAMPLES.glob("age-*.jpg"))]
    faces = np.stack([np.asarray(picture) for picture in pictures] * 4)

    def ages(training: bool) -> np.ndarray:
        return np.asarray(model(faces, training=training)["age"])

    expected = ages(False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # merged, as `files.read_onnx` sets them
            gamma, beta, mean, variance = layer.get_weights()
            scale = gamma / np.sqrt(variance + layer.epsilon)
            size = scale.shape
            layer.set_weights([scale * np.sqrt(1 + layer.epsilon), beta - mean * scale, np.zeros(size), np.ones(size)])
    np.testing.assert_allclose(ages(False), expected, atol=0.05)
    merged = model.get_weights()
    wrong = np.abs(ages(True) - expected).mean()
    model.set_weights(merged)  # training changes the moving statistics
    networks.restore_norms(model, faces)
    np.testing.assert_allclose(ages(False), expected, atol=0.05)
    assert np.abs(ages(True) - expected).mean() < min(0.5, 0.2 * wrong)


def test_sharpened_ages_are_a_power_of_the_distribution():
    model = networks.build("compact")
    faces = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), np.uint8)
    before = np.asarray(model(faces)["age_probs"], np.float64)
    networks.sharpen_ages(model, 1.5)
    expected = before**1.5 / (before**1.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(model(faces)["age_probs"]), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("head", networks.AGE_HEADS)
def test_a_mirrored_network_answers_with_the_mean_of_both_views(head, tmp_path):
    plain = networks.build("compact", age_head=head)
    mirrored = networks.build("compact", age_head=head, mirror=True)
    mirrored.set_weights(plain.get_weights())
    assert mirrored.count_params() == plain.count_params()
    faces = np.random.default_rng(0).integers(0, 256, (3, 200, 200, 3), np.uint8)
    views, answers = [plain(faces), plain(faces[:, :, ::-1])], mirrored(faces)
    assert set(answers) == set(views[0])
    for name, value in answers.items():
        np.testing.assert_allclose(np.asarray(value), np.mean([view[name] for view in views], axis=0), atol=1e-4)
    mirrored.save(tmp_path / "mirrored.keras")  # training can go on from it
    again = networks.build("compact", age_head=head)
    networks.load_weights(again, tmp_path / "mirrored.keras")
    np.testing.assert_array_equal(np.asarray(again(faces)["age"]), np.asarray(views[0]["age"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"network": "resnet"}, "Unknown network"),
        ({"network": "compact", "age_head": "ordinal"}, "Unknown age head"),
        ({"network": "compact", "init": "imagenet"}, "no ImageNet weights"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, words):
    with pytest.raises(ValueError, match=words):
        networks.build(**arguments)


def test_the_embedded_weights_mean_the_same_in_a_network_that_is_built_today():
    loaded, built = files.load_keras(EMBEDDED), networks.build("compact", mirror=True)
    built.set_weights(loaded.get_weights())
    faces = np.random.default_rng(0).integers(0, 256, (2, 200, 200, 3), np.uint8)
    expected, found = (network.predict_on_batch(faces) for network in (loaded, built))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-3)
