"""The files with which other libraries use a bundle: `predict.py`, and what transformers reads.

They are nearly the same for all bundles, so embedded bundles lack them: they are written when a bundle is trained or
pushed.
"""

from __future__ import annotations

import json
from pathlib import Path

_FOLDER = Path(__file__).parent
PREDICT, MODELING = "predict.py", "modeling_age_gender.py"
PREPROCESSOR, CONFIG = "preprocessor_config.json", "config.json"
ADDED = (PREDICT, MODELING, PREPROCESSOR)  # which embedded bundles lack
BANDS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
LABELS = ("female", "male", *BANDS)


def files(card: dict, keras_config: bytes | None) -> dict[str, bytes]:
    """Name → content of each.

    Args:
        card: what `age_gender.json` holds.
        keras_config: the bundle's `config.json` of Keras, if it has Keras weights. Keras and transformers both read a
            file of this name at the root of a repository; neither minds the other's keys.
    """
    module = MODELING.removesuffix(".py")
    config = {
        **(json.loads(keras_config) if keras_config else {}),
        "model_type": "age_gender",
        "architectures": ["AgeGenderForImageClassification"],
        "auto_map": {
            "AutoConfig": f"{module}.AgeGenderConfig",
            "AutoModelForImageClassification": f"{module}.AgeGenderForImageClassification",
        },
        "problem_type": "multi_label_classification",
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
        "onnx": card["serve"],
    }
    processor = {
        "image_processor_type": "AgeGenderImageProcessor",
        "auto_map": {"AutoImageProcessor": f"{module}.AgeGenderImageProcessor"},
        "crop": card["crop"],
    }
    return {
        PREDICT: (_FOLDER / PREDICT).read_bytes(),
        MODELING: (_FOLDER / MODELING).read_bytes(),
        PREPROCESSOR: (json.dumps(processor, indent=1) + "\n").encode(),
        CONFIG: json.dumps(config).encode(),
    }
