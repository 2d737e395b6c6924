"""The Photo tab returns the same results in Chromium as FaceAnalyzer does."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.analyzer import FaceAnalyzer
from space.batch.tables import spreadsheet_safe
from space.calibration import LEAST, Calibration
from space.hub.bundle import embedded, open_bundle
from tests.support import EXAMPLES, SHARED
from tests.support.browser import READY, analyze, result, wait_until, write_crowd
from tests.support.faces import held_out


def compare(page, analyzer: FaceAnalyzer, paths: list[Path], *, by_size: bool = True) -> dict:
    """The differences between the page's results and the analyzer's, over all faces in the photos.

    Without `by_size`, faces are compared by their place: sizes that are nearly equal may be in another order.
    """
    ages, intervals, boxes = [], [], []
    for path in paths:
        here, there = [face.as_dict() for face in analyzer.analyze(path)], analyze(page, path)["faces"]
        assert len(here) == len(there), path
        if not by_size:
            here, there = (
                sorted(faces, key=lambda face: (face["box"][0] // 40, face["box"][1])) for faces in (here, there)
            )
        for a, b in zip(here, there, strict=True):
            ages.append(abs(a["age"] - b["age"]))
            intervals += [abs(a["age_low"] - b["age_low"]), abs(a["age_high"] - b["age_high"])]
            boxes.append(np.abs(np.subtract(a["box"], b["box"])).max())
            assert abs(a["sharpness"] - b["sharpness"]) < 0.03 and abs(a["yaw"] - b["yaw"]) < 0.03, (path, a, b)
            assert abs(a["roll"] - b["roll"]) < 1 and abs(a["cut_off"] - b["cut_off"]) < 0.01, (path, a, b)
            if max(a["gender_probability"], b["gender_probability"]) > 0.6:
                assert a["gender"] == b["gender"], (path, a, b)
    print(f"{len(ages)} faces: age {np.mean(ages):.2f} years apart on average, {max(ages):.2f} at most; ", end="")
    print(f"bounds {np.mean(intervals):.2f}; boxes {max(boxes):.2f} pixels at most")
    return {"faces": len(ages), "mean": np.mean(ages), "most": max(ages), "boxes": max(boxes)}


def test_examples_and_group_photos_match_the_analyzer(page):
    photos = sorted((SHARED / "photos").glob("*.jpg"))
    apart = compare(page, FaceAnalyzer.load("compact"), [*sorted(EXAMPLES.glob("*.jpg")), *photos])
    assert apart["faces"] >= 16 and apart["boxes"] < 1
    assert apart["mean"] <= 0.3 and apart["most"] <= 1.5


@pytest.mark.slow
def test_held_out_photos_match_the_analyzer(page, tmp_path):
    paths = [path for path, *_ in held_out(100, tmp_path)]
    assert len(paths) == 100
    apart = compare(page, FaceAnalyzer.load("compact"), paths)
    assert apart["faces"] >= 95 and apart["boxes"] < 1
    assert apart["mean"] <= 0.3 and apart["most"] <= 1.5


def test_a_turned_photo_and_a_photo_without_faces(page, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as photo:
        photo.rotate(-90, expand=True).save(tmp_path / "turned.jpg", quality=95)
    turned = analyze(page, tmp_path / "turned.jpg")
    assert turned["rotation"] == 90 and len(turned["faces"]) == 8
    assert "rotated by 90°" in page.inner_text("#summary")
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "empty.png")
    assert analyze(page, tmp_path / "empty.png")["faces"] == [] and "No face found" in page.inner_text("#summary")


def test_tilted_faces_match_the_analyzer(page, tmp_path):
    paths = []
    for degrees in (30, 45, 100):
        with Image.open(EXAMPLES / "group.jpg") as photo:
            paths.append(tmp_path / f"tilted-{degrees}.png")
            photo.convert("RGB").rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="gray").save(
                paths[-1]
            )
    apart = compare(page, FaceAnalyzer.load("compact"), paths, by_size=False)
    assert apart["faces"] == 24 and apart["boxes"] < 1
    assert apart["mean"] <= 0.3 and apart["most"] <= 1.5


def test_panoramas_match_the_analyzer(page, tmp_path):
    """Their tiles cut some faces."""
    portrait = Image.open(EXAMPLES / "age-20-29-male.jpg").convert("RGB").resize((220, 220))
    for name, size in (("tall", (420, 4000)), ("wide", (4000, 420))):
        panorama = Image.new("RGB", size, "gray")
        for place in range(74, 3700, 340):
            panorama.paste(portrait, (100, place) if name == "tall" else (place, 100))
        panorama.save(tmp_path / f"{name}.png")
    paths = [tmp_path / "tall.png", tmp_path / "wide.png"]
    apart = compare(page, FaceAnalyzer.load("compact"), paths, by_size=False)
    assert apart["faces"] == 22 and apart["boxes"] < 1
    assert apart["mean"] <= 0.3 and apart["most"] <= 1.5


def test_the_other_model_is_loaded_when_it_is_chosen(page):
    page.click("#settings summary")
    with page.expect_response(re.compile("models/vgg16-.*/model.onnx")):
        page.click("#models input[value=vgg16]")
    wait_until(page, "JSON.parse(document.querySelector('#json').textContent).model.name === 'vgg16'")
    expected = FaceAnalyzer.load("vgg16").analyze(EXAMPLES / "group.jpg")
    ages = [abs(a["age"] - b.age) for a, b in zip(result(page)["faces"], expected, strict=True)]
    assert max(ages) <= 1.5


def test_downloads_are_made_in_the_browser(page, tmp_path):
    shutil.copy(EXAMPLES / "group.jpg", tmp_path / "=Feier Größe.jpg")
    analyze(page, tmp_path / "=Feier Größe.jpg")
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
    assert lines[0]["file"] == "'=Feier Größe.jpg" and float(lines[0]["age"]) > 0
    assert json.loads(saved["json"].read_text()) == result(page)


def test_settings_apply_to_the_photo_that_is_shown(page, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as group:
        group.reduce(5).save(tmp_path / "small.png")  # no face has a score of 0.95
    assert len(analyze(page, tmp_path / "small.png")["faces"]) == 8
    before = page.evaluate("document.querySelector('#picture canvas').toDataURL()")
    page.click("#settings summary")
    page.check("#blur")
    assert page.evaluate("document.querySelector('#picture canvas').toDataURL()") != before
    assert page.locator("#people :is(img, canvas)").count() == 0  # no face is shown beside the blurred photo either
    page.fill("#threshold", "0.95")
    page.locator("#threshold").dispatch_event("change")
    page.get_by_text("No face found").wait_for(timeout=20_000)


def test_an_invalid_image_is_rejected_and_no_other_result_is_shown(page, tmp_path):
    for name, words in (("broken.jpg", "isn't an image"), ("IMG_1.HEIC", "HEIC")):
        (tmp_path / name).write_bytes(b"nothing to see")
        page.set_input_files("#file", str(tmp_path / name))
        page.locator("#message").get_by_text(words).wait_for(timeout=20_000)
        assert not page.locator("#people li:visible, .downloads button:visible").count()
        assert len(analyze(page, EXAMPLES / "group.jpg")["faces"]) == 8


def test_a_file_of_another_kind_is_rejected_and_the_photo_stays(page, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    page.set_input_files("#file", str(tmp_path / "notes.txt"))
    page.locator("#message").get_by_text("isn't an image").wait_for(timeout=20_000)
    assert page.locator("#people li:visible").count() == 8
    analyze(page, EXAMPLES / "age-20-29-male.jpg")  # the next photo takes the message away
    assert page.locator("#message").is_hidden()


def test_an_error_ends_the_analysis_that_it_replaces(page, tmp_path):
    (tmp_path / "broken.jpg").write_text("nothing to see")
    page.set_input_files("#file", str(EXAMPLES / "group.jpg"))
    page.set_input_files("#file", str(tmp_path / "broken.jpg"))
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
    content = list((EXAMPLES / "age-20-29-female.jpg").read_bytes())
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


def test_blurred_faces_are_covered_up_to_the_edge(page, tmp_path):
    """A face that the image edge cuts off is blurred up to the edge."""
    with Image.open(EXAMPLES / "age-40-49-male.jpg") as photo:
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


def test_a_file_that_opens_slowly_does_not_stop_the_one_that_replaced_it(page, tmp_path):
    """The first file is read only after the second one's analysis has begun."""
    shown = page.evaluate(
        """async (content) => {
          const file = (name) => new File([new Uint8Array(content)], name, {type: "image/jpeg"});
          const slow = file("slow.jpg"), {createObjectURL} = URL, image = HTMLImageElement.prototype;
          const {set} = Object.getOwnPropertyDescriptor(image, "src");
          let address, go;
          const held = new Promise((done) => { go = done; });
          URL.createObjectURL = (source) => {
            const made = createObjectURL.call(URL, source);
            if (source === slow) address = made;
            return made;
          };
          Object.defineProperty(image, "src", {
            set(value) { (value === address ? held : Promise.resolve()).then(() => set.call(this, value)); },
          });
          const choose = (one) => {
            const chosen = new DataTransfer(), input = document.querySelector("#file");
            chosen.items.add(one);
            input.files = chosen.files;
            input.dispatchEvent(new Event("change"));
          };
          choose(slow);
          await new Promise((done) => setTimeout(done, 100));
          choose(file("quick.jpg"));
          await new Promise((done) => setTimeout(done, 300));
          go();
          const result = document.querySelector("#result"), message = document.querySelector("#message");
          while (message.hidden && (result.dataset.photo !== "quick" || result.hasAttribute("aria-busy")))
            await new Promise((done) => setTimeout(done, 20));
          return [message.textContent, result.dataset.photo];
        }""",
        list(write_crowd(tmp_path / "crowd.jpg").read_bytes()),  # whose analysis takes a while
    )
    assert shown == ["", "quick"]


