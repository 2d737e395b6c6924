"""The Folder tab."""

from __future__ import annotations

import shutil
import zipfile

from PIL import Image

from tests.support import EXAMPLES
from tests.support.app_page import downloaded, exchange, open_settings, open_tab


def test_a_visitor_sends_a_folder_as_a_zip(page, tmp_path):
    names = ["Grüße.jpg", "👋 emoji.jpg", "مرحبا.jpg", "<b>bold.jpg"]
    with zipfile.ZipFile(tmp_path / "Fotos Größe.zip", "w") as archive:
        for name in names:
            archive.write(EXAMPLES / "age-20-29-male.jpg", name)
        archive.writestr("broken.jpg", b"not an image")
    page.get_by_role("tab", name="Folder").click()
    assert page.locator("#batch-table").count() == 0
    page.set_input_files("#files input[type=file]", str(tmp_path / "Fotos Größe.zip"))
    page.wait_for_timeout(1000)
    open_settings(page)
    page.locator("#annotate input").check()
    page.locator("#batch-start").click()
    page.locator("#batch-status").get_by_text("4 faces in 5 images,").wait_for(timeout=60_000)
    page.locator("#batch-table tbody tr").nth(4).wait_for(timeout=20_000)  # Gradio shows the status a moment before
    assert page.locator("#batch-table tbody tr").count() == 5 and page.locator("#batch-table img").count() == 4
    text = page.locator("#batch-table").inner_text()
    assert all(name in text for name in names) and "readable image" in text
    assert page.locator("#batch-report .bars").count() == 2
    lines = downloaded(page, "CSV").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6 and any("مرحبا" in line for line in lines)
    with zipfile.ZipFile(downloaded(page, "Annotated")) as archive:
        assert len(archive.namelist()) == 4 and all(name.endswith(".faces.jpg") for name in archive.namelist())
        with Image.open(archive.open(archive.namelist()[0])) as image:
            assert image.size == (400, 400)
    page.screenshot(path=str(tmp_path / "folder.png"), full_page=True)
    # A folder with other files in it.
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(EXAMPLES / "group.jpg", folder / "deeper" / "group.jpg")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    page.locator("input[webkitdirectory]").first.set_input_files(str(folder))
    page.wait_for_timeout(1500)
    page.locator("#batch-start").click()
    page.locator("#batch-status").get_by_text("8 faces in 1 image,").wait_for(timeout=60_000)
    page.get_by_text("2 files skipped").wait_for(timeout=20_000)
    # A zip that is none clears what was there.
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    exchange(page, "#files", str(tmp_path / "bad.zip"))
    page.locator("#batch-start").click()
    page.locator("#batch-status[role=alert].error").get_by_text("not a readable zip").wait_for(timeout=30_000)
    assert page.locator("#batch-table").count() == 0
    assert not page.problems and not page.foreign


def test_an_error_goes_once_files_are_chosen(page, tmp_path):
    open_tab(page, "folder")
    page.click("#batch-start")
    page.locator("#batch-status.error").get_by_text("Choose images or a zip first.").wait_for(timeout=10_000)
    page.set_input_files("#files input[type=file]", str(EXAMPLES / "group.jpg"))
    page.locator("#batch-status.error").wait_for(state="detached", timeout=10_000)
    page.click("#batch-start")
    page.locator("#batch-status").get_by_text("8 faces").wait_for(timeout=30_000)
    page.wait_for_timeout(500)
    assert "8 faces" in page.inner_text("#batch-status")  # the result stays
