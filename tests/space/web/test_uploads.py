"""Which files a request may open: uploads, for every parameter of every endpoint, and nothing else."""

from __future__ import annotations

import base64
import ctypes
import itertools
import json
import os
import shutil
import socket
import sys
import threading
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio_client import handle_file

from space.web import uploads
from space.web.uploads import Upload, UploadError, admitted, open_upload
from tests.support import EXAMPLES, ROOT
from tests.support.app import App

META = {"_type": "gradio.FileData"}
GROUP = EXAMPLES / "group.jpg"
DATA_URL = "data:image/jpeg;base64," + base64.b64encode(GROUP.read_bytes()).decode()
WORDS = ("Upload it and try again", "doesn't fetch files from URLs", "doesn't have the form", "Choose ", "must be")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The upload folder, with a file in a folder of its own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio" / "hash").mkdir(parents=True)
    shutil.copy(GROUP, tmp_path / "gradio" / "hash" / "mine.jpg")
    shutil.copy(GROUP, tmp_path / "outside.jpg")
    return tmp_path / "gradio"


def foreign_paths(folder: Path, outside: Path) -> list[str]:
    """Paths of every kind that aren't uploads; links and pipes lie where uploads do."""
    (folder / "links").mkdir(exist_ok=True)
    link, linked = folder / "links" / "link.jpg", folder / "links" / "folder"
    pipe, loop = folder / "links" / "pipe.jpg", folder / "links" / "loop.jpg"
    for path, target in ((link, outside), (linked, outside.parent), (loop, loop)):
        path.is_symlink() or path.symlink_to(target)
    pipe.exists() or os.mkfifo(pipe)
    unix = folder / "links" / "s"
    if not unix.exists() and len(str(unix)) < 100:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(unix))
    return [
        str(outside), f"{folder}/../{outside.name}", f"{folder}/a/../../{outside.name}",
        f"{folder}/./../{outside.name}", str(link), str(linked / outside.name), str(loop), str(pipe), str(unix),
        str(folder), f"{folder}/hash", f"{folder}/", os.path.relpath(outside, ROOT), outside.name,
        f"/proc/self/root{outside}", "/proc/self/environ", "/proc/self/fd/0", "/proc/self/cwd/app.py", "/dev/zero",
        "/dev/stdin", "/etc/passwd", str(ROOT / "app.py"), "app.py",
        f"{outside}\0.jpg", f"{folder}/none.jpg", "", "~/x", "C:\\Windows\\win.ini", "\\\\server\\share\\x.jpg",
    ]  # fmt: skip


def test_an_upload_is_opened_whatever_it_is_called(folder):
    (folder / "hash" / "Größe #1 (a).jpg").write_bytes(b"x")
    for name in ("mine.jpg", "Größe #1 (a).jpg"):
        fd = open_upload(str(folder / "hash" / name))
        assert os.read(fd, 3) == (folder / "hash" / name).read_bytes()[:3]
        os.close(fd)


def test_nothing_else_is_opened_and_all_refusals_are_alike(folder, tmp_path):
    for path in foreign_paths(folder, tmp_path / "outside.jpg"):
        with pytest.raises(UploadError) as refused:
            os.close(open_upload(path))
        assert str(refused.value) == uploads.NO_FILE, path
    for wrong in (None, 7, ["x"], b"x"):
        with pytest.raises(UploadError):
            open_upload(wrong)


def test_what_is_put_in_the_place_of_an_upload_is_not_opened(folder, tmp_path):
    upload = Upload.from_payload(admitted({"path": str(folder / "hash" / "mine.jpg"), "meta": META}))
    shutil.move(folder / "hash", folder / "moved")
    (folder / "hash").symlink_to(tmp_path)
    (tmp_path / "mine.jpg").write_bytes(b"not for visitors")
    with pytest.raises(UploadError), upload.open():
        pass


