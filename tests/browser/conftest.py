"""The static Space on a plain web server, and Chromium."""

from __future__ import annotations

import pytest

from space.hub import static
from tests.support import ROOT
from tests.support.browser import FAKE_CAMERA, READY, chromium, serve
from tests.support.videos import moving, write_camera


@pytest.fixture(scope="session")
def site(files, tmp_path_factory) -> str:
    """The URL of a local web server that serves the static Space."""
    folder = tmp_path_factory.mktemp("static") / "site"
    static.write(files, folder)
    server = serve(folder)
    yield f"http://localhost:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    camera = write_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg", moving(120))
    with chromium(FAKE_CAMERA, f"--use-file-for-fake-video-capture={camera}") as running:
        yield running


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["camera"])
    yield context
    context.close()


@pytest.fixture
def modules(context):
    """A page with only the JavaScript modules, without models."""
    server = serve(ROOT / "browser")
    page = context.new_page()
    page.goto(f"http://localhost:{server.server_port}/about.html")
    yield page
    page.close()
    server.shutdown()


@pytest.fixture
def page(context, site):
    page = context.new_page()
    page.problems, page.requests = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    yield page
    assert not page.problems, page.problems
    page.close()
