"""The static Space: its files, and the same answers in Chromium as from FaceAnalyzer, without a request."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space import deploy, static
from space.analyzer import FaceAnalyzer
from space.bundle import MODELS
from space.estimator import open_session
from tests.support import EXAMPLES, ROOT, SHARED, tracker_cases
from tests.support.app import assert_clear_error, python
from tests.support.browser import FAKE_CAMERA, READY, analyze, chromium, result, serve, wait_until
from tests.support.faces import held_out
from tests.support.videos import moving, write_camera

SPACE = "tester/live"


def model_file(files: static.Files, network: str, name: str = "model.onnx"):
    """A model's file, whose folder has a hash in its name."""
    (found,) = (c for path, c in files.items() if re.fullmatch(rf"models/{network}-\w{{12}}/{re.escape(name)}", path))
    return found


@pytest.fixture(scope="session")
def files(yunet) -> static.Files:
    if not shutil.which("npm"):
        pytest.skip("needs npm (Node.js), from which onnxruntime-web comes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGE_GENDER_DETECTOR", str(yunet))
        return static.site_files(SPACE)


@pytest.fixture(scope="session")
def site(files, tmp_path_factory) -> str:
    """The address of a plain web server with the files."""
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
    """A page of a plain server with the modules alone: needs no models."""
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


# Files


def test_the_networks_take_one_look_and_its_mean_over_mirror_images_is_the_bundles_answer(files):
    bundle = open_session(str(MODELS / "compact" / "model.int8.onnx"))
    single = open_session(model_file(files, "compact"))
    crops = np.random.default_rng(0).integers(0, 256, (3, 200, 200, 3), np.uint8)
    whole, straight, mirrored = (
        session.run(["age", "p_female", "age_probs"], {"face": np.ascontiguousarray(faces)})
        for session, faces in ((bundle, crops), (single, crops), (single, crops[:, :, ::-1]))
    )
    for expected, a, b in zip(whole, straight, mirrored, strict=True):
        np.testing.assert_allclose((a + b) / 2, expected, atol=1e-4)
    assert json.loads(model_file(files, "compact", "age_gender.json"))["mirror"] is True
    assert json.loads(model_file(files, "vgg16", "age_gender.json"))["mirror"] is False
    assert model_file(files, "vgg16") == (MODELS / "vgg16" / "model.int8.onnx").read_bytes()


def test_a_dry_run_lists_the_files_that_a_deployment_uploads_in_one_commit(hub, tmp_path, files, yunet):
    env = hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}
    env |= {"AGE_GENDER_DETECTOR": str(yunet)}
    command = ("-m", "space.deploy", "--static", "--space", SPACE)
    listed = python(*command, "--dry-run", env=env)
    assert listed.returncode == 0, listed.stderr
    names = {line.split()[1] for line in listed.stdout.splitlines()} - {"total"}
    published = python(*command, env=env)
    assert published.returncode == 0, published.stderr
    repo = hub.repos["space", SPACE]
    assert repo.create["sdk"] == "static" and len(repo.commits) == 2
    there = repo.commits[repo.refs["main"]]
    assert set(there) - {".gitattributes"} == names == set(files)
    assert all(there[name] == (c if isinstance(c, bytes) else c.read_bytes()) for name, c in files.items())
    card = there["README.md"].decode()
    assert "sdk: static" in card and "cross-origin-opener-policy: same-origin" in card
    # What a browser loads for the first answer, compressed.

    first = [there[name] for name in names if not name.startswith("models/vgg16-")]
    assert sum(len(gzip.compress(content)) for content in first) < 12_000_000


