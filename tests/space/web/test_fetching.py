"""Images by URL: what is fetched, and that the server can't be made to look into its own network."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from space.web import fetching, uploads
from space.web.fetching import fetch, is_public
from space.web.uploads import UploadError, admitted
from tests.support import EXAMPLES, ROOT
from tests.support.app import App
from tests.support.app_page import open_settings, visit

GROUP = (EXAMPLES / "group.jpg").read_bytes()


@contextlib.contextmanager
def web(handle, host="127.0.0.1"):
    """A server on the loopback interface; `handle(handler)` answers GET requests. Yields its URL and what was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, dict(self.headers)))
            with contextlib.suppress(OSError):
                handle(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}", asked
    finally:
        server.shutdown()


def send(handler, content: bytes, status: int = 200, **headers) -> None:
    handler.send_response(status)
    for name, value in ({"content-length": len(content)} | headers).items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    """Treats 127.0.0.1 as public, and every port."""
    real = is_public
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1" or real(address))
    monkeypatch.setattr(fetching, "PORTS", range(65536))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:a00:1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "198.18.0.1", "192.0.2.1",
     "fec0::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "5f00::1", "100:0:0:1::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


def test_public_addresses():
    assert all(map(is_public, ("8.8.8.8", "1.1.1.1", "2606:4700:4700::1111")))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/a.jpg", "http://localhost/a.jpg", "http://[::1]/a.jpg", "http://0/a.jpg", "http://2130706433/a.jpg",
     "http://0x7f.1/a.jpg", "http://127.1/a.jpg", "http://[::ffff:127.0.0.1]/a.jpg", "https://10.0.0.1/", "ftp://8.8.8.8/a.jpg",
     "file:///etc/passwd", "http://user:pass@8.8.8.8/a.jpg", "http://user@8.8.8.8/a.jpg",
     "http://8.8.8.8:22/a.jpg", "http://8.8.8.8:99999/", "http://",
     "http:///a.jpg", "gopher://8.8.8.8/", "http://" + "a" * 70 + ".org/", "http://8.8.8.8/" + "a" * 3000, "http://[bad/"],
)  # fmt: skip
def test_urls_that_are_never_fetched(url, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    started = time.monotonic()
    with pytest.raises(UploadError):
        fetch(url)
    assert time.monotonic() - started < 5


def test_an_image_is_fetched_and_can_be_opened(loopback):
    with web(lambda handler: send(handler, GROUP, **{"content-type": "text/plain", "set-cookie": "a=b"})) as (
        url,
        asked,
    ):
        _, name = fetch(f"{url}/some%20folder/my photo.jpg?x=1")
        assert name == "my photo.jpg"
        ((line, headers),) = asked
        assert line == "/some%20folder/my%20photo.jpg?x=1" and not {"Cookie", "Authorization", "Referer"} & set(headers)
        value = admitted({"path": f"{url}/a.jpg", "meta": {"_type": "gradio.FileData"}}, fetch)
        with uploads.Upload.from_payload(value).open() as file, open(file, "rb", closefd=False) as opened:
            assert opened.read() == GROUP
        assert value["orig_name"] == "a.jpg"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no second loopback address by default")
def test_redirects_are_checked_like_the_first_address(loopback, monkeypatch):
    real = fetching.is_public
    # Of the same machine, but not public here.
    with web(lambda handler: send(handler, GROUP), "127.0.0.2") as (inner, asked):
        assert not real("127.0.0.2")
        secret = f"{inner}/secret.jpg"
        for target in (secret, "file:///etc/passwd", "http://user@127.0.0.1/", secret.removeprefix("http:"), ""):
            redirected = web(lambda handler, to=target: send(handler, b"", 302, location=to))
            with redirected as (url, _), pytest.raises(UploadError, match=r"public|redirects"):
                fetch(url)
    assert not asked

    def around(handler):
        done = handler.path.count("x")
        send(handler, GROUP if done == 3 else b"", 200 if done == 3 else 307, location=f"/{'x' * (done + 1)}")

    with web(around) as (url, _):
        assert fetch(url)[1] == "xxx"
    with web(lambda handler: send(handler, b"", 307, location="/again")) as (url, asked):
        with pytest.raises(UploadError, match="too many times"):
            fetch(url)
        assert len(asked) == fetching.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://example.com/x.jpg", "example.com", 80),
        ("https://example.com/x.jpg", "example.com", 443),
        ("https://example.com:80/x.jpg", "example.com", 80),
        ("http://example.com:443", "example.com", 443),
    ],
)
def test_the_port_is_that_of_the_scheme_unless_it_is_given(monkeypatch, url, host, port):
    asked = []

    def resolve(*address, **_):
        asked.append(address)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UploadError):
        fetch(url)
    assert asked == [(host, port)]


