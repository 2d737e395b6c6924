"""Faces to learn from, in batches that depend on seed and number alone. Knows nothing of networks."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Faces:
    """N faces to learn from, or to measure on."""

    images: np.ndarray  # uint8 [N, H, W, 3] RGB
    age_range: np.ndarray  # float32 [N, 2] years, first and last that the label allows
    gender: np.ndarray  # float32 [N], 0 male, 1 female
    weight: np.ndarray | None = None  # float [N], relative chance to be drawn; None: each face once an epoch

    def __len__(self) -> int:
        return len(self.images)


class Batches(keras.utils.PyDataset):
    """An endless stream of uint8 faces and labels from the beginning of epoch `epoch`.

    What a batch holds depends on seed and number alone, whenever it is asked for: Keras fetches ahead into the next
    epoch before it says that one has ended. Each epoch leaves out its last, short batch. With a second set of faces,
    an epoch is every face of the first and `extra` times as many of the second, drawn anew. Faces with a `weight` are
    drawn with replacement.
    """

    num_batches = None  # endless, to Keras

    def __init__(
        self,
        outputs: list[str],
        sets: list[Faces],
        *,
        extra: float,
        batch_size: int,
        seed: int,
        epoch: int = 0,
    ):
        super().__init__(workers=1)
        self.outputs, self.sets = outputs, sets
        first, *second = sets
        self.drawn = int(min(len(second[0]), extra * len(first))) if second else 0  # of the second set, an epoch
        count = len(first) + self.drawn
        self.batch_size = min(batch_size, count)
        self.steps = count // self.batch_size  # an epoch
        self.seed, self.epoch = seed, epoch
        self._order = functools.lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        """An epoch's faces: places in the first set, then in the second."""
        generator = np.random.default_rng((self.seed, epoch))
        first = self.sets[0]
        order = _sample_indices(generator, first, len(first))
        if self.drawn:
            order = generator.permutation(
                np.concatenate([order, _sample_indices(generator, self.sets[1], self.drawn) + len(first)])
            )
        return order

    def __getitem__(self, i: int):
        epoch, step = divmod(i, self.steps)
        order = self._order(self.epoch + epoch)
        # Sorted within the batch: sequential reads of a memory-mapped file, and the order there is immaterial.
        index = np.sort(order[step * self.batch_size : (step + 1) * self.batch_size])
        first = len(self.sets[0])
        parts = [index[index < first], index[index >= first] - first][: len(self.sets)]

        def of_each(name: str) -> np.ndarray:
            arrays = [getattr(faces, name)[part] for faces, part in zip(self.sets, parts, strict=True)]
            return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]

        age, gender = of_each("age_range"), of_each("gender")
        return of_each("images"), {name: gender if name == "p_female" else age for name in self.outputs}


def _sample_indices(generator: np.random.Generator, faces: Faces, count: int) -> np.ndarray:
    """`count` places among `faces`: each at most once, or by their weights with replacement."""
    if faces.weight is None:
        return generator.permutation(len(faces))[:count]
    return generator.choice(len(faces), count, p=faces.weight / faces.weight.sum())