def test_the_command_writes_a_folder_once_and_refuses_what_does_not_fit(tmp_path, files, yunet, monkeypatch, capsys):
    monkeypatch.setenv("AGE_GENDER_DETECTOR", str(yunet))
    assert deploy.main(["--static", "--out", str(tmp_path / "site"), "--model", "compact"]) == 0
    assert "python -m http.server" in capsys.readouterr().out
    assert (tmp_path / "site" / "index.html").is_file() and len(list((tmp_path / "site" / "models").iterdir())) == 1
    assert deploy.main(["--static", "--out", str(tmp_path / "site")]) == 1
    assert "isn't empty" in capsys.readouterr().err
    refused = "--static", "--out x --space a/b", "--static --space a/b --wait", "--static --space a/b --out x"
    for arguments in map(str.split, refused):
        with pytest.raises(SystemExit):
            deploy.main(arguments)
    for wrong, words in ((ROOT / "README.md", "not a YuNet model"), (tmp_path / "none", "No detector at")):
        monkeypatch.setenv("AGE_GENDER_DETECTOR", str(wrong))
        assert deploy.main(["--static", "--out", str(tmp_path / "other")]) == 1
        assert words in capsys.readouterr().err
    monkeypatch.setenv("AGE_GENDER_DETECTOR", str(yunet))
    monkeypatch.setattr(static, "RUNTIME", tmp_path / "none")
    monkeypatch.setenv("PATH", "")
    assert deploy.main(["--static", "--out", str(tmp_path / "other")]) == 1
    assert "Node.js" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_other_files_of_a_space_stay_and_a_gradio_space_is_refused(hub, tmp_path, yunet, files):
    env = hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}
    env |= {"AGE_GENDER_DETECTOR": str(yunet)}
    command = ("-m", "space.deploy", "--static", "--space")
    before = {"notes.md": b"mine", "data/photo.zip": b"mine", "models/compact-0123456789ab/model.onnx": b"old"}
    hub.add(SPACE, before, type="space").create = {"sdk": "static"}
    assert python(*command, SPACE, env=env).returncode == 0
    repo = hub.repos["space", SPACE]
    there = set(repo.commits[repo.refs["main"]])
    assert there == set(files) | {"notes.md", "data/photo.zip"}  # an earlier deployment's model goes
    hub.add("tester/gradio", before, type="space").create = {"sdk": "gradio"}
    assert_clear_error(python(*command, "tester/gradio", env=env), "tester/gradio is a gradio Space")
    assert_clear_error(python("-m", "space.deploy", "--space", SPACE, env=env), f"{SPACE} is a static Space")
    assert set(hub.repos["space", "tester/gradio"].commits[hub.repos["space", "tester/gradio"].refs["main"]]) == set(
        before
    )


def test_no_constant_is_missing(files):
    """What the modules read of `limits` is what the kit has, to the name."""
    kit = json.loads(files["kit.json"])
    elsewhere = {"detector": {"threshold"}}  # read by the page
    for part, module in (("detector", "detect.js"), ("tracker", "track.js"), ("analyzer", "analyze.js")):
        script = (ROOT / "browser" / module).read_text()
        groups = re.findall(r"\{([a-z_, ]+)\}(?: = this\.limits|\) \{\n  const (?:kept|pairs))", script)
        names = {name for group in groups for name in group.split(", ")}
        assert names | set(re.findall(r"limits\.([a-z_]+)", script)) == set(kit[part]) - elsewhere.get(part, set()), (
            part
        )
    assert not re.search(r"\{[A-Z]+\}|PRIVACY", files["index.html"].decode())


# In the browser


def compare(page, analyzer: FaceAnalyzer, paths: list[Path]) -> dict:
    """How far the page's answers are from the analyzer's over all faces of some photos."""
    ages, intervals, boxes = [], [], []
    for path in paths:
        here, there = [face.as_dict() for face in analyzer.analyze(path)], analyze(page, path)["faces"]
        assert len(here) == len(there), path
        for a, b in zip(here, there, strict=True):
            ages.append(abs(a["age"] - b["age"]))
            intervals += [abs(a["age_low"] - b["age_low"]), abs(a["age_high"] - b["age_high"])]
            boxes.append(np.abs(np.subtract(a["box"], b["box"])).max())
            if max(a["gender_probability"], b["gender_probability"]) > 0.6:
                assert a["gender"] == b["gender"], (path, a, b)
    print(f"{len(ages)} faces: age {np.mean(ages):.2f} years apart on average, {max(ages):.2f} at most; ", end="")
    print(f"bounds {np.mean(intervals):.2f}; boxes {max(boxes):.2f} pixels at most")
    return {"faces": len(ages), "mean": np.mean(ages), "most": max(ages), "boxes": max(boxes)}


