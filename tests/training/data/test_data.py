"""Reading UTKFace: layouts, oddities, duplicates, splits, decoding, errors, the Hub."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shutil
import tarfile
import time
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.hub.download import ModelError
from space.photo import read_photo
from tests.support import EXAMPLES, shared
from tests.support.app import python
from tests.support.faces import LOADING, face_file, face_files, jpeg, split_of, tar_bytes, write_folder
from training.data import decode as decode_module
from training.data import sources
from training.data.decode import decode, decode_picture
from training.data.faces import load_faces
from training.data.labels import _years, class_name, parse_label, sha256_of_image, stem
from training.data.load import load_crops, load_samples
from training.data.samples import AGE_BANDS, PROTOCOLS, SPLITS, dataset_hash, describe, label_hash, positive_int
from training.data.sources import DataError


def parquet(files: dict[str, bytes], path, *, columns: str) -> None:
    """The two parquet layouts on the Hub: labels as columns, or nothing but the picture's name."""
    import datasets

    parts = [name.split("_") for name in files]
    table = {"image": [{"bytes": content, "path": name} for name, content in files.items()]}
    features = {"image": datasets.Image()}
    if columns == "words":
        table |= {
            "age": [int(p[0]) for p in parts],
            "gender": [("Male", "Female")[int(p[1])] for p in parts],
            "ethnicity": [("White", "Black", "Asian", "Indian", "Others")[int(p[2])] for p in parts],
        }
        features |= {name: datasets.Value("string") for name in ("gender", "ethnicity")} | {
            "age": datasets.Value("int64")
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(table, features=datasets.Features(features)).to_parquet(path)


@pytest.mark.parametrize("layout", ["folder", "nested", "tar", "parquet of words", "parquet of names", "two parquets"])
def test_every_layout_gives_the_same_samples(tmp_path, layout):
    files = face_files(12)
    if layout in ("folder", "nested"):
        write_folder(files, tmp_path / ("a/b" if layout == "nested" else ""))
    elif layout == "tar":
        (tmp_path / "UTKFace.tar.gz").write_bytes(tar_bytes(files))
    elif layout == "two parquets":
        names = list(files)
        parquet({n: files[n] for n in names[:5]}, tmp_path / "train.parquet", columns="words")
        parquet({n: files[n] for n in names[5:]}, tmp_path / "valid.parquet", columns="words")
    else:
        parquet(files, tmp_path / "data.parquet", columns=layout.split()[-1])
    samples, report = load_samples(tmp_path)
    assert report.rows == report.used == 12 and not report.rejected
    found = {
        (sha, int(age), int(gender), int(race))
        for sha, age, gender, race in zip(samples.sha256, samples.age, samples.gender, samples.race, strict=True)
    }
    expected = {(sha256_of_image({"bytes": c, "path": None}), *map(int, n.split("_")[:3])) for n, c in files.items()}
    assert found == expected


def test_oddities_of_the_real_files(tmp_path):
    files = face_files(6) | {  # webdataset looks at the first few for the columns
        "24_0_1_20170116220224657 .jpg.chip.jpg": face_file(1, 24, 0),
        "39_1_20170116174525125.jpg.chip.jpg": face_file(2, 39, 1),
        "61_1_20170109150557335.jpg.chip.jpg": face_file(3, 61, 1),
        "55_0_0_20170116232725357jpg.chip.jpg": face_file(4, 55, 0),  # a dot is missing: another column in the tar
        "1_1_0_2017010919.jpg.chip.jpg": face_file(5, 1, 1),  # a short date
        "130_0_0_20170109190000000.jpg.chip.jpg": face_file(6, 99, 0),
        "20_3_0_20170109190000001.jpg.chip.jpg": face_file(7, 20, 0),
        "20_1_9_20170109190000002.jpg.chip.jpg": face_file(8, 20, 0),
        "holiday.jpg.chip.jpg": face_file(9, 20, 0),
    }
    (tmp_path / "UTKFace.tar.gz").write_bytes(tar_bytes(files))
    samples, report = load_samples(tmp_path / "UTKFace.tar.gz")
    labels = zip(samples.age, samples.gender, samples.race, strict=True)
    by_name = dict(list(zip(map(str, samples.name), (tuple(map(int, label)) for label in labels), strict=True))[6:])
    assert by_name == {
        "24_0_1_20170116220224657": (24, 0, 1),
        "39_1_20170116174525125": (39, 1, 1),
        "61_1_20170109150557335": (61, 1, 3),
        "1_1_0_2017010919": (1, 1, 0),
    }
    assert report.rows == 15 and len(report.corrected) == 2
    assert sum(map(len, report.rejected.values())) == 5
    assert "holiday" in str(report) and "unreadable image" in str(report)
    assert len(str(report).splitlines()) < 25


def test_duplicates_and_conflicts(tmp_path):
    same, other, third = face_file(1, 20, 0), face_file(2, 30, 1), face_file(3, 40, 1)
    files = {
        "20_0_0_1.jpg": same, "20_0_0_2.jpg": same,  # copies that agree
        "30_1_0_3.jpg": other, "31_1_0_4.jpg": other,  # disagree on age
        "40_1_0_5.jpg": third, "40_0_0_6.jpg": third,  # disagree on gender
        "50_1_0_7.jpg": face_file(4, 50, 1),
    }  # fmt: skip
    write_folder(files, tmp_path)
    clean, report = load_samples(tmp_path, policy="clean")
    assert sorted(clean.age) == [20, 50]
    assert (report.duplicate_groups, report.duplicate_files, report.conflicting_groups) == (3, 3, 2)
    assert sorted(report.dropped.values()) == [1, 4]
    everything, report = load_samples(tmp_path, policy="all")
    assert len(everything) == 7 and report.used == 7 and not report.dropped


def test_splits_share_no_picture_and_lose_none(made_up):
    samples, _ = load_samples(made_up, policy="all")
    for protocol, buckets in PROTOCOLS.items():
        assert sorted(b for group in buckets.values() for b in group) == list(range(10))
        parts = [set(samples.split(name, protocol).sha256) for name in SPLITS]
        assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
        assert set().union(*parts) == set(samples.sha256)
    direct = load_samples(made_up, policy="all")[0].split("test")
    assert set(direct.sha256) == set(samples.split("test").sha256)


def test_fairfaces_bands_of_years_and_races(photographs):
    samples, report = load_samples(photographs)
    assert report.rows == 60 and samples.binned and len(samples) > 50
    assert samples.races[5:] == ("Latino Hispanic", "Southeast Asian") and set(samples.race) == set(range(7))
    assert {tuple(r) for r in samples.age_range.tolist()} <= {
        (float(a), float(b)) for a, b in AGE_BANDS
    }  # fmt: skip
    assert set(samples.gender) == {0, 1} and "ages 3 to 69" in describe(samples)
    parts = [set(samples.take(np.isin(samples.bucket, b)).sha256) for b in PROTOCOLS["80/10/10"].values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(samples)


@pytest.mark.parametrize(
    ("race", "index"),
    [
        ("Asian", 2),
        ("a", 2),
        ("WHITES", 0),
        ("b", 1),
        ("2", 2),
        ("2.0", 2),
        ("5", -1),
        ("as", -1),
        ("", -1),
        (None, -1),
    ],
)
@pytest.mark.parametrize(
    ("gender", "female"),
    [("Female", 1), ("f", 1), ("M", 0), ("males", 0), ("women", 1), ("boy", 0), ("1.0", 1), ("fe", None), ("", None)],
)
def test_genders_and_races_as_words_initials_and_numbers(gender, female, race, index):
    expected = None if female is None else (31.0, 31.0, female, index)
    assert parse_label(31, gender, race, ("White", "Black", "Asian", "Indian", "Other")) == expected


@pytest.mark.parametrize(
    ("label", "years"),
    [
        ("31", (31, 31)),
        ("20,50", (20.5, 20.5)),
        ("30,25", (30.25, 30.25)),
        ("(25,32)", (25, 32)),
        ("3-9", (3, 9)),
        ("3_9", (3, 9)),
        ("1e1", None),
        ("nan", None),
        ("-5", None),
        ("more than 70", (70, 120)),
        ("70+", (70, 120)),
        ("9-3", None),
        ("121", None),
    ],
)
def test_ages_as_years_and_as_ranges(label, years):
    assert _years(label) == years


def test_photos_are_cropped_while_decoding(tmp_path, capsys):
    files = {f"{age}_0_0_2017{age:013d}.jpg": jpeg(np.full((60, 80, 3), age, np.uint8)) for age in (20, 40, 60)}
    samples, _ = load_samples(write_folder(files, tmp_path))

    def cut(rgb):
        assert rgb.shape == (60, 80, 3)  # as the photograph is, not squeezed into a square
        if rgb[0, 0, 0] == 40:
            raise ValueError("no face found")
        return np.full((200, 200, 3), rgb[0, 0], np.uint8)

    kept, images = decode(samples, cut)
    assert sorted(kept.age) == [20, 60] and sorted(images[:, 0, 0, 0]) == [20, 60]
    assert "without a detectable face" in capsys.readouterr().out


@pytest.mark.slow
def test_real_splits_share_no_picture(utkface):
    """Across both sources: no test picture was trained on, whatever collection it came from."""
    sets = [load_samples(source)[0] for source in (utkface, shared("data/FairFace"))]
    parts = {name: set().union(*(set(s.split(name).sha256) for s in sets)) for name in SPLITS}
    assert (
        not parts["train"] & parts["validation"] | parts["train"] & parts["test"] | parts["validation"] & parts["test"]
    )
    assert len(set().union(*parts.values())) == sum(map(len, parts.values()))


def test_limit_is_decided_by_the_seed(made_up):
    samples, _ = load_samples(made_up)
    first, again, other = (samples.limit(20, seed).name for seed in (0, 0, 1))
    assert list(first) == list(again) != list(other) and len(first) == 20


def test_decoding_resizes_turns_and_leaves_out_what_is_damaged(tmp_path, capsys):
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:50] = (255, 0, 0)  # red on top
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    files = {
        "20_0_0_1.jpg": file.getvalue(),
        "30_0_0_2.jpg": face_file(1, 30, 0)[:900],
        "40_0_0_3.jpg": face_file(2, 40, 0),
    }
    samples, _ = load_samples(write_folder(files, tmp_path))
    kept, images = decode(samples)
    assert images.shape == (2, 200, 200, 3) and images.dtype == np.uint8
    assert set(kept.age) == {20, 40}
    turned = images[list(kept.age).index(20)]
    assert turned[150, 100, 0] > 200 and turned[50, 100, 0] < 60
    assert "30_0_0_2" in capsys.readouterr().out


@pytest.mark.parametrize("error", [EOFError("of HEIC"), RuntimeError("of AVIF"), SyntaxError("of PNG")])
def test_whatever_a_decoder_raises_only_its_image_is_skipped(made_up, monkeypatch, capsys, error):
    samples, real, calls = load_samples(made_up)[0].limit(5), decode_module.decode_picture, []

    def one_fails(encoded):
        calls.append(encoded)
        if encoded == samples.encoded[2]:
            raise error
        return real(encoded)

    monkeypatch.setattr(decode_module, "decode_picture", one_fails)
    kept, images = decode(samples)
    assert len(kept) == len(images) == 4 and samples.name[2] in capsys.readouterr().out


def test_an_image_that_the_disk_does_not_give_is_not_skipped_for_good(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_module, "_IN_MEMORY", 0)
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path))
    samples, real = load_samples(made_up)[0].limit(5), decode_module.decode_picture

    def fails(encoded):
        if encoded == samples.encoded[2]:
            raise OSError(errno.EIO, "Input/output error")
        return real(encoded)

    with monkeypatch.context() as patch, pytest.raises(DataError, match=f"{samples.name[2]} can't be read: .*disk"):
        patch.setattr(decode_module, "decode_picture", fails)
        decode(samples)
    assert len(decode(samples)[0]) == 5


