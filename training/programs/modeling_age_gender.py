"""The bundle as a model of the transformers library, which loads this file with `trust_remote_code=True`.

    from transformers import pipeline
    classify = pipeline("image-classification", model="USER/NAME", trust_remote_code=True)
    classify("photo.jpg")  # scores of the genders and of nine age bands

The network runs in ONNX Runtime, with the calibration of the bundle. It answers for one face of each image: the largest
one, or the whole image if YuNet finds none. Needs transformers, torch, pillow, onnxruntime, numpy and opencv-python-
headless.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from transformers import BatchFeature, PretrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import make_list_of_images, to_numpy_array
from transformers.utils import ModelOutput, cached_file

from .predict import Predictor

BANDS = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 116))  # years, as FairFace


class AgeGenderConfig(PretrainedConfig):
    """Says where the rest of the bundle is; `age_gender.json` describes it."""

    model_type = "age_gender"


class AgeGenderImageProcessor(BaseImageProcessor):
    """Images → the largest face of each, aligned and cropped."""

    model_input_names = ("pixel_values",)

    def __init__(self, crop=None, detector=None, **kwargs):
        """`crop`: the template of `age_gender.json`. `detector`: the path of YuNet's file; None downloads it."""
        super().__init__(**kwargs)
        self.crop, self.detector = crop, detector
        self._predictor = None

    def preprocess(self, images, return_tensors=None, **kwargs):
        """PIL images or arrays, RGB → `pixel_values`, uint8 [N, 200, 200, 3]."""
        if self._predictor is None:
            self._predictor = Predictor.of(self.crop, self.detector)
        faces = [self._face(image) for image in make_list_of_images(self.fetch_images(images))]
        return BatchFeature({"pixel_values": np.stack(faces)}, tensor_type=return_tensors)

    def _face(self, image):
        rgb = np.ascontiguousarray(to_numpy_array(image.convert("RGB") if hasattr(image, "convert") else image))
        found, side = self._predictor.faces(rgb), self.crop["size"]
        return found[0][1] if found else cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)

    def to_dict(self):
        """Without the detector, which can't be copied or saved."""
        kept, self._predictor = self._predictor, None
        try:
            return {key: value for key, value in super().to_dict().items() if key != "_predictor"}
        finally:
            self._predictor = kept


@dataclass
class AgeGenderOutput(ModelOutput):
    """What the model answers.

    logits: float32 [N, 11], of the labels in `config.id2label`; their sigmoid is the probability.
    age: float32 [N], years. p_female: float32 [N]. age_low, age_high: float32 [N], years.
    """

    logits: torch.Tensor | None = None
    age: torch.Tensor | None = None
    p_female: torch.Tensor | None = None
    age_low: torch.Tensor | None = None
    age_high: torch.Tensor | None = None


class AgeGenderForImageClassification(PreTrainedModel):
    """The served ONNX network and the calibration of a bundle."""

    config_class = AgeGenderConfig
    main_input_name = "pixel_values"

    def __init__(self, config, predictor=None):
        super().__init__(config)
        self.predictor = predictor
        self._where = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # gives the model a device

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, **kwargs):
        """The model of a folder or of a Hub repository, as for other models. Weights are in the ONNX file only."""
        names = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
        hub = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        if config is None:
            config = AgeGenderConfig.from_pretrained(pretrained_model_name_or_path, **hub)
        card = cached_file(pretrained_model_name_or_path, "age_gender.json", **hub)
        network = cached_file(pretrained_model_name_or_path, config.onnx, **hub)
        return cls(config, Predictor.of_files(card, network)).eval()

    def forward(self, pixel_values=None, return_dict=True, **kwargs):
        """`pixel_values`: uint8 [N, 200, 200, 3], from the image processor."""
        answers = self.predictor.estimate(pixel_values.cpu().numpy().astype(np.uint8))
        p_female, probs = np.asarray(answers["p_female"], np.float64), answers["age_probs"]
        bands = np.stack([probs[:, low : high + 1].sum(axis=1) for low, high in BANDS], axis=1)
        scores = np.concatenate([p_female[:, None], 1 - p_female[:, None], bands], axis=1)
        scores = np.clip(scores, 1e-6, 1 - 1e-6)
        device, dtype = self._where.device, torch.float32

        def tensor(values):
            return torch.as_tensor(np.asarray(values, np.float32), dtype=dtype, device=device)

        output = AgeGenderOutput(
            logits=tensor(np.log(scores) - np.log1p(-scores)),
            **{name: tensor(answers[name]) for name in ("age", "p_female", "age_low", "age_high")},
        )
        return output if return_dict else output.to_tuple()


__all__ = ["AgeGenderConfig", "AgeGenderForImageClassification", "AgeGenderImageProcessor"]