def test_examples_and_group_photos_get_the_analyzers_answers(page, yunet):
    photos = sorted((SHARED / "photos").glob("*.jpg"))
    apart = compare(page, FaceAnalyzer.load("compact", detector=str(yunet)), [*sorted(EXAMPLES.glob("*.jpg")), *photos])
    assert apart["faces"] >= 16 and apart["boxes"] < 1
    assert apart["mean"] <= 0.3 and apart["most"] <= 1.5


@pytest.mark.slow
def test_held_out_photos_get_the_analyzers_answers(page, yunet, tmp_path):
    paths = [path for path, *_ in held_out(200, tmp_path)]
    assert len(paths) == 200
    apart = compare(page, FaceAnalyzer.load("compact", detector=str(yunet)), paths)
    assert apart["faces"] >= 190 and apart["boxes"] < 1
    assert apart["mean"] <= 0.3 and apart["most"] <= 1.5


def test_a_turned_photo_and_a_photo_without_faces(page, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as photo:
        photo.rotate(-90, expand=True).save(tmp_path / "turned.jpg", quality=95)
    turned = analyze(page, tmp_path / "turned.jpg")
    assert turned["rotation"] == 90 and len(turned["faces"]) == 8
    assert "rotated by 90°" in page.inner_text("#summary")
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "empty.png")
    assert analyze(page, tmp_path / "empty.png")["faces"] == [] and "No face found" in page.inner_text("#summary")


def test_the_other_model_is_loaded_when_it_is_chosen(page, yunet):
    page.click("#settings summary")
    with page.expect_response(re.compile("models/vgg16-.*/model.onnx")):
        page.click("#models input[value=vgg16]")
    wait_until(page, "JSON.parse(document.querySelector('#json').textContent).model.name === 'vgg16'")
    expected = FaceAnalyzer.load("vgg16", detector=str(yunet)).analyze(EXAMPLES / "group.jpg")
    ages = [abs(a["age"] - b.age) for a, b in zip(result(page)["faces"], expected, strict=True)]
    assert max(ages) <= 1.5


def test_downloads_are_made_in_the_browser(page, tmp_path):
    shutil.copy(EXAMPLES / "group.jpg", tmp_path / "=Feier Größe.jpg")
    analyze(page, tmp_path / "=Feier Größe.jpg")
    page.click("#result > details summary")
    saved = {}
    for kind in ("image", "csv", "json"):
        with page.expect_download() as download:
            page.click(f"#download-{kind}")
        saved[kind] = Path(download.value.path())
        assert "Feier Größe-faces" in download.value.suggested_filename
    with Image.open(saved["image"]) as image, Image.open(EXAMPLES / "group.jpg") as photo:
        assert image.format == "JPEG" and image.size == photo.size
    lines = list(csv.DictReader(io.StringIO(saved["csv"].read_text("utf-8-sig"))))
    assert [line["face"] for line in lines] == [str(n) for n in range(1, 9)]
    assert lines[0]["file"] == "'=Feier Größe" and float(lines[0]["age"]) > 0
    assert json.loads(saved["json"].read_text()) == result(page)


def test_settings_apply_to_the_photo_that_is_shown(page):
    before = page.evaluate("document.querySelector('#picture canvas').toDataURL()")
    page.click("#settings summary")
    page.check("#blur")
    assert page.evaluate("document.querySelector('#picture canvas').toDataURL()") != before
    assert page.locator("#people canvas").count() == 0  # no face is shown beside the blurred photo either
    page.fill("#threshold", "0.95")
    page.locator("#threshold").dispatch_event("change")
    page.get_by_text("No face found").wait_for(timeout=20_000)


def test_what_is_no_image_is_refused_beside_the_result(page, tmp_path):
    for name, words in (("notes.txt", "isn't an image"), ("IMG_1.HEIC", "HEIC")):
        (tmp_path / name).write_bytes(b"nothing to see")
        page.set_input_files("#file", str(tmp_path / name))
        page.locator("#message").get_by_text(words).wait_for(timeout=20_000)
        assert page.locator("#people li").count() == 8  # what was there stays