def test_pictures_are_read_as_serving_reads_them():
    deep = np.linspace(0, 65535, 30 * 30).astype(np.uint16).reshape(30, 30)
    clear = Image.new("RGBA", (30, 30), (200, 0, 0, 0))
    for image in (Image.fromarray(deep), clear):
        file = io.BytesIO()
        image.save(file, "PNG")
        np.testing.assert_array_equal(decode_picture(file.getvalue()), read_photo(file.getvalue()))
    assert (decode_picture(file.getvalue()) == 255).all()  # what is transparent is white


@pytest.mark.parametrize("error", [MemoryError(), ModelError("The detector is missing.")])
def test_what_is_no_fault_of_an_image_ends_the_run(made_up, monkeypatch, error):
    def fails(encoded):
        raise error

    monkeypatch.setattr(decode_module, "decode_picture", fails)
    with pytest.raises(type(error)):
        decode(load_samples(made_up)[0].limit(5))


def test_decoded_pictures_are_kept_on_disk(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_module, "_IN_MEMORY", 10)
    samples = load_samples(made_up)[0].limit(30)
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path))
    _, first = decode(samples)
    monkeypatch.setattr(decode_module, "decode_picture", lambda encoded: pytest.fail("decoded again"))
    _, second = decode(samples)
    assert np.array_equal(first, second) and isinstance(second, np.memmap)
    assert not list(tmp_path.glob("*partial*"))


