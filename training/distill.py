"""What trained networks answer for the faces that another one is trained on, so that it can learn that too.

A label is a single guess; the mean of several networks' answers says how sure one can be (knowledge distillation;
Hinton et al. 2015, arXiv 1503.02531). Knows nothing of fitting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from space.bundle import open_bundle
from space.estimator import Estimator
from training.data import DataError

SHARE = 0.5  # of the answers in what is learned; the rest is the labels'
_AT_ONCE = 512  # faces between two steps of the progress bar


def answers(models: Sequence[str], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the models' answers for each face and its mirror image, not calibrated.

    Args:
        models: bundles with a distribution head: folders or Hub ids, see `space.bundle.open_bundle`.
        images: uint8 [N, 200, 200, 3] RGB.

    Returns:
        age_probs, float16 [N, 102], and p_female, float32 [N].

    Raises:
        BundleError: a model cannot be had.
        DataError: one has no distribution of ages.
    """
    teachers = [Estimator(open_bundle(model).model_path) for model in models]
    for model, teacher in zip(models, teachers, strict=True):
        if "age_probs" not in teacher.outputs:
            raise DataError(f"{model} answers one age, not a distribution of ages: choose another.")
    ages, females = [], []
    for start in tqdm(range(0, len(images), _AT_ONCE), "Asking the teachers", unit=f" × {_AT_ONCE} faces"):
        faces = np.asarray(images[start : start + _AT_ONCE])
        given = [teacher.predict(view) for teacher in teachers for view in (faces, faces[:, :, ::-1])]
        ages.append(np.mean([g["age_probs"] for g in given], axis=0).astype(np.float16))
        females.append(np.mean([g["p_female"] for g in given], axis=0))
    return np.concatenate(ages), np.concatenate(females).astype(np.float32)
