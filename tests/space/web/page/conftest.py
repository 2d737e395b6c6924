"""Fixtures for tests of the app's page in Chromium."""

from __future__ import annotations

import pytest

from tests.support.app_page import visit
from tests.support.browser import FAKE_CAMERA, chromium
from tests.support.videos import moving, write_video


@pytest.fixture(scope="module")
def browser():
    with chromium(FAKE_CAMERA, "--disable-quic", "--disable-sync") as running:
        yield running


@pytest.fixture
def page(browser, app):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.foreign, page.problems = [], []
    page.on(
        "request", lambda r: page.foreign.append(r.url) if not r.url.startswith((app.url, "data:", "blob:")) else None
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    visit(page, app.url)
    yield page
    page.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "Größe.mp4", moving(45), sound="aac")