def test_a_name_with_a_public_and_a_private_address_is_refused(monkeypatch):
    entries = [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    with pytest.raises(UploadError):
        fetch("http://rebinding.example/a.jpg")


def test_the_connection_goes_to_the_address_that_was_checked(loopback, monkeypatch):
    """A name server that answers otherwise the second time changes nothing."""
    looks, real = [], socket.getaddrinfo

    def look_up(host, *arguments, **options):
        looks.append(host)
        return real(
            "127.0.0.1" if host == "changing.example" and looks.count(host) == 1 else host, *arguments, **options
        )

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with web(lambda handler: send(handler, GROUP)) as (url, asked):
        fetch(url.replace("127.0.0.1", "changing.example"))
    assert looks.count("changing.example") == 1 and asked[0][1]["Host"].startswith("changing.example")


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (lambda handler: send(handler, b"<html>not an image</html>" * 10), "no image"),
        (lambda handler: send(handler, b""), "no image"),
        (lambda handler: send(handler, b"", 404), "status 404"),
        (lambda handler: send(handler, GROUP, **{"content-length": 10**9}), "too large"),
        (lambda handler: send(handler, GROUP[:100], **{"content-length": 5000}), "doesn't answer in time"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "doesn't answer in time"),
    ],
)
def test_answers_that_are_no_image(loopback, handle, words):
    with web(handle) as (url, _), pytest.raises(UploadError, match=words):
        fetch(url)


@pytest.mark.parametrize("where", ["head", "body"])
def test_slow_and_endless_answers_end_in_time(loopback, monkeypatch, where):
    monkeypatch.setattr(fetching, "MAX_SECONDS", 1.5)

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if where == "head" else b"\r\n" + GROUP[:100]))
        for _ in range(100):
            handler.wfile.write(b"x: y\r\n")
            time.sleep(0.1)

    with web(drip) as (url, _):
        started = time.monotonic()
        with pytest.raises(UploadError, match="doesn't answer in time"):
            fetch(url)
        assert time.monotonic() - started < 3


def test_an_image_without_a_length_has_a_limit_too(loopback, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 100_000)

    def endless(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + GROUP[:1000])
        for _ in range(1000):
            handler.wfile.write(bytes(10_000))

    with web(endless) as (url, _), pytest.raises(UploadError, match="too large"):
        fetch(url)


def test_a_request_names_few_urls(folder_of_uploads):
    count = []

    def pretend(url):
        count.append(url)
        return str(folder_of_uploads), "a.jpg"

    with pytest.raises(UploadError, match="limit is 1"):
        admitted([{"path": f"https://example.org/{i}.jpg"} for i in range(50)], pretend)
    assert len(count) == 1
    with pytest.raises(UploadError, match="doesn't fetch"):
        admitted({"path": "https://example.org/a.jpg"})


@pytest.fixture
def folder_of_uploads(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "image").write_bytes(GROUP)
    return tmp_path / "a" / "image"


_PROGRAM = """import sys
from space.web import fetching
fetching.is_public, fetching.PORTS = (lambda address: address == "127.0.0.1"), range(65536)
sys.argv[0] = "app.py"
import runpy
runpy.run_path("app.py", run_name="__main__")"""


@pytest.fixture(scope="module")
def fetching_app():
    """An app that fetches from 127.0.0.1, and a server there: /group.jpg is an image, other paths are none."""
    with web(lambda handler: send(handler, GROUP if "group" in handler.path else b"no image" * 10)) as (url, _):
        app = App("--allow-urls", *(["--mcp"] if find_spec("mcp") else []), program=_PROGRAM)
        yield app, url
        printed = app.stop()
    assert "Traceback" not in printed, printed


@pytest.mark.slow
def test_the_python_client_names_images_by_url(fetching_app, tmp_path):
    app, url = fetching_app
    client = app.client(tmp_path)
    photo = {"path": f"{url}/group.jpg", "meta": {"_type": "gradio.FileData"}, "orig_name": "group.jpg"}
    image, result = client.predict(photo, api_name="/analyze_photo")
    assert len(result["faces"]) == 8 and image
    with pytest.raises(Exception, match="no image at this URL"):
        client.predict(photo | {"path": f"{url}/other"}, api_name="/analyze_photo")
    with pytest.raises(Exception, match="isn't public"):
        client.predict(photo | {"path": "http://127.0.0.2/a.jpg"}, api_name="/analyze_photo")


@pytest.mark.slow
def test_curl_names_images_by_url(fetching_app):
    app, url = fetching_app
    if not shutil.which("curl"):
        pytest.skip("needs curl")

    def call(address):
        photo = {"path": address, "meta": {"_type": "gradio.FileData"}}
        data = json.dumps({"data": [photo, 0.7, False, False]})
        base = f"{app.url}/gradio_api/call/analyze_photo"
        command = ["curl", "-s", "-H", "Content-Type: application/json", base, "-d", data]
        event = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)["event_id"]
        return subprocess.run(
            ["curl", "-s", "-N", f"{base}/{event}"], capture_output=True, text=True, timeout=60
        ).stdout

    image, result = json.loads(call(f"{url}/group.jpg").split("event: complete\ndata: ")[1])
    assert len(result["faces"]) == 8 and image["path"].endswith((".jpg", ".jpeg"))
    assert "no image at this URL" in call(f"{url}/other")


