"""The sandbox: what a worker returns holds nothing of another visitor, and no worker takes more than its share."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import socket
import struct
import sys
import threading
import time
import zipfile
import zlib
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from space.batch.pictures import BatchError
from space.photo import PhotoError, open_photo
from space.sandbox import client
from space.sandbox.client import Sandbox
from space.sandbox.messages import content_of, memory_file, pair, receive, send
from space.video.result import VideoError, VideoResult
from tests.support import EXAMPLES
from tests.support.app import python
from tests.support.videos import moving, write_video

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
GROUP = (EXAMPLES / "group.jpg").read_bytes()

# Without the checks that reject the known leaks, as if the next one had been found.
UNCHECKED = """
import sys
from dataclasses import replace
from space import photo
photo._check_tiff = lambda *_: None
photo.UPLOADS = replace(photo.UPLOADS, formats=photo.OWN_FILES.formats)
from space.video import reader
reader.VIDEO_CODECS += ("flashsv",)
reader._DECODING = reader.SIZE_LIMIT
"""


class Unchecked(Sandbox):
    """A sandbox whose workers decode what is known to show old memory."""

    server = (sys.executable, "-c", UNCHECKED + "from space.sandbox.fork_server import main; main()")


@pytest.fixture
def sandbox():
    with contextlib.closing(Sandbox()) as made:
        yield made


@contextlib.contextmanager
def opened(content: bytes):
    """A descriptor of a file with this content."""
    with io.BytesIO(content) as _, contextlib.ExitStack() as stack:
        fd = memory_file(content)
        stack.callback(os.close, fd)
        yield fd


def decoded(sandbox: Sandbox, content: bytes) -> np.ndarray:
    with opened(content) as fd:
        return sandbox.photo(fd).rgb


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(seed: int, width: int = 1024, height: int = 768) -> bytes:
    """A visitor's photo of which no 32 bytes occur anywhere else."""
    pixels = np.random.default_rng(seed).integers(1, 255, (height, width, 3), np.uint8)
    return encoded(Image.fromarray(pixels), "PNG", compress_level=1)


def two_compressions(width: int = 1024, height: int = 768) -> bytes:
    """A TIFF whose strip ends early: libtiff decodes the first Compression tag (JPEG), Pillow shows the last (LZW)."""
    strip = encoded(Image.new("L", (width, 8), 200), "JPEG", quality=50)
    strip += b"\0" * (len(strip) % 2)
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 7), (259, 3, 5), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(strip)), (284, 3, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory + b"\0" * 4


def flash_screen(path: Path, side: int = 256) -> Path:
    """An AVI in Flash Screen Video whose zlib blocks end early: FFmpeg shows the rest of its buffer."""
    with av.open(str(path), "w", format="avi") as out:
        stream = out.add_stream("flashsv", rate=8)
        stream.width, stream.height, stream.pix_fmt = side, side, "bgr24"
        list(stream.encode(av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="bgr24")))
        block = zlib.compress(b"\0\0\0")
        data = struct.pack(">HHH", (15 << 12) | side, (15 << 12) | side, len(block)) + block
        for number in range(3):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 8), number == 0
            out.mux(packet)
    return path


def shares_memory(victim: np.ndarray, gray: np.ndarray, length: int = 24) -> bool:
    """Whether `length` bytes of one image, as NumPy or Pillow keep it, occur in another image's gray values."""
    seen = gray[..., 0].tobytes()
    with_alpha = np.concatenate([victim, np.full_like(victim[..., :1], 255)], axis=2)
    for memory in (victim.tobytes(), with_alpha.tobytes()):
        # Any stretch of twice the length holds a whole window.
        windows = {memory[i : i + length] for i in range(0, len(memory) - length, length)}
        if any(seen[i : i + length] in windows for i in range(len(seen) - length)):
            return True
    return False


