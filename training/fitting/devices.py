"""What the training hardware can do."""

from __future__ import annotations

import keras


def precision(wanted: str) -> str:
    """The dtype policy for `auto`: mixed precision in the format that the GPU computes fast in; float32 on a CPU."""
    if wanted != "auto":
        return wanted
    backend = keras.backend.backend()
    if backend == "torch":  # which keras.distribution does not cover
        import torch

        if not torch.cuda.is_available():
            return "float32"
        capability = torch.cuda.get_device_capability()
    elif keras.distribution.list_devices()[0].startswith("cpu"):
        return "float32"
    elif backend == "jax":
        import jax

        capability = tuple(map(int, jax.local_devices()[0].compute_capability.split(".")))
    else:
        import tensorflow as tf

        capability = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]).get(
            "compute_capability", (0, 0)
        )
    # bfloat16 is slow on NVIDIA GPUs before Ampere (T4, P100, V100).
    return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16"
