"""The folder tab: many images or a zip → tables. The same as `age-gender --csv`."""

from __future__ import annotations

import html
import json
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import gradio as gr
import numpy as np
from PIL import Image

from ...analyzer import FaceAnalyzer
from ...annotate import draw
from ...batch.analyze import analyze_pictures
from ...batch.pictures import BatchError, Picture, unused_name
from ...batch.tables import no_faces, settings, write_csv
from ...detector import THRESHOLD
from ...face import Face, interval_years, percent, whole_years
from ...photo import PhotoError
from ...text import counted, time_left
from ..charts import bars
from ..components import (
    LONG,
    PRIVATE,
    Files,
    FolderButton,
    connect_run,
    documented,
    download_buttons,
    offered,
    threshold_slider,
    thumbnail,
    tiles,
)
from ..modules import label_words
from ..reader import MAX_PICTURES, Reader

MAX_SECONDS = 600.0  # of a run, after which the others' runs have their turn
SHOWN = 200  # lines of the table on the page
SIDE = 1280  # pixels, longer side of annotated images
BANDS = (0, 10, 20, 30, 40, 50, 60, 70)
INTRO = f"""Upload images, a folder or zips, up to {MAX_PICTURES:,} images in total. For more images, or to keep them on
your machine, run `age-gender`."""


@dataclass
class Found:
    """What a run has found so far."""

    images: int = 0
    rows: list[dict] = field(default_factory=list)  # the first ones, for the table
    lines: int = 0
    faces: int = 0
    unreadable: int = 0
    incomplete: int = 0
    ages: list[float] = field(default_factory=list)
    genders: list[str] = field(default_factory=list)

    def add(self, row: dict) -> None:
        """Count an image's row of `analyze_pictures`."""
        self.images += 1
        if self.lines < SHOWN:
            self.rows.append(row)
        self.lines += max(1, len(row["faces"]))
        self.faces += len(row["faces"])
        self.unreadable += bool(row["error"])
        self.incomplete += row["incomplete"]
        self.ages += [face["age"] for face in row["faces"]]
        self.genders += [face["gender_label"] for face in row["faces"]]


def cells(row: dict) -> list[list[str]]:
    """The table's lines for an image's row of `analyze_pictures`: file, face, age, interval, gender, confidence."""
    lines = [
        [
            row["file"],
            str(number),
            whole_years(face["age"]),
            interval_years(face["age_low"], face["age_high"]),
            face["gender_label"],
            percent(face["gender_label"], face["gender_probability"]),
        ]
        for number, face in enumerate(row["faces"], 1)
    ]
    return lines or [[row["file"], "–", "", "", no_faces(row), ""]]


