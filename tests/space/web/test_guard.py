"""What strangers can reach: sizes, addresses, files, passwords, names in logs, and the end of the app."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import struct
import threading
import time
import types
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from space.web import guard
from tests.support import EXAMPLES, ROOT
from tests.support.app import App, assert_clear_error, python
from tests.support.videos import moving, write_video


def ask(url: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, str]:
    """Status and text of a request."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | (headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


REST = {"analyze_photo": [0.7, False, False], "analyze_batch": [0.7]}  # what follows the file


def call(app, endpoint: str, file) -> str:
    """The events of a call of the API, as curl sees them."""
    url = f"{app.url}/gradio_api/call/{endpoint}"
    status, text = ask(url, json.dumps({"data": [file, *REST[endpoint]]}).encode())
    assert status == 200, text
    return ask(f"{url}/{json.loads(text)['event_id']}")[1]


def file_data(**where) -> dict:
    return {**where, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def other_server():
    """Somebody else's server; `asked` is what it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write((EXAMPLES / "group.jpg").read_bytes())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked = asked
    yield server
    server.shutdown()


@pytest.mark.parametrize(("endpoint", "many"), [("analyze_photo", False), ("analyze_batch", True)])
def test_no_address_is_fetched(app, other_server, endpoint, many):
    for address in (f"http://127.0.0.1:{other_server.server_port}/x.jpg", "https://example.com/x.jpg"):
        for where in ({"path": address}, {"path": address, "url": address}):
            picture = file_data(**where)
            assert "fetch files from URLs" in call(app, endpoint, [picture] if many else picture)
        for path in (f"file={address}", f"file/{address}", f"file=/%68{address[1:]}", f"proxy={address}"):
            status, text = ask(f"{app.url}/gradio_api/{path}")
            assert status == 403 and "fetch files from URLs" in text
    assert not other_server.asked


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "app.py",
        f"{ROOT}/app.py",
        "%2e%2e/%2e%2e/etc/passwd",
        "/proc/self/environ",
    ],
)
def test_no_file_of_the_server_can_be_read(app, path):
    status, text = ask(f"{app.url}/gradio_api/file={path}")
    assert status in (403, 404) and "root:" not in text and "import" not in text
    if not path.startswith("%"):
        for endpoint, picture in (("analyze_photo", file_data(path=path)), ("analyze_batch", [file_data(path=path)])):
            answer = call(app, endpoint, picture)
            assert "event: error" in answer and "root:" not in answer


def test_requests_have_a_largest_size(app):
    url = f"{app.url}/gradio_api/call/analyze_photo"
    body = b'{"data": ["' + bytes(guard.MAX_JSON) + b'"]}'
    status, text = ask(url, body)
    assert status == 413 and "the limit is 28 MB" in text
    # The same without saying beforehand how large it is.
    request = urllib.request.Request(url, iter([body[i : i + 2**20] for i in range(0, len(body), 2**20)]))
    request.add_header("Content-Type", "application/json")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 413


def test_only_uploads_may_be_larger(app):
    for path, most in (("call/upload", guard.MAX_JSON), ("upload/x", guard.MAX_OTHER)):
        status, text = ask(f"{app.url}/gradio_api/{path}", bytes(most + 1))
        assert status == 413 and f"the limit is {most // 10**6} MB" in text


@pytest.mark.parametrize(
    "body", [b'{"data":[' + b"{}," * 300_000 + b"0]}", b"{%s}" % b",".join(b'"%d":0' % i for i in range(300_000))]
)
def test_requests_of_countless_values_are_not_read(app, body):
    for path in ("queue/join", "call/analyze_photo", "reset"):
        status, text = ask(f"{app.url}/gradio_api/{path}", body)
        assert status == 413 and len(text) < 1000, text
    assert "too many values" in ask(f"{app.url}/gradio_api/queue/join", body)[1]


def test_a_request_of_another_form_is_not_repeated(app):
    status, text = ask(f"{app.url}/gradio_api/queue/join", json.dumps({"data": "Geheim" * 1000}).encode())
    assert status == 422 and "data" in text and "Geheim" not in text


@pytest.mark.parametrize("name", ["x" * 65, "../x", "\\ud800", "a b"])
def test_names_of_sessions_are_short_and_plain(app, name):
    body = f'{{"fn_index": 1, "session_hash": "{name}", "data": [null]}}'.encode()
    for path in ("queue/join", "call/analyze_photo"):
        assert ask(f"{app.url}/gradio_api/{path}", body)[0] == 422
    assert "analyze" in ask(f"{app.url}/gradio_api/info")[1]


@pytest.mark.parametrize("index", [-1, 10**6, 10**30])
def test_a_function_that_there_is_not(app, index):
    body = json.dumps({"fn_index": index, "session_hash": "x", "data": []}).encode()
    status, text = ask(f"{app.url}/gradio_api/queue/join", body)
    assert status == 404 and "no such endpoint" in text


@pytest.mark.parametrize(
    ("endpoint", "body"), [("nope", {}), ("analyze_photo", {}), ("analyze_photo", {"photo": None, "no": 1})]
)
def test_calls_by_name_that_do_not_fit_are_told(app, endpoint, body):
    answer = ask(f"{app.url}/gradio_api/call/v2/{endpoint}", json.dumps(body).encode())
    assert answer[0] == 422 and "parameters are missing or unknown" in answer[1]


def test_a_call_by_name_is_answered(app):
    photo = f"data:image/jpeg;base64,{base64.b64encode((EXAMPLES / 'group.jpg').read_bytes()).decode()}"
    url = f"{app.url}/gradio_api/call/v2/analyze_photo"
    status, text = ask(url, json.dumps({"photo": file_data(url=photo)}).encode())
    assert status == 200
    assert '"gender_probability"' in ask(f"{url.replace('/v2', '')}/{json.loads(text)['event_id']}")[1]


def test_unknown_pages_are_not_found(app):
    assert ask(f"{app.url}/?page=x")[0] == 404 and ask(f"{app.url}/?tab=live")[0] == 200


def test_what_the_app_has_no_use_for_is_closed(app):
    for path in (
        "gradio_api/process_recording", "gradio_api/dev/reload", "monitoring", "monitoring/summary", "monitoring/x",
        "gradio_api/custom_component/x%0aforged/client/component/x", "gradio_api/component_server",
        "gradio_api/deep_link", "gradio_api/stream/upload", "gradio_api/vibe-edit/", "gradio_api/api/predict",
        "openapi.json", "docs", "redoc",
    ):  # fmt: skip
        for body in (None, b"{}"):
            assert ask(f"{app.url}/{path}", body) == (404, '{"detail":"Not found.","error":"Not found."}'), path


def test_another_sites_page_uploads_nothing_and_logs_nobody_out(app):
    other = {"Sec-Fetch-Site": "cross-site", "Origin": "https://example.com"}
    assert ask(f"{app.url}/gradio_api/upload", b"x", other)[0] == 403
    assert ask(f"{app.url}/gradio_api/upload", b"x", {"Origin": "null"})[0] == 403  # a sandboxed frame
    assert ask(f"{app.url}/logout", headers=other)[0] == 403
    assert ask(app.url, headers=other)[0] == 200  # a link to the app
    own = {"Sec-Fetch-Site": "cross-site", "Origin": app.url.replace("127.0.0.1", "localhost")}
    assert ask(f"{app.url}/gradio_api/upload", b"x", own)[0] not in (403, 404)


def test_a_foreign_name_for_this_machine_is_refused(app):
    """DNS rebinding: a page of another site lets its own name point to 127.0.0.1."""
    for headers in ({"Host": "evil.example"}, {"Host": "evil.example:7860", "Origin": "http://evil.example:7860"}):
        status, text = ask(f"{app.url}/config", headers=headers)
        assert status == 403 and "--root-path" in text
    assert ask(f"{app.url}/config", headers={"Host": f"localhost:{app.port}"})[0] == 200


@pytest.fixture(scope="module")
def prefixed():
    running = App("--root-path", "/age")
    yield running
    running.stop()


def test_a_path_prefix_changes_no_limit_and_opens_no_route(prefixed):
    for prefix in ("", "/age"):
        form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        form += b"x" * 2_000_000 + b"\r\n--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        status, text = ask(f"{prefixed.url}{prefix}/gradio_api/upload", form, kind)
        assert status == 200 and "a.jpg" in text
        assert ask(f"{prefixed.url}{prefix}/monitoring")[0] == 404
        assert ask(f"{prefixed.url}{prefix}/gradio_api/deep_link")[0] == 404


def test_events_that_there_are_not_end_the_answer(app):
    status, text = ask(f"{app.url}/gradio_api/call/analyze_photo/none")
    assert status in (200, 404) and "Traceback" not in text


def test_an_endpoint_that_is_none(app):
    for path in ("call/Geheim", "call/v2/Geheim"):
        status, _ = ask(f"{app.url}/gradio_api/{path}", b'{"data": []}')
        assert status in (404, 422, 500), path


def test_nothing_runs_beside_the_queue(app):
    for path in ("run/analyze_photo", "api/analyze_photo"):
        status, text = ask(f"{app.url}/gradio_api/{path}", b'{"data": [null, 0.7, false, false]}')
        assert status in (401, 404) and "Choose a photo" not in text


def test_an_mcp_caller_cannot_make_up_its_address():
    """Its calls come to the queue from this machine, with its headers, which are believed there."""
    import asyncio

    seen = []

    async def app(scope, receive, send):
        seen.append(dict(scope["headers"])[b"x-forwarded-for"])

    bare = types.SimpleNamespace(get_blocks=lambda: types.SimpleNamespace(mcp_server_obj=None))
    for client, forwarded in (("8.8.8.8", b"1.1.1.1"), ("127.0.0.1", b"9.9.9.9, 1.1.1.1")):
        scope = {"type": "http", "path": "/gradio_api/mcp/", "method": "POST", "client": (client, 1), "app": bare}
        asyncio.run(guard.Guard(app)(scope | {"headers": [(b"x-forwarded-for", forwarded)]}, None, None))
    assert seen == [b"8.8.8.8", b"1.1.1.1"]


def test_gradio_edits_no_program_for_strangers(app):
    assert ask(f"{app.url}/gradio_api/vibe-edit/", b'{"prompt": "x"}')[0] in (403, 404)
    assert ask(f"{app.url}/gradio_api/vibe-code/", b'{"code": "x"}')[0] in (403, 404)


def test_uploads_stop_before_the_disk_is_full(app, monkeypatch):
    import asyncio
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(guard.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1, 1))
    sent = []

    async def send(message):
        sent.append(message)

    async def never(*_):
        raise AssertionError("it was let through")

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "path": "/gradio_api/upload", "headers": [], "method": "POST"}
    asyncio.run(guard.Guard(never)(scope, receive, send))
    assert sent[0]["status"] == 507 and b"out of disk space" in sent[1]["body"]


def test_uploads_that_arrive_together_leave_room_on_the_disk(monkeypatch):
    import asyncio

    monkeypatch.setattr(guard.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2_000_000_000))
    statuses: list = []

    async def app(scope, receive, send):
        await asyncio.sleep(0.1)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        if "status" in message:
            statuses.append(message["status"])

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def upload(*sizes):
        guarded = guard.Guard(app)
        scope = {"type": "http", "path": "/gradio_api/upload", "method": "POST", "client": ("1.1.1.1", 1)}
        headers = [
            [(b"content-length", b"%d" % size)] if size else [(b"transfer-encoding", b"chunked")] for size in sizes
        ]
        await asyncio.gather(*(guarded(scope | {"headers": one}, receive, send) for one in headers))
        assert not guarded.uploads.taken

    for sizes, expected in (
        ([1_400_000_000], [200]),
        ([1_600_000_000], [507]),
        ([800_000_000, 800_000_000], [200, 507]),
        ([0], [507]),  # it may be as large as any
    ):
        statuses.clear()
        asyncio.run(upload(*sizes))
        assert sorted(statuses) == expected


def test_a_refused_body_that_never_ends_gives_its_room_back(monkeypatch):
    import asyncio

    monkeypatch.setattr(guard, "MAX_SECONDS", 0.3)
    monkeypatch.setattr(guard, "MAX_VALUES", 10)
    parts = iter([{"type": "http.request", "body": b"," * 20, "more_body": True}])

    async def receive():
        return next(parts, None) or await asyncio.sleep(60)

    async def app(scope, receive, send):
        with pytest.raises(guard.HTTPException, match="too many values"):
            await receive()

    blocks = types.SimpleNamespace(
        mcp_server_obj=None, _queue=types.SimpleNamespace(event_queue_per_concurrency_id={}, active_jobs=[])
    )
    scope = {"type": "http", "path": "/gradio_api/queue/join", "method": "POST", "client": ("1.1.1.1", 1)}
    scope |= {"headers": [(b"content-length", b"1000")], "app": types.SimpleNamespace(get_blocks=lambda: blocks)}
    guarded = guard.Guard(app)
    asyncio.run(asyncio.wait_for(guarded(scope, receive, None), 5))
    assert not guarded.calls.taken


@pytest.mark.slow
def test_a_password_guards_page_api_and_stream(tmp_path):
    running = App(env={"AGE_GENDER_AUTH": "me:se:cret", "TMPDIR": str(tmp_path)})
    stream = running.url.replace("http", "ws") + "/live"
    try:
        assert ask(f"{running.url}/gradio_api/info")[0] == 401
        assert ask(f"{running.url}/gradio_api/call/analyze_photo", b'{"data": []}')[0] == 401
        assert ask(f"{running.url}/gradio_api/upload", b"")[0] == 401
        assert '"auth_required":true' in ask(running.url)[1].replace(" ", "")
        for headers in ({}, {"Cookie": "access-token=x"}):
            with pytest.raises(InvalidStatus):
                connect(stream, additional_headers=headers)
        with pytest.raises(Exception, match=r"(?i)credential|incorrect|401|auth|login"):
            Client(running.url, auth=("me", "wrong"), verbose=False)
        client = Client(running.url, auth=("me", "se:cret"), verbose=False, download_files=str(tmp_path / "got"))
        _, result = client.predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
        assert len(result["faces"]) == 8
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        with connect(stream, additional_headers={"Cookie": cookies}) as visitor:
            visitor.send(struct.pack("<I", 1) + b"not an image")
            assert json.loads(visitor.recv(timeout=30))["frame"] == 1
    finally:
        printed = running.stop()
    assert "cret" not in printed
    for wrong in ("alone", ":x", "x:", ""):
        if wrong:
            assert_clear_error(python("app.py", "--auth", wrong), "USER:PASSWORD")
    assert_clear_error(python("app.py", "--auth", "me:secret", "--mcp"), "--mcp")


def test_libraries_report_nothing_to_their_makers(tmp_path):
    running = App(env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")})
    try:
        running.client(tmp_path / "got").predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
        opened = [os.readlink(link) for link in Path(f"/proc/{running.process.pid}/fd").iterdir() if link.is_symlink()]
    finally:
        running.stop()
    # Where ONNX Runtime would keep the device's id and the events that it uploads.
    assert not [path for path in opened if str(tmp_path) in path and ".db" in path], opened
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


@pytest.mark.slow
def test_logs_hold_no_names_and_pictures_no_place(tmp_path):
    secret = "Geheim-4711"
    (tmp_path / "tmp").mkdir()
    running = App(env={"TMPDIR": str(tmp_path / "tmp")})
    try:
        client = running.client(tmp_path / "got")
        with Image.open(EXAMPLES / "group.jpg") as photo:
            exif = Image.Exif()
            exif[0x010E] = secret
            exif.get_ifd(0x8825)[1] = "N"
            exif.get_ifd(0x8825)[2] = (48.0, 8.0, 15.0)
            photo.save(tmp_path / f"{secret}.jpg", exif=exif)
        for blurred in (False, True):
            picture, _ = client.predict(
                handle_file(tmp_path / f"{secret}.jpg"), 0.7, blurred, api_name="/analyze_photo"
            )
            assert secret.encode() not in Path(picture).read_bytes()
            with Image.open(picture) as answered:
                assert not answered.getexif() and not {"exif", "xmp", "comment"} & set(answered.info)
        ask(f"{running.url}/gradio_api/custom_component/x%0a{secret}/client/component/{secret}")
        ask(
            f"{running.url}/gradio_api/queue/join",
            f'{{"fn_index":0,"session_hash":"{secret}\\ud800","data":[0]}}'.encode(),
        )
        for name, content in ((f"{secret}-bad.jpg", b"none"), (f"{secret}.txt", b"x"), (f"{secret}.zip", b"x")):
            (tmp_path / name).write_bytes(content)
            for endpoint, many in (("/analyze_photo", False), ("/analyze_batch", True), ("/analyze_video", False)):
                file = handle_file(tmp_path / name)
                with pytest.raises(Exception):  # noqa: B017 whatever it is, what counts is the log
                    client.predict([file] if many else file, api_name=endpoint)
                    assert many
                    raise ValueError  # a picture that cannot be read is a row of the table
        video = write_video(tmp_path / f"{secret}.mp4", moving(10))
        client.predict(handle_file(video), api_name="/analyze_video")
        for wrong in (
            f'[{{"path": "{secret}"}}, 0.7, false, false]',
            f'["{secret}", 0.7, false, false]',
            f'["{secret}"]',
            "[null, NaN, false]",
        ):
            url = f"{running.url}/gradio_api/call/analyze_photo"
            ask(f"{running.url}/gradio_api/call/v2/{secret}", b"{}")
            event = json.loads(ask(url, f'{{"data": {wrong}}}'.encode())[1])["event_id"]
            assert "event: error" in ask(f"{url}/{event}")[1]
        with zipfile.ZipFile(tmp_path / f"{secret}-2.zip", "w") as archive:
            archive.writestr(f"{secret}.jpg", b"broken")
        client.predict([handle_file(tmp_path / f"{secret}-2.zip")], api_name="/analyze_batch")
    finally:
        printed = running.stop()
    assert secret not in printed and "Traceback" not in printed, printed
    assert "ValidationError" in printed  # that something failed, and where, is there


def test_stopping_in_the_middle_of_requests_ends_within_five_seconds(tmp_path):
    (tmp_path / "tmp").mkdir()
    running = App(env={"TMPDIR": str(tmp_path / "tmp")})
    client = running.client(tmp_path / "got")
    video = write_video(tmp_path / "video.mp4", moving(250))
    job = client.submit(handle_file(video), api_name="/analyze_video")
    while not list((tmp_path / "tmp").glob("age-gender-*/**/video-faces.mp4.*.part.mp4")):
        time.sleep(0.05)
    time.sleep(1)
    running.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    running.process.wait(timeout=10)
    assert time.monotonic() - began < 5
    with pytest.raises(Exception):  # noqa: B017 the client is told, in words of its own
        job.result(timeout=30)
    assert not list((tmp_path / "tmp").glob("age-gender-*"))


@pytest.fixture(scope="module")
def in_the_network(tmp_path_factory):
    """An app that the whole network can reach."""
    running = App("--host", "0.0.0.0", env={"TMPDIR": str(tmp_path_factory.mktemp("tmp"))})
    yield running
    running.stop()


def headers_of(url: str, **headers) -> dict[str, str]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


def test_pages_of_other_sites_neither_call_the_app_nor_read_its_answers(in_the_network):
    url = in_the_network.url.replace("127.0.0.1", "127.0.0.2")  # no name for this machine that browsers treat alike
    other = {"Origin": "https://example.com"}
    assert ask(f"{url}/gradio_api/call/analyze_photo", b'{"data": [null, 0.7, false, false]}', other)[0] == 403
    assert ask(f"{url}/gradio_api/queue/join", b"{}", other)[0] == 403
    for path in ("/config", "/gradio_api/info", "/"):
        for origin in ("https://example.com", "null", "http://192.168.1.9"):
            assert not [name for name in headers_of(url + path, Origin=origin) if name.startswith("access-control")]
    with pytest.raises(InvalidStatus):
        connect(url.replace("http", "ws") + "/live", origin="https://example.com")


def test_a_site_that_is_allowed_can_use_the_app(tmp_path):
    running = App("--allow-origin", "https://example.com", env={"TMPDIR": str(tmp_path)})
    try:
        answer = headers_of(f"{running.url}/config", Origin="https://example.com")
        body = b'{"data": [null, 0.7, false, false]}'
        assert ask(f"{running.url}/gradio_api/call/analyze_photo", body, {"Origin": "https://example.com"})[0] == 200
        assert ask(f"{running.url}/gradio_api/call/analyze_photo", body, {"Origin": "https://example.org"})[0] == 403
        assert answer["access-control-allow-origin"] == "https://example.com"
        assert "access-control-allow-credentials" not in answer
        assert "access-control-allow-origin" not in headers_of(f"{running.url}/config", Origin="https://example.org")
    finally:
        running.stop()


def test_every_answer_has_headers_that_protect_the_visitor(app):
    for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
        found = headers_of(app.url + path)
        assert found["x-content-type-options"] == "nosniff", path
        policy = found["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'self' https://huggingface.co" in policy
        assert "http:" not in policy and "*;" not in policy and "object-src 'none'" in policy


def test_calls_have_a_largest_size_in_all(monkeypatch):
    import asyncio

    async def never(*_):
        raise AssertionError("it was let through")

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    def event(held):
        scope = {"client": ("1.1.1.1", 1), "headers": [], guard.HELD: held}
        return types.SimpleNamespace(request=types.SimpleNamespace(scope=scope))

    queue = types.SimpleNamespace(event_queue_per_concurrency_id={}, active_jobs=[None, [event(90_000_000)]])
    blocks = types.SimpleNamespace(_queue=queue)
    scope = {
        "type": "http", "path": "/gradio_api/queue/join", "method": "POST", "client": ("2.2.2.2", 1),
        "headers": [(b"content-length", b"20000000")], "app": types.SimpleNamespace(get_blocks=lambda: blocks),
    }  # fmt: skip
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard.Guard(never)(scope, receive, send))
    assert sent[0]["status"] == 503 and b"Upload the file instead" in sent[1]["body"]


def test_bodies_that_never_end_leave_room_for_others():
    budget = guard.Budget(100, 60)
    assert budget.take("a", 28) and budget.take("a", 28) and not budget.take("a", 28)  # its share
    assert budget.take("b", 28) and not budget.take("c", 28)  # the total
    assert budget.take("c", 0)  # a request without a body
    assert not budget.take("c", 10, already=10)
    budget.give_back("a", 28)
    assert budget.take("c", 28)
    for address, size in (("a", 28), ("b", 28), ("c", 28), ("c", 0)):
        budget.give_back(address, size)
    assert not budget.taken


def test_half_a_body_is_given_up_and_its_room_reserved(app, monkeypatch):
    """Connections that declare a body and never finish it neither fill the memory nor block the others."""
    import socket

    host, port = "127.0.0.1", app.port
    head = f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 27000000\r\n"
    head += "Content-Type: application/json\r\nX-Forwarded-For: 8.8.4.4\r\n\r\n"
    open_ones = []
    for _ in range(6):
        open_ones.append(socket.create_connection((host, port)))
        open_ones[-1].sendall(head.encode() + b'{"data": [')
    try:
        time.sleep(0.5)
        # A share of the room is taken by the first two; the others wait for a refusal.
        assert ask(f"{app.url}/gradio_api/queue/join", b"{}", {"X-Forwarded-For": "8.8.4.4"})[0] == 422
        assert ask(f"{app.url}/gradio_api/queue/join", b" " * 8_000_000, {"X-Forwarded-For": "8.8.4.4"})[0] == 503
        assert ask(f"{app.url}/gradio_api/queue/join", b" " * 8_000_000)[0] == 422  # another address
    finally:
        for connection in open_ones:
            connection.close()


def test_a_body_has_a_deadline(monkeypatch):
    import asyncio

    monkeypatch.setattr(guard, "MAX_SECONDS", 0.1)

    async def receive():
        await asyncio.sleep(5)

    async def app(scope, receive, send):
        with pytest.raises(guard.HTTPException, match=r"408|did not arrive"):
            await receive()
        sent.append(True)

    sent: list = []
    blocks = types.SimpleNamespace(mcp_server_obj=None)
    scope = {"type": "http", "path": "/gradio_api/cancel", "method": "POST", "client": ("1.1.1.1", 1), "headers": []}
    asyncio.run(guard.Guard(app)(scope | {"app": types.SimpleNamespace(get_blocks=lambda: blocks)}, receive, None))
    assert sent == [True]


@pytest.mark.parametrize("prefix", ["", "/age"])
def test_logging_out_ends_the_visitor_s_own_session(prefix):
    own = {"access-token-unsecure-x": "1"}
    tokens = {"1": "me", "2": "me"}
    app = types.SimpleNamespace(cookie_id="x", tokens=tokens)
    cookie = "; ".join(f"{name}={value}" for name, value in own.items()).encode()
    scope = {
        "type": "http", "path": f"{prefix}/logout", "method": "GET", "app": app, "client": ("1.1.1.1", 1),
        "headers": [(b"cookie", cookie), (b"host", b"localhost")], "query_string": b"",
    }  # fmt: skip
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard.Guard(None, prefix)(scope, None, send))
    assert tokens == {"2": "me"} and sent[0]["status"] == 302
    headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    assert ("location", f"{prefix}/") in headers
    deleted = [value for name, value in headers if name == "set-cookie"]
    assert len(deleted) == 2 and all(f"Path={prefix}/;" in one and "Max-Age=0" in one for one in deleted)


def test_running_requests_count_for_the_limit_of_an_address():
    def event(address):
        scope = {"client": (address, 1), "headers": []}
        return types.SimpleNamespace(request=types.SimpleNamespace(scope=scope))

    waiting = {"photos": types.SimpleNamespace(queue=[event("1.1.1.1"), event("2.2.2.2")])}
    queue = types.SimpleNamespace(event_queue_per_concurrency_id=waiting, active_jobs=[None, [event("1.1.1.1")]])
    blocks = types.SimpleNamespace(_queue=queue)
    scope = {"client": ("1.1.1.1", 5), "headers": [], "app": types.SimpleNamespace(get_blocks=lambda: blocks)}
    assert guard.queued_for(scope) == 2
    assert guard.queued_for(scope | {"client": ("3.3.3.3", 1)}) == 0


@pytest.mark.parametrize("https", [False, True])
def test_login_cookies_are_for_this_app_alone(https):
    from starlette.datastructures import MutableHeaders

    headers = MutableHeaders()
    headers.append("set-cookie", "access-token-x=1; HttpOnly; Path=/; SameSite=none; Secure")
    headers.append("set-cookie", "access-token-unsecure-x=1; HttpOnly; Path=/; SameSite=lax")
    guard._restrict_cookies(headers, "/age", https=https)
    (cookie,) = headers.getlist("set-cookie")
    assert ("Secure" in cookie) == https and ("unsecure" in cookie) != https and "Path=/age/" in cookie


@pytest.mark.slow
def test_guessing_a_password_is_slowed_down_and_logging_out_ends_the_stream(tmp_path):
    running = App(env={"AGE_GENDER_AUTH": "me:secret", "TMPDIR": str(tmp_path)})
    try:
        how = {"auth": ("me", "secret"), "verbose": False, "download_files": str(tmp_path / "got")}
        cookies, other = (
            "; ".join(f"{name}={value}" for name, value in Client(running.url, **how).cookies.items()) for _ in range(2)
        )
        with connect(running.url.replace("http", "ws") + "/live", additional_headers={"Cookie": cookies}) as visitor:
            visitor.send(struct.pack("<I", 1) + b"not an image")
            assert json.loads(visitor.recv(timeout=30))["frame"] == 1
            assert ask(f"{running.url}/logout", headers={"Cookie": cookies})[0] == 200
            assert ask(f"{running.url}/gradio_api/info", headers={"Cookie": cookies})[0] == 401
            assert ask(f"{running.url}/gradio_api/info", headers={"Cookie": other})[0] == 200  # of the same user
            visitor.send(struct.pack("<I", 2) + b"not an image")
            assert "logged out" in json.loads(visitor.recv(timeout=30))["error"]
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        with ThreadPoolExecutor(15) as pool:  # at once: none may be let through before the others are counted
            guesses = [pool.submit(ask, f"{running.url}/login", b"username=me&password=no", form) for _ in range(15)]
            statuses = sorted(guess.result()[0] for guess in guesses)
        assert statuses == [400] * 10 + [429] * 5
        assert ask(f"{running.url}/login", b"username=me&password=secret", form)[0] == 429
        time.sleep(2.1)
        assert ask(f"{running.url}/login", b"username=me&password=secret", form)[0] == 200
    finally:
        running.stop()


def test_folders_of_killed_apps_are_deleted_and_those_of_running_ones_kept(tmp_path):
    first, second = (App(env={"TMPDIR": str(tmp_path)}) for _ in range(2))
    first.client(tmp_path / "got").predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
    before = set(tmp_path.glob("age-gender-*"))
    assert len(before) == 2 and list(tmp_path.glob("age-gender-*/**/group.jpg"))
    first.process.kill(), first.process.wait()
    third = App(env={"TMPDIR": str(tmp_path)})
    try:
        left = set(tmp_path.glob("age-gender-*"))
        assert len(left) == 2 and len(left & before) == 1
        second.client(tmp_path / "got").predict(handle_file(EXAMPLES / "group.jpg"), api_name="/analyze_photo")
    finally:
        second.stop(), third.stop()
    assert not list(tmp_path.glob("age-gender-*"))


def test_a_full_disk_is_told_at_the_start(tmp_path, monkeypatch, capsys):
    import app as entry

    monkeypatch.setattr(entry, "MIN_FREE_BYTES", 10**18)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    entry.temporary_folder.cache_clear()
    assert entry.main([]) == 1
    assert "is full): set TMPDIR" in capsys.readouterr().err


def test_calls_count_before_their_bodies_have_come(monkeypatch):
    """80 calls whose bodies come later are as many as 80 calls."""
    import asyncio

    monkeypatch.setattr(guard, "_events", lambda scope: iter(()))
    answered, go_on = [], asyncio.Event()

    async def app(scope, receive, send):
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    async def run():
        guarded = guard.Guard(app)
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "client": ("8.8.8.8", 1)}
        calls = [asyncio.create_task(guarded(scope | {"headers": []}, receive, send)) for _ in range(80)]
        other = asyncio.create_task(guarded(scope | {"headers": [], "client": ("9.9.9.9", 1)}, receive, send))
        await asyncio.sleep(0.05)
        refused = len(answered)
        go_on.set()
        await asyncio.gather(*calls, other)
        return refused, guarded.arriving

    refused, arriving = asyncio.run(run())
    assert refused == 80 - guard.MAX_QUEUED_PER_ADDRESS and answered.count(503) == refused and not arriving
    assert answered.count(200) == guard.MAX_QUEUED_PER_ADDRESS + 1


@pytest.mark.parametrize(
    ("text", "kept"),
    [("bytes=0-", True), ("bytes=5-9", True), ("bytes=9-5", False), ("bytes=0-0,1-1", False), ("bytes=0-9-9", False),
     ("bytes=-5", True), ("bytes=-", False), (f"bytes={'1' * 5000}-", False), ("bytes=²-³", False)],
)  # fmt: skip
def test_a_range_that_gradio_cannot_read_is_left_out(text, kept):
    import asyncio

    seen = []

    async def app(scope, receive, send):
        seen.append(b"range" in dict(scope["headers"]))

    scope = {"type": "http", "method": "GET", "path": "/gradio_api/file=x", "client": ("8.8.8.8", 1)}
    headers = [(b"range", text.encode("latin-1"))]
    asyncio.run(guard.Guard(app)(scope | {"headers": headers}, None, None))
    assert seen == [kept]


def answered(guarded: guard.Guard, status: int, headers=(), *, path="/login", method="POST") -> dict:
    """The guard's answer to a request, by default a login, that the app answers with `status` and two cookies."""
    sent = []

    async def app(scope, receive, send):
        cookies = ("access-token-x=1; Path=/; Secure", "access-token-unsecure-x=1; Path=/")
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"set-cookie", cookie.encode()) for cookie in cookies],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    guarded.app = app
    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "client": ("127.0.0.1", 1)}
    asyncio.run(guarded(scope | {"headers": list(headers)}, receive, send))
    return sent[0]


