"""Adam and AdamW with a share of the learning rate for each layer. Backend-agnostic Keras 3."""

from __future__ import annotations

from collections import defaultdict

import keras
from keras import ops


def build_optimizer(
    name: str, learning_rate, *, weight_decay: float = 0.0, ema: float = 0.0, rates: dict[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """An optimizer for `keras.Model.compile`.

    Args:
        name: "adam" or "adamw".
        learning_rate: a number or a Keras schedule.
        weight_decay: of adamw; biases and normalizations are exempt.
        ema: momentum of the averaged weights, 0 for none.
        rates: share of the learning rate by the beginning of a layer's name; the first that fits counts.
    """
    average = {"use_ema": True, "ema_momentum": ema} if ema else {}
    if name == "adam":
        return _layerwise(keras.optimizers.Adam, rates)(learning_rate, **average)
    optimizer = _layerwise(keras.optimizers.AdamW, rates)(learning_rate, weight_decay=weight_decay, **average)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _layerwise(optimizer: type, rates: dict[str, float] | None) -> type:
    if not rates:
        return optimizer

    class Layerwise(optimizer):
        def _backend_update_step(self, gradients, variables, learning_rate):
            groups = defaultdict(list)
            for gradient, variable in zip(gradients, variables, strict=True):
                groups[_share(variable, rates)].append((gradient, variable))
            for share, members in groups.items():
                super()._backend_update_step(*map(list, zip(*members, strict=True)), learning_rate * share)

        def _apply_weight_decay(self, variables):
            for variable in variables if self.weight_decay else ():
                if self._use_weight_decay(variable):
                    rate = ops.cast(self.learning_rate * (_share(variable, rates) * self.weight_decay), variable.dtype)
                    variable.assign(variable - variable * rate)

    return Layerwise


def _share(variable, rates: dict[str, float]) -> float:
    return next((share for name, share in rates.items() if layer_name(variable).startswith(name)), 1.0)


def layer_name(variable) -> str:
    """The name of the layer that a variable belongs to."""
    return variable.path.split("/")[-2]