def report(found: Found) -> str:
    """What the page says of a folder: figures, charts and the table, as HTML."""
    names = ["", "File", "Face", "Age", "Interval", "Gender", "Confidence"]
    lines = []
    for row in found.rows:
        if not row["faces"]:
            file, why = html.escape(row["file"]), html.escape(no_faces(row))
            lines.append(f'<tr><td></td><td translate="no">{file}</td><td colspan="5" class="why-not">{why}</td></tr>')
            continue
        pictures = row.get("thumbnails") or []
        for i, line in enumerate(cells(row)):
            image = thumbnail(pictures[i] if i < len(pictures) else None, f"Face {i + 1}", side=80)
            file, *others = map(html.escape, line)
            values = "".join(f"<td>{cell}</td>" for cell in others)
            lines.append(f'<tr><td>{image}</td><td translate="no">{file}</td>{values}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    ends, shown = [*BANDS[1:], None], [int(whole_years(age)) for age in found.ages]
    ages = {
        f"{low}–{high - 1}" if high else f"{low}+": sum(low <= age < (high or np.inf) for age in shown)
        for low, high in zip(BANDS, ends, strict=True)
    }
    genders = {name: found.genders.count(name) for name in ("female", "male", "uncertain")}
    charts = f'<div class="charts">{bars(ages, "Age, years")}{bars(genders, "Gender")}</div>' if found.faces else ""
    figures = tiles({"Images": f"{found.images:,}", "Faces": f"{found.faces:,}", "Unreadable": f"{found.unreadable:,}"})
    return (
        f'{figures}{charts}<div class="scroll" tabindex="0" id="batch-table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines[:SHOWN])}</tbody></table></div>"
    )


def write_annotated(pictures: list[Picture], jsonl: Path, target: Path, words: dict[str, str], end: float) -> int:
    """A zip of the images with faces boxed and labeled, longer side at most SIDE pixels, from a finished JSONL.

    Args:
        words: as for `annotate.label`.
        end: the time, by `monotonic`, at which it stops.

    Returns:
        How many images with faces are missing: for lack of time, or because they couldn't be read again.
    """
    opens = {picture.name: picture.open for picture in pictures}
    taken: Counter[str] = Counter()
    missing = 0
    with zipfile.ZipFile(target, "w") as archive, open(jsonl, encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            if not row["faces"]:
                continue
            try:
                photo = opens[row["file"]]() if monotonic() < end else None
            except PhotoError:  # on a busy server, it can take longer than before
                photo = None
            if photo is None:
                missing += 1
                continue
            faces = [Face.from_dict(values).scaled(1 / photo.reduction) for values in row["faces"]]
            image = Image.fromarray(draw(photo.rgb, faces, words))
            image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
            parts = re.split(r"[/\\]", row["file"].replace(":", ""))
            name = "/".join(part for part in parts if part not in ("", ".", ".."))
            with archive.open(f"{unused_name(name, taken)}.faces.jpg", "w") as file:
                image.save(file, "JPEG", quality=85)
    return missing


def _analyze(
    analyzer: FaceAnalyzer,
    pictures: list[Picture],
    skipped: list[str],
    threshold: float,
    folder: str,
    *,
    thumbnails: bool,
) -> Iterator[str | Found]:
    """Progress as text, then what was found; faces.jsonl and faces.csv are in `folder` then. Raises BatchError."""
    if not pictures:
        raise BatchError("The upload contains no images. A zip inside of a zip isn't opened.")
    started = reported = monotonic()
    found, made = Found(), settings(analyzer, threshold)
    jsonl = Path(folder) / "faces.jsonl"
    yield f"0 of {len(pictures):,} images"
    with open(jsonl, "w", encoding="utf-8") as file:
        rows = analyze_pictures(analyzer, pictures, threshold=threshold, thumbnails=thumbnails)
        for row in rows:
            found.add(row)
            file.write(json.dumps({k: v for k, v in row.items() if k != "thumbnails"} | made) + "\n")
            now = monotonic()
            if now - started > MAX_SECONDS:
                break
            if now - reported > 0.5:
                reported, left = now, (now - started) / found.images * (len(pictures) - found.images)
                yield f"{found.images:,} of {len(pictures):,} images{time_left(left)}"
    write_csv(jsonl, jsonl.with_suffix(".csv"))
    text = _summary(found, len(skipped), monotonic() - started)
    left = len(pictures) - found.images
    if left:
        limit = f"{MAX_SECONDS / 60:.0f} minutes"
        text = f"⚠️ {counted(left, 'image')} not analyzed: a run is limited to {limit}.\n\n{text}"
    yield text
    yield found


def _summary(found: Found, skipped: int, seconds: float) -> str:
    where = f"{counted(found.images, 'image')}, analyzed in {counted(max(1, round(seconds)), 'second')}"
    lines = [f"**{counted(found.faces, 'face')}** in {where}."]
    if found.unreadable:
        lines.append(f"{counted(found.unreadable, 'image')} could not be read. The table gives the reason.")
    if found.incomplete:
        are = "is" if found.incomplete == 1 else "are"
        lines.append(f"{counted(found.incomplete, 'image file')} {are} incomplete (parts of the image are missing).")
    if skipped:
        lines.append(f"{counted(skipped, 'file')} skipped (not a supported image format).")
    if found.lines > SHOWN:
        lines.append(f"The table shows the first {SHOWN} rows. The downloads contain all rows.")
    return "\n\n".join(lines)


def tab(analyzer: FaceAnalyzer, reader: Reader, language: gr.Textbox) -> None:
    """Build the tab. `language`: the page's."""
    gr.Markdown(INTRO)
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=1, min_width=280, elem_classes="side"):
            files = Files(label="Images or zips", file_count="multiple", height=200, elem_id="files")
            directory = FolderButton("Choose a folder", file_count="directory", size="sm", elem_id="directory")
            with gr.Row():
                button = gr.Button("Analyze", variant="primary", elem_id="batch-start")
                cancel = gr.Button("Cancel", elem_id="batch-cancel", elem_classes="idle")
            status = gr.Markdown(elem_id="batch-status", min_height=30)
            with gr.Accordion("Settings", open=False):
                threshold = threshold_slider()
                annotate = gr.Checkbox(False, label="Also create a zip of annotated images", elem_id="annotate")
        with gr.Column(scale=2, min_width=320):
            out = gr.HTML(elem_id="batch-report", apply_default_css=False)
            with gr.Row(elem_classes="downloads"):
                buttons = download_buttons("⬇ CSV", "⬇ JSONL", "⬇ Annotated images")

    # An error of the last run, such as that nothing was chosen, isn't about these files.
    is_error = "text?.startsWith('⚠️') && !document.querySelector('#batch-report table')"
    files.change(None, status, status, js=f"(text) => ({is_error} ? '' : text)", **PRIVATE)
    directory.upload(lambda found: [upload.path for upload in found or []], directory, files, **PRIVATE)
    outputs = [status, out, *buttons]
    connect_run(
        _shower(analyzer, reader),
        [files, threshold, annotate, language],
        outputs,
        settings=[threshold, annotate],
        button=button,
        cancel=cancel,
        report=out,
    )
    with gr.Row(visible=False):
        _endpoint(analyzer, reader)


def _shower(analyzer: FaceAnalyzer, reader: Reader) -> Callable:
    """The page's own event: status, report and downloads."""

    def show(files, threshold, annotate, language):
        nothing = ("", *[offered()] * 3)
        if not files:
            yield "⚠️ Choose images or a zip first.", *nothing
            return
        with tempfile.TemporaryDirectory(prefix="batch-") as folder:
            text, jsonl, archive = "", Path(folder) / "faces.jsonl", None
            end = monotonic() + MAX_SECONDS
            skipped: list[str] = []
            try:
                with reader.pictures(files, skipped) as pictures:
                    for step in _analyze(analyzer, pictures, skipped, threshold, folder, thumbnails=True):
                        if isinstance(step, str):
                            text = step
                            yield text, *nothing
                            continue
                        if annotate and step.faces:
                            yield "Writing annotated images…", *nothing
                            archive = jsonl.with_name("annotated.zip")
                            missing = write_annotated(pictures, jsonl, archive, label_words(language), end)
                            if missing:
                                text = f"⚠️ {counted(missing, 'annotated image')} missing in the zip.\n\n{text}"
                        yield text, report(step), offered(jsonl.with_suffix(".csv")), offered(jsonl), offered(archive)
            except BatchError as error:  # the page says it in place
                yield f"⚠️ {error}", *nothing

    return show


def _endpoint(analyzer: FaceAnalyzer, reader: Reader) -> None:
    @documented
    def analyze_batch(files, threshold=THRESHOLD) -> Iterator[tuple]:
        """Find every face in many images and estimate their apparent age and gender.

        Args:
            files: images and zips of images.
            threshold: minimum detection score for a face, 0.3 to 0.95.

        Returns:
            A CSV file with one line per face, a JSONL file with one line per image, a line of text, and the first rows
            as a table.
        """
        if not files:
            raise gr.Error("Choose images or a zip first.", print_exception=False)
        # The folder goes when this ends, also when it is canceled; by then Gradio has its own copies.
        with tempfile.TemporaryDirectory(prefix="batch-") as folder:
            text = ""
            skipped: list[str] = []
            try:
                with reader.pictures(files, skipped) as pictures:
                    for step in _analyze(analyzer, pictures, skipped, threshold, folder, thumbnails=False):
                        if isinstance(step, str):
                            text = step
                            yield None, None, text, None
                        else:
                            table = [line for row in step.rows for line in cells(row)][:SHOWN]
                            jsonl = Path(folder) / "faces.jsonl"
                            yield str(jsonl.with_suffix(".csv")), str(jsonl), text, table
            except BatchError as error:
                raise gr.Error(str(error), print_exception=False) from None

    # Gradio's MCP server cannot pass on a list of files: no tool rather than one that always fails.
    analyze_batch._mcp_type = "none"  # type: ignore[attr-defined]
    table = gr.Dataframe(headers=["file", "face", "age", "interval", "gender", "confidence"], label="table")
    inputs = [Files(label="files", file_count="multiple"), threshold_slider()]
    outputs = [gr.File(label="csv"), gr.File(label="jsonl"), gr.Markdown(label="summary"), table]
    gr.Button().click(analyze_batch, inputs, outputs, api_name="analyze_batch", **LONG)