@pytest.mark.parametrize(
    "base", ["{}", "file://{}", "http://127.0.0.1:7860/gradio_api/file={}", "HTTP://x/gradio_api/file={}"]
)
def test_file_objects_of_every_form_are_checked(folder, tmp_path, base):
    mine = str(folder / "hash" / "mine.jpg")
    for path in foreign_paths(folder, tmp_path / "outside.jpg"):
        text = base.format(path)
        forms = (
            {"path": text}, {"url": text}, {"path": text, "meta": META}, {"path": None, "url": text, "meta": META},
            {"path": text, "url": None, "orig_name": "a.jpg", "size": 1, "is_stream": True},
            {"path": text, "url": mine}, {"a": {"path": text}}, {"a": [{"b": {"path": text}}]}, [[{"path": text}]],
            {"path": text, "extra": {"x": 1}},
        )  # fmt: skip
        for form in forms:
            with pytest.raises(UploadError):
                admitted(form)
    assert admitted({"path": mine, "url": "http://other/x", "is_stream": True, "mime_type": "x", "size": 9}) == {
        "path": mine, "url": None, "orig_name": None, "meta": META,
    }  # fmt: skip
    assert admitted({"path": f"http://any/gradio_api/file={mine}"})["path"] == mine  # as language models send it
    assert admitted([1, "x", None, {"a": [2.5, True]}]) == [1, "x", None, {"a": [2.5, True]}]
    assert admitted({"path": None, "url": None}) is None
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(UploadError, match="too deeply"):
        admitted(deep)


def test_data_urls_need_no_file_and_have_a_limit():
    value = admitted({"path": "/etc/passwd", "url": DATA_URL, "orig_name": "a/b\\Me.jpg"})
    assert value == {"path": None, "url": DATA_URL, "orig_name": "a/b\\Me.jpg", "meta": META}
    upload = Upload.from_payload(value)
    assert upload.stem == "Me"
    with upload.open() as fd:
        assert os.read(fd, 10**6) == GROUP.read_bytes()
    with pytest.raises(UploadError, match="base64"):
        Upload.from_payload({"url": "data:image/jpeg;base64,///!"})
    with pytest.raises(UploadError, match="20 MB"):
        Upload.from_payload({"url": "data:image/jpeg;base64," + "A" * 28_000_000})


def test_names_for_results_fit_every_file_system():
    for name, stem in (
        ("x" * 400 + ".jpg", "x" * 60),
        ("..", "file"),
        ("a\0b\n.jpg", "ab"),
        ('<a>:"b|?*".jpg', "ab"),
        ("", "photo"),
    ):
        assert Upload.from_payload({"path": "/x", "orig_name": name or None}).stem == (stem if name else "x")


def test_components_that_take_files_open_none(analyzer):
    """A new component that takes a file must be an `UploadInput`: the stock ones open what they are given."""
    from space.sandbox.in_process import InProcess
    from space.web.components import UploadInput
    from space.web.page import build

    page = build(analyzer, InProcess())
    takers = [part for fn in page.fns.values() for part in fn.inputs if "path" in json.dumps(part.api_info())]
    assert len(takers) >= 8
    assert not [part for part in takers if not isinstance(part, UploadInput)]


