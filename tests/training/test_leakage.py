"""Whether a model may have learned from the faces that it is measured on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from space.hub.bundle import MODELS, open_bundle
from training import leakage, parents
from training.data.report import Report
from training.data.samples import Samples, dataset_hash
from training.data.sources import DataError
from training.leakage import Measured, doubt, generations
from training.parents import IMAGENET, Parent, read_model

CARD = json.loads((MODELS / "compact" / "age_gender.json").read_text())
OWN = {d["collection"]: d for d in CARD["provenance"]["datasets"]}  # the copies that compact learned from


def dataset(collection: str | None = "UTKFace", **more) -> dict:
    return {"dataset": "x", "collection": collection, "learned": True, **more}


def record(protocol: str | None, *ancestors: dict, datasets: list[dict] | None = None) -> dict:
    return {"datasets": datasets or [dataset()], "protocol": protocol, "parents": list(ancestors)}


def faces(collection: str | None = "UTKFace", split="test", protocol="80/10/10", rows=20_000, sha256=None) -> Measured:
    report = Report("x", "clean", collection=collection, rows=rows)
    return Measured(report, protocol, split, sha256)


def test_all_ancestors_count():
    young = record("80/10/10", record("60/20/20", record("70/15/15")), IMAGENET)
    assert [entry["protocol"] for entry in generations(young)] == ["80/10/10", "60/20/20", "70/15/15", ""]
    assert doubt(record("80/10/10"), faces()) is None
    assert doubt(record("60/20/20"), faces()) is None  # trained on fewer faces
    assert doubt(young, faces()).protocol == "70/15/15"  # somebody else's split


@pytest.mark.parametrize("learned_from", ["FairFace", "UTKFace", None])
@pytest.mark.parametrize("measured_on", ["UTKFace", None])
@pytest.mark.parametrize("split", ["train", "all", "validation", "test"])
def test_only_what_a_model_learned_from_can_have_been_seen(learned_from, measured_on, split):
    found = doubt(record("60/20/20", datasets=[dataset(learned_from)]), faces(measured_on, split, "80/10/10"))
    assert (found is not None) == (learned_from in (None, measured_on) and split in ("train", "all"))
    untrained = [{**dataset("UTKFace"), "learned": False}, dataset("FairFace")]
    assert doubt(record("60/20/20", datasets=untrained), faces("UTKFace", split)) is None


@pytest.mark.parametrize("unknown", [parents.UNKNOWN, record(None), record("80/10/10", parents.UNKNOWN)])
def test_a_model_without_a_record_may_have_seen_everything(unknown):
    found = doubt(unknown, faces())
    assert found.reason == "has no training record" and not found.protocol


@pytest.mark.parametrize("policy", ["clean", "all"])
@pytest.mark.parametrize("limit", [None, 2])
def test_only_a_whole_clean_split_is_told_by_its_hash(policy, limit):
    samples = Samples(
        name=np.array(["a", "b"]), age_range=np.ones((2, 2), np.float32), gender=np.zeros(2, np.int8),
        race=np.zeros(2, np.int8), sha256=np.array(["1" * 64, "2" * 64]), encoded=(b"", b""),
    )  # fmt: skip
    measured = Measured.of(Report("x", policy, collection="UTKFace"), samples, "80/10/10", "test", limit)
    assert measured.sha256 == (dataset_hash(samples) if policy == "clean" and limit is None else None)
    assert (measured.protocol, measured.split, measured.report.collection) == ("80/10/10", "test", "UTKFace")


def test_another_copy_of_a_collection_has_other_splits():
    learned = record("80/10/10", datasets=[dataset(rows=23_708, held_out={"test": "a", "validation": "b"})])
    assert doubt(learned, faces(rows=23_708, sha256="a")) is None
    assert doubt(learned, faces(rows=23_708)) is None  # some of its faces
    assert doubt(learned, faces(split="validation", rows=23_708, sha256="b")) is None
    for other in (faces(rows=23_708, sha256="c"), faces(rows=24_106), faces(split="validation", sha256="a")):
        found = doubt(learned, other)
        assert found.reason == "learned from another copy of UTKFace, which is split differently"
        assert not found.protocol
    # Under another protocol, the same files have other splits: only the number of rows tells copies apart.
    young = record("60/20/20", datasets=[dataset(rows=23_708, held_out={"test": "a"})])
    assert doubt(young, faces(rows=23_708, sha256="c")) is None
    assert doubt(young, faces(rows=24_106, sha256="c")) is not None
    # A second copy of which these are the held-out faces makes the first one no safer.
    both = record("80/10/10", datasets=[dataset(rows=23_708), dataset(rows=24_106)])
    assert all(doubt(both, faces(rows=rows)) is not None for rows in (23_708, 24_106))
    # Such a copy is no safer if the protocols overlap as well.
    assert doubt(learned, faces(protocol="60/20/20", rows=24_106)).protocol == "80/10/10"


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        ({}, "has no training record"),
        ({"parents": None}, "has no training record"),
        ({"datasets": [{"collection": "UTKFace"}]}, "has no training record"),
        ({"datasets": [], "protocol": "80/10/10", "parents": [{}]}, "has no training record"),
        ({"datasets": [{}], "protocol": "60/20/20"}, "may have learned from these faces"),
        ({"datasets": [{"learned": False}], "protocol": "60/20/20"}, None),
    ],
)
def test_what_a_stranger_s_record_lacks_is_doubted(lacking, reason):
    measured = faces(split="train")
    for known in (lacking, record("80/10/10", lacking, datasets=[dataset("FairFace")])):
        found = doubt(known, measured)
        assert (found and found.reason) == reason


def test_models_learned_from_copies_of_held_out_faces_say_so_for_good():
    parent = record("80/10/10", datasets=[dataset(copies={"test": 79})])
    child = record("80/10/10", parent)
    own = [one | {"copies": {"test": 79}} for one in CARD["provenance"]["datasets"]]
    card = {**CARD, "provenance": {**CARD["provenance"], "datasets": own, "parents": []}}
    assert [one["copies"] for one in parents.lineage(card)["datasets"]] == [{"test": 79}] * len(own)
    for known in (parent, child):
        assert doubt(known, faces()).reason == "learned from re-encoded copies of 79 test faces of UTKFace"
        assert doubt(known, faces(split="validation")) is doubt(known, faces("FairFace")) is None


def test_the_embedded_models_know_the_faces_that_they_were_tested_with():
    for model in ("compact", "vgg16", "open"):
        known = read_model(model).as_dict()
        for name, own in OWN.items():
            rows, sha256 = own["report"]["rows"], own["faces"]["test"]["sha256"]
            found = doubt(known, faces(name, rows=rows, sha256=sha256))
            assert (found is None) == (model == "open" or name == "FairFace")
            if name == "UTKFace":
                assert open_bundle(model).card["metrics"]["doubt"] == (found and found.reason)
            other = doubt(known, faces(name, rows=rows + 1))
            assert (other is None) == (model == "open" and name == "UTKFace"), (model, name)


class Part:
    """What `leakage.check` reads of a split's faces."""

    def __init__(self, collection: str):
        self.report, self.samples = Report("x", "all", collection=collection, rows=20_000), None