def test_only_a_login_that_succeeds_ends_the_wait_after_failed_ones():
    guarded = guard.Guard(None)
    for _ in range(10):
        answered(guarded, 400)
    answered(guarded, 200, method="GET")
    answered(guarded, 200, path="/gradio_api/reset")
    assert answered(guarded, 400)["status"] == 429


@pytest.mark.parametrize(("size", "reads"), [(4, 3), (20, 1)])
def test_a_refused_body_is_read_within_reason(monkeypatch, size, reads):
    monkeypatch.setattr(guard, "MAX_DRAIN_BYTES", 10)
    asked = []

    async def receive():
        asked.append(1)
        return {"type": "http.request", "body": b"x" * size, "more_body": True}

    asyncio.run(guard._drain(receive))
    assert len(asked) == reads


def test_a_refused_body_that_never_comes_is_not_waited_for(monkeypatch):
    async def silent():
        await asyncio.sleep(60)

    async def slow():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    for limit, receive in (("MAX_SILENCE", silent), ("DRAIN_SECONDS", slow)):
        with monkeypatch.context() as patch:
            patch.setattr(guard, limit, 0.2)
            asyncio.run(asyncio.wait_for(guard._drain(receive), 10))


def test_guesses_of_a_password_are_limited_and_logins_are_not():
    guarded = guard.Guard(None)
    assert {answered(guarded, 200)["status"] for _ in range(30)} == {200}
    assert [answered(guarded, 400)["status"] for _ in range(12)] == [400] * 10 + [429] * 2