class Opened:
    """Which files of a folder anybody opens, by inotify."""

    def __init__(self, folder: Path):
        self._libc = ctypes.CDLL(None)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._fd, str(folder).encode(), 0x20) >= 0  # IN_OPEN

    def names(self) -> set[str]:
        try:
            data = os.read(self._fd, 1 << 20)
        except BlockingIOError:
            return set()
        found, at = set(), 0
        while at < len(data):
            length = int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
            found.add(data[at + 16 : at + 16 + length].rstrip(b"\0").decode())
            at += 16 + length
        return found


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A running app, its upload folder, and files outside that nobody may open."""
    place = tmp_path_factory.mktemp("attacked")
    (place / "tmp").mkdir(), (place / "secret").mkdir()
    shutil.copy(GROUP, place / "secret" / "outside.jpg")
    running = App(env={"TMPDIR": str(place / "tmp")})
    running.client(place).predict(handle_file(GROUP), api_name="/analyze_photo")  # makes the folder
    (folder,) = (place / "tmp").glob("age-gender-*/gradio")
    yield running, folder, place / "secret" / "outside.jpg"
    running.stop()


def post(url: str, body: dict):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


def event(app, index: int, data: list) -> str:
    """What the page gets for an event with this data."""
    session = f"s{index}_{threading.get_ident()}_{next(_COUNT)}"
    with post(f"{app.url}/gradio_api/queue/join", {"fn_index": index, "session_hash": session, "data": data}) as answer:
        answer.read()
    with urllib.request.urlopen(f"{app.url}/gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
        for line in stream:
            if b'"process_completed"' in line:
                return line.decode()
    raise AssertionError("no end")


_COUNT = itertools.count()


def forms(path: str) -> list:
    """Every form in which a request may name a file."""
    return [
        path, {"path": path}, {"path": path, "meta": META}, {"path": path, "url": path, "orig_name": "a", "meta": META},
        {"url": path, "meta": META}, [{"path": path, "meta": META}], [path], {"value": {"path": path}},
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_no_parameter_of_any_endpoint_opens_another_file_or_address(attacked, capsys):
    """All events that the running app has, with every kind of path in every form in each of their parameters."""
    app, folder, outside = attacked
    asked: list = []
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: [asked.append(server.accept()) for _ in range(99)], daemon=True).start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}/x.jpg"
    with urllib.request.urlopen(f"{app.url}/config") as answer:
        config = json.load(answer)
    defaults = {part["id"]: part["props"].get("value") for part in config["components"]}
    kinds = ("image", "video", "file", "uploadbutton")
    takes_files = {part["id"] for part in config["components"] if part["type"] in kinds}
    watch, paths = Opened(outside.parent), [*foreign_paths(folder, outside), address, f"file={outside}"]
    assert not watch.names()
    with open(outside, "rb"):
        assert watch.names() == {outside.name}  # the watch works
    calls = [
        (dependency["id"], position, form)
        for dependency in config["dependencies"]
        if dependency["backend_fn"]
        for position, component in enumerate(dependency["inputs"])
        for number, path in enumerate(paths)
        for form in (forms(path) if component in takes_files and number % 3 == 0 else forms(path)[1:3])
        if component in takes_files or number % 9 == 0
    ]
    inputs = {dependency["id"]: dependency["inputs"] for dependency in config["dependencies"]}
    answered: list[str] = []

    def attack(part) -> None:
        for index, position, form in part:
            data = [defaults.get(i) for i in inputs[index]]
            data[position] = form
            answered.append(event(app, index, data))

    threads = [threading.Thread(target=attack, args=(calls[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert len(answered) == len(calls) > 500
    assert not watch.names()
    assert not asked
    for text in answered:
        assert "root:" not in text and "Traceback" not in text and " at 0x" not in text
        assert "not uploaded by" not in text
        assert str(outside) not in text or "is not in the list of choices" in text  # which repeats the value
    printed = app.printed()
    assert "Traceback" not in printed and outside.name not in printed
    with capsys.disabled():
        print(f" {len(calls)} calls of {len(inputs)} events")


@pytest.mark.slow
def test_endpoints_answer_uploads_and_data_urls_and_refuse_the_rest_in_a_sentence(attacked, tmp_path):
    app, folder, outside = attacked
    client = app.client(tmp_path)
    for endpoint in ("/analyze_photo", "/explain_age"):
        assert client.predict(handle_file(GROUP), api_name=endpoint)
        assert client.predict({"path": None, "url": DATA_URL, "meta": META}, api_name=endpoint)
    rest = {
        "analyze_photo": [0.7, False, False],
        "explain_age": [1, 0.7],
        "analyze_video": [0.7, False],
        "analyze_batch": [0.7],
    }
    for endpoint, others in rest.items():
        for form in (form for path in foreign_paths(folder, outside)[:12] for form in forms(path)):
            url = f"{app.url}/gradio_api/call/{endpoint}"
            with post(url, {"data": [form, *others]}) as answer:
                number = json.load(answer)["event_id"]
            with urllib.request.urlopen(f"{url}/{number}", timeout=60) as stream:
                text = stream.read().decode()
            assert "event: error" in text and any(words in text for words in WORDS), (endpoint, form, text)


@pytest.mark.slow
def test_many_zips_start_few_workers(attacked, tmp_path):
    app, *_ = attacked
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", GROUP.read_bytes())
    client = app.client(tmp_path)
    *_, text, _ = client.predict([handle_file(tmp_path / "a.zip")] * 3, api_name="/analyze_batch")
    assert "8 faces" in text and "1 image" in text  # the same upload counts once
    for number in range(25):
        (tmp_path / f"{number}.zip").write_bytes((tmp_path / "a.zip").read_bytes() + bytes(number))
    with pytest.raises(Exception, match="more than 20 zips"):
        client.predict([handle_file(tmp_path / f"{number}.zip") for number in range(25)], api_name="/analyze_batch")
    with pytest.raises(Exception, match="create a zip instead"):
        (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
        client.predict([handle_file(tmp_path / "a.7z")], api_name="/analyze_batch")


def test_old_files_are_deleted_whoever_wrote_them(monkeypatch, tmp_path):
    """Gradio forgets uploads that were cut off."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for name in ("deeper", "empty"):
        (tmp_path / name).mkdir()
    for name in ("tmpabc", "deeper/photo.jpg", "deeper/example.jpg"):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / "tmpabc", (0, 0))  # a copy of an old file, made now
    kept = {os.path.realpath(tmp_path / "deeper" / "example.jpg")}
    uploads.sweep(kept)
    assert (tmp_path / "tmpabc").exists() and (tmp_path / "deeper" / "photo.jpg").exists()
    assert (tmp_path / "empty").exists()  # an upload may be about to be written there
    now = uploads.time.time()
    monkeypatch.setattr(uploads.time, "time", lambda: now + uploads.MAX_AGE + 1)
    uploads.sweep(kept)
    assert [path.name for path in tmp_path.rglob("*")] == ["deeper", "example.jpg"]  # "empty" is gone too


