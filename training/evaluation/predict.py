"""Calibrated outputs of what is served."""

from __future__ import annotations

import numpy as np

from space.estimator import Estimator
from space.hub.bundle import open_bundle
from training.evaluation import calibrate


def predict(model: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Calibrated outputs of a bundle (folder, Hub id or embedded name), or of an .onnx file, for uint8 images
    [N, 200, 200, 3]."""
    if model.endswith(".onnx"):
        return Estimator(model).predict(images)
    bundle = open_bundle(model)
    return calibrate.apply(bundle.card["calibration"], Estimator(bundle.model_path).predict(images))