@pytest.mark.parametrize("protocol", ["https", "http"])
def test_the_cookie_of_a_login_is_secure_behind_a_secure_proxy(protocol):
    headers = answered(guard.Guard(None), 200, [(b"x-forwarded-proto", protocol.encode())])["headers"]
    (cookie,) = [value for key, value in headers if key == b"set-cookie"]
    assert (b"Secure" in cookie) == (protocol == "https")


def test_bytes_of_a_call_are_counted_until_it_ends(monkeypatch):
    monkeypatch.setattr(guard, "_events", lambda scope: iter(()))
    counted = []

    async def app(scope, receive, send):
        counted.append(guarded.calls.taken.total())

    guarded = guard.Guard(app)
    for header in ((b"content-length", b"200000"), (b"transfer-encoding", b"chunked")):
        scope = {"type": "http", "method": "POST", "path": "/gradio_api/queue/join", "client": ("8.8.8.8", 1)}
        asyncio.run(guarded(scope | {"headers": [header]}, None, None))
    assert counted == [200_000, guard.MAX_JSON] and not guarded.calls.taken


def in_pieces(guarded, path: str, *bodies: dict, query: bytes = b"", size: int = 0, **scope) -> tuple[int | None, str]:
    """Status and text of a request whose body comes in pieces; then nothing more comes."""
    sent, pieces = [], list(bodies)

    async def receive():
        if pieces:
            return pieces.pop(0)
        return await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    values = {"type": "http", "path": path, "method": "POST", "client": ("1.1.1.1", 1), "query_string": query}
    values["headers"] = [(b"content-length", b"%d" % size)]
    asyncio.run(asyncio.wait_for(guarded(values | scope, receive, send), 10))
    return sent[0]["status"] if sent else None, sent[1]["body"].decode() if len(sent) > 1 else ""