def test_the_app_deletes_old_files_but_not_its_own(monkeypatch, tmp_path):
    from space.web import page

    swept, called = [], threading.Event()

    def sweep(kept):
        swept.append(kept)
        if len(swept) == 2:
            called.set()
            threading.Event().wait()  # for ever, in its own thread

    monkeypatch.setattr(uploads, "sweep", sweep)
    blocks = {
        1: SimpleNamespace(keep_in_cache={str(tmp_path / "example.jpg")}),
        2: SimpleNamespace(keep_in_cache=set()),
    }
    (tmp_path / "there").touch()
    served = {str(tmp_path / "there"), str(tmp_path / "deleted")}
    page.sweep_regularly(SimpleNamespace(blocks=blocks, temp_file_sets=[served]), every=0)
    assert called.wait(5) and swept == 2 * [{os.path.realpath(tmp_path / "example.jpg")}]
    assert served == {str(tmp_path / "there")}


def test_a_large_photo_fits_into_a_data_url():
    upload = Upload.from_payload({"url": "data:image/jpeg;base64," + "A" * 26_600_000})
    assert len(upload.content) == 19_950_000


@pytest.mark.parametrize("name", ["😀" * 70, "猫" * 200, "a" * 300])
def test_a_result_s_name_leaves_room_for_its_suffixes(name):
    stem = Upload(f"{name}.mp4").stem
    assert len(f"{stem}-faces.mp4.4194304.part.mp4".encode()) <= 255 and set(stem) == {name[0]}