def test_what_killed_programs_left_in_the_cache_is_deleted_after_a_day(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_module, "_IN_MEMORY", 10)
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path))
    archive, old, new = f"unpacked-{'0' * 16}.partial-1", f"{'0' * 16}-a.npy.partial-1", f"{'1' * 16}-a.npy.partial-2"
    (tmp_path / archive).mkdir()
    for name in (f"{archive}/face.jpg", old, new, "2.npy", "thesis.partial-1"):
        (tmp_path / name).write_bytes(b"part")
    for name in (archive, old, "2.npy", "thesis.partial-1"):
        os.utime(tmp_path / name, times=(time.time() - sources.LEFT_AFTER - 1,) * 2)
    decode(load_samples(made_up)[0].limit(30))
    left = {path.name for path in tmp_path.glob("*partial*")}
    assert left == {new, "thesis.partial-1"} and (tmp_path / "2.npy").exists()


def test_two_programs_unpack_the_same_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path))
    with sources.new_in_cache("unpacked-0") as mine:
        mine.mkdir()
        (tmp_path / "unpacked-0").mkdir()
        (tmp_path / "unpacked-0" / "face.jpg").write_bytes(b"theirs")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["unpacked-0/face.jpg"]
    with pytest.raises(OSError), sources.new_in_cache("missing") as _:  # nothing was made
        pass


def test_no_room_for_the_cache(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_module, "_IN_MEMORY", 10)
    monkeypatch.setattr(decode_module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1 << 20}))
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="AGE_GENDER_CACHE"):
        decode(load_samples(made_up)[0])
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "nowhere", "No dataset at"),
        (lambda p: write_folder({}, p / "empty"), "contains no images"),
        (lambda p: write_folder({"notes.txt": b"x"}, p / "text"), "contains no images"),
        (lambda p: write_folder({"cat.jpg": face_file(1, 1, 1)}, p / "cats"), "No usable image"),
        (lambda p: write_folder({"x.tar.gz": b"no tar"}, p / "bad") / "x.tar.gz", "Cannot read the dataset"),
    ],
)
def test_unusable_sources(tmp_path, make, words):
    with pytest.raises(DataError, match=words):
        load_samples(make(tmp_path))


def test_layouts_that_people_have(tmp_path):
    import pyarrow
    import pyarrow.parquet

    files = face_files(20)
    reference = sorted(load_samples(write_folder(files, tmp_path / "plain"))[0].sha256)

    def same(source) -> None:
        samples, report = load_samples(source)
        assert sorted(samples.sha256) == reference, str(report)

    same(write_folder(files, tmp_path / "UTK [aligned] *"))
    copies = {
        name.replace(".jpg.chip.jpg", f"{' (1)' if i % 2 else ' - Copy'}.jpg"): c
        for i, (name, c) in enumerate(files.items())
    }
    same(write_folder(copies, tmp_path / "copies"))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"UTKFace/{name}", content)
    same(tmp_path / "archive.zip")
    with tarfile.open(tmp_path / "utk.tar.bz2", "w:bz2") as archive:
        archive.add(tmp_path / "plain", "UTKFace")
    same(tmp_path / "utk.tar.bz2")
    labels = [name.split("_")[:3] for name in files]
    pictures = {f"{i}.jpg": content for i, content in enumerate(files.values())}
    for place, header, table in (
        ("metadata", "file_name", "metadata.csv"),
        ("fairface", "file", "fairface_label_train.csv"),
    ):
        folder = write_folder(pictures, tmp_path / place)
        lines = [f"{name},{','.join(label)}" for name, label in zip(pictures, labels, strict=True)]
        (folder / table).write_text("\n".join([f"{header},age,gender,race", *lines]), encoding="utf-8-sig")
        same(folder)
    rows = [
        {"file_name": name, "age": int(age), "gender": "Female" if gender == "1" else "Male"}
        for name, (age, gender, _) in zip(pictures, labels, strict=True)
    ]
    folder = write_folder(pictures, tmp_path / "jsonl")
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    same(folder)
    columns = {"age": [int(label[0]) for label in labels], "gender": [int(label[1]) for label in labels]}
    contents = list(pictures.values())
    for name, images in (("bytes", contents), ("structs", [{"bytes": c, "path": None} for c in contents])):
        pyarrow.parquet.write_table(pyarrow.table({"image": images, **columns}), tmp_path / f"{name}.parquet")
        same(tmp_path / f"{name}.parquet")