async def reading(scope, receive, send):
    """An app that reads the body, and answers as FastAPI does."""
    status = 200
    try:
        while (await receive()).get("more_body"):
            pass
    except guard.HTTPException as error:
        status = error.status_code
    await send({"type": "http.response.start", "status": status, "headers": []})


def test_a_silent_upload_ends_and_gives_its_room_back(monkeypatch):
    monkeypatch.setattr(guard, "MAX_SECONDS", 0.3)
    guarded = guard.Guard(reading)
    part, end = {"body": b"a" * 1000, "more_body": True}, {"body": b"a", "more_body": False}
    assert in_pieces(guarded, "/gradio_api/upload", part, size=2000)[0] == 408
    assert in_pieces(guarded, "/gradio_api/upload", part, end, size=1001)[0] == 200
    assert not guarded.uploads.taken


def test_one_address_cannot_reserve_the_whole_disk(monkeypatch):
    monkeypatch.setattr(guard.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10**12))
    guarded = guard.Guard(reading)
    guarded.uploads.take("1.1.1.1", guard.MAX_UPLOADS_PER_ADDRESS)
    end = {"body": b"a", "more_body": False}
    status, text = in_pieces(guarded, "/gradio_api/upload", end, size=1)
    assert status == 503 and "Wait until they have arrived" in text
    assert in_pieces(guarded, "/gradio_api/upload", end, size=1, client=("2.2.2.2", 1))[0] == 200