# Freed memory stays in one heap, so that the controls don't depend on luck.
REUSED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_ARENA_MAX": "1",
}
IN_ONE_PROCESS = """
from tests.space.sandbox.test_sandbox import noise, shares_memory, two_compressions
found = 0
for seed in range(4):
    victim = photo.open_photo(noise(seed)).rgb.copy()
    found += shares_memory(victim, photo.open_photo(two_compressions()).rgb)
print(found)
"""


def test_the_known_leak_still_exists_in_a_process_that_decodes_for_several_visitors():
    """Otherwise the tests below could not fail."""
    result = python("-c", UNCHECKED + IN_ONE_PROCESS, env=REUSED_MEMORY)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0


def test_a_worker_returns_nothing_of_an_earlier_visitor():
    with contextlib.closing(Unchecked()) as sandbox:
        for seed in range(4):
            victim = decoded(sandbox, noise(seed))
            leaking = decoded(sandbox, two_compressions())
            assert leaking.shape == (768, 1024, 3)  # it is decoded: no check stops it
            assert not shares_memory(victim, leaking)


def test_a_live_stream_s_worker_has_seen_no_other_stream(sandbox):
    one, other = sandbox.frames(), sandbox.frames()
    frame = encoded(Image.open(io.BytesIO(GROUP)), "JPEG")
    for stream in (one, other, one):
        assert stream.decode(frame).shape[2] == 3
    assert one._worker is not other._worker
    pids = [os.readlink(f"/proc/self/fd/{stream._worker._process}") for stream in (one, other)]
    assert pids == ["anon_inode:[pidfd]"] * 2
    for wrong in (encoded(Image.new("RGB", (64, 64)), "PNG"), b"P6 1 1 255 abc", b"GIF89a"):
        with pytest.raises(PhotoError, match="readable image"):
            one.decode(wrong)
    with pytest.raises(PhotoError, match="2 megapixels"):
        one.decode(encoded(Image.new("L", (4000, 3000)), "JPEG"))
    one.close(), other.close()


COLOR = (13, 201, 97)  # of a visitor's photo


def share_of_color(frames: np.ndarray) -> float:
    """How much of uint8 [..., 3] has about the color of the other visitor's photo, its channels in any order (leaked
    memory starts at any byte of a pixel)."""
    frames = frames.astype(int)
    return float(sum((np.abs(frames - color).max(axis=-1) < 25).mean() for color in permutations(COLOR)))


VIDEO_IN_ONE_PROCESS = """
import sys, av, numpy as np
from tests.space.sandbox.test_sandbox import COLOR, share_of_color
victims = [np.full((256, 256, 3), COLOR, np.uint8) for _ in range(200)]
del victims
with reader.open_video(sys.argv[1]) as video:
    print(share_of_color(np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])))
"""


@pytest.mark.slow
def test_a_video_shows_nothing_of_an_earlier_visitor(tmp_path):
    leaking = flash_screen(tmp_path / "leak.avi")
    alone = python("-c", UNCHECKED + VIDEO_IN_ONE_PROCESS, leaking, env=REUSED_MEMORY)
    assert alone.returncode == 0 and float(alone.stdout) > 0.2, alone.stdout + alone.stderr  # or nothing is tested
    with contextlib.closing(Unchecked()) as sandbox:
        for _ in range(3):
            decoded(sandbox, encoded(Image.new("RGB", (1024, 768), COLOR), "PNG"))
            *_, result = video(sandbox, leaking, tmp_path / "out.mp4")
            assert isinstance(result, VideoResult) and result.frames > 0  # no check stops it
            with av.open(str(tmp_path / "out.mp4")) as annotated:
                frames = np.stack([frame.to_ndarray(format="rgb24") for frame in annotated.decode(video=0)])
            assert share_of_color(frames) < 0.01


