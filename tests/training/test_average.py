"""Averaged weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from space.hub.card import CARD
from space.hub.download import sha256_of
from tests.support import EMBEDDED
from training import average
from training.model import files, networks

pytestmark = pytest.mark.usefixtures("tiny")


def test_the_mean_of_two_bundles_can_be_trained_further(trained, tmp_path):
    network = files.load_keras(trained / "bundle")
    before = network.get_weights()
    other = shutil.copytree(trained / "bundle", tmp_path / "other")
    network.set_weights([values + 1 for values in before])
    files.save_keras(network, other)
    card = json.loads((other / CARD).read_text())
    for name in files.KERAS_FILES:
        card["files"][name]["sha256"] = sha256_of(other / name)
    (other / CARD).write_text(json.dumps(card))
    out = tmp_path / "new" / "mean.weights.h5"
    assert average.main([str(trained / "bundle"), str(other), "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    same = networks.build("compact")
    assert networks.load_weights(same, out)
    for mean, one in zip(same.get_weights(), before, strict=True):
        np.testing.assert_allclose(mean, one + 0.5, atol=1e-5)


def test_what_cannot_be_averaged_is_reported(trained, tmp_path, capsys):
    out = str(tmp_path / "mean.weights.h5")
    assert average.main([str(trained / "bundle"), str(EMBEDDED), "--out", out]) == 1  # which has no Keras files
    assert "no Keras weights" in capsys.readouterr().err
    for wrong in ([str(trained / "bundle"), "--out", out], [str(EMBEDDED), str(EMBEDDED), "--out", "mean.h5"]):
        with pytest.raises(SystemExit):
            average.main(wrong)
