"""The Video tab."""

from __future__ import annotations

import csv
import os
import re
import time

from tests.support import EXAMPLES
from tests.support.app_page import downloaded, exchange, open_settings
from tests.support.videos import moving, write_video


def test_a_visitor_analyzes_a_video(page, video, tmp_path):
    page.get_by_role("tab", name="Video").click()
    assert page.locator("#persons").count() == 0 and page.locator("#video-out:visible").count() == 0
    page.set_input_files("#video input[type=file]", str(video))
    # It starts by itself.
    page.locator("#video-status").get_by_text(re.compile(r"2 people in 1\.5 seconds")).wait_for(timeout=90_000)
    played = "document.querySelector('#video-out video')"
    page.wait_for_function(f"{played}?.readyState >= 2", timeout=20_000)
    page.evaluate(f"{played}.muted = true; {played}.play()")
    page.wait_for_function(f"{played}.currentTime > 0.5", timeout=20_000)
    assert page.evaluate(f"[{played}.videoWidth, {played}.videoHeight]") == [640, 480]
    assert page.locator("#persons tbody tr").count() == 2 and page.locator("#persons tbody img").count() == 2
    assert page.locator("#video-report .steps text").all_text_contents()[:3] == ["0", "1", "2"]
    with open(downloaded(page, "CSV"), newline="", encoding="utf-8-sig") as file:
        assert {line["gender"] for line in csv.DictReader(file)} == {"female", "male"}
    page.screenshot(path=str(tmp_path / "video.png"), full_page=True)
    assert not page.problems and not page.foreign


def test_the_example_video(page):
    page.get_by_role("tab", name="Video").click()
    page.locator("#component-0, body").first.wait_for()
    page.get_by_role("tabpanel").locator("visible=true").locator(".gallery-item, .gallery button").first.click()
    page.locator("#persons tbody tr").nth(1).wait_for(timeout=90_000)  # it starts by itself


def test_a_visitor_cancels_a_video(app, page, tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(2400, size=(320, 240), side=100))  # ten seconds of work and more
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(long))
    page.wait_for_function("document.querySelector('#video video')?.readyState > 0", timeout=30_000)
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    page.locator("#video-progress progress").wait_for(timeout=10_000)
    page.wait_for_function("document.querySelector('#video-report .preview')?.naturalWidth === 320", timeout=20_000)
    page.locator("#video-cancel").click()
    page.get_by_text("Canceled.").wait_for(timeout=20_000)
    page.locator("#video-report .preview").wait_for(state="detached")
    folder = next(p for p in os.scandir(app.temporary) if p.name.startswith("age-gender-"))
    end = time.monotonic() + 5
    while (left := [name for name in os.listdir(folder) if name.startswith("video-")]) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert not left and "Canceled." in page.locator("#video-status").inner_text()
    # The next video does not wait for the one that was given up.
    short = write_video(tmp_path / "short.mp4", moving(10))
    exchange(page, "#video", str(short))
    page.locator("#video-status").get_by_text(re.compile(r"2 people")).wait_for(timeout=30_000)
    # And of one that can't be read nothing is left from the one before.
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    exchange(page, "#video", str(tmp_path / "bad.mp4"))
    page.locator("#video-status[role=alert].error").get_by_text("isn't a readable video").wait_for(timeout=30_000)
    assert page.locator("#persons").count() == 0 and page.locator("#video-out:visible").count() == 0
    page.locator("#video-cancel").wait_for(state="hidden")


def test_a_run_that_waits_says_so_and_can_be_started_once(page, tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(2400, size=(320, 240), side=100))
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(long))
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    assert page.locator("#video-start").is_disabled()
    page.get_by_role("tab", name="Folder").click()
    page.set_input_files("#files input[type=file]", str(EXAMPLES / "age-20-29-female.jpg"))
    page.locator("#files").get_by_text("age-20-29").wait_for()
    page.evaluate(
        """() => {
          const status = document.querySelector("#batch-status"), changes = {childList: true, subtree: true};
          window.said = [];
          new MutationObserver(() => window.said.push(status.textContent.trim())).observe(status, changes);
        }"""
    )
    page.locator("#batch-start").click()
    page.wait_for_function("window.said.some((text) => text.includes('Waiting to start…'))", timeout=10_000)
    page.get_by_role("tab", name="Video").click()
    page.locator("#video-cancel").click()
    page.locator("#video-status").get_by_text("Canceled.").wait_for(timeout=20_000)
    assert page.locator("#video-start").is_enabled()
    page.get_by_role("tab", name="Folder").click()
    page.locator("#batch-status").get_by_text("1 face").wait_for(timeout=30_000)


def test_changed_settings_of_a_video_are_not_those_of_its_result(page, video):
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(video))
    page.locator("#video-status").get_by_text("2 people").wait_for(timeout=90_000)
    open_settings(page)
    page.get_by_label("Blur faces in the result").locator("visible=true").check()
    page.locator("#video-status").get_by_text("Settings have changed: press Analyze again.").wait_for()
    page.locator("#video-start").click()
    page.locator("#video-status").get_by_text("2 people").wait_for(timeout=90_000)


def test_a_setting_changed_during_a_run_is_reported(page):
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", EXAMPLES / "two-people.mp4")
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    open_settings(page)
    page.get_by_label("Blur faces in the result").locator("visible=true").check()
    page.wait_for_timeout(500)
    assert "changed" not in page.locator("#video-status").inner_text()
    page.locator("#video-report .tiles").wait_for(timeout=90_000)
    page.locator("#video-status").get_by_text("Settings have changed: press Analyze again.").wait_for()


def test_a_new_video_replaces_a_running_one(page, video, tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(2400, size=(320, 240), side=100))
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video input[type=file]", str(long))
    page.locator("#video-status").get_by_text(re.compile(r"^\d+%")).wait_for(timeout=30_000)
    started = time.monotonic()
    exchange(page, "#video", str(video))
    page.locator("#video-status").get_by_text("2 people in 1.5 seconds").wait_for(timeout=60_000)
    page.locator("#video-cancel").wait_for(state="hidden")
    print(f"{time.monotonic() - started:.1f} s")
    page.wait_for_timeout(2000)
    assert "2 people in 1.5 seconds" in page.locator("#video-status").inner_text() and not page.problems