@pytest.mark.slow
def test_javascript_names_images_by_url(fetching_app):
    """The code of the API tab in Node.js, with a URL in place of the uploaded path."""
    app, url = fetching_app
    if not shutil.which("node"):
        pytest.skip("needs Node.js")
    text = (ROOT / "space" / "web" / "tabs" / "api.md").read_text(encoding="utf-8")
    code = re.search(r"```javascript\n(.*?)```", text, re.DOTALL)[1].replace("http://127.0.0.1:7860", app.url)
    by_url = re.sub(r"const form.*?\.json\(\);\n", "const path = file;\n", code, flags=re.DOTALL)
    program = f"""{by_url}
for (const name of ["group.jpg", "other"])
  console.log(await analyze(`{url}/${{name}}`).then((faces) => faces.length, (error) => error.message));"""
    command = ["node", "--input-type=module", "-e", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    count, refusal = done.stdout.splitlines()
    assert count == "8" and "no image at this URL" in refusal


@pytest.mark.slow
def test_language_models_name_images_by_url(fetching_app):
    mcp = pytest.importorskip("mcp", reason='needs pip install "gradio[mcp]"')
    from mcp.client.streamable_http import streamablehttp_client

    app, url = fetching_app

    async def talk():
        async with (
            streamablehttp_client(f"{app.url}/gradio_api/mcp/") as (receive, send_, _),
            mcp.ClientSession(receive, send_) as session,
        ):
            await session.initialize()
            return [
                await session.call_tool("analyze_photo", {"photo": f"{url}/{name}"}) for name in ("group.jpg", "other")
            ]

    with ThreadPoolExecutor(1) as pool:
        found, refused = pool.submit(lambda: asyncio.run(talk())).result(timeout=120)
    assert found.content[0].type == "image" and len(found.structuredContent["faces"]) == 8
    assert refused.isError and "no image at this URL" in refused.content[0].text


@pytest.mark.browser
def test_a_pasted_link_is_fetched_once_and_analyzed_and_explained():
    from tests.support.browser import chromium

    def paste(page, url):
        page.evaluate(
            """(url) => { const clipboardData = new DataTransfer();
            clipboardData.setData("text", url);
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true})); }""",
            url,
        )

    def paths(asked):
        return [path for path, _ in asked]

    with web(lambda handler: send(handler, GROUP if "mine" in handler.path else b"no image" * 10)) as (url, asked):
        app = App("--allow-urls", program=_PROGRAM)
        try:
            with chromium() as browser:
                page = browser.new_page()
                visit(page, app.url)
                page.locator("#result .person").first.wait_for(timeout=60_000)
                paste(page, f"{url}/mine.jpg")
                page.wait_for_selector('.result[data-photo="mine"]:not([aria-busy])', timeout=30_000)
                page.locator("#result .why").first.click()
                page.locator("#reason [role=dialog] img").wait_for(timeout=60_000)
                page.keyboard.press("Escape")
                open_settings(page)
                threshold = page.locator("#threshold input[type=number]")
                threshold.fill("0.95")
                page.locator("#result .summary").get_by_text("8 faces").wait_for(state="detached", timeout=30_000)
                assert paths(asked) == ["/mine.jpg"]
                for path in Path(app.temporary).glob("age-gender-*/gradio/**/mine.jpg"):
                    path.unlink()  # as after an hour
                threshold.fill("0.7")
                page.locator("#result .summary").get_by_text("8 faces").wait_for(timeout=30_000)
                assert paths(asked) == ["/mine.jpg", "/mine.jpg"]
                paste(page, f"{url}/other")
                page.get_by_text("no image at this URL").first.wait_for(timeout=30_000)
        finally:
            app.stop()


def test_certificates_are_checked_against_the_name(monkeypatch):
    checked = []

    def wrap(self, sock, **options):
        checked.append((self.verify_mode, self.check_hostname, options["server_hostname"]))
        raise OSError

    ours, theirs = socket.socketpair()
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 443))])
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: ours)
    with theirs, pytest.raises(UploadError):
        fetch("https://photos.example/a.jpg")
    assert checked == [(ssl.CERT_REQUIRED, True, "photos.example")]


def test_names_fit_into_any_file_system():
    assert fetching._name("https://example.org/a%20b.jpg?x=1") == "a b.jpg"
    name = fetching._name("https://example.org/" + "猫" * 150 + ".jpg")
    assert len(name.encode()) <= 200 and name.endswith("猫.jpg")


def test_an_image_that_comes_in_small_parts_is_read(monkeypatch, folder_of_uploads):
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(fetching, "PORTS", range(65536))

    def slowly(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(GROUP)))
        handler.end_headers()
        handler.wfile.write(GROUP[:10])
        handler.wfile.flush()
        time.sleep(0.05)
        handler.wfile.write(GROUP[10:])

    with web(slowly) as (url, _):
        path, _ = fetch(f"{url}/a.jpg")
    assert Path(path).read_bytes() == GROUP
