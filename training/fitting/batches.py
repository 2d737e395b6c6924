"""Faces to learn from, in batches that depend on seed and number alone. Knows nothing of networks."""

from __future__ import annotations

import functools
import os

import keras
import numpy as np

from training.data.faces import Faces

WORKERS = 4  # threads that prepare batches


class Batches(keras.utils.PyDataset):
    """An endless stream of uint8 faces and labels from the beginning of epoch `epoch`.

    What a batch holds depends on seed and number alone, whenever it is asked for: Keras fetches ahead into the next
    epoch before it says that one has ended. Each epoch leaves out its last, short batch. An epoch is every face of the
    first dataset and `others` times as many of each additional one (at most all of them), drawn anew. Balanced batches
    draw with replacement, by `Faces.drawing_weight`.
    """

    num_batches = None  # endless, to Keras

    def __init__(
        self,
        outputs: list[str],
        datasets: list[Faces],
        *,
        others: float,
        balance: bool,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        multiple: int = 1,
    ):
        super().__init__(workers=min(WORKERS, os.cpu_count() or 1))
        self.outputs, self.datasets = outputs, datasets
        first, *more = datasets
        self.counts = [len(first), *(int(min(len(faces), others * len(first))) for faces in more)]  # an epoch
        self.starts = np.cumsum([0, *map(len, datasets)])  # of each dataset, among all places
        # All devices share a batch equally.
        self.batch_size = max(multiple, min(batch_size, sum(self.counts)) // multiple * multiple)
        self.weights = [faces.drawing_weight / faces.drawing_weight.sum() for faces in datasets] if balance else None
        self.steps = sum(self.counts) // self.batch_size  # an epoch
        self.seed, self.epoch = seed, epoch
        self._order = functools.lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        """An epoch's faces: places among those of all datasets, one after the other."""
        generator = np.random.default_rng((self.seed, epoch))
        parts = []
        for number, (faces, count) in enumerate(zip(self.datasets, self.counts, strict=True)):
            start = self.starts[number]
            if self.weights:
                parts.append(generator.choice(len(faces), count, p=self.weights[number]) + start)
            else:
                parts.append(generator.permutation(len(faces))[:count] + start)
        return generator.permutation(np.concatenate(parts))

    def __getitem__(self, i: int):
        epoch, step = divmod(i, self.steps)
        order = self._order(self.epoch + epoch)
        # Sorted within the batch: sequential reads of a memory-mapped file, and the order there is immaterial.
        index = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
        images, ages, genders = [], [], []
        for faces, start in zip(self.datasets, self.starts, strict=False):
            part = index[(index >= start) & (index < start + len(faces))] - start
            images.append(faces.images[part])
            ages.append(faces.samples.age_range[part])
            genders.append(faces.samples.gender[part].astype(np.float32))
        age, gender = np.concatenate(ages), np.concatenate(genders)
        return np.concatenate(images), {name: gender if name == "p_female" else age for name in self.outputs}
