"""The Live tab and its tracker return the same results as in Python."""

from __future__ import annotations

import json

import numpy as np
import pytest

from space.hub import static
from tests.support import EXAMPLES, tracker_cases
from tests.support.browser import analyze, result, wait_until

pytestmark = pytest.mark.alone


def test_the_tracker_matches_python_on_recorded_streams(modules):
    recorded = json.loads(tracker_cases.FILE.read_text())
    shown = modules.evaluate(
        """async ([cases, limits]) => {
          const {Tracker} = await import("./tracker.js");
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


def test_assignment_costs_match_scipy(modules):
    from scipy.optimize import linear_sum_assignment

    generator = np.random.default_rng(0)
    tables = [generator.integers(0, 50, shape).tolist() for shape in [(1, 1), (3, 5), (5, 3), (8, 8), (12, 9)] * 10]
    chosen = modules.evaluate(
        "async (tables) => { const {leastCost} = await import('./tracker.js'); return tables.map(leastCost); }", tables
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
    page.click(".live-snapshot")  # is analyzed as a photo
    page.wait_for_selector('.result[data-photo="snapshot"]:not([aria-busy])', timeout=20_000)
    assert len(result(page)["faces"]) == 2 and page.get_attribute("#tab-photo", "aria-selected") == "true"
    wait_until(page, "document.querySelector('.live-video').srcObject === null")  # the camera is off meanwhile
    page.go_back()
    assert page.get_attribute("#tab-live", "aria-selected") == "true"
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")  # it's on again
    page.check(".live-blur")  # faces that are hidden stay so
    with page.expect_download() as download:
        page.click(".live-snapshot")
    assert download.value.suggested_filename == "live-faces.jpg"
    page.get_by_text("Saved as live-faces.jpg.").wait_for()
    page.wait_for_timeout(1500)
    assert page.inner_text(".live-status") == "Saved as live-faces.jpg."  # long enough to be read
    stop = page.locator(".live-stop").bounding_box()
    page.evaluate("document.querySelector('.live-people').innerHTML = '<li>1</li>'.repeat(40)")
    assert page.locator(".live-stop").bounding_box() == stop  # nothing moves with the number of people
    page.click(".live-stop")
    page.get_by_text("Stopped.").wait_for()


def test_a_blurred_stream_shows_nothing_that_was_not_analyzed(page):
    """While blurring is on, the overlay covers the whole video, because the video is ahead of the analyzed frame."""
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
    wait_until(page, "document.querySelector('.live-video').srcObject !== null")
    assert page.evaluate(covered)
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    assert page.evaluate(covered)
    page.uncheck(".live-blur")
    # Above 300 ms of latency, the analyzed frame stays in place of the video.
    late = "Number(document.querySelector('.live-rate').textContent.match(/([0-9]+) ms/)[1]) > 290"
    wait_until(page, f"!{covered} || {late}")
    page.click(".live-stop")


def test_blurred_also_covers_faces_without_a_label(page):
    """A face gets its label some frames after it was detected, in a crowd later."""
    detail = page.evaluate(
        """async () => {
          const {default: liveView} = await import(new URL("live-view.js", location.href).href), details = [];
          const content = document.querySelector("#live-tab").innerHTML;
          document.querySelector("#tab-live").click();
          for (const detected of [[], [[0, 0, 640, 480]]]) {
            const element = document.createElement("div");
            element.innerHTML = content;
            document.querySelector("#live").replaceChildren(element);
            let answered;
            const done = new Promise((resolve) => { answered = resolve; });
            liveView(element, (told) => {
              setTimeout(told.open);
              return {
                busy: false,
                async send(frame, {width, height}) {
                  setTimeout(() => {
                    told.answer({frame, width, height, faces: [], detected});
                    if (frame > 20) answered();
                  });
                  return true;
                },
                tune() {}, close() {},
              };
            });
            element.querySelector(".live-blur").checked = true;
            element.querySelector(".live-start").click();
            await done;
            const {width, height} = element.querySelector(".live-overlay");
            const {data} = element.querySelector(".live-overlay").getContext("2d").getImageData(0, 0, width, height);
            let sum = 0;
            for (let i = 4; i < data.length; i += 4) sum += Math.abs(data[i] - data[i - 4]);
            details.push((4 * sum) / data.length);
            element.querySelector(".live-stop").click();
          }
          return details;
        }"""
    )
    assert detail[0] > 0.5 and detail[1] < 0.5 * detail[0], detail


def test_a_camera_that_sends_nothing_is_reported(page):
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.evaluate(
        """() => { const [track] = document.querySelector(".live-video").srcObject.getTracks();
        Object.defineProperty(track, "muted", {value: true, configurable: true});
        track.dispatchEvent(new Event("mute")); }"""
    )
    page.get_by_text("The camera sends no images").wait_for(timeout=5_000)
    page.wait_for_timeout(600)
    assert not page.locator(".live-people li").count() and not page.inner_text(".live-rate")
    page.evaluate(
        """() => { const [track] = document.querySelector(".live-video").srcObject.getTracks();
        delete track.muted; track.dispatchEvent(new Event("unmute")); }"""
    )
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.click(".live-stop")


def test_a_pending_request_for_the_camera_can_be_canceled(page):
    page.evaluate(
        """() => { const {mediaDevices} = navigator, real = mediaDevices.getUserMedia.bind(mediaDevices);
        const allowed = new Promise((done) => { window.allow = done; });
        mediaDevices.getUserMedia = (wish) => allowed.then(() => real(wish)); }"""
    )
    page.click("#tab-live")
    page.click(".live-start")
    page.get_by_text("Waiting for the camera").wait_for()
    page.click(".live-stop")
    page.get_by_text("Stopped.").wait_for()
    page.evaluate("window.allow()")
    page.wait_for_timeout(1000)
    assert page.evaluate("document.querySelector('.live-video').srcObject") is None
    assert page.get_by_text("Stopped.").is_visible()


def test_after_the_chosen_camera_is_gone_another_one_opens(page):
    page.evaluate(
        """() => {
          const {mediaDevices} = navigator, real = mediaDevices.getUserMedia.bind(mediaDevices);
          window.asked = [];
          mediaDevices.getUserMedia = async (wish) => {
            window.asked.push(wish.video.deviceId?.exact ?? null);
            if (wish.video.deviceId) throw new DOMException("gone", "OverconstrainedError");
            return real(wish);
          };
          const menu = document.querySelector(".live-camera");
          menu.replaceChildren(new Option("Front", "front"), new Option("Gone", "gone", true, true));
          menu.hidden = false;
        }"""
    )
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    assert page.evaluate("window.asked") == ["gone", None]
    assert page.is_hidden(".live-camera")  # there is one camera left
    page.click(".live-stop")


@pytest.mark.parametrize(("facing", "mirrored"), [("environment", False), ("user", True), (None, True)])
def test_a_rear_camera_is_not_mirrored(page, facing, mirrored):
    page.click("#tab-live")
    page.evaluate(
        """(facingMode) => {
          const settings = MediaStreamTrack.prototype.getSettings;
          MediaStreamTrack.prototype.getSettings = function () { return {...settings.call(this), facingMode}; };
        }""",
        facing,
    )
    page.click(".live-start")
    page.locator(".live-stop").wait_for()
    wait_until(page, "document.querySelector('.live-video').srcObject !== null")
    assert page.is_checked(".live-mirror") == mirrored
    assert page.evaluate("document.querySelector('.live-video').classList.contains('live-mirrored')") == mirrored
    page.click(".live-stop")
    page.set_checked(".live-mirror", not mirrored)  # the visitor's choice stays
    page.click(".live-start")
    wait_until(page, "document.querySelector('.live-video').srcObject !== null")
    assert page.is_checked(".live-mirror") != mirrored
    page.click(".live-stop")


def test_another_camera_in_full_screen_and_a_lost_one(page):
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.click(".live-full")
    page.wait_for_function("document.fullscreenElement")
    page.evaluate("document.querySelector('.live-camera').dispatchEvent(new Event('change'))")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    assert page.evaluate("document.fullscreenElement !== null")
    page.evaluate(
        "document.querySelector('.live-video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
    )
    page.get_by_text("The camera was disconnected.").wait_for()
    page.wait_for_function("document.fullscreenElement === null")


def test_a_snapshot_leaves_full_screen(page):
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.click(".live-full")
    page.wait_for_function("document.fullscreenElement")
    page.click(".live-snapshot")
    page.locator("#tab-photo[aria-selected=true]").wait_for()
    assert page.evaluate("document.fullscreenElement") is None


def test_a_snapshot_is_added_to_the_visitor_s_photos(page):
    analyze(page, EXAMPLES / "age-20-29-male.jpg")
    for count in (2, 3):
        page.evaluate(
            """async () => {
              const blob = await (await fetch("examples/group.jpg")).blob();
              const detail = new File([blob], "snapshot.jpg", {type: "image/jpeg"});
              document.dispatchEvent(new CustomEvent("snapshot", {detail}));
            }"""
        )
        page.locator(".strip-photos button[aria-busy=false] canvas").nth(count - 1).wait_for(timeout=30_000)
    names = page.locator(".strip-photos button").all_inner_texts()
    assert names == ["age-20-29-male.jpg", "snapshot.jpg", "snapshot.jpg"]


def test_every_box_has_an_age_and_the_list_is_below_the_video_on_a_phone(browser, site):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.grant_permissions(["camera"])
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector("body[data-shown]")
    page.click("#tab-live")
    page.click(".live-start")
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2", 60)
    video, people = (page.locator(where).bounding_box() for where in (".live-stage", ".live-people"))
    assert people["y"] >= video["y"] + video["height"] and page.locator(".live-people li").first.is_visible()
    context.close()


def test_the_focus_stays_on_the_buttons(page):
    page.click("#tab-live")
    page.focus(".live-start")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className").split()[-1] == "live-stop"
    wait_until(page, "document.querySelectorAll('.live-people li').length === 2")
    page.evaluate(
        """() => {
          window.changes = 0;
          new MutationObserver((all) => { window.changes += all.length; })
            .observe(document.querySelector(".live-status"), {childList: true, characterData: true, subtree: true});
        }"""
    )
    page.wait_for_timeout(2000)
    assert page.evaluate("window.changes") <= 1  # an unchanged status isn't read aloud again
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className").split()[-1] == "live-start"