def test_photos_under_the_names_of_face_crops_are_detected_and_cropped(tmp_path, capsys):
    names, files = list(face_files(6)), {}
    for i, path in enumerate(sorted(EXAMPLES.glob("age-*.jpg"))[:6]):
        scene = Image.new("RGB", (900, 600), (120, 130, 140))
        scene.paste(Image.open(path).resize((200, 200)), (100 + 80 * i, 180))
        files[names[i]] = jpeg(np.asarray(scene))
    files |= dict(list(face_files(8).items())[6:])
    samples, images = decode(load_samples(write_folder(files, tmp_path))[0])
    assert "6 of 8 images are photos" in capsys.readouterr().out and len(images) == 8
    cropped = images[[name + ".jpg.chip.jpg" in names[:6] for name in samples.name]]
    assert len(cropped) == 6
    for image in cropped:  # the scene's gray is gone but for a border
        assert (np.abs(image.astype(int) - [120, 130, 140]).max(axis=2) < 8).mean() < 0.3


def test_square_images_are_cropped_unless_they_are_face_crops(tmp_path, capsys, utkface, monkeypatch):
    faces, originals = decode(load_crops(utkface, "validation").limit(20))
    files = {}
    for i, (name, face) in enumerate(zip(faces.name, originals, strict=True)):
        large = Image.fromarray(face).resize((400, 400))
        if i < 10:  # a photo of 900 x 900 with the face at its left
            scene = Image.new("RGB", (900, 900), (120, 130, 140))
            scene.paste(large, (60, 250))
            large = scene
        files[name + ".jpg.chip.jpg"] = jpeg(np.asarray(large))
    capsys.readouterr()
    samples, images = decode(load_samples(write_folder(files, tmp_path / "square"))[0])
    assert "10 of 20 images are photos" in capsys.readouterr().out
    originals = originals[[list(faces.name).index(name) for name in samples.name]].astype(int)
    scenes = np.array([list(faces.name).index(name) < 10 for name in samples.name])
    assert np.abs(images[~scenes] - originals[~scenes]).mean() < 4
    assert np.abs(images[scenes] - originals[scenes]).mean() < 40  # cropped about as they were


