"""The folder tab: many pictures or a zip → tables. The same as `python -m space.batch`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from space.analyzer import FaceAnalyzer
from space.batch.analyze import analyze_pictures
from space.batch.pictures import BatchError, Picture, find_pictures, is_image_file
from space.batch.tables import settings, write_csv
from space.detector import THRESHOLD
from space.text import counted, time_left
from space.web.components import LONG, answer_cells, threshold_slider

MAX_PICTURES = 2000
SHOWN = 200  # lines of the table on the page
HEADERS = ["file", "face", "age", "interval", "gender", "confidence", "problem"]
INTRO = f"""Several pictures, a folder, or a zip of at most {MAX_PICTURES:,} pictures: one table of all faces. For more,
and with nothing to upload, `python -m space.batch` does the same on your machine. Browsers hide which folder within a
folder a picture came from; a zip tells."""


class Files(gr.File):
    """`gr.File` that tells a visitor of a wrong kind of file, and not the log, with a traceback."""

    is_template = True  # the browser shows it as the stock File

    def preprocess(self, payload):
        try:
            return super().preprocess(payload)
        except gr.Error as error:
            error.print_exception = False
            raise


def named(files: list[str], skipped: list[str]) -> list[Picture]:
    """The images among uploaded files and zips, called as their owner calls them; other files go to `skipped`.

    Raises:
        BatchError: a zip that cannot be opened, or more than MAX_PICTURES.
    """
    pictures, names = [], set()
    for path in dict.fromkeys(files):
        if not path.lower().endswith(".zip") and not is_image_file(Path(path)):
            skipped.append(Path(path).name)
            continue
        for picture in find_pictures([path], skipped):
            short = name = picture.name.removeprefix(Path(path).parent.as_posix() + "/")
            count = 1
            while name in names:
                count += 1
                name = f"{short} ({count})"
            names.add(name)
            pictures.append(Picture(name, picture.read))
        if len(pictures) > MAX_PICTURES:
            raise BatchError(f"These are more than {MAX_PICTURES:,} pictures: send fewer at once.")
    return pictures


def lines(row: dict) -> list[list]:
    """The page's table for one picture's row of `analyze_pictures`."""
    found = [[row["file"], number, *answer_cells(face), ""] for number, face in enumerate(row["faces"], 1)]
    return found or [[row["file"], "–", "", "", "", "", row["error"] or "no face found"]]


def tab(analyzer: FaceAnalyzer) -> None:
    """Build the tab."""

    def analyze_batch(files, threshold=THRESHOLD) -> Iterator[tuple]:
        """Find every face in many pictures and estimate their apparent age and gender.

        Args:
            files: pictures, and zips of pictures.
            threshold: the detector's score from which something counts as a face, 0.3 to 0.95.

        Returns:
            A CSV file with one line a face, a JSONL file with one line a picture, a line of text, and the first lines
            as a table.
        """
        if not files:
            raise gr.Error("Choose pictures or a zip first.", print_exception=False)
        try:
            pictures = named(files, skipped := [])
            if not pictures:
                raise BatchError("There are no images in what you sent.")
        except BatchError as error:
            yield None, None, str(error), None  # what was said of the pictures before goes
            raise gr.Error(str(error), print_exception=False) from None
        started = reported = time.monotonic()
        table, faces, errors = [], 0, 0
        made = settings(analyzer, threshold)
        # The folder goes when this ends, also when it is cancelled; by then Gradio has its own copies.
        with tempfile.TemporaryDirectory(prefix="batch-") as folder:
            jsonl, spreadsheet = Path(folder) / "faces.jsonl", Path(folder) / "faces.csv"
            yield None, None, f"0 of {len(pictures):,} pictures", None
            with open(jsonl, "w", encoding="utf-8") as file:
                for count, row in enumerate(analyze_pictures(analyzer, pictures, threshold=threshold), 1):
                    file.write(json.dumps(row | made) + "\n")
                    faces, errors = faces + len(row["faces"]), errors + bool(row["error"])
                    table += lines(row)[: SHOWN - len(table)]
                    now = time.monotonic()
                    if now - reported > 0.5:
                        reported, left = now, (now - started) / count * (len(pictures) - count)
                        yield None, None, f"{count:,} of {len(pictures):,} pictures{time_left(left)}", table
            write_csv(jsonl, spreadsheet)
            text = f"**{counted(faces, 'face')}** in {counted(len(pictures), 'picture')}, "
            text += f"in {time.monotonic() - started:.0f} seconds."
            if errors:
                text += f" {errors:,} could not be read; the table says why."
            if skipped:
                text += f" {counted(len(skipped), 'file')} skipped: not an image."
            if len(table) == SHOWN:
                text += f" The first {SHOWN} lines are shown; the files have all."
            yield str(spreadsheet), str(jsonl), text, table

    # Gradio's MCP server cannot pass on a list of files: no tool rather than one that always fails.
    analyze_batch._mcp_type = "none"
    gr.Markdown(INTRO)
    with gr.Row():
        with gr.Column():
            files = Files(
                label="Pictures or zips",
                file_count="multiple",
                height=220,
                elem_id="files",
            )
            directory = gr.UploadButton("Choose a whole folder", file_count="directory", elem_id="directory")
        with gr.Column():
            threshold = threshold_slider()
            with gr.Row():
                button = gr.Button("Analyze all", variant="primary", elem_id="batch-start")
                cancel = gr.Button("Cancel", elem_id="batch-cancel")
            status = gr.Markdown("Choose pictures.", elem_id="batch-status", min_height=30)
    with gr.Row():
        spreadsheet = gr.File(label="CSV: a line a face", interactive=False, elem_id="batch-csv")
        jsonl = gr.File(label="JSONL: a line a picture", interactive=False, elem_id="batch-jsonl")
    table = gr.Dataframe(headers=HEADERS, label="Faces", interactive=False, elem_id="batch-table")

    directory.upload(lambda found: found, directory, files, api_visibility="private")
    running = button.click(
        analyze_batch, [files, threshold], [spreadsheet, jsonl, status, table], api_name="analyze_batch",
        show_progress="hidden", **LONG,
    )  # fmt: skip
    cancel.click(lambda: "Cancelled.", None, status, cancels=[running], api_visibility="private", queue=False)
