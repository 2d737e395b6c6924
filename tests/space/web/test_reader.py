"""What the app reads of uploads, in whose turn, and which it skips."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from space.batch.pictures import BatchError, Picture
from space.photo import PhotoError
from space.web import reader
from space.web.reader import Reader
from space.web.uploads import NO_FILE, Upload, UploadError
from tests.support.faces import jpeg

JPEG = jpeg(np.zeros((8, 8, 3), np.uint8))


class FakeSandbox:
    """Decodes an upload to a photo of `size` values; counts how many are in use at once."""

    def __init__(self, size: int = 12):
        self.size, self.zips = size, []

    def photo(self, _):
        return SimpleNamespace(rgb=np.zeros(self.size, np.uint8))

    @contextlib.contextmanager
    def zip(self, file, name, skipped):
        self.zips.append(name)
        skipped.append(f"{name}/notes.txt")
        yield [Picture("a.jpg", lambda: None), Picture("b.jpg", lambda: None)]


def most_at_once(read: Reader, tasks: int, owner=lambda number: number) -> int:
    """How many photos were in use at the same time, at most."""
    used, most, lock = [0], [0], threading.Lock()

    def visit(number):
        request = SimpleNamespace(request=SimpleNamespace(scope={"client": (f"10.0.0.{owner(number)}", 1)}))
        with read.photo(Upload("x.jpg", content=JPEG), request):
            with lock:
                used[0] += 1
                most[0] = max(most[0], used[0])
            time.sleep(0.05)
            with lock:
                used[0] -= 1

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not read._turns._owners  # nothing is kept of addresses
    return most[0]


def test_four_small_photos_or_one_large_one_are_in_use_at_once():
    assert most_at_once(Reader(FakeSandbox()), 7) == reader.AT_ONCE
    assert most_at_once(Reader(FakeSandbox(reader.LARGE)), 7) == reader.AT_ONCE
    assert most_at_once(Reader(FakeSandbox(reader.LARGE + 1)), 7) == 1


def test_one_address_has_one_photo_in_use():
    assert most_at_once(Reader(FakeSandbox()), 5, owner=lambda _: 1) == 1


def test_an_error_ends_the_turn():
    read = Reader(FakeSandbox())
    for _ in range(reader.AT_ONCE + 1):
        with pytest.raises(ZeroDivisionError), read.photo(Upload("x.jpg", content=JPEG), None):
            raise ZeroDivisionError
    assert most_at_once(read, 5) == reader.AT_ONCE


def names(uploads: list[Upload]) -> tuple[list[str], list[str]]:
    """Names of the images, and of what is skipped."""
    skipped: list[str] = []
    with Reader(FakeSandbox()).pictures(uploads, skipped) as pictures:
        return [picture.name for picture in pictures], skipped


def image(name: str, content: bytes = JPEG) -> Upload:
    return Upload(name, content=content)


def test_images_keep_their_names_and_equal_ones_get_a_number():
    found, skipped = names(
        [image("a.jpg"), image("x.zip"), image("a.jpg", JPEG + b"."), image("c.JPG"), image("y.ZIP")]
    )
    assert found == ["a.jpg", "a.jpg (2)", "b.jpg", "a.jpg (3)", "c.JPG", "a.jpg (4)", "b.jpg (2)"]
    assert skipped == ["x.zip/notes.txt", "y.ZIP/notes.txt"]


def test_what_is_no_image_is_skipped_and_the_content_counts_as_well():
    found, skipped = names([Upload("notes.txt", content=b"text"), image("photo"), Upload("b.png", content=b"damaged")])
    assert found == ["photo", "b.png"] and skipped == ["notes.txt"]


def test_the_same_upload_twice_counts_once(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(JPEG)
    upload = Upload("a.jpg", str(tmp_path / "a.jpg"))
    assert names([upload, upload]) == (["a.jpg"], [])
    assert names([image("b.jpg"), image("b.jpg")]) == (["b.jpg"], [])


@pytest.mark.parametrize("suffix", [".7z", ".RAR"])
def test_other_archives_are_refused(suffix):
    with pytest.raises(BatchError, match="isn't supported: create a zip instead"):
        names([Upload(f"photos{suffix}", content=b"7z")])


def test_limits_on_zips_and_images(monkeypatch):
    assert len(names([image(f"{i}.zip") for i in range(reader.MAX_ZIPS)])[0]) == 2 * reader.MAX_ZIPS
    with pytest.raises(BatchError, match=f"more than {reader.MAX_ZIPS} zips"):
        names([image(f"{i}.zip") for i in range(reader.MAX_ZIPS + 1)])
    monkeypatch.setattr(reader, "MAX_PICTURES", 1000)
    assert len(names([image(f"{i}.jpg") for i in range(1000)])[0]) == 1000
    with pytest.raises(BatchError, match="more than 1,000 images"):
        names([image(f"{i}.jpg") for i in range(1001)])


def test_a_file_that_is_gone_is_an_error_of_its_own_image(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    gone = Upload("a.jpg", str(tmp_path / "gone.jpg"))
    read = Reader(FakeSandbox())
    with read.pictures([gone, image("b.jpg")], []) as (first, second):
        with pytest.raises(PhotoError, match=NO_FILE.split(",")[0]):
            first.open()
        assert second.open().rgb.shape == (12,)
    with pytest.raises(UploadError), read.photo(gone, None):
        pass
    with pytest.raises(BatchError, match=NO_FILE.split(",")[0]):
        names([Upload("x.zip", str(tmp_path / "gone.zip"))])


def test_a_number_that_is_taken_is_passed_over():
    found, _ = names([image("a.jpg (2)"), image("a.jpg"), image("a.jpg", JPEG + b".")])
    assert found == ["a.jpg (2)", "a.jpg", "a.jpg (3)"]


@pytest.mark.parametrize(("source", "model"), [("embedded", "compact"), ("me/model", "/models/x")])
def test_a_video_is_analyzed_with_the_model_that_serves(source, model):
    asked = []

    class Sandbox:
        def video(self, file, target, *, model, **settings):
            asked.append((model, settings))
            yield "result"

    bundle = SimpleNamespace(card={"name": "compact"}, source=source, folder=Path("/models/x"))
    analyzer, upload = SimpleNamespace(bundle=bundle), Upload("a.mp4", content=b"x")
    list(Reader(Sandbox()).video(upload, Path("annotated.mp4"), analyzer, blurred=True))
    assert asked == [(model, {"blurred": True})]