def test_a_worker_has_the_limits_of_its_job():
    """A worker that is taken over can't fill the disk, and leaves no memory image of itself."""
    program = """
import os, resource, signal, tempfile
from space.sandbox import worker
had, polite = worker._memory(), os.nice(0)
worker._limit(memory=300_000_000, cpu=7, written=5_000, nice=3)
limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("DATA", "FSIZE", "CORE", "CPU")}
assert limits["FSIZE"] == (5_000, 5_000) and limits["CORE"] == (0, 0), limits
assert 300_000_000 <= limits["DATA"][0] == limits["DATA"][1] <= 300_000_000 + had + 10_000_000, limits
assert 7 <= limits["CPU"][0] <= 7 + os.times().user + os.times().system + 1, limits
assert os.nice(0) == min(19, polite + 3)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(6_000))
except OSError as error:
    print("refused:", error.strerror)
"""
    result = python("-c", program)
    assert result.returncode == 0 and "refused: File too large" in result.stdout, result.stderr


def test_annotated_frames_come_while_a_video_is_analyzed(tmp_path):
    long = write_video(tmp_path / "long.mp4", moving(200, size=(800, 600)))
    sandbox = Sandbox()
    try:
        *steps, result = video(sandbox, long, tmp_path / "out.mp4")
    finally:
        sandbox.close()
    pictures = [step.picture for step in steps if step.picture is not None]
    assert result.frames == 200 and len(pictures) >= 2
    assert all(picture.shape == (480, 640, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def video(sandbox: Sandbox, source: Path, target: Path) -> list:
    with open(source, "rb") as file:
        return list(sandbox.video(file.fileno(), target, model="compact", threshold=0.7, blurred=False))


def test_photos_come_back_as_they_are(sandbox):
    for content in (GROUP, encoded(Image.new("RGBA", (50, 40), (0, 0, 0, 0)), "PNG"), GROUP[: len(GROUP) // 2]):
        with opened(content) as fd:
            photo, expected = sandbox.photo(fd), open_photo(content)
        np.testing.assert_array_equal(photo.rgb, expected.rgb)
        assert (photo.size, photo.incomplete) == (expected.size, expected.incomplete)
    for content in (b"no image", b"", b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n", encoded(Image.new("L", (8, 8)), "TIFF")):
        with pytest.raises(PhotoError):
            decoded(sandbox, content)


def test_large_images_are_returned_reduced(sandbox):
    large = encoded(Image.new("RGB", (8000, 5000), (9, 90, 200)), "PNG")
    with opened(large) as fd:
        photo = sandbox.photo(fd)
    assert photo.size == (8000, 5000) and photo.reduction == 2 and photo.rgb.shape == (2500, 4000, 3)
    assert (photo.rgb == (9, 90, 200)).all()


def bombs() -> dict[str, bytes]:
    """Small files that take long, or much memory, to decode."""
    gif = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 16, 16, 0) + b"\x02\x02\x4c\x01\x00;"
    huge = encoded(Image.new("L", (9000, 9000)), "WEBP", lossless=True)
    return {
        "comments.gif": gif + (b"\x21\xfe\xff" + b"a" * 255 + b"\0") * 60_000 + frame,
        "comments.ppm": b"P3 100 100 255\n" + b"# x\n" * 249_000,
        "markers.jpg": b"\xff\xd8" + b"\xff\xe0\0\2" * 10_000_000 + GROUP[2:],
        "huge.webp": huge,
        "huge.png": encoded(Image.new("RGBA", (7000, 7000)), "PNG"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_in_bounded_time_and_delays_nobody(sandbox, name):
    content, started = bombs()[name], time.monotonic()
    refused, answers = [], []

    def attack():
        with pytest.raises(PhotoError):
            decoded(sandbox, content)
        refused.append(True)

    attackers = [threading.Thread(target=attack) for _ in range(2)]
    for thread in attackers:
        thread.start()
    while not answers or any(thread.is_alive() for thread in attackers):  # some are refused before the first answer
        began = time.monotonic()
        decoded(sandbox, GROUP)
        answers.append(time.monotonic() - began)
        time.sleep(0.1)
    assert len(refused) == 2
    assert time.monotonic() - started < 40
    assert max(answers) < 4.5, answers  # both slots of the first try are taken, which `Turns` prevents in the app


def test_a_worker_that_is_killed_or_crashes_is_a_sentence(sandbox, monkeypatch):
    real = client._Worker.ask

    def killed(worker, message, *fds, **options):
        if message is not None and worker._process is not None:
            client.signal.pidfd_send_signal(worker._process, 9)
        return real(worker, message, *fds, **options)

    monkeypatch.setattr(client._Worker, "ask", killed)
    with pytest.raises(PhotoError, match="too much time or memory"):
        decoded(sandbox, GROUP)
    monkeypatch.undo()
    assert decoded(sandbox, GROUP).shape[2] == 3


def test_a_fork_server_that_ends_is_started_again(sandbox):
    decoded(sandbox, GROUP)
    sandbox._server.kill()
    assert decoded(sandbox, GROUP).shape[2] == 3


def test_a_fork_server_that_ends_before_any_worker_is_ready_is_started_again():
    with contextlib.closing(Sandbox()) as sandbox:
        sandbox._server.kill()
        frame = encoded(Image.new("RGB", (64, 48)), "JPEG")
        assert sandbox.frames().decode(frame).shape == (48, 64, 3)


def processes_below(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def descriptors(process) -> list[str]:
    """What a process has open."""
    return [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]


def test_workers_get_no_secrets_and_no_other_descriptors(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AGE_GENDER_AUTH", "me:secret")
    with open(tmp_path / "visitor", "w") as _, contextlib.closing(Sandbox()) as sandbox:
        decoded(sandbox, GROUP)
        server = sandbox._server.pid
        time.sleep(1)  # until the worker of the photo is gone, and its successor ready
        children = processes_below(server)
        assert len(children) == client.SPARES
        for process in (server, *children):
            environment = Path(f"/proc/{process}/environ").read_bytes()
            assert b"secret" not in environment and b"PATH=" in environment
            targets = descriptors(process)
            assert not [t for t in targets if "visitor" in t or "memfd" in t], targets
            assert sum("socket" in target for target in targets) == 1, targets
            assert len(list(Path(f"/proc/{process}/task").iterdir())) == 1  # forks of threads can hang


def test_workers_end_with_their_app(tmp_path):
    code = (
        "import os, signal, time; from space.sandbox.client import Sandbox; s = Sandbox(); s._ready_worker(); "
        "print(s._server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    server = python("-c", code).stdout.strip()
    end = time.monotonic() + 5
    while Path(f"/proc/{server}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{server}").exists()


def test_zip_members_are_listed_and_decoded(sandbox):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.jpg", GROUP)
        archive.writestr("two.png", encoded(Image.new("RGB", (30, 20)), "PNG"))
        archive.writestr("broken.jpg", b"no image")
        archive.writestr("notes.txt", b"no image")
    skipped: list[str] = []
    with opened(file.getvalue()) as fd, sandbox.zip(fd, "Album.zip", skipped) as pictures:
        found = {picture.name: picture.open for picture in pictures}
        assert sorted(found) == ["Album.zip/a/one.jpg", "Album.zip/broken.jpg", "Album.zip/two.png"]
        np.testing.assert_array_equal(found["Album.zip/a/one.jpg"]().rgb, open_photo(GROUP).rgb)
        assert found["Album.zip/two.png"]().size == (30, 20)
        with pytest.raises(PhotoError, match="readable image"):
            found["Album.zip/broken.jpg"]()
    assert skipped == ["Album.zip/notes.txt"]
    for content in (b"no zip", file.getvalue()[:100]):
        with opened(content) as fd, pytest.raises(BatchError), sandbox.zip(fd, "x.zip", []):
            pass


def test_a_late_answer_is_not_taken_for_the_next_member_s(sandbox, monkeypatch):
    monkeypatch.setitem(client._Worker.ask.__wrapped__.__kwdefaults__, "timeout", 3.0)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for side in (20, 30, 40):
            archive.writestr(f"{side}.png", encoded(Image.new("RGB", (side, side)), "PNG"))
    with opened(file.getvalue()) as fd, contextlib.closing(client.Members(sandbox, fd, "a.zip")) as members:
        members.open()
        process = members._worker._process
        signal.pidfd_send_signal(process, signal.SIGSTOP)
        with pytest.raises(PhotoError, match="too much time"):
            members.photo(0)
        assert [members.photo(i).size for i in (1, 2, 0)] == [(30, 30), (40, 40), (20, 20)]


def overlapping_zip(names: int) -> bytes:
    """A zip in which many names share one member's bytes."""
    name, packed = b"a.jpg", zlib.compress(GROUP)[2:-4]
    sizes = (zlib.crc32(GROUP), len(packed), len(GROUP))
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 33, *sizes, len(name), 0) + name
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 33, *sizes, len(name), *[0] * 6) + name
    end = (0x06054B50, 0, 0, names, names, names * len(entry), len(local) + len(packed), 0)
    return local + packed + entry * names + struct.pack("<IHHHHIIH", *end)


def test_zips_with_too_many_names_are_refused(sandbox):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(5_001):
            archive.writestr(f"{number}.txt", b"")
    with opened(file.getvalue()) as fd, pytest.raises(BatchError, match="5,000"), sandbox.zip(fd, "x.zip", []):
        pass


def test_frames_of_a_full_hd_camera_are_decoded(sandbox):
    frame = encoded(Image.open(io.BytesIO(GROUP)).resize((1920, 1080)), "JPEG", quality=90)
    stream = sandbox.frames()
    for _ in range(10):
        assert stream.decode(frame).shape == (1080, 1920, 3)
    stream.close()


def test_large_images_of_every_format_are_decoded_within_the_limits(sandbox):
    for kind, options, side in (("WEBP", {"lossless": True}, 5200), ("AVIF", {"speed": 10}, 7000), ("PNG", {}, 7000)):
        with opened(encoded(Image.new("RGB", (side, side), (10, 100, 200)), kind, **options)) as fd:
            photo = sandbox.photo(fd)
        assert photo.size == (side, side) and photo.rgb.shape == (side // 2, side // 2, 3), kind
        assert np.abs(photo.rgb[0, 0].astype(int) - (10, 100, 200)).max() <= 3


def test_an_image_that_needs_too_much_memory_is_not_called_damaged(sandbox):
    with pytest.raises(PhotoError, match="too much time or memory"):
        decoded(sandbox, encoded(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True))


def test_zips_whose_members_overlap_are_refused(sandbox):
    with opened(overlapping_zip(1)) as fd, sandbox.zip(fd, "one.zip", []) as pictures:
        assert pictures[0].open().rgb.shape[2] == 3
    with opened(overlapping_zip(2)) as fd, pytest.raises(BatchError, match="overlap"), sandbox.zip(fd, "x.zip", []):
        pass


@pytest.mark.slow
def test_a_video_is_annotated_as_in_this_process(sandbox, analyzer, tmp_path):
    from space.video.annotator import annotate_video

    source = write_video(tmp_path / "video.mp4", moving(40), sound="aac")
    *progress, result = video(sandbox, source, tmp_path / "out.mp4")
    *_, expected = annotate_video(analyzer, source, tmp_path / "other.mp4")
    assert progress and [p.as_dict() for p in result.people] == [p.as_dict() for p in expected.people]
    assert all((p.thumbnail == q.thumbnail).all() for p, q in zip(result.people, expected.people, strict=True))
    assert (result.frames, result.counts, result.seconds) == (expected.frames, expected.counts, expected.seconds)
    assert (tmp_path / "out.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_a_canceled_video_ends_its_worker(sandbox, tmp_path):
    source = write_video(tmp_path / "video.mp4", moving(300))
    with open(source, "rb") as file:
        steps = sandbox.video(file.fileno(), tmp_path / "out.mp4", model="compact", threshold=0.7, blurred=False)
        next(steps)
        server = sandbox._server.pid

        working = []
        while not working:  # until it writes
            next(steps)
            working = [process for process in processes_below(server) if "out.mp4" in str(descriptors(process))]
        (worker,) = working
        steps.close()
    end = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists() and not (tmp_path / "out.mp4").exists()


@pytest.mark.slow
def test_videos_in_codecs_that_show_old_memory_are_refused(sandbox, tmp_path):
    for name, codec, pixels in (
        ("a.avi", None, None),
        ("b.mkv", "ffv1", "yuv420p"),
        ("c.avi", "cfhd", "yuv422p10le"),
    ):
        path = tmp_path / name
        if codec is None:
            flash_screen(path)
        else:
            with av.open(str(path), "w") as out:
                stream = out.add_stream(codec, rate=8)
                stream.width, stream.height, stream.pix_fmt = 320, 240, pixels
                for picture in moving(4, size=(320, 240), side=80):
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)))
                out.mux(stream.encode())
        with pytest.raises(VideoError, match="codec isn't supported"):
            video(sandbox, path, tmp_path / "out.mp4")


def test_only_sealed_memory_of_the_expected_size_is_taken():
    fd = memory_file(b"12345")
    assert bytes(content_of(fd, 5)) == b"12345"
    with pytest.raises(ValueError, match="expected size"):
        content_of(fd, 6)
    with pytest.raises(OSError):
        os.ftruncate(fd, 1)
    os.close(fd)
    unsealed = os.memfd_create("x")
    os.write(unsealed, b"12345")
    with pytest.raises(ValueError, match="sealed"):
        content_of(unsealed, 5)
    os.close(unsealed)


def test_a_connection_that_ends_or_says_nonsense_is_an_end():
    ours, theirs = pair()
    send(ours, {"a": 1})
    assert receive(theirs) == ({"a": 1}, [])
    for nonsense in (b"{no json", b"5", b"[" * 50_000):
        ours.send(nonsense)
        with pytest.raises(EOFError):
            receive(theirs)
    ours.close()
    with pytest.raises(EOFError):
        receive(theirs)
    theirs.close()


PERSON = {"id": 1, "first": 0, "last": 1, "on_screen": 1, "age": 30, "age_low": 25, "age_high": 35}
PERSON |= {"gender": "female", "gender_probability": 0.9, "thumbnail": None}
RESULT = {"people": [PERSON], "counts": [], "frames": 1, "analyzed": 1, "seconds": 1, "damaged": False, "elapsed": 1}


def test_only_people_of_the_right_types_come_out_of_a_worker():
    assert VideoResult.from_json(RESULT).people[0].age == 30.0
    for wrong in ({"id": "<img src=x>"}, {"gender": "<b>"}, {"age": "x"}, {"thumbnail": "AA=="}, {"age": None}):
        with pytest.raises((ValueError, TypeError)):
            VideoResult.from_json(RESULT | {"people": [PERSON | wrong]})
    for wrong in ({"seconds": "z"}, {"people": 5}, {"counts": [[1]]}, {"frames": None}):
        with pytest.raises((ValueError, TypeError)):
            VideoResult.from_json(RESULT | wrong)


@pytest.mark.parametrize(
    "sent",
    [
        b'[["a", "b", "c", "d", "e", "f", "g", "h"], ["i"]]',
        b"[5]",
        b"[5, [1]]",
        b'{"people": []}',
        b"x" * 101,
        b"[" * 90,
    ],
)
@pytest.mark.parametrize(
    "reply",
    [
        b"{",
        b"5",
        b"[" * 50_000,
        b'{"error": "no"}',
        b'{"size": [1, 1], "shape": 5, "incomplete": false}',
        b'{"size": [1, 1], "shape": [1e999, 1, 3], "incomplete": false}',
        b'{"share": 0.5}',
        b'{"share": [], "seconds_left": null}',
        b'{"share": 0.5, "seconds_left": null, "shape": [1, 1, 3]}',
        b'{"result": true}',
    ],
)
def test_a_worker_that_was_taken_over_costs_no_descriptors(monkeypatch, reply, sent):
    """Whatever it sends, the app says that the file takes too much, or what the worker said."""
    content = memory_file(sent)
    monkeypatch.setattr(client, "MAX_JSON", 100)
    monkeypatch.setattr(client, "MAX_VALUES", 10)
    box = Sandbox.__new__(Sandbox)
    box._at_once, box._large = threading.Semaphore(1), threading.Lock()
    monkeypatch.setattr(box, "_refill", lambda: None)

    def worker():
        ours, theirs = pair()
        socket.send_fds(theirs, [reply], [content] if len(sent) % 2 else [content, content])
        theirs.close()
        return client._Worker(ours)

    def frame():
        with contextlib.closing(box.frames()) as frames:
            frames.decode(b"x")

    def members():
        with box.zip(content, "a.zip", []):
            pass

    monkeypatch.setattr(box, "_ready_worker", worker)
    monkeypatch.setattr(client, "send", lambda *_: None)
    before = len(os.listdir("/proc/self/fd"))
    for ask, error in (
        (lambda: box.photo(content), PhotoError),
        (frame, PhotoError),
        (members, BatchError),
        (lambda: list(box.video(content, Path("out.mp4"), model="compact")), VideoError),
    ):
        with pytest.raises(error):
            ask()
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before
    os.close(content)


def test_without_workers_a_video_is_refused(sandbox, monkeypatch, tmp_path):
    def dead():
        raise client.WorkerEnded

    monkeypatch.setattr(sandbox, "_ready_worker", dead)
    with opened(GROUP) as fd, pytest.raises(VideoError, match="too much time or memory"):
        list(sandbox.video(fd, tmp_path / "out.mp4", model="compact"))


def test_a_video_ends_after_its_time_whatever_its_worker_reports(sandbox, monkeypatch, tmp_path):
    monkeypatch.setattr(client, "VIDEO_SECONDS", 0.0)
    source = write_video(tmp_path / "video.mp4", moving(8))
    with pytest.raises(VideoError, match="too much time or memory"):
        video(sandbox, source, tmp_path / "out.mp4")


def test_a_file_above_the_limit_is_refused_not_cut(sandbox, monkeypatch):
    monkeypatch.setattr(client, "MAX_BYTES", len(GROUP))
    with opened(GROUP) as fd:
        assert not sandbox.photo(fd).incomplete
    monkeypatch.setattr(client, "MAX_BYTES", len(GROUP) - 1)
    with opened(GROUP) as fd, pytest.raises(PhotoError, match="too large"):
        sandbox.photo(fd)


def test_the_app_s_modules_need_nothing_that_windows_lacks():
    code = (
        "import sys, gradio, uvicorn\n"  # they have other ways there
        "sys.modules |= dict.fromkeys(['fcntl', 'resource', 'termios', 'pwd', 'grp'])\n"
        "import app, space.cli, space.web.page, space.live.server, space.sandbox.client"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


def test_without_workers_the_same_calls_work_and_say_that_they_protect_nobody(monkeypatch, tmp_path):
    """Windows and macOS."""
    monkeypatch.delattr(os, "pidfd_open")
    alone = client.open_sandbox()
    assert not alone.isolated and Sandbox.isolated
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("one.jpg", GROUP)
    with opened(GROUP) as fd:
        np.testing.assert_array_equal(alone.photo(fd).rgb, open_photo(GROUP).rgb)
    with opened(file.getvalue()) as fd, alone.zip(fd, "a.zip", []) as pictures:
        assert [picture.name for picture in pictures] == ["a.zip/one.jpg"]
        assert pictures[0].open().rgb.shape == (536, 1064, 3)
    with pytest.raises(PhotoError, match="readable image"):
        alone.frames().decode(encoded(Image.new("RGB", (64, 64)), "PNG"))
    *_, result = video(alone, write_video(tmp_path / "v.mp4", moving(6)), tmp_path / "out.mp4")
    assert isinstance(result, VideoResult) and (tmp_path / "out.mp4").exists()
    alone.close()
