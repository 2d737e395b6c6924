"""The live stream: the WebSocket as a program meets it, and the camera as a visitor does, in Chromium."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from space.live.server import BAD_FRAMES, MAX_BYTES, MAX_PER_ADDRESS, MAX_VISITORS
from space.live.stream import LiveStream
from space.photo import read_photo
from tests.support import EXAMPLES, ROOT
from tests.support.app import App
from tests.support.browser import FAKE_CAMERA as FAKE
from tests.support.browser import chromium
from tests.support.videos import MAN, WOMAN, moving, write_camera

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def quiet(request):
    """Whatever a visitor sends, the app logs no failure."""
    if "app" not in request.fixturenames:
        yield
        return
    app = request.getfixturevalue("app")
    before = len(app.printed())
    yield
    printed = app.printed(before)
    assert "Traceback" not in printed and "could not be analyzed" not in printed, printed


def visit(app, address="8.8.8.8"):
    return connect(app.url.replace("http", "ws") + "/live", additional_headers={"X-Forwarded-For": address})


def message(number: int, picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return struct.pack("<I", number) + buffer.getvalue()


def ask(visitor, number: int, picture) -> dict:
    visitor.send(message(number, picture))
    return json.loads(visitor.recv(timeout=30))


def test_a_crowd_is_detected_before_everyone_has_an_answer(app):
    group = read_photo(EXAMPLES / "group.jpg")
    with visit(app) as visitor:
        answers = [ask(visitor, number, group) for number in (1, 2)]
    assert [len(answer["detected"]) for answer in answers] == [8, 8]
    assert [len(answer["faces"]) for answer in answers] == [0, 8]


def test_people_keep_identity_and_label_over_frames(app):
    with visit(app) as visitor:
        answers = [ask(visitor, number, picture) for number, picture in enumerate(moving(20), 1)]
    assert [answer["frame"] for answer in answers] == list(range(1, 21))
    assert answers[0]["faces"] == []  # what is seen once may be none
    assert all(len(answer["detected"]) == 2 for answer in answers)  # but is blurred from the first frame
    for answer in answers[3:]:
        assert (answer["width"], answer["height"]) == (640, 480) and 0 < answer["ms"] < 10_000
        assert [face["id"] for face in answer["faces"]] == [1, 2]
        by_place = sorted(answer["faces"], key=lambda face: face["box"][0])
        assert [face["gender_label"] for face in by_place] == ["female", "male"]
        assert all(0 <= face["age_low"] <= face["age_high"] for face in by_place)
    ages = {face["id"]: [] for face in answers[-1]["faces"]}
    for answer in answers[5:]:
        for face in answer["faces"]:
            ages[face["id"]].append(face["age"])
    assert all(max(values) - min(values) < 3 for values in ages.values())


def test_the_newest_frame_wins(app):
    with visit(app) as visitor:
        for number, picture in enumerate(moving(30), 1):
            visitor.send(message(number, picture))
        numbers = []
        while not numbers or numbers[-1] < 30:
            numbers.append(json.loads(visitor.recv(timeout=30))["frame"])
    assert len(numbers) < 30 and numbers == sorted(numbers)


def test_visitors_have_each_their_own_people(app):
    found, errors = {}, []

    def stream(names):
        try:
            with visit(app) as visitor:
                answers = [ask(visitor, n, picture) for n, picture in enumerate(moving(15, names=names), 1)]
                found[names] = [[(f["id"], f["gender_label"]) for f in a["faces"]] for a in answers[4:]]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=stream, args=[names]) for names in ((WOMAN,), (MAN,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert found[(WOMAN,)] == [[(1, "female")]] * 11 and found[(MAN,)] == [[(1, "male")]] * 11


def test_a_bad_frame_ends_nothing(app):
    (picture,) = moving(1)
    with visit(app) as visitor:
        for content in (b"not an image", b"\xff\xd8\xff\xe0" + bytes(100)):
            visitor.send(struct.pack("<I", 7) + content)
            answer = json.loads(visitor.recv(timeout=30))
            assert answer["frame"] == 7 and ("readable image" in answer["error"] or "damaged" in answer["error"])
        buffer = io.BytesIO()
        Image.new("L", (4000, 3000)).save(buffer, "JPEG")
        visitor.send(struct.pack("<I", 8) + buffer.getvalue())
        assert "too large" in json.loads(visitor.recv(timeout=30))["error"]
        assert "faces" in ask(visitor, 9, picture)


@pytest.mark.parametrize("wrong", ["a text", b"", b"123", bytes(MAX_BYTES + 1)])
def test_what_is_no_frame_ends_the_stream_with_a_sentence(app, wrong):
    with visit(app) as visitor:
        visitor.send(wrong)
        assert "rame" in json.loads(visitor.recv(timeout=10))["error"]
        with pytest.raises(ConnectionClosed):
            visitor.recv(timeout=10)


def test_too_many_bad_frames_end_the_stream(app):
    with visit(app) as visitor:
        for number in range(BAD_FRAMES):
            visitor.send(struct.pack("<I", number) + b"not an image")
            answer = json.loads(visitor.recv(timeout=30))
        assert "Too many" in answer["error"] and "frame" not in answer
        with pytest.raises(ConnectionClosed):
            visitor.recv(timeout=10)


def test_other_sites_pages_cannot_use_an_app_on_this_machine(app):
    url = app.url.replace("http", "ws") + "/live"
    with pytest.raises(InvalidStatus):
        connect(url, origin="https://elsewhere.example")
    connect(url, origin=app.url).close()
    for origin in ("http://[", "null"):  # a sandboxed frame of another site sends the latter
        with pytest.raises(InvalidStatus):
            connect(url, additional_headers={"Origin": origin})


def test_a_closed_connection_frees_its_slot(app):
    visitors = [visit(app, f"8.8.8.{n % 2}") for n in range(MAX_VISITORS)]
    (picture,) = moving(1)
    assert "faces" in ask(visitors[-1], 1, picture)
    with visit(app, "9.9.9.9") as late:
        assert "others are using Live" in json.loads(late.recv(timeout=10))["error"]
    for visitor in visitors[2:]:
        visitor.close()
    time.sleep(0.5)
    more = [visit(app, "8.8.8.0") for _ in range(MAX_PER_ADDRESS - 1)]
    with visit(app, "8.8.8.0") as late:
        assert "cameras from your address" in json.loads(late.recv(timeout=10))["error"]
    for visitor in (*visitors[:2], *more):
        visitor.close()
    time.sleep(0.5)
    with visit(app) as visitor:
        assert "faces" in ask(visitor, 1, picture)


def test_frames_leave_no_trace(app):
    def written() -> int:
        """Bytes that the process caused to be written to disk, as the kernel counts."""
        return int(re.search(r"^write_bytes: (\d+)", Path(f"/proc/{app.process.pid}/io").read_text(), re.M)[1])

    with visit(app) as visitor:
        pictures = list(moving(12))
        ask(visitor, 1, pictures[0])
        before = written()
        for number, picture in enumerate(pictures[1:], 2):
            ask(visitor, number, picture)
        assert written() == before


# The page


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """Eight seconds: a woman, and a man who is away for the sixth."""
    return write_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg", moving(240, gone=range(150, 165)))


def open_live(browser, url, *, allowed=True, **options):
    context = browser.new_context(viewport={"width": 1100, "height": 900}, **options)
    if allowed:
        context.grant_permissions(["camera"], origin=url)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url)
    page.get_by_role("tab", name="Live").click()
    page.locator(".live-start").wait_for(timeout=30_000)
    return page


def status(page) -> str:
    return page.locator(".live-status").inner_text()


def people(page) -> list[str]:
    return page.locator(".live-people li").all_inner_texts()


def rate(page) -> float:
    text = page.locator(".live-rate").inner_text()
    return float(re.match(r"([\d.]+) frames per second, \d+ ms latency", text)[1])


def start(page) -> None:
    page.locator(".live-start").click()
    page.wait_for_function(
        "document.querySelector('.live-rate').textContent.includes('frames per second')", timeout=30_000
    )


def test_a_visitor_starts_the_camera(app, camera, tmp_path):
    with chromium(FAKE, f"--use-file-for-fake-video-capture={camera}") as browser:
        page = open_live(browser, app.url)
        start(page)
        seen = set()
        for _ in range(20):
            page.wait_for_timeout(500)
            seen |= {re.sub(r", \d+%|, \d+ \(.*?\)", "", row) for row in people(page)}
        # Ten seconds, in which a face goes and comes back and the video begins anew: the same two people.
        assert {row.split(":")[1].strip() for row in seen} == {"female", "male"}
        assert len({row.split(":")[0] for row in seen}) <= 4, seen
        assert rate(page) > 1
        # Mirrored, the woman on the left of the picture is on the right of the screen, and is boxed there.
        side = (
            "(left) => { const c = document.querySelector('.live-overlay'), half = c.width / 2, d = c.getContext('2d')"
            ".getImageData(left ? 0 : half, 0, half, c.height).data; let n = 0; "
            "for (let i = 0; i < d.length; i += 4) if (d[i] > 180 && d[i + 2] < 60) n++; return n; }"
        )
        assert page.evaluate(side, False) > 10 * max(1, page.evaluate(side, True))
        page.screenshot(path=str(tmp_path / "live.png"))
        page.locator(".live-mirror").click()
        page.wait_for_timeout(1000)
        assert page.evaluate(side, True) > 10 * max(1, page.evaluate(side, False))
        # Nothing moves while it streams.
        heights = set()
        for _ in range(8):
            heights.add(page.evaluate("document.documentElement.scrollHeight"))
            page.wait_for_timeout(250)
        assert len(heights) == 1
        # In another tab of the page nothing is sent; back here it goes on.
        page.get_by_role("tab", name="Photo").click()
        page.wait_for_timeout(3000)
        page.get_by_role("tab", name="Live").click()
        page.wait_for_function("document.querySelectorAll('.live-people li').length == 2", timeout=20_000)
        page.locator(".live-stop").click()
        assert status(page) == "Stopped." and people(page) == []
        assert page.evaluate("document.querySelector('.live-video').srcObject") is None
        assert not page.problems


def test_the_picture_fills_a_full_screen(app, camera, tmp_path):
    with chromium(FAKE, f"--use-file-for-fake-video-capture={camera}") as browser:
        page = open_live(browser, app.url)
        start(page)
        page.locator(".live-full").click()
        page.wait_for_function("document.fullscreenElement")
        box = page.locator(".live-stage").bounding_box()
        size = page.evaluate("[innerWidth, innerHeight]")
        assert box["width"] == size[0] and box["height"] == size[1] - 140
        colors = page.evaluate(
            "['.live-controls label', '.live-rate'].map((s) => getComputedStyle(document.querySelector(s)).color)"
        )
        assert [min(map(int, re.findall(r"\d+", color))) > 190 for color in colors] == [True, True], colors
        back = "getComputedStyle(document.fullscreenElement).backgroundColor"
        assert page.evaluate(back) == "rgb(17, 17, 17)"
        page.screenshot(path=str(tmp_path / "full.png"))


def test_two_browsers_stream_for_half_a_minute(app, camera, tmp_path):
    one = write_camera(tmp_path / "one.mjpeg", moving(120, names=[WOMAN]))
    with (
        chromium(FAKE, f"--use-file-for-fake-video-capture={one}") as first,
        # Playwright's loop is one a thread: the second browser is a second context of another process.
        _second_browser(FAKE, f"--use-file-for-fake-video-capture={camera}", app.url) as second,
    ):
        page = open_live(first, app.url)
        start(page)
        ids = set()
        for _ in range(30):
            page.wait_for_timeout(1000)
            rows = people(page)
            assert all("female" in row for row in rows), rows
            ids |= {row.split(":")[0] for row in rows}
        # On a busy machine a gap of more than MEMORY makes her a new person.
        assert len(ids) <= 2 and rate(page) > 0.5 and not page.problems
        other = second()
        assert {kind for _, kind in other} == {"female", "male"}, other


@contextmanager
def _second_browser(*arguments):
    """Runs `_watch` in a process of its own; gives a function that ends it and returns what it saw."""
    import subprocess
    import sys

    code = "import sys; from tests.space.web import test_live; test_live._watch(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield lambda: [tuple(row) for row in json.loads(process.communicate("stop\n", timeout=60)[0])]
    finally:
        process.kill()
        process.wait()


def _watch(*arguments) -> None:
    import sys

    *flags, url = arguments
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    with chromium(*flags) as browser:
        page = open_live(browser, url)
        start(page)
        seen = set()
        while not stop.is_set():
            page.wait_for_timeout(500)
            seen |= {(row.split(":")[0], re.search(r"female|male|uncertain", row)[0]) for row in people(page)}
        print(json.dumps(sorted(seen)))


def test_a_camera_that_is_denied_or_not_there_is_explained(app, camera):
    with chromium(FAKE, f"--use-file-for-fake-video-capture={camera}") as browser:
        page = open_live(browser, app.url, allowed=False)
        page.locator(".live-start").click()
        page.get_by_text("The browser blocked camera access").wait_for(timeout=20_000)
        assert page.locator(".live-start").is_enabled()
    with chromium() as browser:
        page = open_live(browser, app.url)
        page.locator(".live-start").click()
        page.get_by_text("No camera found").wait_for(timeout=20_000)


def test_plain_http_from_another_machine_is_explained():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address
        except OSError:
            pytest.skip("needs a network address beside 127.0.0.1")
        address = s.getsockname()[0]
    running = App("--host", "0.0.0.0")
    try:
        with chromium(FAKE) as browser:
            page = open_live(browser, f"http://{address}:{running.port}", allowed=False)
            page.get_by_text("only over HTTPS or on localhost").wait_for(timeout=20_000)
            page.locator(".live-start").click()
            page.get_by_text("only over HTTPS or on localhost").wait_for(timeout=20_000)
    finally:
        running.stop()


def test_a_lost_server_is_reported(camera):
    running = App()
    try:
        with chromium(FAKE, f"--use-file-for-fake-video-capture={camera}") as browser:
            page = open_live(browser, running.url)
            start(page)
            running.stop()
            page.get_by_text("connection to the server was lost").wait_for(timeout=20_000)
            assert page.locator(".live-start").is_visible()
    finally:
        running.stop()


def test_it_is_fluent(camera):
    """A floor only: the measured rate of a quiet machine stands in the README."""
    running = App()
    try:
        with chromium(FAKE, f"--use-file-for-fake-video-capture={camera}") as browser:
            page = open_live(browser, running.url)
            start(page)
            page.wait_for_timeout(5000)
            assert rate(page) > 5
    finally:
        running.stop()


def test_the_threshold_holds_in_a_stream(analyzer):
    stream, frame = LiveStream(analyzer), read_photo(EXAMPLES / "group.jpg")
    assert stream.answer(frame, 0.0)["detected"]
    stream.threshold = 1.0
    assert stream.answer(frame, 1.0)["detected"] == []