def test_a_parquet_without_pictures(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"age": [1], "gender": [0]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no image column"):
        load_samples(tmp_path)


def test_an_empty_split_is_named(tmp_path):
    samples, _ = load_samples(write_folder(face_files(1), tmp_path))
    empty = next(name for name in SPLITS if samples.bucket[0] not in PROTOCOLS["80/10/10"][name])
    with pytest.raises(DataError, match=f"The {empty} split"):
        samples.split(empty)


def test_the_collection_of_faces_is_told_by_names_and_labels(made_up, photographs, tmp_path):
    """It decides the license, so labels alone don't make FairFace, and a folder's name alone doesn't either."""
    assert load_samples(made_up)[1].collection == "UTKFace"
    assert load_samples(photographs)[1].collection == "FairFace"
    shutil.copytree(photographs, tmp_path / "mine")
    renamed = load_samples(tmp_path / "mine")[1]
    assert renamed.collection is None and renamed.similar == "FairFace"


def test_own_photos_named_like_utkface_s_are_not_utkface(tmp_path):
    for name, collection in (
        ("25_0_2_20240101120000000", None),
        ("25_0_2_17", None),
        ("39_1_20170116174525125", "UTKFace"),
    ):
        folder = write_folder({f"{name}.jpg": face_file(0, 25, 0)}, tmp_path / name)
        report = load_samples(folder)[1]
        assert report.collection == collection
        assert ("add utkface to the folder's name" in str(report)) == (collection is None)


def test_own_photos_of_the_size_of_face_crops_are_cropped(tmp_path, capsys):
    with Image.open(EXAMPLES / "group.jpg") as group:
        files = {f"{20 + i}_0_0_{i}.jpg": jpeg(np.asarray(group.resize((200, 200)).rotate(i))) for i in range(8)}
    faces = load_faces([str(write_folder(files, tmp_path))], [], **LOADING | {"protocol": "60/20/20"})
    assert "are photos, not face crops" in capsys.readouterr().out
    assert all(len(part) for split in faces.values() for part in split)


def test_indices_of_age_groups_are_not_read_as_years(photographs, tmp_path):
    import pyarrow.parquet

    (file,) = photographs.rglob("*.parquet")
    table = pyarrow.parquet.read_table(file).replace_schema_metadata(None)
    for name, columns in (("copy", table), ("own", table.drop_columns(["service_test"]))):
        pyarrow.parquet.write_table(columns, tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="but not the age group names"):
        load_samples(tmp_path / "copy.parquet")
    assert "if these are age group indices" in str(load_samples(tmp_path / "own.parquet")[1])


@pytest.mark.slow
def test_the_hub_dataset_through_the_real_client(hub, tmp_path):
    repo = hub.add(
        "py97/UTKFace-Cropped", {"UTKFace.tar.gz": tar_bytes(face_files(40)), "README.md": b"# x\n"}, "dataset"
    )
    first = repo.refs["main"]
    repo.commit({"UTKFace.tar.gz": tar_bytes(face_files(60)), "README.md": b"# x\n"})
    env = hub.environment(tmp_path) | {"HF_HUB_OFFLINE": "0"}

    def load(*arguments):
        result = python("-m", "training.data", *arguments, env=env)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()[0]

    assert load(f"{sources.DATASET}@{first}").startswith(f"{sources.DATASET}@{first}: 40 rows")
    assert load().startswith(f"{sources.DATASET}@{repo.refs['main']}: 60 rows")
    hub.stop()
    assert ": 60 rows" in load()  # from the client's cache


def test_fairface_through_the_real_client(hub, photographs, tmp_path):
    """Two configurations as on the Hub: the one with a quarter's margin is taken."""
    parquet = next(photographs.rglob("*.parquet")).read_bytes()
    readme = "---\nconfigs:\n" + "".join(
        f"- config_name: '{name}'\n  data_files:\n  - split: train\n    path: {name}/train-*\n"
        for name in ("0.25", "1.25")
    )
    name = "train-00000-of-00001.parquet"
    files = {"README.md": f"{readme}---\n".encode(), f"0.25/{name}": parquet, f"1.25/{name}": b"not to be read"}
    repo = hub.add(sources.FAIRFACE, files, "dataset")
    result = python("-m", "training.data", sources.FAIRFACE, env=hub.environment(tmp_path) | {"HF_HUB_OFFLINE": "0"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith(f"{sources.FAIRFACE}@{repo.refs['main']}: 60 rows, 60 used")


def test_an_unknown_hub_dataset(hub, tmp_path):
    result = python(
        "-m", "training.data", "nobody/nothing", env=hub.environment(tmp_path) | {"HF_HUB_OFFLINE": "0"}
    )  # fmt: skip
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "nobody/nothing" in result.stderr and "--dataset" in result.stderr


def test_real_utkface(utkface):
    samples, report = load_samples(utkface)
    assert report.rows == 23708
    assert (report.duplicate_groups, report.duplicate_files) == (375, 390)
    assert report.rejected == {"missing or unreadable image": ["55_0_0_20170116232725357jpg"]}
    assert len(report.corrected) == 3
    sizes = [len(samples.split(name)) for name in SPLITS]
    assert sizes == [18495, 2295, 2303]
    assert (samples.race >= 0).all() and "24_0_1_20170116220224657" in samples.name


def test_grayscale_and_palette_pictures_become_rgb():
    for mode in ("L", "P", "CMYK", "LA"):
        file = io.BytesIO()
        Image.new(mode, (30, 30)).save(file, "TIFF" if mode == "CMYK" else "PNG")
        assert decode_picture(file.getvalue()).shape == (30, 30, 3)
    assert decode_picture(jpeg(np.full((200, 200, 3), 7, np.uint8)))[100, 100].tolist() == [7, 7, 7]


def test_a_parquet_row_cannot_name_a_file_of_this_machine(tmp_path, made_up):
    """A stranger's table may hold paths instead of images; its reader's own files would become training data."""
    import datasets

    (tmp_path / "secret").mkdir(), (tmp_path / "data").mkdir()
    faces = sorted(made_up.rglob("*.jpg"))[:6]
    secret = shutil.copy(faces[0], tmp_path / "secret" / faces[0].name)
    (tmp_path / "data" / "link.jpg").symlink_to(secret)
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in faces[1:]]
    for path in (secret, tmp_path / "data" / ".." / "secret" / faces[0].name, tmp_path / "data" / "link.jpg"):
        rows.append({"bytes": None, "path": str(path)})
    table = {"image": rows, "age": [20] * len(rows), "gender": [0] * len(rows)}
    features = datasets.Features(image=datasets.Image(), age=datasets.Value("int64"), gender=datasets.Value("int64"))
    datasets.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "data" / "a.parquet")
    samples, report = load_samples(tmp_path / "data" / "a.parquet", policy="all")
    assert len(samples) == 5 and len(report.rejected["missing or unreadable image"]) == 3


def test_a_tar_is_unpacked_below_its_folder_without_links_to_elsewhere(tmp_path):
    with tarfile.open(tmp_path / "faces.tar.bz2", "w:bz2") as archive:
        for name, kind, link in (
            ("../../up.jpg", tarfile.REGTYPE, ""),
            ("same.jpg", tarfile.LNKTYPE, "../../up.jpg"),
            ("passwd.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"face"))
    sources._unpack(tmp_path / "faces.tar.bz2", tmp_path / "out", 1000)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["same.jpg", "up.jpg"]
    assert (tmp_path / "out" / "same.jpg").read_bytes() == b"face"


def test_an_archive_of_the_same_name_with_other_content_is_unpacked_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path / "cache"))
    files, archive = face_files(7), tmp_path / "UTKFace.zip"
    for names in (list(files)[:3], list(files)[3:]):
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                packed.writestr(name, files[name])
        found = [load_samples(archive)[0] for _ in range(2)]
        assert [sorted(samples.name) for samples in found] == [sorted(map(stem, names))] * 2
        assert len(list((tmp_path / "cache").glob("unpacked-*"))) == (1 if len(names) == 3 else 2)


def test_all_splits_of_a_hub_dataset_are_joined(tmp_path, monkeypatch):
    import datasets

    files = face_files(9)
    parts = {"train": list(files)[:5], "validation": list(files)[5:]}
    for split, names in parts.items():
        parquet({name: files[name] for name in names}, tmp_path / f"{split}.parquet", columns="words")
    hub = datasets.load_dataset("parquet", data_files={split: str(tmp_path / f"{split}.parquet") for split in parts})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or hub)
    samples, report = load_samples("somebody/faces@v1")
    assert asked == [(("somebody/faces", None), {"revision": "v1"})]
    assert len(samples) == report.rows == 9


@pytest.mark.parametrize("kind", ["zip", "tar.bz2"])
def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sources, "MAX_UNPACKED", 1_000_000)
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "20_0_0_2017.jpg").write_bytes(bytes(5_000_000))
    archive = shutil.make_archive(str(tmp_path / "faces"), {"zip": "zip", "tar.bz2": "bztar"}[kind], tmp_path / "in")
    with pytest.raises(DataError, match=r"unpacks to more than 1 MB, .* unpack it yourself"):
        load_samples(archive)
    assert not list((tmp_path / "cache").glob("*"))


