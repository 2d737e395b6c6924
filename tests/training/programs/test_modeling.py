"""What the transformers code returns, without torch and transformers."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

NAME = "training.programs.modeling_age_gender"


@pytest.fixture
def modeling(monkeypatch):
    """The module, with NumPy in place of torch."""
    base = type("Base", (), {"__init__": lambda self, config: setattr(self, "config", config)})
    parameter = SimpleNamespace(Parameter=lambda value, requires_grad: SimpleNamespace(device="cpu"))
    tensor = {"as_tensor": lambda values, dtype, device: np.asarray(values, dtype), "float32": np.float32}
    names = {
        "torch": SimpleNamespace(Tensor=np.ndarray, zeros=np.zeros, nn=parameter, **tensor),
        "transformers": SimpleNamespace(BatchFeature=dict, PretrainedConfig=type("C", (), {}), PreTrainedModel=base),
        "transformers.utils": SimpleNamespace(ModelOutput=type("Output", (), {}), cached_file=None),
        "transformers.image_utils": SimpleNamespace(make_list_of_images=None, to_numpy_array=None),
        "transformers.image_processing_utils": SimpleNamespace(BaseImageProcessor=object),
    }
    for name, module in names.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME)


def test_scores_of_genders_and_bands(modeling):
    ages = np.array([2.0, 70.0, 29.6])
    answers = {"age": ages, "age_low": ages - 1, "age_high": ages + 1, "p_female": np.array([0.9, 0.2, 0.5])}
    answers["age_probs"] = np.eye(102)[[2, 70, 30]]
    model = modeling.AgeGenderForImageClassification(None, SimpleNamespace(estimate=lambda crops: answers))
    crops = SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: np.zeros((3, 200, 200, 3))))
    scores = 1 / (1 + np.exp(-model.forward(crops).logits))
    np.testing.assert_allclose(scores[:, :2], [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], atol=1e-4)
    assert scores[:, 2:].argmax(axis=1).tolist() == [0, 8, 4]
    np.testing.assert_allclose(scores[:, 2:].sum(1), 1, atol=1e-3)
