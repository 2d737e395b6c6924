"""The Video tab analyzes a file in the browser, as the app does on its server."""

from __future__ import annotations

import csv
import io
import json
import wave

import av
import numpy as np
import pytest

from space.analyzer import FaceAnalyzer
from space.hub import static
from space.photo import read_photo
from space.video.annotator import MAX_CUTS, RATE, annotate_video
from tests.support import EXAMPLES
from tests.support.browser import READY, wait_until
from tests.support.videos import moving, write_video

DONE = "!document.querySelector('.video-result').hidden"


@pytest.fixture
def video_tab(page):
    page.click("#tab-video")
    return page


def result(page) -> dict:
    wait_until(page, DONE, 90)
    return json.loads(page.text_content(".video-json"))


def status(page) -> str:
    return page.inner_text(".video-status")


def frames_of(path) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_the_example_gives_what_the_app_gives(video_tab, tmp_path):
    page = video_tab
    page.click(".video-example")
    here = result(page)
    *_, there = annotate_video(FaceAnalyzer.load("compact"), EXAMPLES / "two-people.mp4", tmp_path / "out.mp4")
    assert here["frames"] == there.frames and abs(here["seconds"] - there.seconds) < 0.1
    assert abs(len(here["people"]) - len(there.people)) <= 1
    assert max(count for _, count in here["faces_over_time"]) == max(count for _, count in there.counts) == 2
    for person in there.people[:2]:
        near = min(
            here["people"], key=lambda other: abs(other["first"] - person.first) + abs(other["age"] - person.age)
        )
        assert abs(near["age"] - person.age) < 3 and near["gender"] == person.gender
    assert "Up to 2 people at once" in status(page)
    rows = page.locator(".video-people tbody tr")
    assert rows.count() == len(here["people"]) and rows.first.locator("canvas").count() == 1
    with page.expect_download() as download:
        page.click(".video-save")
    assert download.value.suggested_filename == "two-people-faces.mp4"
    annotated, original = frames_of(download.value.path()), frames_of(EXAMPLES / "two-people.mp4")
    assert len(annotated) == len(original) and annotated[0].shape == original[0].shape
    assert np.abs(annotated[5].astype(int) - original[5]).max() > 100  # boxes and labels
    with page.expect_download() as download:
        page.click(".video-csv")
    table = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
    assert [float(row["age"]) for row in table] == [person["age"] for person in here["people"]]
    assert page.evaluate("document.querySelector('.video-out').videoWidth") == original[0].shape[1]


def test_frames_are_shown_while_a_video_is_analyzed_and_it_can_be_canceled(video_tab, tmp_path):
    page = video_tab
    write_video(tmp_path / "long.mp4", moving(600), rate=25)
    page.set_input_files(".video-file", str(tmp_path / "long.mp4"))
    wait_until(page, "!document.querySelector('.video-picture').hidden")
    wait_until(page, "document.querySelector('.video-progress').value > 0")
    assert "%" in page.inner_text(".video-share") and "Analyzing" in status(page)
    page.click(".video-cancel")
    assert status(page) == "Canceled." and page.is_hidden(".video-picture") and page.is_hidden(".video-cancel")
    page.click(".video-example")  # the worker is free again
    assert result(page)["frames"] < 600


