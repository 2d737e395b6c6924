"""A photo's result: faces that are pinned, crowds, several photos, phones, and what is there before the model is."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import EXAMPLES
from tests.support.browser import READY, analyze, drop_folder, drop_text, result, serve, wait_until, write_crowd


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Path:
    """A photo of 72 faces."""
    return write_crowd(tmp_path_factory.mktemp("crowd") / "crowd.jpg")


def is_visible(page, selector: str) -> bool:
    """Whether the middle of an element is inside of the window, and of what scrolls around it."""
    return page.evaluate(
        """(selector) => {
          const element = document.querySelector(selector);
          const {left, top, width, height} = element.getBoundingClientRect();
          const [x, y] = [left + width / 2, top + height / 2], there = document.elementFromPoint(x, y);
          return Boolean(there) && (element.contains(there) || there.contains(element));
        }""",
        selector,
    )


def test_a_clicked_face_stays_highlighted_and_is_in_view_with_its_card(page, crowd):
    analyze(page, crowd)
    for number in (40, 3, 72):
        page.locator(f"#boxes rect[data-n='{number}']").click()
        page.wait_for_timeout(700)  # the list scrolls
        page.mouse.move(640, 600)  # over other cards, or none
        page.wait_for_timeout(200)
        assert page.evaluate("[...document.querySelectorAll('#people .on')].map((one) => one.dataset.n)") == [
            str(number)
        ]
        assert is_visible(page, f"#people [data-n='{number}']") and is_visible(page, ".stage")
    page.keyboard.press("Escape")
    assert not page.locator(".on").count()


def test_a_crowd_is_summed_up_and_can_be_sorted(page, crowd):
    faces = analyze(page, crowd)["faces"]
    assert len(faces) == 72
    summary = page.inner_text("#summary")
    counts = [sum(face["gender_label"] == name for face in faces) for name in ("female", "male", "uncertain")]
    median = float(np.median([face["age"] for face in faces]))
    assert re.match(
        rf"72 people: {counts[0]} female, {counts[1]} male, {counts[2]} uncertain; median age {int(median + 0.5)} ",
        summary,
    )
    assert page.evaluate("document.documentElement.scrollHeight") < 2500
    page.select_option("#order select", "youngest")
    numbers = page.evaluate("[...document.querySelectorAll('#people li')].map((one) => Number(one.dataset.n))")
    ages = [faces[number - 1]["age"] for number in numbers]
    assert len(ages) == 72 and ages == sorted(ages)
    page.select_option("#order select", "position")
    numbers = page.evaluate("[...document.querySelectorAll('#people li')].map((one) => Number(one.dataset.n))")
    assert sorted(numbers) == list(range(1, 73)) and numbers != sorted(numbers)


def test_a_row_of_a_crowd_opens_when_it_is_chosen(page, crowd):
    analyze(page, crowd)
    opened = page.locator("#people li:has(.chart:visible)")
    assert opened.count() == 0
    page.locator("#people li[data-n='3'] .age").click()
    assert opened.get_attribute("data-n") == "3" and opened.locator("summary").inner_text() == "Details"
    opened.locator("summary").click()
    assert "detection score" in opened.inner_text()
    page.locator("#people li[data-n='5']").focus()
    page.keyboard.press("Enter")
    assert opened.count() == 1 and opened.get_attribute("data-n") == "5"
    page.keyboard.press("Escape")
    assert opened.count() == 0


def test_labels_cover_no_other_face_and_no_other_label(modules):
    """In a tight row of faces every face has a label. Each covers no face but its own."""
    drawn = modules.evaluate(
        """async () => {
          const {mark} = await import("./annotate.js"), rects = [], texts = [];
          const pen = {
            measureText: (text) => ({width: 8 * text.length}), fillRect: (...r) => rects.push(r), strokeRect() {},
            fillText: (text) => texts.push(text),
          };
          const one = (_, i) => ({box: [10 + 52 * i, 60, 50, 60], age: 20 + i, gender_label: "female"});
          const faces = Array.from({length: 12}, one);
          mark(pen, faces, {width: 640, height: 200}, {colors: {}, lineOf: () => 2, sizeOf: () => 14});
          return {rects, texts, boxes: faces.map((face) => face.box)};
        }"""
    )
    assert len(drawn["texts"]) == 12

    def apart(a, b):
        return a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]

    # Ages stand beside the numbers, where the whole label has no room.
    assert sum(re.fullmatch(r"#\d+ \d+", text) is not None for text in drawn["texts"]) >= 4
    assert all(text.startswith("#") for text in drawn["texts"])
    for i, label in enumerate(drawn["rects"]):
        assert all(apart(label, other) for other in drawn["rects"][i + 1 :])
        assert sum(not apart(label, box) for box in drawn["boxes"]) <= 1


def test_the_limit_of_the_model_that_answered_is_told(modules):
    faces = '{"box": [1, 1, 5, 5], "score": 0.9, "age": 30, "age_low": 25, "age_high": 35, "gender": "female"'
    faces += ', "gender_label": "uncertain", "gender_probability": 0.7499, "sharpness": 0.5}'
    told = modules.evaluate(
        f"""async () => {{
          const {{resultView}} = await import("./result.js"), place = document.createElement("div");
          document.body.append(place);
          const view = resultView(place, {{colors: {{}}, csv: [], most: 1000}});
          const image = document.createElement("canvas");
          const answer = {{faces: [{faces}, {faces}]}}, told = [];
          for (const most of [undefined, 2]) {{
            view.show({{image, name: "a", answer, factor: 1, most, thumbnails: []}}, new File([], "a"));
            told.push(place.querySelector("#summary").textContent, place.querySelector("#people").textContent);
          }}
          return told;
        }}"""
    )
    assert "the limit is" not in told[0] and "the limit is 2" in told[2]
    assert "(74% female)" in told[1]  # below 75%


def test_zooming_keeps_labels_at_their_size(page):
    def ink() -> int:
        """Pixels of boxes and labels."""
        return page.evaluate(
            """(() => {
              const canvas = document.querySelector(".labels");
              const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              return data.filter((value, i) => i % 4 === 3 && value > 0).length;
            })()"""
        )

    before = ink()
    page.focus(".stage")
    for _ in range(5):
        page.keyboard.press("+")
    scale = float(re.search(r"scale\(([\d.]+)\)", page.locator(".fit").get_attribute("style"))[1])
    assert scale > 5 and 0 < ink() < before
    page.keyboard.press("0")
    assert ink() == before


def test_people_out_of_view_have_no_label_there(page):
    page.evaluate(
        """() => {
          window.labels = [];
          const {fillText, clearRect} = CanvasRenderingContext2D.prototype;
          CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
            if (this.canvas.matches(".labels")) window.labels.push(text);
            return fillText.call(this, text, ...rest);
          };
        }"""
    )
    page.focus(".stage")
    for _ in range(5):  # towards the middle
        page.evaluate("window.labels.length = 0")
        page.keyboard.press("+")
    numbers = {int(re.match(r"#(\d+)", text)[1]) for text in page.evaluate("window.labels")}
    inside = page.evaluate(
        """() => {
          const a = document.querySelector(".stage").getBoundingClientRect();
          return [...document.querySelectorAll("#boxes rect")].filter((rect) => {
            const b = rect.getBoundingClientRect();
            return b.left < a.right && b.right > a.left && b.top < a.bottom && b.bottom > a.top;
          }).map((rect) => Number(rect.dataset.n));
        }"""
    )
    assert numbers == set(inside) and 0 < len(inside) < 8
    page.keyboard.press("0")


def test_a_right_click_does_not_take_a_zoomed_photo(page):
    page.focus(".stage")
    for _ in range(3):
        page.keyboard.press("+")
    place = "document.querySelector('.fit').style.transform"
    before = page.evaluate(place)
    page.evaluate(  # a menu swallows the release
        """() => {
          const send = (kind, options) => document.querySelector(".stage").dispatchEvent(
            new PointerEvent(kind, {pointerId: 1, bubbles: true, ...options}));
          send("pointerdown", {button: 2, buttons: 2, clientX: 300, clientY: 300});
          send("pointermove", {button: -1, buttons: 0, clientX: 380, clientY: 340});
        }"""
    )
    assert page.evaluate(place) == before != ""
    page.keyboard.press("0")


def test_moving_a_zoomed_photo_selects_no_face(page):
    first = page.locator(".stage rect").first
    first.click()
    pinned = page.locator("li.open").get_attribute("data-n")
    page.focus(".stage")
    page.keyboard.press("+")
    x, y = page.evaluate(
        """(pinned) => {
          for (const rect of document.querySelectorAll(`.stage rect:not([data-n="${pinned}"])`)) {
            const {left, top, width, height} = rect.getBoundingClientRect();
            const [x, y] = [left + width / 2, top + height / 2];
            if (document.elementFromPoint(x, y) === rect) return [x, y];
          }
        }""",
        pinned,
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 20, y - 10, steps=4)
    page.mouse.up()
    assert page.locator("li.open").get_attribute("data-n") == pinned
    page.mouse.down()  # a press that doesn't move is a click
    page.mouse.up()
    assert page.locator("li.open").get_attribute("data-n") != pinned
    page.keyboard.press("Escape")
    page.focus(".stage")
    page.keyboard.press("0")


def test_two_photos_side_by_side(page, tmp_path):
    with Image.open(EXAMPLES / "group.jpg") as group:
        group.reduce(5).save(tmp_path / "group.jpg", quality=95)  # no face has a score of 0.95
    page.set_input_files("#file", [str(EXAMPLES / "age-20-29-female.jpg"), str(tmp_path / "group.jpg")])
    page.locator(".strip-photos button[aria-busy=false] canvas").nth(1).wait_for(timeout=30_000)
    assert len(result(page)["faces"]) == 1
    page.locator(".strip-photos button").first.focus()
    page.keyboard.press("ArrowRight")
    assert len(result(page)["faces"]) == 8
    page.check(".strip-compare")
    captions = page.locator(".strip-pair figcaption").all_inner_texts()
    assert [len(text.split("\n")) for text in captions] == [8, 1] and "1: female, about" in captions[1]
    with page.expect_download() as download:
        page.click(".strip-csv")
    lines = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
    assert [line["file"] for line in lines] == ["age-20-29-female.jpg"] + 8 * ["group.jpg"]
    # Settings apply to all of them, and one photo needs no strip.
    page.locator(".strip-photos button").first.click()
    page.click("#settings summary")
    page.fill("#threshold", "0.95")
    page.locator("#threshold").dispatch_event("change")
    page.locator(".strip-pair").get_by_text("No face found.").wait_for(timeout=30_000)
    analyze(page, EXAMPLES / "age-40-49-male.jpg")
    assert not page.is_visible("#strip")


def test_one_bad_file_of_several_is_marked(page, tmp_path):
    (tmp_path / "notes.jpg").write_bytes(b"nothing to see")
    page.set_input_files("#file", [str(EXAMPLES / "group.jpg"), str(tmp_path / "notes.jpg")])
    page.locator(".strip-photos").get_by_text("⚠ notes.jpg").wait_for(timeout=30_000)
    assert len(result(page)["faces"]) == 8
    page.locator(".strip-photos button").nth(1).click()
    assert "isn't an image" in page.inner_text("#message") and not page.locator("#people li").count()


def test_text_is_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
    page.click("#copy-text")
    page.get_by_text("Text copied.").wait_for(timeout=5_000)
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(lines) == 8 and re.fullmatch(r"1: (gender uncertain|female|male), about \d+ \(\d+–\d+\)", lines[0])
    page.click("#copy-image")
    page.get_by_text("Image copied.").wait_for(timeout=5_000)
    assert page.evaluate("navigator.clipboard.read().then((items) => items[0].types)") == ["image/png"]


def test_a_result_is_there_before_any_model(browser, site):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    context.route("**/*", lambda route: route.abort() if ".onnx" in route.request.url else route.continue_())
    page.goto(site)
    page.locator("#people li").nth(7).wait_for(timeout=5_000)
    assert "8 faces, numbered by size" in page.inner_text("#summary")
    context.close()


def test_each_file_is_sent_once(browser, files, tmp_path):
    from space.hub import static

    static.write(files, tmp_path / "site")
    asked: list[str] = []
    server = serve(tmp_path / "site", asked)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://localhost:{server.server_port}")
    page.wait_for_selector(READY, timeout=60_000)
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_timeout(2000)
    large = [path for path in asked if path.endswith((".wasm.gz", ".onnx"))]
    assert len(large) == len(set(large)) >= 2, large
    context.close()
    server.shutdown()


@pytest.mark.parametrize("most", [16_384, 0])
def test_devices_that_refuse_memory(browser, site, most):
    """Phones allocate less memory than ONNX Runtime asks for: less is enough, and none is an error to read."""
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    refuse = f"""const All = WebAssembly.Memory;
      WebAssembly.Memory = function (wish) {{
        if (wish.maximum > {most}) throw new RangeError("out of memory");
        return new All(wish);
      }};
      WebAssembly.Memory.prototype = All.prototype;"""

    def worker(route):
        text = route.fetch().text()
        at = text.index("const Memory = ")
        route.fulfill(body=f"{text[:at]}{refuse}\n{text[at:]}", content_type="text/javascript")

    context.route("**/worker.js", worker)
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    if most:
        assert len(analyze(page, EXAMPLES / "age-40-49-male.jpg")["faces"]) == 1
    else:
        assert "too little free memory" in page.inner_text("#message")
    context.close()


def test_on_a_phone_face_and_card_are_in_view_together(browser, site, crowd):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    analyze(page, crowd)
    page.locator("#boxes rect[data-n='60']").tap()
    page.wait_for_timeout(1500)
    assert is_visible(page, "#people [data-n='60']") and is_visible(page, ".stage")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_an_analysis_that_is_aborted_starts_anew(browser, site):
    """WebAssembly's way to say that memory has run out; it doesn't recover."""
    context = browser.new_context(service_workers="block")
    page, loaded = context.new_page(), []
    aborts = """ort.InferenceSession.prototype.run = async () => {
      throw new WebAssembly.RuntimeError("Aborted(). Build with -sASSERTIONS for more info.");
    };"""

    def worker(route):
        text = route.fetch().text()
        at = text.index("const Memory = ")
        route.fulfill(body=text if loaded else f"{text[:at]}{aborts}\n{text[at:]}", content_type="text/javascript")
        loaded.append(1)

    context.route("**/worker.js", worker)
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    page.set_input_files("#file", str(EXAMPLES / "age-40-49-male.jpg"))
    page.get_by_text("too little free memory").first.wait_for(timeout=60_000)
    assert len(analyze(page, EXAMPLES / "age-20-29-male.jpg")["faces"]) == 1 and len(loaded) == 2
    context.close()


def test_links_and_files_on_other_tabs(page):
    page.evaluate(
        """() => { const data = new DataTransfer(); data.setData("text", "https://example.org/a.jpg");
        document.body.dispatchEvent(Object.assign(new Event("paste", {bubbles: true}), {clipboardData: data})); }"""
    )
    assert "Links can't be opened" in page.inner_text("#message")
    page.click("#tab-live")
    page.evaluate(
        """async () => { const data = new DataTransfer(), blob = await (await fetch("examples/group.jpg")).blob();
        data.items.add(new File([blob], "dropped.jpg", {type: "image/jpeg"}));
        const drop = new Event("drop", {bubbles: true, cancelable: true});
        document.body.dispatchEvent(Object.assign(drop, {dataTransfer: data})); }"""
    )
    page.wait_for_selector('.result[data-photo="dropped"]:not([aria-busy])', timeout=20_000)
    assert page.get_attribute("#tab-photo", "aria-selected") == "true"
    page.go_back()
    assert page.get_attribute("#tab-live", "aria-selected") == "true"
    page.go_back()
    assert page.get_attribute("#tab-photo", "aria-selected") == "true"


def test_dragging_parts_of_the_page_opens_nothing(page):
    page.click("#tab-live")
    for text, own in (("https://example.org/a.jpg", True), ("some words", False)):
        drop_text(page, "#live", text, own=own)
        assert page.get_attribute("#tab-live", "aria-selected") == "true"
    drop_text(page, "#live", "https://example.org/a.jpg", own=False)
    assert "Links can't be opened" in page.inner_text("#message")


def test_a_dropped_folder_is_explained_and_leaves_the_result(page, tmp_path):
    analyze(page, EXAMPLES / "group.jpg")
    (tmp_path / "album.jpg").mkdir()
    drop_folder(page, tmp_path / "album.jpg")
    page.locator("#message").get_by_text("Folders can't be opened.").wait_for(timeout=5_000)
    assert page.locator("#result .person").count() == 8


def test_a_saved_image_has_the_name_of_its_photo(page, tmp_path):
    page.set_input_files("#file", [colored(tmp_path / "first.png", "red"), colored(tmp_path / "second.png", "blue")])
    page.locator(".strip-csv:enabled").wait_for(timeout=30_000)
    page.evaluate(
        """() => {
          const encode = HTMLCanvasElement.prototype.toBlob;
          HTMLCanvasElement.prototype.toBlob = function (...how) { setTimeout(() => encode.apply(this, how), 500); };
        }"""
    )
    with page.expect_download() as download:
        page.evaluate(
            """() => {
              document.querySelector("#download-image").click();
              document.querySelectorAll(".strip-photos button")[1].click();
            }"""
        )
    assert download.value.suggested_filename == "first-faces.jpg"
    with Image.open(download.value.path()) as image:
        assert image.getpixel((5, 5))[0] > 200


def colored(path: Path, color: str) -> Path:
    Image.new("RGB", (120, 90), color).save(path)
    return path


def test_the_selected_photo_is_analyzed_first_and_no_other_s_result_is_shown_with_it(page, tmp_path):
    paths = [colored(tmp_path / f"{i:02d}.png", "gray") for i in range(20)]
    paths.append(tmp_path / "man.jpg")
    paths[-1].write_bytes((EXAMPLES / "age-20-29-male.jpg").read_bytes())
    page.evaluate(
        """() => {
          window.order = [];  // in which thumbnails came
          window.wrong = [];  // a result that was shown beside another selected photo
          new MutationObserver((changes) => {
            for (const {target, addedNodes} of changes)
              if (target.matches(".strip-photos button") && [...addedNodes].some((one) => one.tagName === "CANVAS"))
                window.order.push(target.textContent);
            const selected = document.querySelector(".strip-photos [aria-pressed=true] span")?.textContent;
            const {photo} = document.querySelector("#result").dataset;
            if (photo && selected && !selected.includes(photo)) window.wrong.push([selected, photo]);
          }).observe(document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )
    page.set_input_files("#file", [str(path) for path in paths])
    before = page.evaluate(
        """() => {
          const buttons = document.querySelectorAll(".strip-photos button");
          buttons[20].click();
          return [...buttons].filter((one) => one.ariaBusy === "true" || one.querySelector("canvas")).length;
        }"""
    )
    page.locator(".strip-csv:enabled").wait_for(timeout=60_000)
    order = page.evaluate("window.order")
    assert sorted(order) == [path.name for path in paths] and order.index("man.jpg") <= before, order
    assert page.evaluate("window.wrong") == [] and len(result(page)["faces"]) == 1


def test_pasted_photos_are_added_to_the_visitor_s_own(page):
    paste = """async (name) => {
      const blob = await (await fetch(document.querySelector("#examples img").src)).blob(), data = new DataTransfer();
      data.items.add(new File([blob], name, {type: "image/jpeg"}));
      document.body.dispatchEvent(Object.assign(new Event("paste", {bubbles: true}), {clipboardData: data}));
    }"""
    for number, name in enumerate(("one.jpg", "two.jpg", "three.jpg"), 1):
        page.evaluate(paste, name)
        page.wait_for_selector(f'.result[data-photo="{name[:-4]}"]:not([aria-busy])', timeout=30_000)
        assert page.locator(".strip-photos li").count() == number
    page.locator("#examples button").nth(1).click()
    page.locator(".strip").wait_for(state="hidden")
    page.evaluate(paste, "four.jpg")  # in place of the example
    page.wait_for_selector('.result[data-photo="four"]:not([aria-busy])', timeout=30_000)
    assert page.locator(".strip-photos li").count() == 1


def test_more_photos_than_the_page_takes_are_told(page, tmp_path):
    paths = [colored(tmp_path / f"{i}.png", "gray") for i in range(53)]
    page.set_input_files("#file", [str(path) for path in paths])
    page.get_by_text("Only the first 50 of 53 photos are shown.").wait_for()
    assert page.locator(".strip-photos li").count() == 50
    page.set_input_files("#file", [str(path) for path in paths[:2]])
    page.locator(".strip-note").wait_for(state="hidden")


def test_files_that_are_no_images_leave_the_photos_there(page, tmp_path):
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.4")
    page.set_input_files("#file", [str(colored(tmp_path / f"{i}.png", "gray")) for i in range(3)])
    page.click("#tab-live")
    drop = """([name, type]) => {
      const moved = new DataTransfer();
      moved.items.add(new File(["x"], name, {type}));
      document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: moved, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(drop, ["paper.pdf", "application/pdf"])
    page.get_by_text("This file isn't an image").wait_for()
    assert page.get_attribute("#tab-photo", "aria-selected") == "true"
    assert page.locator(".strip-photos li").count() == 3
    page.set_input_files("#file", [str(tmp_path / "0.png"), str(tmp_path / "paper.pdf")])
    page.get_by_text("1 file isn't an image and wasn't opened.").wait_for()
    assert page.locator(".strip-photos li").count() < 2


def test_the_error_of_one_photo_is_not_shown_with_another(page, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    good = colored(tmp_path / "good.png", "gray")
    page.set_input_files("#file", [str(tmp_path / "bad.jpg"), str(good)])
    photos = page.locator(".strip-photos button")
    photos.nth(1).click()
    drop_text(page, "body", "https://example.com/a.jpg", own=False)
    page.get_by_text("Links can't be opened").wait_for()
    photos.nth(0).click()
    wait_until(page, "!/^(Links|$)/.test(document.querySelector('#message').textContent)")
    photos.nth(1).click()
    wait_until(page, "document.querySelector('#message').hidden")


def test_another_language_asks_before_it_loses_the_visitor_s_photos(page, tmp_path):
    page.set_input_files("#file", str(colored(tmp_path / "own.png", "gray")))
    page.wait_for_selector('.result[data-photo="own"]:not([aria-busy])', timeout=30_000)
    for leave in (lambda: page.click(".ask button:text('Cancel')"), lambda: page.keyboard.press("Escape")):
        page.select_option("#language", "de")
        page.locator(".ask").get_by_text("your files and results are removed").wait_for()
        leave()
        page.wait_for_selector(".ask", state="detached")
        assert page.input_value("#language") == "en" and page.get_attribute("#result", "data-photo") == "own"
    page.select_option("#language", "de")
    page.click(".ask button:text('Reload')")
    page.wait_for_selector("html[lang=de]")
    page.select_option("#language", "fr")  # nothing is open: nothing is asked
    page.wait_for_selector("html[lang=fr]")


def test_a_blurred_photo_is_blurred_before_its_faces_are_known(modules):
    """A preview has no faces yet: while faces are blurred, nobody is shown in it."""
    deviation = modules.evaluate(
        """async () => {
          const {resultView} = await import("./result.js"), noise = document.createElement("canvas"), out = [];
          [noise.width, noise.height] = [300, 200];
          const pen = noise.getContext("2d"), data = pen.createImageData(300, 200);
          for (let i = 0; i < data.data.length; i++) data.data[i] = i % 4 === 3 ? 255 : (i * 7919) % 256;
          pen.putImageData(data, 0, 0);
          const place = document.body.appendChild(document.createElement("div"));
          const view = resultView(place, {colors: {}, csv: [], most: 10});
          for (const blurred of [false, true]) {
            view.blur(blurred);
            view.preview(noise);
            const shown = place.querySelector("#picture canvas");
            const values = shown.getContext("2d").getImageData(100, 60, 60, 60).data.filter((_, i) => i % 4 === 0);
            const mean = values.reduce((a, b) => a + b) / values.length;
            out.push(Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length));
          }
          view.blur(false);
          view.preview(noise);
          view.blur(true); // while it waits
          const late = place.querySelector("#picture canvas").getContext("2d").getImageData(100, 60, 60, 60).data;
          const reds = late.filter((_, i) => i % 4 === 0);
          place.remove();
          return [...out, Math.max(...reds) - Math.min(...reds)];
        }"""
    )
    assert deviation[0] > 60 and deviation[1] < 12 and deviation[2] < 60, deviation


def test_a_zoomed_photo_is_moved_with_the_arrow_keys(page):
    page.focus(".stage")
    at = "getComputedStyle(document.querySelector('.fit')).transform"
    before = page.evaluate(at)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(at) == before  # whole, there is nothing to move
    page.keyboard.press("+")
    zoomed, scrolled = page.evaluate(at), page.evaluate("scrollY")
    seen = [zoomed]
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(page.evaluate(at))
    assert len(set(seen)) == 4 and seen[-1] == zoomed and page.evaluate("scrollY") == scrolled


@pytest.mark.parametrize("size", [(1000, 800), (900, 700), (390, 844)])
def test_the_photo_covers_no_card_that_is_brought_into_view(page, tmp_path, crowd, size):
    page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    if size[0] < size[1]:  # a photo that is as high as its limit on a phone
        with Image.open(crowd) as wide:
            tall = Image.new("RGB", (wide.width, 3 * wide.height))
            tall.paste(wide)
        crowd = tmp_path / "tall.png"
        tall.save(crowd)
    analyze(page, crowd)
    covered = page.evaluate(
        """() => {
          const covered = [];
          const bottom = () => document.querySelector(".result-photo").getBoundingClientRect().bottom;
          for (const number of [40, 3, 1]) {
            const card = document.querySelector(`#people [data-n="${number}"]`);
            card.scrollIntoView({block: "nearest"});
            if (card.getBoundingClientRect().top < bottom() - 1) covered.push(number);
          }
          return covered;
        }"""
    )
    page.set_viewport_size({"width": 1280, "height": 900})
    assert covered == []
