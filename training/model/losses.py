"""What training minimizes. Backend-agnostic Keras 3; knows nothing of networks, data or fitting."""

from __future__ import annotations

import keras
from keras import ops

SIGMA = 2.0  # years, spread of the label distribution around the given age
EPSILON = 1e-7


class LabelDistribution(keras.losses.Loss):
    """Cross-entropy between the label and the predicted distribution of ages.

    A known age is a Gaussian around it: neighboring ages look alike, so a prediction that is one year off should not
    count as much as one that is twenty off (label distribution learning; Gao et al. 2018, DLDL-v2, arXiv 1807.01097).
    For an age known as a range, the loss is the negative log-likelihood of the whole range. That says nothing of the
    ages within it, so `smoothness` is the weight of the mean square of the logarithm's second difference: 0.002 for a
    Gaussian of 5 years, 37 for what a network learned from ranges alone.

    y_true: first and last year, float [N, 2].
    y_pred: probabilities, float [N, A] for ages 0..A-1; with teachers [N, 2 A], the network's and then the teachers',
    whose share in the target is `teacher_weight`.
    """

    def __init__(self, teacher_weight: float = 0.0, smoothness: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.teacher_weight, self.smoothness = teacher_weight, smoothness

    def call(self, y_true, y_pred):
        teacher = None
        if self.teacher_weight:
            y_pred, teacher = ops.split(y_pred, 2, axis=-1)
        years = ops.arange(y_pred.shape[-1], dtype="float32")
        y_true = ops.cast(y_true, "float32")
        first, last = y_true[:, :1], y_true[:, 1:2]
        log_pred = ops.log(y_pred + EPSILON)
        target = ops.softmax(-0.5 * ops.square((years - first) / SIGMA), axis=-1)
        known = -ops.sum(target * log_pred, axis=-1)
        inside = ops.cast(ops.logical_and(years >= first, years <= last), "float32")
        within = -ops.log(ops.sum(y_pred * inside, axis=-1) + EPSILON)
        if self.smoothness:
            curvature = log_pred[:, 2:] - 2 * log_pred[:, 1:-1] + log_pred[:, :-2]
            within += self.smoothness * ops.mean(ops.square(curvature), axis=-1)
        label = ops.where(last[:, 0] > first[:, 0], within, known)
        if teacher is None:
            return label
        return (1 - self.teacher_weight) * label - self.teacher_weight * ops.sum(teacher * log_pred, axis=-1)


class GenderCrossEntropy(keras.losses.Loss):
    """Binary cross-entropy of gender.

    y_true: 0 male, 1 female, float [N]. y_pred: p_female, float [N]; with teachers [N, 2], the network's and the
    teachers', whose share in the target is `teacher_weight`.
    """

    def __init__(self, teacher_weight: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.teacher_weight = teacher_weight

    def call(self, y_true, y_pred):
        target = ops.cast(ops.reshape(y_true, (-1,)), "float32")
        if self.teacher_weight:
            target = (1 - self.teacher_weight) * target + self.teacher_weight * y_pred[:, 1]
            y_pred = y_pred[:, 0]
        return ops.binary_crossentropy(target, ops.reshape(y_pred, (-1,)))


class RangeError(keras.losses.Loss):
    """Years outside the label's range: the absolute error where the age is known.

    y_true: first and last year, float [N, 2]; y_pred: years, float [N].
    """

    def call(self, y_true, y_pred):
        first, last = ops.split(ops.cast(y_true, "float32"), 2, axis=-1)
        age = ops.reshape(y_pred, (-1, 1))
        return ops.squeeze(ops.maximum(first - age, 0.0) + ops.maximum(age - last, 0.0), -1)


def losses(
    age_head: str, gender_weight: float = 1.0, teacher_weight: float = 0.0, smoothness: float = 0.0
) -> tuple[dict, dict]:
    """Losses and their weights, by output of the network.

    regression: absolute error of age in years + binary cross-entropy of gender, as published.
    distribution: label distribution + a small absolute error of the expected age + cross-entropy of gender.
    """
    gender = GenderCrossEntropy(teacher_weight)
    if age_head == "regression":
        return {"age": RangeError(), "p_female": gender}, {"age": 1.0, "p_female": gender_weight}
    return (
        {
            "age_probs": LabelDistribution(teacher_weight=teacher_weight, smoothness=smoothness),
            "age": RangeError(),
            "p_female": gender,
        },
        {"age_probs": 1.0, "age": 0.1, "p_female": gender_weight},
    )
