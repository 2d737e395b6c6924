"""What the detector finds at each threshold: python -m tests.tools.detection [FOLDER...]

Of held-out FairFace photos: the share without a face, and the time. Of the ten group photos: the number of faces. Of
folders with images without people: the share with a face, and which these are. For `space.detector.THRESHOLD`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from space.analyzer import FaceAnalyzer
from space.photo import PhotoError, read_photo
from tests.support import SHARED
from tests.support.faces import held_out

THRESHOLDS = np.array([0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])


def main(folders: list[Path], photos: int = 1000) -> None:
    analyzer = FaceAnalyzer.load()

    def scores(rgb: np.ndarray) -> np.ndarray:
        return np.array([face.score for face in analyzer.detect(rgb, threshold=THRESHOLDS[0])])

    with tempfile.TemporaryDirectory() as folder:
        images = [read_photo(path) for path, *_ in held_out(photos, Path(folder))]
    started = time.perf_counter()
    best = np.array([max(scores(rgb), default=0) for rgb in images])
    spent = 1000 * (time.perf_counter() - started) / len(images)
    columns = {f"{photos} FairFace photos without a face": [f"{share:.1f}%" for share in 100 * _below(best)]}
    groups = np.concatenate([scores(read_photo(path)) for path in sorted((SHARED / "photos").glob("*.jpg"))])
    columns["faces in the group photos"] = [str(np.sum(groups >= threshold)) for threshold in THRESHOLDS]
    for folder in folders:
        seen = {}
        for path in sorted(folder.rglob("*")):
            try:
                seen[path.name] = max(scores(read_photo(path)), default=0)
            except PhotoError:
                continue
        found = 1 - _below(np.array(list(seen.values())))
        columns[f"{len(seen)} images of {folder.name} with a face"] = [f"{share:.1f}%" for share in 100 * found]
        print(*(f"{name} {score:.2f}" for name, score in seen.items() if score), sep="\n")
    print(f"{spent:.1f} ms for a FairFace photo", f"| threshold | {' | '.join(columns)} |", sep="\n")
    print("|" + " --- |" * (1 + len(columns)))
    for threshold, *cells in zip(THRESHOLDS, *columns.values(), strict=True):
        print(f"| {threshold:.2f} | {' | '.join(cells)} |")


def _below(best: np.ndarray) -> np.ndarray:
    return np.mean(best < THRESHOLDS[:, None], axis=1)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