def test_files_that_are_no_videos(video_tab, tmp_path):
    page = video_tab
    (tmp_path / "text.mp4").write_bytes(b"hello" * 99)
    whole = (EXAMPLES / "two-people.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    for name, message in (("text.mp4", "isn't a readable video"), ("cut.mp4", "video")):
        page.set_input_files(".video-file", str(tmp_path / name))
        wait_until(page, "document.querySelector('.video-status').classList.contains('alarm')")
        assert message in status(page) and page.is_hidden(".video-result") and page.is_hidden(".video-cancel")
    page.problems.clear()


@pytest.mark.parametrize("quarters", [0, 1])
def test_everyone_is_blurred_in_every_frame(video_tab, tmp_path, quarters):
    """Also in the first frame, those of a crowd, and in a video that lies on its side."""
    page, group = video_tab, read_photo(EXAMPLES / "group.jpg")
    frames = [np.ascontiguousarray(np.rot90(np.roll(group, 3 * i, axis=1), quarters)) for i in range(12)]
    write_video(tmp_path / "crowd.mp4", frames, rate=12)
    page.locator("#video details summary").first.click()
    page.check(".video-blur")
    page.set_input_files(".video-file", str(tmp_path / "crowd.mp4"))
    data = result(page)
    assert data["analyzed"] == data["frames"] == 12
    assert [count for _, count in data["faces_over_time"]] == [8] * 12
    assert page.locator(".video-people canvas").count() == 0  # no thumbnails either
    with page.expect_download() as download:
        page.click(".video-save")
    analyzer = FaceAnalyzer.load("compact")
    for blurred, frame in zip(frames_of(download.value.path()), frames_of(tmp_path / "crowd.mp4"), strict=True):
        faces = analyzer.detect(frame, side=640)
        assert len(faces) == 8
        for face in faces:
            x, y, width, height = (int(v) for v in face.box)
            inside = (slice(y + height // 4, y + 3 * height // 4), slice(x + width // 4, x + 3 * width // 4))
            detail = [np.abs(np.diff(image[inside].astype(int), axis=1)).mean() for image in (frame, blurred)]
            assert detail[1] < 0.6 * detail[0]


def test_a_video_on_its_side_has_the_people_that_the_app_finds(video_tab, tmp_path):
    page = video_tab
    frames = [np.ascontiguousarray(np.rot90(frame)) for frame in moving(30)]
    video = write_video(tmp_path / "side.mp4", frames, rate=15)
    page.set_input_files(".video-file", str(video))
    here = sorted(result(page)["people"], key=lambda person: person["age"])
    *_, expected = annotate_video(FaceAnalyzer.load("compact"), video, tmp_path / "out.mp4")
    there = sorted(expected.people, key=lambda person: person.age)
    assert len(here) == len(there) == 2 and {person["gender"] for person in here} == {"female", "male"}
    for one, other in zip(here, there, strict=True):
        assert one["age"] == pytest.approx(other.age, abs=3) and one["gender"] == other.gender


def test_frames_vote_whether_they_lie_on_their_side_and_blurred_ones_are_searched_for_small_faces(modules):
    searched = modules.evaluate(
        """async (kit) => {
          const {People} = await import("./people.js");
          const face = (score) => ({box: [100, 50, 80, 80], score, landmarks: [], rotation: 90});
          const answer = {age: 30, age_low: 25, age_high: 35, p_female: 0.85, sharpness: 0, cut_off: 0};
          let now, searched = [];
          const analyzer = {
            detect: async (image, threshold, options) => (searched.push([options.side, options.quarters]), now),
            estimate: async (image, faces) => faces.map((one) => ({...one, ...answer})),
            estimator: {card: {crop: {size: 8, landmarks: [[2, 2], [6, 2], [4, 4], [2, 6], [6, 6]]}}},
          };
          const people = new People(analyzer, kit, 0.7, true), canvas = new OffscreenCanvas(640, 480);
          canvas.getContext("2d");
          const look = async (count, faces) => {
            for (let i = 0; i < count; i++) {
              now = faces;
              await people.look(canvas, people.counts.length / 8);
            }
            return searched.splice(0);
          };
          const seen = [await look(5, [face(0.95)])]; // three votes, then turned at once
          seen.push(await look(10, [face(0.75)])); // eight unsure ones: it's decided anew
          people.cut(false);
          seen.push(await look(1, [face(0.95)]));
          seen.push(await look(18, [])); // where nobody is, one of eight frames is searched in each orientation
          return seen;
        }""",
        static._kit([], [], {}),
    )
    side = searched[0][0][0]
    assert side == 1024 and all(frame[0] == side for frames in searched for frame in frames)
    quarters = [[frame[1] for frame in frames] for frames in searched]
    assert quarters[0] == [None, None, None, 1, 1] and quarters[1] == [1] * 8 + [None] * 2
    assert quarters[2] == [None] and [i for i, number in enumerate(quarters[3]) if number is None] == [*range(9), 16]


def test_a_video_that_is_cut_off_says_so_and_ends_where_it_can_be_read(video_tab, tmp_path):
    page = video_tab
    write_video(tmp_path / "whole.mp4", moving(150), rate=25)
    index_first = {"movflags": "faststart"}  # as in videos of the web
    with (
        av.open(str(tmp_path / "whole.mp4")) as whole,
        av.open(str(tmp_path / "cut.mp4"), "w", options=index_first) as target,
    ):
        stream = target.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = (tmp_path / "cut.mp4").read_bytes()
    for share, damaged in ((1.0, False), (0.6, True)):
        (tmp_path / "cut.mp4").write_bytes(content[: int(share * len(content))])
        page.set_input_files(".video-file", str(tmp_path / "cut.mp4"))
        wait_until(page, "document.querySelector('.video-result').hidden")
        data = result(page)
        assert ("The video is damaged: parts of it could not be read." in status(page)) == damaged
        assert data["seconds"] == pytest.approx(data["frames"] / 25, abs=0.1) and (data["seconds"] < 5) == damaged
        assert all(person["on_screen"] <= data["seconds"] + 0.01 for person in data["people"])


def test_the_annotated_video_stops_when_it_is_replaced(video_tab):
    page = video_tab
    page.click(".video-example")
    result(page)
    page.evaluate(
        "Object.assign(document.querySelector('.video-out'), {muted: true, loop: true}).play().then(() => true)"
    )
    assert not page.evaluate("document.querySelector('.video-out').paused")
    page.click(".video-example")
    wait_until(page, "document.querySelector('.video-result').hidden")
    assert page.evaluate("document.querySelector('.video-out').paused")
    result(page)


def test_settings_do_not_throw_a_result_away(video_tab):
    page = video_tab
    page.click(".video-example")
    before = result(page)
    page.locator("#video details summary").first.click()
    page.focus(".video-threshold")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.is_visible(".video-result") and page.is_visible(".video-again")
    page.click(".video-again")
    wait_until(page, "document.querySelector('.video-result').hidden")
    assert page.is_hidden(".video-again")
    assert result(page)["frames"] == before["frames"]


def test_the_annotated_video_pauses_when_another_tab_is_opened(video_tab):
    page = video_tab
    page.click(".video-example")
    result(page)
    page.evaluate(
        "Object.assign(document.querySelector('.video-out'), {muted: true, loop: true}).play().then(() => true)"
    )
    page.click("#tab-photo")
    assert page.evaluate("document.querySelector('.video-out').paused")


def test_large_videos_are_reduced_as_in_the_app(video_tab, tmp_path):
    page = video_tab
    write_video(tmp_path / "large.mp4", moving(4, size=(1922, 1082)), rate=8)
    page.set_input_files(".video-file", str(tmp_path / "large.mp4"))
    assert result(page)["frames"] == 4
    with page.expect_download() as download:
        page.click(".video-save")
    *_, written = annotate_video(FaceAnalyzer.load("compact"), tmp_path / "large.mp4", tmp_path / "app.mp4")
    assert written.frames == 4
    assert frames_of(download.value.path())[0].shape == frames_of(tmp_path / "app.mp4")[0].shape == (720, 1280, 3)


def test_a_passer_by_makes_no_second_person(video_tab, tmp_path):
    """Who is in one analyzed frame is counted there, but isn't listed."""
    page = video_tab
    frames = [frame.copy() for frame in moving(16)]
    right = frames[0].shape[1] // 2
    for i, frame in enumerate(frames):
        if i != 8:
            frame[:, right:] = 90
    write_video(tmp_path / "passer.mp4", frames, rate=8)
    page.set_input_files(".video-file", str(tmp_path / "passer.mp4"))
    data = result(page)
    assert len(data["people"]) == 1 and max(count for _, count in data["faces_over_time"]) == 2
    assert status(page).startswith("1 person in 2.0 seconds;")


def test_times_are_those_of_the_player(video_tab, tmp_path):
    """A video whose first frame comes after two seconds."""
    page = video_tab
    write_video(tmp_path / "late.mp4", moving(20), times=[2 + i / 20 for i in range(20)])
    page.set_input_files(".video-file", str(tmp_path / "late.mp4"))
    data = result(page)
    with page.expect_download() as download:
        page.click(".video-save")
    with av.open(str(download.value.path())) as video:
        first = next(video.decode(video=0)).time
    assert data["people"][0]["first"] == pytest.approx(first, abs=0.06)
    assert data["seconds"] == pytest.approx(1.0, abs=0.06)


def test_in_a_flickering_video_most_frames_are_not_taken_as_cuts(video_tab, tmp_path):
    """Every second frame is inverted, so each looks like another scene, which would have to be analyzed."""
    page = video_tab
    frames = [255 - frame if i % 2 else frame for i, frame in enumerate(moving(240))]
    write_video(tmp_path / "flicker.mp4", frames, rate=60)
    page.set_input_files(".video-file", str(tmp_path / "flicker.mp4"))
    data = result(page)
    assert data["frames"] == 240 and data["analyzed"] <= MAX_CUTS + 2 * RATE * data["seconds"] + 2


def test_the_annotated_video_has_no_metadata_of_the_original(video_tab, tmp_path):
    page = video_tab
    write_video(tmp_path / "titled.mp4", moving(5), title="Anna at 48.137N")
    assert b"Anna at 48.137N" in (tmp_path / "titled.mp4").read_bytes()
    page.set_input_files(".video-file", str(tmp_path / "titled.mp4"))
    result(page)
    with page.expect_download() as download:
        page.click(".video-save")
    content = download.value.path().read_bytes()
    assert b"Anna" not in content and b"48.137" not in content


def test_canceled_while_the_model_is_loaded(browser, site):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    held, released = [], []
    context.route("**/model.onnx", lambda route: route.continue_() if released else held.append(route))
    page.goto(f"{site}/?tab=video")
    page.click(".video-example")
    wait_until(page, "!document.querySelector('.video-cancel').hidden")
    page.click(".video-cancel")
    assert status(page) == "Canceled."
    wait_until(page, "document.querySelector('.video-status').textContent === 'Canceled.'")
    released.append(True)
    for route in held:
        route.continue_()
    page.wait_for_selector(READY, timeout=60_000)
    page.wait_for_timeout(2000)
    assert status(page) == "Canceled." and page.is_hidden(".video-result") and page.is_hidden(".video-picture")
    page.click(".video-example")
    assert len(result(page)["people"]) >= 2
    context.close()


@pytest.mark.parametrize("kind", ["video/mp4", ""])
def test_a_video_dropped_on_another_tab_opens_here(page, kind):
    """Also one whose type the browser doesn't know; the photo stays."""
    shown = page.get_attribute("#result", "data-photo")
    page.evaluate(
        """async (type) => {
          const content = await (await fetch("video/two-people.mp4")).blob(), files = new DataTransfer();
          files.items.add(new File([content], "two.mp4", {type}));
          document.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
        }""",
        kind,
    )
    assert page.get_attribute("#tab-video", "aria-selected") == "true"
    assert len(result(page)["people"]) >= 2
    assert page.get_attribute("#result", "data-photo") == shown and page.is_hidden("#message")


@pytest.fixture
def without_webcodecs(video_tab):
    video_tab.evaluate("delete window.VideoDecoder")
    return video_tab


def test_browsers_without_webcodecs_get_the_people_without_an_annotated_video(without_webcodecs, tmp_path):
    page = without_webcodecs
    page.click(".video-example")
    wait_until(page, "!document.querySelector('.video-picture').hidden")
    data = result(page)
    assert "WebCodecs" in status(page) and page.is_hidden(".video-out") and page.is_hidden(".video-save")
    *_, there = annotate_video(FaceAnalyzer.load("compact"), EXAMPLES / "two-people.mp4", tmp_path / "out.mp4")
    assert abs(len(data["people"]) - len(there.people)) <= 1 and abs(data["seconds"] - there.seconds) < 0.2
    for mine, theirs in zip(data["people"][:2], there.people[:2], strict=True):
        assert mine["gender"] == theirs.gender and abs(mine["age"] - theirs.age) < 3
        assert abs(mine["on_screen"] - theirs.on_screen) < 0.5
    with page.expect_download() as download:
        page.click(".video-csv")
    assert len(download.value.path().read_text().splitlines()) == 1 + len(data["people"])


def test_recordings_of_a_browser_are_read_without_webcodecs(without_webcodecs):
    """They don't say how long they are."""
    page = without_webcodecs
    page.evaluate(
        """async () => {
          const canvas = document.createElement("canvas"), pen = canvas.getContext("2d"), parts = [];
          [canvas.width, canvas.height] = [320, 240];
          const recorder = new MediaRecorder(canvas.captureStream(10), {mimeType: "video/webm"});
          recorder.ondataavailable = ({data}) => parts.push(data);
          const stopped = new Promise((done) => { recorder.onstop = done; });
          recorder.start();
          for (let i = 0; i < 10; i++) {
            pen.fillStyle = `rgb(${20 * i}, 90, 90)`;
            pen.fillRect(0, 0, 320, 240);
            await new Promise((done) => setTimeout(done, 100));
          }
          recorder.stop();
          await stopped;
          const files = new DataTransfer(), input = document.querySelector(".video-file");
          files.items.add(new File(parts, "own.webm", {type: "video/webm"}));
          input.files = files.files;
          input.dispatchEvent(new Event("change"));
        }"""
    )
    data = result(page)
    assert 0.5 < data["seconds"] < 3 and data["frames"] > 3 and data["people"] == []


@pytest.mark.parametrize("webcodecs", [True, False])
def test_videos_of_more_than_ten_minutes_and_sound_alone_are_refused(video_tab, tmp_path, webcodecs):
    page = video_tab
    if not webcodecs:
        page.evaluate("delete window.VideoDecoder")
    write_video(tmp_path / "long.mp4", [np.zeros((64, 64, 3), np.uint8)] * 640, rate=1)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16_000))
    for name, message in (("long.mp4", "limit is 10 minutes"), ("sound.wav", "no readable video track")):
        page.set_input_files(".video-file", str(tmp_path / name))
        wait_until(page, f"document.querySelector('.video-status').textContent.includes({message!r})")
        assert page.is_hidden(".video-cancel")


def test_videos_without_webcodecs_fail_and_are_canceled_as_others(without_webcodecs, tmp_path):
    page = without_webcodecs
    (tmp_path / "text.mp4").write_bytes(b"hello" * 99)
    page.set_input_files(".video-file", str(tmp_path / "text.mp4"))
    wait_until(page, "document.querySelector('.video-status').classList.contains('alarm')")
    assert "isn't a readable video" in status(page) and page.is_hidden(".video-cancel")
    write_video(tmp_path / "long.mp4", moving(600), rate=25)
    page.set_input_files(".video-file", str(tmp_path / "long.mp4"))
    wait_until(page, "document.querySelector('.video-progress').value > 0")
    page.click(".video-cancel")
    assert status(page) == "Canceled."
    page.evaluate("() => { window.VideoDecoder = class {}; }")
    page.click(".video-example")
    assert result(page)["frames"] < 600 and page.is_visible(".video-out")
    page.problems.clear()


def test_frames_of_an_earlier_run_are_not_shown(modules):
    """The earlier run may not have blurred faces."""
    shown = modules.evaluate(
        """async () => {
          const {videoTab} = await import("./video.js"), runs = [], shown = [];
          const page = new DOMParser().parseFromString(await (await fetch("index.html")).text(), "text/html");
          const element = document.body.appendChild(document.adoptNode(page.querySelector("#video")));
          const call = (name, [file, run]) => { runs.push(run); return new Promise(() => {}); };
          const tab = videoTab(element, {call, model: "compact", about: {}, rate: 8});
          const show = async (run) => {
            tab.show({run, share: 0.5, picture: await createImageBitmap(new ImageData(4, 4))});
            shown.push(!element.querySelector(".video-picture").hidden);
          };
          for (const name of ["a.mp4", "b.mp4"]) {
            tab.take(new File(["x"], name));
            await show(runs[0]);
          }
          await show(runs[1]);
          return shown;
        }"""
    )
    assert shown == [True, False, True]


def test_a_face_that_is_detected_once_is_nobody_as_in_the_app(modules):
    """It is shown for a moment longer, in several analyzed frames. Times are those of detections."""
    people = modules.evaluate(
        """async (kit) => {
          const {People} = await import("./people.js");
          const face = (x) => ({box: [x, 50, 80, 80], score: 0.9, landmarks: [], rotation: 0});
          const answer = {age: 30, age_low: 25, age_high: 35, p_female: 0.85, sharpness: 0, cut_off: 0};
          let now = [];
          const analyzer = {
            detect: async () => now,
            estimate: async (image, faces) => faces.map((one) => ({...one, ...answer})),
            estimator: {card: {crop: {size: 8, landmarks: [[2, 2], [6, 2], [4, 4], [2, 6], [6, 6]]}}},
          };
          const people = new People(analyzer, kit, 0.7), canvas = new OffscreenCanvas(640, 480);
          canvas.getContext("2d");
          for (let frame = 0; frame < 40; frame++) {
            now = [...(frame === 20 ? [face(400)] : []), ...(frame < 32 ? [face(100)] : [])];
            await people.look(canvas, frame / 8);
          }
          return people.table(5);
        }""",
        static._kit([], [], {}),
    )
    (person,) = people
    assert (person["id"], person["first"], person["last"]) == (1, 0, 3.88)  # the last of 32 detections
    # One blurred frame doesn't make the whole uncertain.
    assert (person["gender_label"], person["gender_probability"]) == ("female", 0.85)


def test_an_example_that_is_not_there_leaves_the_running_analysis_alone(browser, site, tmp_path):
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.goto(f"{site}/?tab=video")
    page.wait_for_selector(READY, timeout=60_000)
    page.route("**/two-people.mp4", lambda route: route.abort())
    write_video(tmp_path / "long.mp4", moving(300), rate=25)
    page.set_input_files(".video-file", str(tmp_path / "long.mp4"))
    wait_until(page, "document.querySelector('.video-progress').value > 0")
    page.click(".video-example")
    wait_until(page, "document.querySelector('.video-status').textContent.includes('example')")
    assert page.is_visible(".video-cancel") and "alarm" in page.get_attribute(".video-status", "class")
    assert result(page)["frames"] == 300
    context.close()


def test_several_videos_at_once_and_photos_beside_them(page, tmp_path):
    write_video(tmp_path / "one.mp4", moving(10))
    write_video(tmp_path / "two.mp4", moving(20))
    page.evaluate(
        """async (contents) => {
          const dataTransfer = new DataTransfer();
          for (const [name, type, bytes] of contents)
            dataTransfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
          document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
        }""",
        [
            ["one.mp4", "video/mp4", list((tmp_path / "one.mp4").read_bytes())],
            ["group.jpg", "image/jpeg", list((EXAMPLES / "group.jpg").read_bytes())],
            ["two.mp4", "video/mp4", list((tmp_path / "two.mp4").read_bytes())],
        ],
    )
    assert result(page)["frames"] == 10
    assert status(page).startswith("Only the first of 2 videos is analyzed. ")
    page.click("#tab-photo")
    page.wait_for_selector('.result[data-photo="group"]:not([aria-busy])', timeout=60_000)


def test_another_language_asks_before_it_loses_the_visitor_s_video(video_tab, tmp_path):
    page = video_tab
    write_video(tmp_path / "own.mp4", moving(10))
    page.set_input_files(".video-file", str(tmp_path / "own.mp4"))
    result(page)
    page.select_option("#language", "de")
    page.locator(".ask").get_by_text("your files and results are removed").wait_for()
    page.click(".ask button:text('Cancel')")
    assert page.is_visible(".video-result")
