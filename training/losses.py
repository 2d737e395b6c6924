"""What training minimises. Backend-agnostic Keras 3; knows nothing of networks, data or fitting."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

SIGMA = 2.0  # years, spread of the label distribution around the given age
EPSILON = 1e-7


class LabelDistribution(keras.losses.Loss):
    """Cross-entropy between a Gaussian around the true age and the predicted distribution.

    Neighbouring ages look alike, so a prediction that is one year off should not count as much as one that
    is twenty off (label distribution learning; Gao et al. 2018, DLDL-v2, arXiv 1807.01097).
    y_true: years, float [N]; y_pred: probabilities, float [N, A] for ages 0..A-1.
    """

    def __init__(self, sigma: float = SIGMA, name: str = "label_distribution", **kwargs):
        super().__init__(name=name, **kwargs)
        self.sigma = sigma

    def call(self, y_true, y_pred):
        years = np.arange(y_pred.shape[-1], dtype="float32")
        distance = (years - ops.reshape(ops.cast(y_true, "float32"), (-1, 1))) / self.sigma
        target = ops.softmax(-0.5 * ops.square(distance), axis=-1)
        return -ops.sum(target * ops.log(y_pred + EPSILON), axis=-1)

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma}


def losses(age_head: str) -> tuple[dict, dict]:
    """Losses and their weights, by output of the network.

    regression: mean absolute error of age in years + binary cross-entropy of gender, as published.
    distribution: label distribution + a small absolute error of the expected age + cross-entropy of gender.
    """
    if age_head == "regression":
        return {"age": "mae", "p_female": "binary_crossentropy"}, {"age": 1.0, "p_female": 1.0}
    return (
        {"age_probs": LabelDistribution(), "age": "mae", "p_female": "binary_crossentropy"},
        {"age_probs": 1.0, "age": 0.1, "p_female": 1.0},
    )