def test_small_requests_have_room_of_their_own():
    guarded = guard.Guard(reading)
    guarded.calls.taken["9.9.9.9"], guarded.others.taken["9.9.9.9"] = guard.MAX_JSON_IN_ALL, guard.MAX_OTHER_IN_ALL
    end = {"body": b"{}", "more_body": False}
    for path in ("/gradio_api/mcp/", "/gradio_api/heartbeat"):
        assert in_pieces(guarded, path, end, size=guard.SMALL_BODY, app=_App())[0] == 200
        assert in_pieces(guarded, path, end, size=guard.SMALL_BODY + 1, app=_App())[0] == 503
    assert not guarded.small.taken


class _App:
    def get_blocks(self):
        queue = types.SimpleNamespace(event_queue_per_concurrency_id={}, active_jobs=[])
        return types.SimpleNamespace(_queue=queue, mcp_server_obj=None)


@pytest.mark.parametrize(("name", "status"), [("a1-_b", 200), ("a" * 65, 422), ("a/b", 422)])
def test_names_of_uploads_are_short_and_plain(name, status):
    end = {"body": b"", "more_body": False}
    for path in ("/gradio_api/upload", "/gradio_api/upload_progress"):
        assert in_pieces(guard.Guard(reading), path, end, query=f"upload_id={name}".encode())[0] == status


def test_the_first_visitor_does_not_decide_the_address_of_the_api(app):
    foreign = {"X-Forwarded-Host": "other.example"}
    assert ask(f"{app.url}/gradio_api/info", headers=foreign)[0] == 200
    status, text = ask(f"{app.url}/gradio_api/info")
    assert status == 200 and "other.example" not in text


def test_uploads_go_on_after_their_folder_was_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gone" / "gradio"))
    end = {"body": b"", "more_body": False}
    assert in_pieces(guard.Guard(reading), "/gradio_api/upload", end)[0] == 200 and (tmp_path / "gone").is_dir()
