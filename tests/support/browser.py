"""Chromium, as tests drive it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FAKE_CAMERA = "--use-fake-device-for-media-stream"


@contextlib.contextmanager
def chromium(*flags: str):
    """Debian's Chromium, driven by Playwright; without it the test is skipped."""
    if not CHROMIUM.exists():
        pytest.skip("needs /usr/bin/chromium (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    common = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*common.split(), *flags])
        try:
            yield running
        finally:
            running.close()
