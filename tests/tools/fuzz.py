"""Coverage-guided fuzzing (Atheris, libFuzzer) of all code that reads visitors' data.

    python -m tests.tools.fuzz photo --inputs 50000 [--seed 1]      also: live, zip, video, bundle

What counts as a defect: any exception but the one whose text is for the sender, a crash, five seconds for one input, or
1 GB of memory. The input is kept then, beside a message that says where, and the exit status is not 0.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["space", "PIL"]):
    import numpy as np

    from space import calibration, crop, photo
    from space.batch import pictures as pictures_
    from space.batch.tables import spreadsheet_safe
    from space.face import Face
    from space.hub.bundle import DEFAULT, MODELS, verify
    from space.hub.card import CARD, read_card
    from space.hub.download import ModelError, sha256_of
    from space.live.stream import LiveStream
    from space.video.annotator import annotate_video
    from space.video.result import VideoError
    from tests.support.corpus import pictures
    from tests.support.videos import WOMAN, moving, write_video

SECONDS, MEGABYTES = 5, 1000
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-"))


class Nobody:
    """An analyzer that sees a face where it is told to: what is fuzzed is what reads, not what looks."""

    calibration, template, detector = None, crop.load_template(), types.SimpleNamespace(name="yunet")

    def detect(self, rgb, **_):
        return [Face((1.0, 1.0, 8.0, 8.0), 0.9, self.template.landmarks / 25)]

    def estimate(self, rgb, faces):
        assert rgb.dtype == np.uint8 and rgb.ndim == 3
        return [replace(face, age=30.0, age_low=20.0, age_high=40.0, p_female=0.1) for face in faces]


def zips() -> list[bytes]:
    small = pictures()[:2]
    files = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in ("a.jpg", "../b.png", "/etc/c.jpg", "d/é\u202e.jpg", "e.zip", ".f.jpg"):
                archive.writestr(name, small[0])
        files.append(file.getvalue())
    return files


def videos() -> list[bytes]:
    kinds = [
        ("a.mp4", "libx264", "aac"),
        ("b.webm", "libvpx", None),
        ("c.avi", "mpeg4", None),
        ("d.mov", "libx264", None),
    ]
    return [
        write_video(SCRATCH / name, moving(3, (WOMAN,), (64, 48), 30), codec=codec, sound=sound).read_bytes()
        for name, codec, sound in kinds
    ]


def read_photo(content: bytes) -> None:
    try:
        rgb = photo.read_photo(content)
    except photo.PhotoError as error:
        assert str(error) and len(str(error)) < 500
        return
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size <= 3 * photo.MAX_PIXELS


_stream = LiveStream(Nobody())


def read_frame(content: bytes) -> None:
    with contextlib.suppress(photo.PhotoError):
        json.dumps(_stream.answer(photo.open_photo(content, photo.FRAMES).rgb, 0.0), allow_nan=False)


def read_zip(content: bytes) -> None:
    path = SCRATCH / "input.zip"
    path.write_bytes(content)
    try:
        found = pictures_.find_pictures([path])
    except pictures_.BatchError:
        return
    for picture in found[:5]:
        with contextlib.suppress(photo.PhotoError):
            picture.open()
        spreadsheet_safe(picture.name).encode("utf-8", "surrogatepass")


def read_video(content: bytes) -> None:
    path, target = SCRATCH / "input.video", SCRATCH / "out.mp4"
    path.write_bytes(content)
    try:
        for _ in annotate_video(Nobody(), path, target):
            pass
    except VideoError:
        assert not target.exists()
    target.unlink(missing_ok=True)
    assert not list(SCRATCH.glob("*.part*"))


def read_bundle(content: bytes) -> None:
    folder = SCRATCH / "bundle"
    folder.mkdir(exist_ok=True)
    if content[:1] != b"{":  # most broken JSON ends in the parser: these bytes choose what to break in a good card
        content = json.dumps(_mangled(json.loads(cards()[0]), atheris.FuzzedDataProvider(content))).encode()
    (folder / CARD).write_bytes(content)
    try:
        card = verify(folder)
    except ModelError as error:
        assert str(folder) in str(error)
        return
    # What passed is used as it is.
    crop.Template.from_dict(card["crop"])
    calibration.Calibration.from_dict(card["calibration"])


_VALUES = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    "",
    "\0",
    "../m",
    "/etc/passwd",
    "m" * 300,
    [],
    {},
    [[]],
    ["a"],
)


def _mangled(value, choose: atheris.FuzzedDataProvider):
    """A JSON value with parts taken out, exchanged or put where they do not belong."""
    if choose.ConsumeIntInRange(0, 7) == 0:
        return _VALUES[choose.ConsumeIntInRange(0, len(_VALUES) - 1)]
    if isinstance(value, dict):
        kept = {k: _mangled(v, choose) for k, v in value.items() if choose.ConsumeIntInRange(0, 15)}
        return kept | ({"../x": value} if not choose.ConsumeIntInRange(0, 15) else {})
    if isinstance(value, list):
        return [_mangled(v, choose) for v in value if choose.ConsumeIntInRange(0, 31)]
    return value


def cards() -> list[bytes]:
    card = read_card(MODELS / DEFAULT)
    (SCRATCH / "bundle").mkdir(exist_ok=True)
    (SCRATCH / "bundle" / "m").write_bytes(b"x")
    digest = sha256_of(SCRATCH / "bundle" / "m")
    kept = ("n", "gender_accuracy", "interval_coverage", "interval_width")
    small = {k: card[k] for k in ("format", "name", "network", "crop", "calibration")}
    small |= {"metrics": {k: card["metrics"][k] for k in kept}}
    small |= {"serve": "m", "files": {"m": {"sha256": digest, "role": "onnx-int8"}}}
    files = [json.dumps(small).encode(), json.dumps(card).encode(), b"{}", b"[[[[", b'{"format": 1e999}']
    return [*files, *(np.random.default_rng(i).bytes(400) for i in range(20))]


TARGETS = {
    "photo": (read_photo, pictures),
    "live": (read_frame, pictures),
    "zip": (read_zip, zips),
    "video": (read_video, videos),
    "bundle": (read_bundle, cards),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # In a child: Linux counts the memory of who starts a program into the most that it used, and libFuzzer looks there.
    if child := os.fork():
        sys.exit(abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    test, seeds = TARGETS[options.target]
    corpus = SCRATCH / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds()):
        test(content)
        (corpus / str(number)).write_bytes(content)
    atheris.Setup(
        [
            "fuzz",
            f"-runs={options.inputs}",
            f"-seed={options.seed}",
            f"-timeout={SECONDS}",
            f"-rss_limit_mb={MEGABYTES}",
            "-max_len=60000",
            "-print_final_stats=1",
            f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{options.target}-",
            str(corpus),
        ],
        test,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