def labeled(folder, header: str, lines: list[str], table="metadata.csv"):
    """A folder of 40 face crops with a table of labels."""
    write_folder({f"{i}.jpg": content for i, content in enumerate(face_files(40).values())}, folder)
    rows = [f"{i}.jpg,{line}" for i, line in enumerate(lines)]
    (folder / table).write_text("\n".join([f"file_name,{header}", *rows]))
    return folder


def test_ages_and_genders_in_words_are_read(tmp_path):
    ages = ["25 years", "~25", "25 years old", "(25, 32)", "[25, 32]", "25-32", "25,0"]
    lines = [f'"{ages[i % 7]}",{("Man", "Woman", "boy", "girls")[i % 4]}' for i in range(40)]
    samples, report = load_samples(labeled(tmp_path / "a", "age,gender", lines), policy="all")
    assert len(samples) == 40 and not report.rejected and "0 is read" not in str(report)
    assert set(map(tuple, samples.age_range.tolist())) == {(25.0, 25.0), (25.0, 32.0)}
    assert sorted(set(samples.gender.tolist())) == [0, 1]


@pytest.mark.parametrize("codes", ["12345", ["-1", *"01234"], ["1.0", "2.0", "5.0"]])
def test_races_as_other_numbers_keep_their_codes(tmp_path, codes):
    lines = [f"{20 + i},{i % 2},{codes[i % len(codes)]}" for i in range(40)]
    samples, _ = load_samples(labeled(tmp_path / "a", "age,gender,race", lines), policy="all")
    expected = {f"{i}": codes[i % len(codes)] for i in range(40)}
    assert {name: samples.races[race] for name, race in zip(samples.name, samples.race, strict=True)} == expected


@pytest.mark.parametrize("kind", ["tar", "gztar", "bztar", "zip"])
def test_an_archive_s_table_of_labels_counts(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path / "cache"))
    folder = write_folder(face_files(40), tmp_path / "faces")
    rows = [f"{path.name},7,{i % 2}" for i, path in enumerate(sorted(folder.iterdir()))]
    (folder / "metadata.csv").write_text("\n".join(["file_name,age,gender", *rows]))
    archive = shutil.make_archive(str(tmp_path / "data" / "faces"), kind, folder)
    samples, _ = load_samples(archive, policy="all")
    assert len(samples) == 40 and set(samples.age) == {7.0}
    if "tar" in kind and kind != "bztar":  # in a folder, archives are read without unpacking
        with pytest.raises(DataError, match=r"contains a table of labels, .*\.csv\. Specify the archive"):
            load_samples(tmp_path / "data")


def test_images_beside_an_archive_are_named_as_not_used(tmp_path, capsys):
    folder = write_folder(face_files(12), tmp_path / "faces")
    (folder / "old.tar").write_bytes(tar_bytes(face_files(3)))
    samples, _ = load_samples(folder, policy="all")
    assert len(samples) == 3
    assert "uses only old.tar, not 12 other files. To use those, specify them." in capsys.readouterr().out


@pytest.mark.parametrize("source", ["links", "real*/*.jpg"])
def test_links_and_patterns_are_images_of_the_dataset(tmp_path, source):
    real = write_folder(face_files(6), tmp_path / "real")
    (tmp_path / "links").mkdir()
    for path in real.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    samples, report = load_samples(str(tmp_path / source), policy="all")
    assert len(samples) == 6 and not report.rejected


def test_a_table_may_have_paths_of_windows_and_spaces_around_them(tmp_path):
    write_folder({f"{i}.jpg": content for i, content in enumerate(face_files(40).values())}, tmp_path / "a" / "faces")
    rows = [f" faces\\{i}.jpg ,{20 + i},{i % 2}" for i in range(40)]
    (tmp_path / "a" / "metadata.csv").write_text("\n".join(["file_name,age,gender", *rows]))
    assert len(load_samples(tmp_path / "a", policy="all")[0]) == 40


def test_labels_that_show_another_coding_are_refused(tmp_path):
    one_two = [f"{20 + i},{1 + i % 2}" for i in range(40)]
    dates = [f"{('0-2', '09-Mar', 'Oct-19')[i % 3]},Male" for i in range(40)]
    for name, lines, words in (
        ("12", one_two, r"row \d+\) has the gender 2\. Numbers are read as 0"),
        ("excel", dates, "'09-Mar', which looks like"),
    ):
        with pytest.raises(DataError, match=words):
            load_samples(labeled(tmp_path / name, "age,gender", lines))
    lines = [f"{20 + i},{int(i > 1)}" for i in range(40)]
    _, report = load_samples(labeled(tmp_path / "01", "age,gender", lines), policy="all")
    assert "0 is read as male, 1 as female" in str(report) and "95% of the faces are female" in str(report)
    _, report = load_samples(labeled(tmp_path / "odd", "age,gender", ["old,Male", *["20,Male"] * 20]), policy="all")
    assert "rejected 1: age 'old' is missing or can't be read" in str(report)
    lines = [f"{20 + i},weiblich" if i % 2 else f"{20 + i},männlich" for i in range(40)]
    with pytest.raises(DataError, match=r"rejected 20: gender 'weiblich' is missing or can't be read: .*, and 15 more"):
        load_samples(labeled(tmp_path / "german", "age,gender", lines))  # one line for each word at fault


def test_a_column_of_dates_is_told_in_few_lines(tmp_path):
    lines = ["20,Male", *(f"19{i}-01-02,Male" for i in range(50, 89))]
    samples, report = load_samples(labeled(tmp_path / "dates", "age,gender", lines), policy="all")
    assert len(samples) == 1 and len(report.rejected) == 21
    assert "rejected 19: other ages or genders are missing or can't be read" in str(report)


def test_a_parquet_file_may_call_the_gender_sex(tmp_path):
    parquet(face_files(12), tmp_path / "a.parquet", columns="words")
    import datasets

    table = datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"))["train"]
    table.rename_column("gender", "Sex").to_parquet(tmp_path / "b.parquet")
    named, other = (load_samples(tmp_path / f"{name}.parquet", policy="all")[0] for name in "ab")
    assert len(other) == 12 and other.gender.tolist() == named.gender.tolist()


