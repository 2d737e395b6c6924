"""Helpers that act as a visitor on the app's page."""

from __future__ import annotations

from pathlib import Path

TABS = ("Photo", "Live", "Video", "Folder", "API", "About")


def visit(page, url) -> None:
    page.goto(url)
    # page.js lets the input take several files once its modules are loaded.
    page.wait_for_selector("#photo input[type=file][multiple]", state="attached", timeout=60_000)
    page.wait_for_timeout(500)  # Gradio connects its events


def upload(page, path) -> None:
    page.set_input_files("#photo input[type=file]", str(path))


def exchange(page, where, path) -> None:
    """Put another file in the place of the one that is there."""
    page.locator(f"{where} button[aria-label='Clear']").click()
    page.set_input_files(f"{where} input[type=file]", path)
    page.wait_for_timeout(1000)


def downloaded(page, label: str) -> Path:
    """The file behind a visible download button, under the name that it is saved with."""
    with page.expect_download() as download:
        page.locator(".downloads").get_by_text(f"⬇ {label}").locator("visible=true").click()
    path = Path(download.value.path())
    return path.rename(path.with_name(download.value.suggested_filename))


def open_tab(page, name: str) -> None:
    page.locator(f"[role=tab][data-tab-id={name}]:visible").click()
    page.wait_for_timeout(1000)


def open_settings(page) -> None:
    """Open the settings of the current tab."""
    page.get_by_role("tabpanel").locator("visible=true").get_by_text("Settings").click()
    page.wait_for_timeout(500)  # Gradio sets the values again after it shows the settings
