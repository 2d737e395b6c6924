"""What training minimises. Backend-agnostic Keras 3; knows nothing of networks, data or fitting."""

from __future__ import annotations

import keras
from keras import ops

SIGMA = 2.0  # years, spread of the label distribution around the given age
EPSILON = 1e-7


class LabelDistribution(keras.losses.Loss):
    """Cross-entropy between the label and the predicted distribution of ages.

    A known age is a Gaussian around it: neighbouring ages look alike, so a prediction that is one year off should not
    count as much as one that is twenty off (label distribution learning; Gao et al. 2018, DLDL-v2, arXiv 1807.01097).
    Of an age known as a range the likelihood of the whole range counts.
    y_true: first and last year, float [N, 2], or with A more columns, the answers of teachers, which count as the share
    `taught`; y_pred: probabilities, float [N, A] for ages 0..A-1.
    """

    def __init__(self, sigma: float = SIGMA, taught: float = 0.0, name: str = "label_distribution", **kwargs):
        super().__init__(name=name, **kwargs)
        self.sigma, self.taught = sigma, taught

    def call(self, y_true, y_pred):
        years = ops.arange(y_pred.shape[-1], dtype="float32")
        y_true = ops.cast(y_true, "float32")
        first, last = y_true[:, :1], y_true[:, 1:2]
        target = ops.softmax(-0.5 * ops.square((years - first) / self.sigma), axis=-1)
        known = -ops.sum(target * ops.log(y_pred + EPSILON), axis=-1)
        inside = ops.cast(ops.logical_and(years >= first, years <= last), "float32")
        within = -ops.log(ops.sum(y_pred * inside, axis=-1) + EPSILON)
        given = ops.where(last[:, 0] > first[:, 0], within, known)
        if not self.taught:
            return given
        answered = -ops.sum(y_true[:, 2:] * ops.log(y_pred + EPSILON), axis=-1)
        return (1 - self.taught) * given + self.taught * answered

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "taught": self.taught}


class RangeError(keras.losses.Loss):
    """Years outside the label's range: the absolute error where the age is known.

    y_true: first and last year, float [N, 2]; y_pred: years, float [N].
    """

    def __init__(self, name: str = "range_error", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        first, last = ops.split(ops.cast(y_true, "float32"), 2, axis=-1)
        age = ops.reshape(y_pred, (-1, 1))
        return ops.squeeze(ops.maximum(first - age, 0.0) + ops.maximum(age - last, 0.0), -1)


class Mixed(keras.losses.Loss):
    """Another loss for faces laid over each other: the mean over both labels by how much of each face is seen.

    mixup; Zhang et al. 2018, arXiv 1710.09412. y_true: float [N, 2 K + 1], both labels and the share of the first.
    """

    def __init__(self, loss: keras.losses.Loss, **kwargs):
        super().__init__(name=loss.name, **kwargs)
        self.loss = loss

    def get_config(self):
        return {**super().get_config(), "loss": keras.losses.serialize(self.loss)}

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, "float32")
        labels, share = y_true[:, :-1], y_true[:, -1]
        one, other = ops.split(labels, 2, axis=-1)
        return share * self.loss.call(one, y_pred) + (1 - share) * self.loss.call(other, y_pred)


def losses(age_head: str, gender_weight: float = 1.0, taught: float = 0.0, mixed: bool = False) -> tuple[dict, dict]:
    """Losses and their weights, by output of the network; `gender_weight` is that of gender, `taught` teachers' share,
    `mixed` says that faces are laid over each other, see Mixed; labels of gender are means then.

    regression: absolute error of age in years + binary cross-entropy of gender, as published.
    distribution: label distribution + a small absolute error of the expected age + cross-entropy of gender.
    """

    def age(loss):
        return Mixed(loss) if mixed else loss

    if age_head == "regression":
        return {"age": age(RangeError()), "p_female": "binary_crossentropy"}, {"age": 1.0, "p_female": gender_weight}
    return (
        {
            "age_probs": age(LabelDistribution(taught=taught)),
            "age": age(RangeError()),
            "p_female": "binary_crossentropy",
        },
        {"age_probs": 1.0, "age": 0.1, "p_female": gender_weight},
    )
