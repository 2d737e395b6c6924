"""Images are found in folders and zips: each one once, none that lies elsewhere."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from space import cli
from space.batch.analyze import analyze_pictures
from space.batch.pictures import BatchError, _name, find_pictures, open_zip
from space.batch.tables import no_faces, table
from space.photo import PhotoError
from tests.support import EXAMPLES
from tests.support.batch import MAN


def test_images_that_differ_only_in_the_middle_are_different(tmp_path):
    prints = set()
    for gray in (10, 20):
        image = Image.new("RGB", (640, 480))
        image.paste((gray, gray, gray), (200, 150, 440, 330))
        image.save(tmp_path / "frame.bmp")
        (picture,) = find_pictures([tmp_path / "frame.bmp"])
        prints.add(picture.fingerprint())
    assert len(prints) == 2


def test_a_change_anywhere_in_a_large_file_is_noticed(tmp_path):
    file, found = tmp_path / "a.bmp", set()
    for place in (None, 0, 50_000, 100_000, 150_000, 199_999):
        content = bytearray(200_000)
        if place is not None:
            content[place] = 1
        file.write_bytes(content)
        (picture,) = find_pictures([str(file)])
        found.add(picture.fingerprint())
    assert len(found) == 6


def test_a_folder_that_cannot_be_read_is_an_error_of_its_own(tmp_path, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / "a.jpg")
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    for folder, names in ((tmp_path, ["a.jpg", "closed"]), (tmp_path / "closed", ["closed"])):
        found = find_pictures([folder])
        assert [Path(picture.name).name for picture in found] == names
        with pytest.raises(PhotoError, match=r"This folder can't be read \(Permission denied\)"):
            found[-1].open()


def test_a_folder_that_may_be_listed_but_not_entered_is_an_error_of_its_own(tmp_path, monkeypatch):
    is_file = Path.is_file

    def refuse(path):
        if path.name == "closed.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    for name in ("a.jpg", "closed.jpg"):
        shutil.copy(EXAMPLES / "age-20-29-male.jpg", tmp_path / name)
    monkeypatch.setattr(Path, "is_file", refuse)
    good, closed = find_pictures([str(tmp_path)])
    assert Path(good.name).name == "a.jpg" and Path(closed.name).name == "closed.jpg"
    with pytest.raises(PhotoError, match=r"The file can't be read \(Permission denied\)"):
        closed.open()


def test_folders_are_searched_whole_and_each_picture_once(album):
    (album / "link").symlink_to(album / "deeper", target_is_directory=True)
    (album / "circle").symlink_to(album, target_is_directory=True)
    (album / "bad.zip").write_bytes(b"PK no zip")
    found = [picture.name for picture in find_pictures([album, album / "group.jpg", album / "deeper"])]
    assert len(found) == len(set(found)) == 6 and f"{album}/bad.zip" in found
    with pytest.raises(PhotoError, match="not a readable zip"):
        next(p for p in find_pictures([album]) if p.name.endswith("bad.zip")).open()


def test_an_image_without_a_suffix_is_found(tmp_path):
    shutil.copy(MAN, tmp_path / "photo")
    assert len(find_pictures([tmp_path])) == 1


def test_names_that_look_like_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("[a].jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert cli._expanded("[a].jpg") == ["[a].jpg"]
    assert cli._expanded("[ab].jpg") == ["a.jpg", "b.jpg"]
    assert cli._expanded("none*.jpg") == ["none*.jpg"]
    with pytest.raises(BatchError, match="empty"):
        find_pictures([""])


def test_zips_are_read_in_place_and_bounded(tmp_path, analyzer, monkeypatch):
    from space.batch import pictures as module

    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../escape.jpg", (EXAMPLES / "group.jpg").read_bytes())
        archive.writestr("/absolute.jpg", (EXAMPLES / "age-20-29-male.jpg").read_bytes())
        archive.writestr("bomb.png", b"\0" * 3_000_000)
        archive.writestr("inner.zip", b"PK")
        archive.writestr("cut.jpg", (EXAMPLES / "group.jpg").read_bytes()[:9000])
    monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    found = {Path(row["file"]).name: row for row in analyze_pictures(analyzer, find_pictures([path]))}
    assert sorted(found) == ["absolute.jpg", "bomb.png", "cut.jpg", "escape.jpg"]
    assert len(found["escape.jpg"]["faces"]) == 8 and len(found["absolute.jpg"]["faces"]) == 1
    assert "too large" in found["bomb.png"]["error"] and found["cut.jpg"]["error"] is None
    assert {name for name, row in found.items() if row["incomplete"]} == {"cut.jpg"}
    assert table(found["cut.jpg"])[0]["incomplete"] and "incomplete" in no_faces(found["cut.jpg"] | {"faces": []})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures.zip"]
    monkeypatch.setattr(module, "MAX_MEMBERS", 2)
    with pytest.raises(BatchError, match="4 images: the limit is 2"):
        find_pictures([path])
    assert table(found["bomb.png"])[0]["error"]


def test_a_zip_whose_list_alone_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "huge.zip"
    entry = b"PK\x01\x02" + bytes(24) + b"\x05\x00" + bytes(16) + b"a.jpg"
    count = 1_000_000
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff" * 2 + (count * len(entry)).to_bytes(4, "little") + bytes(6)
    path.write_bytes(entry * count + end)
    with pytest.raises(BatchError, match=r"^huge\.zip lists too many files: the limit is 100,000 in one zip\.$"):
        find_pictures([path])


def test_names_in_a_zip_lead_nowhere(tmp_path):
    names = ["../../up.jpg", "/etc/root.jpg", "a/../../b.jpg", "C:\\win.jpg", "=cmd|calc.jpg", "\u202egpj.exe.jpg"]
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"no picture")
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16  # a symbolic link to what its content names
        archive.writestr(link, "/etc/passwd")
        archive.writestr("nameless", b"x")
        archive.infolist()[-1].filename = ""  # found by the fuzzer: zipfile's own is_dir() fails on it
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as nested:
            nested.writestr("deep.jpg", b"x")
        archive.writestr("inner.zip", inner.getvalue())
    before = set(tmp_path.parent.rglob("*"))
    assert len(find_pictures([tmp_path / "slip.zip"])) == len(names) + 1  # zips within zips are not opened
    members, _ = open_zip(tmp_path / "slip.zip", "slip.zip")
    contents = {member.name.rsplit("/", 1)[-1]: member.read() for member in members}
    assert contents.pop("link.jpg") == b"/etc/passwd"  # the link's own bytes, not what it points at
    assert set(contents.values()) == {b"no picture"}
    assert set(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_zipfile_would_decompress_whole_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "many.zip", "w", method) as archive:
        archive.write(EXAMPLES / "group.jpg", "group.jpg")
        archive.writestr("unnamed", (EXAMPLES / "group.jpg").read_bytes())
    skipped: list[str] = []
    (picture,) = find_pictures([tmp_path / "many.zip"], skipped)
    with pytest.raises(PhotoError, match="Deflate"):
        picture.open()
    assert [Path(name).name for name in skipped] == ["unnamed"]


def test_members_of_one_name_are_all_analyzed(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.jpg", b"one")
        archive.writestr("a.jpg", b"two")
        archive.writestr("a.jpg (2)", (EXAMPLES / "group.jpg").read_bytes())
    members, _ = open_zip(tmp_path / "twice.zip", "twice.zip")
    assert [(member.name, member.read()[:3]) for member in members] == [
        ("twice.zip/a.jpg", b"one"), ("twice.zip/a.jpg (2)", b"two"), ("twice.zip/a.jpg (2) (2)", b"\xff\xd8\xff"),
    ]  # fmt: skip


def test_a_member_with_a_password_is_named_as_such(tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        archive.writestr("a.jpg", MAN.read_bytes())
    content = bytearray((tmp_path / "album.zip").read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    (tmp_path / "album.zip").write_bytes(content)
    (member,), _ = open_zip(tmp_path / "album.zip", "album.zip")
    with pytest.raises(PhotoError, match="password-protected"):
        member.read()


def test_hidden_members_are_skipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "album.zip", "w") as archive:
        for name in ("a.jpg", ".hidden/b.jpg", "._a.jpg"):
            archive.writestr(name, b"x")
    members, others = open_zip(tmp_path / "album.zip", "album.zip")
    assert [member.name for member in members] == ["album.zip/a.jpg"] and len(others) == 2


WESTERN = "é schön Straße Größe Köln Höhle Père Österreich MÜNCHEN Süß São_João GoProHöhle étés".split()
JAPANESE = "写真 テスト カメラ ひらがな 日本 家族 山 人 馬 IMG_写真 DSC馬 富士山 photo_山 holiday_東 img-空 ｶﾒﾗ".split()


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *((f"{name}.jpg", "utf-8") for name in ("é", "写真", "Größe")),
        *((f"{name}.jpg", "cp850") for name in (*WESTERN, "Urlaub Köln/Höhle 1")),
        *((f"{name}.jpg", "cp932") for name in (*JAPANESE, "新しいフォルダー/写真1", "family 家")),
    ],
)
def test_names_in_the_code_page_of_another_system(name, encoding):
    info = zipfile.ZipInfo("x")
    info.filename = name.encode(encoding).decode("cp437")  # as zipfile reads a name without the Unicode flag
    assert _name(info) == name
    info.filename, info.flag_bits = name, 0x800
    assert _name(info) == name