def test_the_kit_s_own_estimates_are_no_labels(tmp_path, capsys):
    folder = write_folder(face_files(20), tmp_path / "utk")
    expected = sorted(load_samples(folder)[0].age_range[:, 0])
    header = "file,face,age,age_low,age_high,gender,gender_probability"
    rows = [f"{path.name},1,33,30,36,female,0.9" for path in sorted(folder.glob("*.jpg"))]
    (folder / "faces.csv").write_text("\n".join([header, *rows]))
    (folder / "notes.csv").write_bytes("Name;Anmerkung\r\nM\u00fcller;sch\u00f6n\r\n".encode("cp1252"))
    (folder / "log.jsonl").write_bytes(b"[1, 2]\n")
    (folder / "broken.jsonl").write_bytes(b"\xff\xfe{")
    assert sorted(load_samples(folder)[0].age_range[:, 0]) == expected
    printed = capsys.readouterr().out
    assert "faces.csv holds estimates of this kit" in printed
    assert all(f"{name} isn't a table of labels" in printed for name in ("notes.csv", "log.jsonl", "broken.jsonl"))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_as_spreadsheets_write_them(tmp_path, separator):
    folder = write_folder(
        {f"IMG_{i}.JPG": content for i, content in enumerate(face_files(40).values())}, tmp_path / "a"
    )
    rows = [separator.join((f"img_{i}.jpg", f"{20 + i},5", "Female" if i % 2 else "Male")) for i in range(40)]
    (folder / "faces.csv").write_text("\r\n".join([separator.join(("Filename", "Age", "Sex")), *rows]), "utf-8-sig")
    samples, report = load_samples(folder, policy="all")
    assert len(samples) == 40 and not report.rejected
    assert sorted(samples.age_range[:, 0]) == sorted(samples.age_range[:, 1]) == [20.5 + i for i in range(40)]
    assert sorted(set(samples.gender.tolist())) == [0, 1]


def test_tables_may_name_whole_paths_and_photos_of_telephones(tmp_path, capsys):
    pillow_heif = pytest.importorskip("pillow_heif")
    folder = labeled(tmp_path / "a", "age,gender", [f"{20 + i},female" for i in range(30)])
    table = (folder / "metadata.csv").read_text().splitlines()
    for i in range(30):
        image = Image.open(folder / f"{i}.jpg")
        if i % 2:
            pillow_heif.from_pillow(image).save(folder / f"{i}.heic")
            (folder / f"{i}.jpg").unlink()
    (folder / "scan.pdf").write_text("no image")
    names = [f"{(folder / str(i)).resolve()}.{'heic' if i % 2 else 'jpg'}" for i in range(30)]
    rows = [f"{name},{line.split(',', 1)[1]}" for name, line in zip(names, table[1:], strict=True)]
    (folder / "metadata.csv").write_text("\n".join([table[0], *rows, "scan.pdf,20,male", "gone.jpg,20,male"]))
    samples, _ = load_samples(folder, policy="all")
    assert len(samples) == 30 and len(decode(samples)[0]) == 30
    printed = capsys.readouterr().out
    assert "1 named file missing: gone.jpg; 1 named file not supported, or outside of the dataset: scan.pdf" in printed


def test_a_table_of_other_columns_is_named_with_them(tmp_path, capsys):
    folder = write_folder(face_files(20), tmp_path / "utk")
    (folder / "people.csv").write_text("photo,years\na.jpg,20\n")
    load_samples(folder)
    assert "people.csv isn't a table of labels (file_name, age, gender); its columns are photo, years" in (
        capsys.readouterr().out
    )


def test_the_hash_of_labels_changes_with_images_ages_and_genders(made_up):
    samples, _ = load_samples(made_up)
    assert label_hash(samples) == label_hash(samples.take(np.arange(len(samples))[::-1]))
    others = [samples.take(np.arange(1, len(samples)))]
    for change in ({"age_range": samples.age_range + np.array([0, 1])}, {"gender": 1 - samples.gender}):
        others.append(replace(samples, **change))
    assert len({label_hash(one) for one in (samples, *others)}) == 4
    assert dataset_hash(others[1]) == dataset_hash(samples)


def test_exact_ages_and_ranges_in_one_table(tmp_path):
    def loaded(ranges: int):
        lines = [f"{'30-39' if i < ranges else 20 + i},female" for i in range(40)]
        return load_samples(labeled(tmp_path / str(ranges), "age,gender", lines), policy="all")

    for ranges, binned, words in (
        (1, False, "1 of 40 ages are ranges, the others exact: errors are measured in years"),
        (39, True, "39 of 40 ages are ranges, the others exact: errors are measured as bands"),
    ):
        samples, report = loaded(ranges)
        assert samples.binned is binned and words in str(report)
    assert not any("ages are ranges" in str(loaded(ranges)[1]) for ranges in (0, 40))


def test_a_table_says_what_it_leaves_out(tmp_path, capsys):
    folder = labeled(tmp_path / "part", "age,gender", [f"{20 + i},female" for i in range(30)])
    with open(folder / "metadata.csv", "a") as file:
        file.write("\ngone.jpg,20,male")
    assert len(load_samples(folder, policy="all")[0]) == 30
    printed = capsys.readouterr().out
    assert "labels of 30 images; 1 named file missing: gone.jpg" in printed
    assert "10 images without a label" in printed
    shutil.copy(folder / "metadata.csv", folder / "again.csv")  # more rows than images
    load_samples(folder)
    assert "10 images without a label" in capsys.readouterr().out


