"""Checks that a training run killed repeatedly gives the same result as an uninterrupted run.

    python -m tests.tools.kill_training [KILLS=20] [SEED=1]

Made-up faces, a tiny network, 12 short epochs. One run is left alone; the other is killed with SIGKILL after a
random time, and resumed, until it ends; then anew. After each kill the folder is looked at:
nothing but whole files may be named by it, and a bundle is there whole or not at all. Both runs' losses and answers are
compared.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from space.estimator import Estimator
from space.hub.bundle import verify
from tests.support import ROOT
from tests.support.faces import face_files, write_folder
from tests.support.training import SHORT


def command(data: Path, out: Path, *more: str) -> list[str]:
    words = f"-m tests.tiny --recipe {SHORT} --limit 96 --epochs 12".split()
    return [sys.executable, *words, "--dataset", str(data), "--out", str(out), *more]


def start(words: list[str], log: Path) -> subprocess.Popen:
    with open(log, "a") as file:
        return subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=os.environ | {"TQDM_DISABLE": "1"})


def check(out: Path) -> int:
    """Epochs done, after making sure that what a kill left can be gone on with."""
    if (out / "bundle").exists():
        verify(out / "bundle")
    if not (out / "state.json").exists():
        return 0
    state = json.loads((out / "state.json").read_text())
    for name in (state["checkpoint"], *((state[key] or {}).get("file") for key in ("best", "start"))):
        assert name is None or (out / name).stat().st_size > 10**5, name
    return len(state["history"])


def compare(whole: Path, out: Path) -> str:
    """How far apart two finished runs are; both bundles must be whole."""
    rows = [json.loads((f / "state.json").read_text())["history"] for f in (whole, out)]
    worst = max(
        abs(a[name] - b[name]) / max(1e-3, abs(a[name]))
        for a, b in zip(*rows, strict=True)
        for name in ("loss", "val_age_mae")
    )
    images = np.random.default_rng(0).integers(0, 256, (64, 200, 200, 3), np.uint8)
    ages = [Estimator(f / "bundle" / "model.onnx").predict(images)["age"] for f in (whole, out)]
    for f in (whole, out):
        verify(f / "bundle")
    assert not [p.name for p in out.iterdir() if p.name.startswith(".bundle")]  # nothing half made is left
    apart = float(np.abs(ages[0] - ages[1]).max())
    assert worst < 0.02 and apart < 0.5, (worst, apart)
    return f"losses within {100 * worst:.2f} %, ages of 64 noise pictures within {apart:.3f} years"


def main() -> int:
    kills, seed = (int(word) for word in [*sys.argv[1:], *("20", "1")[len(sys.argv) - 1 :]])
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = write_folder(face_files(480), folder / "faces")
        began = time.monotonic()
        assert start(command(data, folder / "whole"), folder / "whole.log").wait() == 0
        whole = time.monotonic() - began
        print(f"left alone: {whole:.0f} s")
        out, done, survived = folder / "killed", 0, []
        for number in range(1, kills + 1):
            # Long enough for the start, so that kills meet epochs, checkpoints, the export and the bundle.
            wait = chance.uniform(0.15, 0.6) * whole
            run = start(command(data, out, "--resume"), folder / "killed.log")
            try:
                run.wait(timeout=wait)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                run.wait()
            now = check(out)
            assert now >= done, "epochs were lost"
            done = now
            print(f"kill {number} after {wait:.1f} s: {done} epochs done", flush=True)
            if run.returncode == 0 or number == kills:
                assert start(command(data, out, "--resume"), folder / "killed.log").wait() == 0
                survived.append(compare(folder / "whole", out))
                print(f"  ended: {survived[-1]}", flush=True)
                shutil.rmtree(out)
                done = 0
        left = sorted(p.name for p in folder.iterdir() if p.name not in ("faces", "whole"))
        print(f"{kills} kills, {len(survived)} runs ended as the one left alone; beside the runs: {left}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