def test_an_error_ends_the_analysis_that_it_replaces(page, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    page.set_input_files("#file", str(EXAMPLES / "group.jpg"))
    page.set_input_files("#file", str(tmp_path / "notes.txt"))
    page.locator("#message").get_by_text("isn't an image").wait_for(timeout=20_000)
    wait_until(page, "document.querySelector('#busy').hidden", 10)
    assert not page.locator("#result[aria-busy]").count()


def test_photos_that_are_replaced_are_not_analyzed(page):
    """Eight photos at once take little longer than two: one stops at its next batch, the others never start."""
    times = page.evaluate(
        """async (content) => {
          const input = document.querySelector("#file"), result = document.querySelector("#result"), times = [];
          for (const count of [1, 1, 8]) {
            const started = performance.now(), names = Array.from({length: count}, (_, i) => `p${times.length}-${i}`);
            for (const name of names) {
              const chosen = new DataTransfer();
              chosen.items.add(new File([new Uint8Array(content)], `${name}.jpg`, {type: "image/jpeg"}));
              input.files = chosen.files;
              input.dispatchEvent(new Event("change"));
              await new Promise((done) => setTimeout(done, 60));
            }
            const last = names.at(-1), ready = () => result.dataset.photo === last && !result.hasAttribute("aria-busy");
            while (!ready()) await new Promise((done) => setTimeout(done, 10));
            times.push(performance.now() - started);
          }
          return times;
        }""",
        list((EXAMPLES / "group.jpg").read_bytes()),
    )
    assert times[2] < 4 * times[1] + 8 * 60, times


def test_pasting_and_dropping_anywhere(page):
    content = list((EXAMPLES / "age-20-26-female.jpg").read_bytes())
    for event, field in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.evaluate(
            """([content, event, field]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(content)], event + "ed.jpg", {type: "image/jpeg"}));
              const made = new Event(event, {bubbles: true, cancelable: true});
              made[field] = data;
              document.body.dispatchEvent(made);
            }""",
            [content, event, field],
        )
        page.wait_for_selector(f'#result[data-photo="{event}ed"]:not([aria-busy])', timeout=20_000)
        assert len(result(page)["faces"]) == 1


def test_the_tracker_shows_the_recorded_streams_as_in_python(modules):
    recorded = json.loads(tracker_cases.FILE.read_text())
    shown = modules.evaluate(
        """async ([cases, limits]) => {
          const {Tracker} = await import("./track.js");
          const play = async ({frames, most}) => {
            const tracker = new Tracker(limits), shown = [];
            for (const {seconds, faces} of frames) {
              const bare = faces.map(({box, score}) => ({box, score, landmarks: []}));
              const estimate = (some) => some.map((face) => ({...face, ...faces[bare.indexOf(face)]}));
              shown.push(await tracker.update(bare, seconds, estimate, most));
            }
            return shown;
          };
          return Promise.all(cases.map(play));
        }""",
        [recorded, static._kit([], [], {})["tracker"]],
    )
    for case, streams in zip(recorded, shown, strict=True):
        tracker_cases.assert_alike(streams, case)


def test_assignments_are_as_cheap_as_scipys(modules):
    from scipy.optimize import linear_sum_assignment

    generator = np.random.default_rng(0)
    tables = [generator.integers(0, 50, shape).tolist() for shape in [(1, 1), (3, 5), (5, 3), (8, 8), (12, 9)] * 10]
    chosen = modules.evaluate(
        "async (tables) => { const {leastCost} = await import('./track.js'); return tables.map(leastCost); }", tables
    )
    for table, columns in zip(tables, chosen, strict=True):
        pairs = [(row, column) for row, column in enumerate(columns) if column >= 0]
        assert len(pairs) == min(np.shape(table)) == len({column for _, column in pairs})
        rows, best = linear_sum_assignment(table)
        assert sum(table[r][c] for r, c in pairs) == np.array(table)[rows, best].sum()


def test_live_follows_two_people(page):
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    seen = set()
    for _ in range(10):
        page.wait_for_timeout(300)
        seen |= {row.split(",")[0] for row in page.locator(".live-people li").all_inner_texts()}
    assert seen == {"1: female", "2: male"} or seen == {"1: male", "2: female"}
    assert float(page.inner_text(".live-rate").split()[0]) > 1
    with page.expect_download() as download:
        page.click(".live-snapshot")
    assert download.value.suggested_filename == "live-faces.jpg"
    page.click(".live-stop")
    page.get_by_text("Stopped.").wait_for()


def test_a_blurred_stream_shows_nothing_that_was_not_analyzed(page):
    """The video has moved on since the analyzed frame: it is covered as a whole, from the start."""
    covered = """(() => {
      const c = document.querySelector(".live-overlay"), scale = Math.min(c.width / 640, c.height / 480);
      const [w, h] = [640 * scale, 480 * scale].map(Math.floor);
      const d = c.getContext("2d").getImageData((c.width - w) / 2 + 1, (c.height - h) / 2 + 1, w - 2, h - 2).data;
      for (let i = 3; i < d.length; i += 4) if (d[i] < 255) return false;
      return true;
    })()"""
    page.click("#tab-live")
    page.check(".live-blur")
    page.click(".live-start")
    wait_until(page, "!document.querySelector('.live-stop').hidden")
    assert page.evaluate(covered)
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    assert page.evaluate(covered)
    page.uncheck(".live-blur")
    assert not page.evaluate(covered)
    page.click(".live-stop")


def test_nothing_is_requested_for_a_photo_or_the_camera(page, tmp_path):
    requests = []
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")  # it has all files for offline use
    page.wait_for_timeout(1000)
    page.context.on("request", lambda request: requests.append(request.url))
    shutil.copy(EXAMPLES / "group.jpg", tmp_path / "private.jpg")
    assert len(analyze(page, tmp_path / "private.jpg")["faces"]) == 8
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.click(".live-stop")
    # The page's own blob: and data: addresses stay inside of the browser.
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []


@pytest.mark.parametrize("where", ["page", "worker"])
def test_the_browser_refuses_to_contact_another_server(page, where):
    other = serve(ROOT / "browser")
    try:
        address = f"http://127.0.0.1:{other.server_port}/icon.svg"
        attempt = f"fetch('{address}', {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')"
        if where == "worker":  # started as the page starts its own
            attempt = f"""new Promise((done) => {{
              const script = new Blob([`{attempt}.then(postMessage)`], {{type: "text/javascript"}});
              new Worker(URL.createObjectURL(script), {{type: "module"}}).onmessage = (event) => done(event.data);
            }})"""
        assert page.evaluate(attempt) == "refused"
    finally:
        other.shutdown()
        page.problems.clear()  # Chromium reports the refusal


@pytest.mark.parametrize("what", ["yunet.onnx", "ort-wasm-simd-threaded.wasm", "model.onnx", "worker.js", "ort.wasm"])
def test_a_failed_download_is_told_and_can_be_tried_again(browser, site, what):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    failing = [True]
    context.route(f"**/*{what}*", lambda route: route.abort() if failing else route.continue_())
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    assert re.search("can't be downloaded|can't start", page.inner_text("#message"))
    wait_until(page, "document.querySelector('#loading').hidden")  # the other files may still be on their way
    failing.clear()
    assert len(analyze(page, EXAMPLES / "age-42-50-male.jpg")["faces"]) == 1
    context.close()


def test_after_an_update_of_the_site_one_reload_is_enough(browser, files, tmp_path):
    static.write(files, tmp_path / "site")
    server = serve(tmp_path / "site")
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{server.server_port}")
    page.wait_for_selector(READY, timeout=60_000)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(1000)
    (old,) = (tmp_path / "site" / "models").glob("vgg16-*")
    new = old.rename(old.with_name("vgg16-0123456789ab"))
    for name in ("kit.json", "service-worker.js"):
        path = tmp_path / "site" / name
        path.write_text(path.read_text().replace(old.name, new.name))
    page.click("#settings summary")
    page.click("#models input[value=vgg16]")
    page.get_by_text("This page has been updated").wait_for(timeout=30_000)
    page.reload()
    page.wait_for_selector(READY, timeout=60_000)
    page.click("#settings summary")
    page.click("#models input[value=vgg16]")
    wait_until(page, "JSON.parse(document.querySelector('#json').textContent).model.name === 'vgg16'", 60)
    context.close()
    server.shutdown()


@pytest.mark.parametrize("what", ["kit.json", "cards.js"])
def test_a_page_that_is_not_complete_says_so(browser, site, what):
    page = browser.new_page()
    page.route(f"**/{what}", lambda route: route.abort())
    page.goto(site)
    page.get_by_text("couldn't be loaded completely").wait_for(timeout=20_000)
    page.close()


def test_blurred_faces_are_covered_up_to_the_edge(page, tmp_path):
    """A face that the border cuts in two: the blurred half is as even as Python's."""
    with Image.open(EXAMPLES / "age-42-50-male.jpg") as photo:
        photo.crop((photo.width // 3, 0, photo.width, photo.height)).save(tmp_path / "half.png")
    found = analyze(page, tmp_path / "half.png")["faces"]
    assert len(found) == 1 and found[0]["box"][0] < 5
    page.click("#settings summary")
    page.check("#blur")
    url = page.evaluate("document.querySelector('#picture canvas').toDataURL()")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), int)
    plain = np.asarray(Image.open(tmp_path / "half.png").convert("RGB"), int)
    _, y, _, height = found[0]["box"]
    eye = np.s_[int(y + 0.3 * height) : int(y + 0.5 * height), :8]
    detail = [np.abs(np.diff(image[eye].mean(axis=-1), axis=0)).mean() for image in (shown, plain)]
    assert detail[0] < 0.4 * detail[1]


def test_only_its_own_page_comes_from_the_service_worker(page, site):
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(500)
    page.goto(f"{site}/kit.json")
    assert '"detector"' in page.inner_text("body")
    page.problems.clear()  # Chromium asks every site for a favicon.ico


def test_after_the_first_visit_it_works_offline(browser, site, tmp_path):
    context = browser.new_context()
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(1000)
    context.set_offline(True)
    page.goto(f"{site}/?tab=live")  # a link to a tab is the same page
    page.wait_for_selector(READY, timeout=60_000)
    assert page.get_attribute("#tab-live", "aria-selected") == "true"
    assert page.evaluate("crossOriginIsolated")  # with threads, though the server sends no headers for them
    page.click("#tab-photo")
    assert len(analyze(page, EXAMPLES / "age-42-50-male.jpg")["faces"]) == 1
    context.close()


def test_the_page_is_accessible_and_fits_a_phone(browser, site, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page = context.new_page()
        page.goto(site)
        page.wait_for_selector(READY, timeout=60_000)
        for tab in ("photo", "live", "about"):
            page.click(f"#tab-{tab}")
            serious = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
            assert not serious, (tab, scheme, json.dumps(serious)[:2000])
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.focus("#tab-about")
        page.keyboard.press("ArrowRight")
        assert page.get_attribute("#tab-photo", "aria-selected") == "true" and "tab=photo" in page.url
        context.close()


def test_a_model_of_the_hub_in_a_static_space(hub, tmp_path, yunet, monkeypatch):
    if not shutil.which("npm"):
        pytest.skip("needs npm (Node.js), from which onnxruntime-web comes")
    folder = MODELS / "compact"
    content = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    hub.add("tester/model", content)
    env = hub.environment(tmp_path / "home", token="hf_writer") | {"HF_HUB_OFFLINE": "0"}
    env |= {"AGE_GENDER_DETECTOR": str(yunet)}
    done = python("-m", "space.deploy", "--static", "--space", SPACE, "--model", "tester/model", env=env)
    assert done.returncode == 0, done.stderr
    repo = hub.repos["space", SPACE]
    there = repo.commits[repo.refs["main"]]
    models = [name for name in there if name.startswith("models/")]
    assert len(models) == 2 and all(name.startswith("models/compact-") for name in models)
    assert "- tester/model" in there["README.md"].decode()
    missing = python("-m", "space.deploy", "--static", "--space", SPACE, "--model", "tester/none", env=env)
    assert_clear_error(missing, "tester/none")