def test_a_race_may_be_missing_in_some_rows(tmp_path):
    write_folder({f"{i}.jpg": content for i, content in enumerate(face_files(40).values())}, tmp_path)
    labels = {"age": 30, "gender": "Male"}
    rows = [{"file_name": f"{i}.jpg", **labels, "race": ("Black", "White")[i % 2]} for i in range(40)]
    del rows[3]["race"]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples, _ = load_samples(str(tmp_path), policy="all")
    assert len(samples) == 40 and samples.race[samples.name == "3"].tolist() == [-1]
    assert {samples.races[i] for i in samples.race if i >= 0} == {"Black", "White"}


def test_test_datasets_are_only_tested_with(made_up, photographs):
    found = load_faces([str(made_up)], [str(photographs)], **LOADING)
    assert {name: len(parts) for name, parts in found.items()} == {"train": 1, "validation": 1, "test": 2}


def test_cached_images_keep_their_labels_beside_an_unreadable_one(tmp_path, monkeypatch):
    monkeypatch.setattr(decode_module, "_IN_MEMORY", 0)
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path / "cache"))
    files = face_files(6)
    first = next(iter(files))
    files[first] = files[first][:900]
    samples, _ = load_samples(write_folder(files, tmp_path / "faces"))
    for _ in range(2):  # the second time from the cache
        kept, images = decode(samples)
        assert len(kept) == 5 and first.split(".")[0] not in kept.name
        for image, encoded in zip(images, kept.encoded, strict=True):
            np.testing.assert_array_equal(image, decode_picture(encoded))


def test_the_name_of_a_folder_makes_no_fairface(tmp_path):
    folder = labeled(tmp_path / "fairface", "age,gender", [f"{20 + i},female" for i in range(40)])
    assert load_samples(folder, policy="all")[1].collection is None


def test_one_margin_of_a_local_fairface_is_read(tmp_path):
    files = list(face_files(8).items())
    for number, margin in enumerate(("0.25", "1.25")):
        write_folder(dict(files[4 * number :][:4]), tmp_path / margin)
    assert load_samples(tmp_path)[1].rows == 4


def test_a_test_dataset_needs_no_training_faces(made_up, tmp_path):
    files = {name: content for name, content in face_files(300).items() if split_of(content) == 9}
    assert len(files) > 10
    folder = write_folder(files, tmp_path / "held-out")
    own = load_faces([str(made_up)], [str(folder)], **LOADING)["test"][1]
    assert len(own) == len(files) and own.median_age == np.median(own.samples.age)


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_races_are_words_in_any_table(tmp_path, kind):
    import pyarrow
    import pyarrow.parquet

    races = ["East Asian", "Latino Hispanic", "Black"]
    table = pyarrow.table(
        {
            "image": [jpeg(np.full((60, 60, 3), i, np.uint8)) for i in range(3)],
            "age": [20, 30, 40],
            "gender": ["female"] * 3,
            "race": pyarrow.array(races, getattr(pyarrow, kind)()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "faces.parquet")
    samples, _ = load_samples(tmp_path / "faces.parquet")
    assert [samples.races[race] for race in samples.race] == races


def test_rows_of_a_table_may_lack_columns(tmp_path, capsys):
    files = face_files(12)
    names = [f"{i}.jpg" for i in range(12)]
    folder = write_folder(dict(zip(names, files.values(), strict=True)), tmp_path / "faces")
    rows = [{}, {"file": names[0], "gender": "male"}]
    rows += [{"file": name, "age": 20 + i, "gender": "female"} for i, name in enumerate(names[1:])]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples, report = load_samples(folder)
    assert len(samples) == 11 and "1 row without a file name" in capsys.readouterr().out
    assert sum(map(len, report.rejected.values())) == 1


def test_a_large_archive_of_images_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_UNPACKED", 1000)
    content = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", content)
    sources._unpack(tmp_path / "a.zip", tmp_path / "out", (tmp_path / "a.zip").stat().st_size)
    assert (tmp_path / "out" / "a.jpg").read_bytes() == content


def test_classes_have_their_names_from_the_first_one_on():
    assert [class_name(value, ["0-2", "3-9"]) for value in (0, 1, 2, -1, None)] == ["0-2", "3-9", 2, -1, None]


def test_limits_are_positive():
    assert positive_int("1") == 1
    for text in ("0", "-3"):
        with pytest.raises(argparse.ArgumentTypeError):
            positive_int(text)


def test_skipped_images_are_counted_and_labels_that_are_all_alike_are_told(tmp_path, capsys):
    files = {f"{20 + i}_1_0_2017{i:013d}.jpg": face_file(i, 20 + i, 1) for i in range(60)}
    damaged = next(name for name, content in files.items() if split_of(content[:900]) < 8)
    files[damaged] = files[damaged][:900]
    (train,) = load_faces([str(write_folder(files, tmp_path))], [], **LOADING)["train"]
    assert train.report.dropped == {"photos without a detected face, or unreadable": 1}
    printed = capsys.readouterr().out
    assert "all training faces have the same gender: check the labels" in printed and "the same age" not in printed


@pytest.mark.parametrize("lost", ["*-yunet-????????.npy", "*.order.npy"])
def test_a_cache_without_one_of_its_files_is_made_again(made_up, tmp_path, monkeypatch, lost):
    monkeypatch.setattr(decode_module, "_IN_MEMORY", 0)
    monkeypatch.setenv("AGE_GENDER_CACHE", str(tmp_path))
    samples = load_samples(made_up)[0].limit(5)
    first = np.array(decode(samples)[1])
    (file,) = tmp_path.glob(lost)
    file.unlink()
    np.testing.assert_array_equal(decode(samples)[1], first)


def test_a_file_that_the_disk_does_not_give_is_not_called_missing(tmp_path, monkeypatch):
    def fails(path):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a.jpg").write_bytes(b"x")
    picture = {"bytes": None, "path": str(tmp_path / "a.jpg")}
    assert sha256_of_image(picture) == sha256(b"x").hexdigest()
    assert sha256_of_image(picture | {"path": str(tmp_path / "gone.jpg")}) is None
    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(DataError, match=r"a\.jpg can't be read: .*Check the disk"):
        sha256_of_image(picture)