def test_a_slow_example_replaces_nothing_and_a_missing_one_is_told(browser, site, tmp_path):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    held = []
    page.route("**/examples/*", lambda route: held.append(route))
    page.locator("#examples button").nth(2).click()
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "own.png")
    analyze(page, tmp_path / "own.png")
    assert held
    for route in held:
        route.continue_()
    page.wait_for_timeout(1000)
    assert page.get_attribute("#result", "data-photo") == "own"
    page.unroute("**/examples/*")
    page.route("**/examples/*", lambda route: route.abort())
    page.locator("#examples button").nth(3).click()
    page.get_by_text("The example can't be downloaded").wait_for()
    assert page.get_attribute("#result", "data-photo") == "own"
    context.close()


def test_a_model_that_cannot_be_opened_leaves_the_running_analysis_alone(browser, site, tmp_path):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    context.route("**/vgg16-*/model.onnx", lambda route: route.fulfill(body=b"not a network"))
    page.set_input_files("#file", str(write_crowd(tmp_path / "crowd.jpg")))
    page.click("#settings summary")
    page.click("#models input[value=vgg16]")
    page.get_by_text("The model vgg16 can't be opened. This device may have too little memory").wait_for(timeout=60_000)
    assert page.is_checked("#models input[value=compact]")
    page.wait_for_selector('#result[data-photo="crowd"]:not([aria-busy])', timeout=60_000)
    assert len(result(page)["faces"]) == 72
    # A finished result is dimmed while another model is loaded.
    held = []
    context.unroute("**/vgg16-*/model.onnx")
    context.route("**/vgg16-*/model.onnx", lambda route: held.append(route))
    page.click("#models input[value=vgg16]")
    page.wait_for_selector("#result[aria-busy] #busy:has-text('Loading the model…')", timeout=5_000)
    while not held:
        page.wait_for_timeout(50)
    held[0].fulfill(body=b"not a network")
    page.wait_for_selector("#result:not([aria-busy])", timeout=20_000)
    assert page.is_visible("#message") and page.is_hidden("#busy") and len(result(page)["faces"]) == 72
    context.close()


