"""Crops → age and gender, by ONNX Runtime."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from pathlib import Path

import numpy as np
import onnxruntime

from .face import AGES
from .hub.download import ModelError
from .turns import FairLock, InTurns

OUTPUTS = {"age": [], "p_female": [], "age_probs": [AGES]}  # of the contract; shape of one face's
BATCH = 8  # faces a run: larger ones are no faster on a CPU, and 32 take vgg16 1 GB of memory


def cpus() -> int:
    """CPU cores that this process may use, also in a container with a quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # Linux with control groups, version 2
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, math.ceil(int(quota) / int(period))))
    return count


def open_session(model: str | bytes) -> onnxruntime.InferenceSession:
    """A network on the CPU, from a path or a file's content."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = min(cpus(), 4)
    # Threads that wait in a loop for the next image take the cores from other visitors: a whole photo took nearly twice
    # as long with them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Estimator:
    """A network of the bundle contract, ready to answer; safe to share between threads."""

    def __init__(self, path: str | Path):
        """Open an ONNX file. Raises ModelError if it is damaged or not of the contract."""
        try:
            self._session = open_session(str(path))
        except Exception as error:  # onnxruntime's own kinds share no public base class
            raise ModelError(
                f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {str(error)[:200]}. "
                "Download or export the bundle again."
            ) from error
        face = self._session.get_inputs()[0]
        answers = {output.name: output.shape[1:] for output in self._session.get_outputs()}
        self.outputs = list(answers)
        shape = face.shape  # [N, H, W, 3]
        if (
            face.type != "tensor(uint8)"
            or len(shape) != 4
            or isinstance(shape[0], int)
            or not isinstance(shape[1], int)
            or shape[1:] != [shape[1], shape[1], 3]
            or not {"age", "p_female"} <= answers.keys()
            or any(answers.get(name, expected) != expected for name, expected in OUTPUTS.items())
        ):
            raise ModelError(
                f"{path} isn't an age and gender network. It must have a uint8 image input [N, size, size, 3], the "
                f"outputs age [N] and p_female [N], and optionally age_probs [N, {AGES}]."
            )
        self._path, self._input = path, face.name
        self.bytes = Path(path).stat().st_size  # of the file, about as large as the network
        self.size = shape[1]  # pixels, height and width of a crop

    def taking_turns(self, lock: FairLock) -> Estimator:
        """The same network, whose batches take turns with all other users of the lock."""
        other = copy.copy(self)
        other._session = InTurns(self._session, lock)
        return other

    def predict(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Answer for N crops at once.

        Args:
            crops: uint8 [N, 200, 200, 3] RGB; N may be 0.

        Returns:
            "age" float32 [N] years, "p_female" float32 [N], and where the network has a distribution head
            "age_probs" float32 [N, AGES].

        Raises:
            ValueError: another shape or dtype.
            ModelError: the network answers with NaN or infinity.
        """
        expected = (self.size, self.size, 3)
        if crops.dtype != np.uint8 or crops.shape[1:] != expected:
            raise ValueError(
                f"Crops must be uint8 [N, {', '.join(map(str, expected))}], not {crops.dtype} {crops.shape}."
            )
        if not len(crops):
            return {name: np.zeros((0, *OUTPUTS.get(name, ())), np.float32) for name in self.outputs}
        parts = [
            self._session.run(self.outputs, {self._input: np.ascontiguousarray(crops[i : i + BATCH])})
            for i in range(0, len(crops), BATCH)
        ]
        answers = {
            name: np.concatenate(values) for name, values in zip(self.outputs, zip(*parts, strict=True), strict=True)
        }
        if not all(np.isfinite(values).all() for values in answers.values()):
            raise ModelError(f"{self._path} returned NaN or infinite values. Use another model.")
        return answers
