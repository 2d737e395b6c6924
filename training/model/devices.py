"""What the training hardware can do, and how a run uses it. Keras 3 on TensorFlow, JAX or PyTorch."""

from __future__ import annotations

import keras


def set_up() -> None:
    """Use all GPUs of this machine as far as the backend can; says what is used.

    On JAX, each GPU learns from a part of each batch (`keras.distribution.DataParallel`). The other backends use one.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        devices = keras.distribution.list_devices()
        if len(devices) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
            print(f"Using {len(devices)} devices: {', '.join(devices)}")
        return
    count = _gpus()
    if count > 1:
        print(f'Using 1 of {count} GPUs. To use all of them, run pip install "jax[cuda12]" and set KERAS_BACKEND=jax.')


def count() -> int:
    """The number of devices among which each batch is divided."""
    distribution = keras.distribution.distribution()
    return int(distribution.device_mesh.devices.size) if distribution else 1


def on_gpu() -> bool:
    """Whether this run uses a GPU."""
    return _gpus() > 0


def _gpus() -> int:
    if keras.backend.backend() == "torch":  # which keras.distribution does not cover
        import torch

        return torch.cuda.device_count()
    return len([name for name in keras.distribution.list_devices() if not name.startswith("cpu")])


def precision(wanted: str) -> str:
    """The dtype policy for `auto`: mixed precision in the format that the GPU computes fast in; float32 on a CPU."""
    if wanted != "auto":
        return wanted
    if not on_gpu():
        return "float32"
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        capability = torch.cuda.get_device_capability()
    elif backend == "jax":
        import jax

        device = jax.local_devices()[0]
        if device.platform == "tpu":
            return "mixed_bfloat16"
        try:
            capability = tuple(map(int, str(device.compute_capability).split(".")))
        except (AttributeError, ValueError):  # not NVIDIA's
            return "float32"
    else:
        import tensorflow as tf

        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        capability = details.get("compute_capability", (0, 0))
    # bfloat16 is slow on NVIDIA GPUs before Ampere (T4, P100, V100).
    return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16"


def compiled() -> bool:
    """Whether XLA compiles the training step: on JAX and on GPUs.

    On CPUs, TensorFlow's XLA compiles for minutes and then runs convolutions at half of oneDNN's speed (measured).
    """
    return keras.backend.backend() == "jax" or (keras.backend.backend() == "tensorflow" and on_gpu())