@pytest.mark.parametrize("name", embedded())
@pytest.mark.parametrize("distribution", [True, False])
def test_estimates_are_calibrated_as_python_does(modules, name, distribution):
    """Any distributions, also of one age; any predictions, also at and beyond the ends; sharp and blurred faces."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1, (60, 102)).cumsum(axis=1) * generator.uniform(0, 9, (60, 1))
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = np.concatenate([probs / probs.sum(axis=1, keepdims=True), np.eye(102)[[0, 50, 101]]])
    ages = np.concatenate([generator.uniform(0, 101, 57), [0, 0.4, 101, 116, 85, 85.1]])
    wider, p = generator.uniform(1, 2.2, 63), np.concatenate([generator.uniform(0, 1, 61), [0, 1]])
    card = open_bundle(name).card
    calibration = Calibration.from_dict(card["calibration"])
    given = probs.tolist() if distribution else [None] * 63
    expected = calibration.age_probs(ages, probs if distribution else None, wider)
    low, high = calibration.interval(ages, calibration.weighted(expected))
    found = modules.evaluate(
        """async ([tables, least, rows]) => {
          const {Calibration} = await import("./estimator.js"), calibration = new Calibration(tables, least);
          return rows.map(([age, probs, wider, p]) => {
            const calibrated = calibration.ageProbs(age, probs, wider);
            return [calibrated, calibration.interval(age, calibrated), calibration.pFemale(p)];
          });
        }""",
        [
            card["calibration"],
            LEAST,
            list(map(list, zip(ages.tolist(), given, wider.tolist(), p.tolist(), strict=True))),
        ],
    )
    np.testing.assert_allclose([row[0] for row in found], expected, atol=1e-12)
    np.testing.assert_allclose([row[1] for row in found], np.stack([low, high], axis=1), atol=1e-9)
    np.testing.assert_allclose([row[2] for row in found], calibration.p_female(p), atol=1e-12)


def test_the_table_tells_incomplete_files_as_python_does(modules):
    lines = modules.evaluate(
        """async () => {
          const {asCsv} = await import("./downloads.js"), columns = ["file", "incomplete", "age"];
          const table = (incomplete) => asCsv({faces: [{box: [0, 0, 1, 1], age: 3}], incomplete}, "a.jpg", columns);
          return [true, false, null].map((incomplete) => table(incomplete).split("\\r\\n")[1]);
        }"""
    )
    assert lines == ["a.jpg,True,3", "a.jpg,False,3", "a.jpg,,3"]


def test_names_are_defused_for_spreadsheets_as_python_does(modules):
    names = ["=1", "+1", "a;=1", "-1;@x", "a=1", "ü;b", "x;\t=1"]
    lines = modules.evaluate(
        """async (names) => {
          const {table} = await import("./downloads.js");
          return table(["file"], names.map((file) => ({file}))).split("\\r\\n").slice(1, -1);
        }""",
        names,
    )
    assert lines == [spreadsheet_safe(name) for name in names]


def test_a_browser_that_withholds_pixels_is_told_so(browser, site):
    """As Firefox does with resistFingerprinting: faces would be searched for in noise."""
    page = browser.new_page()
    page.add_init_script(
        """CanvasRenderingContext2D.prototype.getImageData = (x, y, width, height) =>
          new ImageData(new Uint8ClampedArray(4 * width * height).fill(255), width, height);"""
    )
    page.goto(site)
    page.wait_for_selector(READY)
    page.set_input_files("#file", EXAMPLES / "age-20-29-male.jpg")
    page.locator("#message").get_by_text("Allow this page to read canvas data").wait_for(timeout=20_000)
    assert page.locator("#result .person").count() == 0
    page.click("#tab-video")
    page.click(".video-example")
    page.locator(".video-status").get_by_text("Allow this page to read canvas data").wait_for(timeout=20_000)
    page.close()
