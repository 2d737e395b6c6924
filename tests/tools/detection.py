"""What the detector finds: python -m tests.tools.detection [FOLDER...]

Of held-out FairFace photos: without a face, with a score below `quality.DOUBTFUL`, and the time. Of folders with images
without people: the images in which it sees a face.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from space.analyzer import FaceAnalyzer
from space.detector import surest
from space.photo import PhotoError, read_photo
from space.quality import DOUBTFUL
from tests.support.faces import held_out


def main(folders: list[Path], photos: int = 1000) -> None:
    analyzer = FaceAnalyzer.load()
    with tempfile.TemporaryDirectory() as folder:
        images = [read_photo(path) for path, *_ in held_out(photos, Path(folder))]
    started = time.perf_counter()
    scores = np.array([surest(analyzer.detect(rgb)) for rgb in images])
    spent = 1000 * (time.perf_counter() - started) / len(images)
    doubtful = np.mean((scores > 0) & (scores < DOUBTFUL))
    print(f"{len(images)} FairFace photos: {np.sum(scores == 0)} without a face, ", end="")
    print(f"{100 * doubtful:.1f}% below {DOUBTFUL}, {spent:.1f} ms each")
    for folder in folders:
        count, seen = 0, {}
        for path in sorted(folder.rglob("*")):
            try:
                rgb = read_photo(path)
            except PhotoError:
                continue
            count += 1
            if found := analyzer.detect(rgb):
                seen[path] = [round(face.score, 2) for face in found]
        print(f"{folder}: {count} images, {len(seen)} with {sum(map(len, seen.values()))} faces")
        for path, values in seen.items():
            print(f"  {path.name} {values}")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