def test_a_run_stops_if_a_parent_has_seen_its_faces_and_warns_if_it_may_have(capsys):
    def check(known: dict, collection="UTKFace"):
        parts = [Part(collection)]
        leakage.check([Parent("teacher", "x", None, known)], {"validation": parts, "test": parts}, "80/10/10", None)
        return capsys.readouterr().out

    assert check(record("80/10/10")) == check(record("90/5/5"), "FairFace") == ""
    assert check(record("80/10/10", parents.UNKNOWN)) == (
        "warning: --teacher x, or one of its parent models, has no training record. The results may be too "
        "optimistic.\n"
    )
    for ancestor in (record("90/5/5"), record("80/10/10", record("90/5/5"))):
        with pytest.raises(DataError, match=r"--teacher x, or one of its parent models, .* 90/5/5.*Set protocol = '90"):
            check(ancestor)


def test_a_copy_that_only_its_labels_show_may_have_been_seen():
    learned = record("60/20/20", datasets=[dataset("FairFace", rows=40_000)])
    copy = Report("photos", "clean", similar="FairFace", rows=40_000)
    assert doubt(learned, Measured(copy, "80/10/10", "train")).reason == "may have learned from these faces"
    assert doubt(learned, Measured(copy, "60/20/20", "test")) is None
    other = record("80/10/10", datasets=learned["datasets"])
    found = doubt(other, Measured(copy, "60/20/20", "test"))
    assert "whose training split includes test faces" in found.reason and found.protocol is None  # not certain
    copy.rows = 97_698
    assert "another copy of FairFace" in doubt(learned, Measured(copy, "60/20/20", "test")).reason
    assert doubt(record("80/10/10"), Measured(copy, "80/10/10", "train")) is None  # learned from UTKFace
