"""The Dockerfile copies all that the app needs, and its health check works. Docker itself isn't needed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support import ROOT
from tests.support.app import free_port


@pytest.mark.slow
def test_the_app_runs_from_what_the_image_holds_and_its_health_check_passes(tmp_path):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            place = tmp_path / target
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "vgg16")
                shutil.copytree(ROOT / source, place, dirs_exist_ok=True, ignore=ignored)
            else:
                place = place / source if target.endswith("/") else place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    port = str(free_port())
    start, check = (
        json.loads(re.search(rf"^{name}(?: --\S+)*(?: CMD)? (\[.*\])$", text, re.MULTILINE)[1].replace("7860", port))
        for name in ("CMD", "HEALTHCHECK")
    )
    app = subprocess.Popen([sys.executable, *start[1:]], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 90
        while subprocess.run([sys.executable, *check[1:]], capture_output=True).returncode:
            assert app.poll() is None and time.monotonic() < end
            time.sleep(1)
    finally:
        app.send_signal(signal.SIGTERM)
        app.wait(timeout=30)
