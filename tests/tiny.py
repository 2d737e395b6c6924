"""Networks with a hundredth of the parameters, trained in seconds by the same code.

    python -m tests.tiny --recipe compact …    training/train.py with one, and a checkpoint after each epoch

This module isn't in `tests.support`, because importing that package removes environment variables that a test sets.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

SIZES = {"widths": (8, 16, 24, 32), "blocks": (1, 1, 1, 1), "features": 64}
NARROWER = 16  # times fewer filters in VGG16's convolutions


def make_tiny(setattr=setattr) -> None:
    """Replace "compact" with the tiny network; `monkeypatch.setattr` as `setattr` undoes this after the test."""
    from training.fitting import loop  # imports TensorFlow, which most tests don't need
    from training.model import networks

    build = networks._compact
    setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    setattr(networks, "_compact", lambda face, dropout: build(face, dropout, **SIZES))


def make_narrow(setattr=setattr) -> None:
    """Give the convolutions of "vgg16" fewer filters; `setattr` as for `make_tiny`."""
    import keras

    vgg16 = keras.applications.VGG16

    def narrow(layer):
        fewer = {"filters": layer.filters // NARROWER} if isinstance(layer, keras.layers.Conv2D) else {}
        return type(layer).from_config(layer.get_config() | fewer)

    def narrow_vgg16(input_tensor=None, pooling=None, **options):
        base = keras.models.clone_model(vgg16(input_shape=(200, 200, 3), **options), clone_function=narrow)
        if input_tensor is None:
            return base
        for layer in base.layers[1:]:
            input_tensor = layer(input_tensor)
        return SimpleNamespace(output=input_tensor)

    setattr(keras.applications, "VGG16", narrow_vgg16)


if __name__ == "__main__":
    make_tiny()
    from training import train

    sys.exit(train.main())
