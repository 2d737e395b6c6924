"""Estimate the apparent age and gender of every face in a photo, using only the files in this folder.

    python predict.py photo.jpg

This file is part of a model bundle. It needs numpy, opencv-python-headless, onnxruntime and huggingface_hub (which
downloads the face detector YuNet, MIT).
"""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime keeps a device's id and uploads events, from 1.32 on
import onnxruntime

FOLDER = Path(__file__).absolute().parent  # not resolved: in the Hub's cache, this file is a link to another folder
_YEARS = ("age", "age_low", "age_high")


class Predictor:
    """Detector, crop, network and calibration of a bundle."""

    def __init__(self, folder=FOLDER, detector=None):
        """`detector`: the path of face_detection_yunet_2023mar.onnx; None downloads it."""
        card = json.loads((Path(folder) / "age_gender.json").read_text(encoding="utf-8"))
        self.template, self.tables = card["crop"], card["calibration"]
        self.network = onnxruntime.InferenceSession(str(Path(folder) / card["serve"]))
        self.yunet = detector

    @classmethod
    def of(cls, template, detector=None):
        """One that finds and crops faces, without a network; `template`: `crop` of age_gender.json."""
        self = cls.__new__(cls)
        self.template, self.tables, self.network, self.yunet = template, None, None, detector
        return self

    @classmethod
    def of_files(cls, card, network):
        """One that estimates crops, from the paths of age_gender.json and of the ONNX file."""
        values = json.loads(Path(card).read_text(encoding="utf-8"))
        self = cls.of(values["crop"])
        self.tables, self.network = values["calibration"], onnxruntime.InferenceSession(str(network))
        return self

    def predict(self, rgb: np.ndarray) -> list[dict]:
        """Every face of an upright photo, uint8 [H, W, 3] RGB: box (x, y, width, height in pixels), score, age, age_low
        and age_high in years, gender, gender_probability; largest first."""
        found = self.faces(rgb)
        if not found:
            return []
        answers = self.estimate(np.stack([crop for _, crop in found]))
        p_female, people = answers["p_female"], []
        for i, (row, _) in enumerate(found):
            years = {name: float(answers[name][i]) for name in _YEARS}
            people.append(
                {
                    "box": [float(v) for v in row[:4]],
                    "score": float(row[4]),
                    **years,
                    "gender": "female" if p_female[i] >= 0.5 else "male",
                    "gender_probability": float(max(p_female[i], 1 - p_female[i])),
                }
            )
        return people

    def faces(self, rgb: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """x, y, width, height and score of each face, and its crop, uint8 [size, size, 3]; largest first."""
        factor = max(1.0, max(rgb.shape[:2]) / 1024)
        small = cv2.resize(rgb, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA) if factor > 1 else rgb
        rows = self._detector((small.shape[1], small.shape[0])).detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15)) if rows is None else sorted(rows, key=lambda row: -row[2] * row[3])
        return [
            (np.append(row[:4] * factor, row[14]), self._crop(rgb, row[4:14].reshape(5, 2) * factor)) for row in rows
        ]

    def estimate(self, crops: np.ndarray) -> dict:
        """Of uint8 [N, size, size, 3]: age, age_low, age_high, p_female and age_probs [N, 102], each for N faces and
        calibrated."""
        names = [output.name for output in self.network.get_outputs()]
        outputs = dict(zip(names, self.network.run(names, {"face": crops}), strict=True))
        age, tables = np.maximum(outputs["age"].astype(float), 0), self.tables["age"]
        p_female = _temperature(outputs["p_female"].astype(float), self.tables["gender"]["temperature"])
        probs = _distribution(age, outputs.get("age_probs"), tables, _wider(crops))
        low, high = _interval(age, probs, tables)
        return {"age": age, "age_low": low, "age_high": high, "p_female": p_female, "age_probs": probs}

    def _detector(self, size: tuple[int, int]):
        if not isinstance(self.yunet, cv2.FaceDetectorYN):
            path = self.yunet
            if path is None:
                from huggingface_hub import hf_hub_download

                path = hf_hub_download("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx")
            self.yunet = cv2.FaceDetectorYN.create(str(path), "", size, 0.7, 0.3, 5000)
        self.yunet.setInputSize(size)
        return self.yunet

    def _crop(self, rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The face in UTKFace's framing: the similarity transform that brings its landmarks closest to the template."""
        size, target = self.template["size"], np.array(self.template["landmarks"]) @ [1, 1j]
        source = landmarks @ [1, 1j]
        s, t = source - source.mean(), target - target.mean()
        a = np.sum(t * np.conj(s)) / np.sum(np.abs(s) ** 2)
        scale, shrunk = abs(a), 1.0
        if scale < 0.5:  # bilinear sampling skips pixels when it shrinks by more than two: average first
            shrunk = 2 * scale
            rgb = cv2.resize(rgb, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
        shift = target.mean() - a * source.mean()
        half = a / shrunk * (0.5 * shrunk - 0.5) * (1 + 1j)  # pixel centers move when an image is resized
        a, shift = a / shrunk, shift - half
        matrix = np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]])
        return cv2.warpAffine(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _temperature(p: np.ndarray, temperature: float) -> np.ndarray:
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return 1 / (1 + np.exp(-(np.log(p) - np.log1p(-p)) / temperature))


def _wider(crops: np.ndarray) -> np.ndarray:
    """By what factor errors grow for blurred faces: from the blur effect of Crété et al. 2007."""
    factors = []
    for crop in crops:
        half = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        values, sharpness = cv2.blur(half.astype(np.float32), (3, 3), borderType=cv2.BORDER_REPLICATE), 1.0
        for axis, window in ((0, (1, 11)), (1, (11, 1))):
            before = np.abs(np.diff(values, axis=axis))
            after = np.abs(np.diff(cv2.blur(values, window, borderType=cv2.BORDER_REPLICATE), axis=axis))
            sharpness = min(sharpness, np.maximum(0, before - after).sum() / max(before.sum(), 1e-6))
        factors.append(max(1.0, 0.25 / max(sharpness, 0.02)) ** 0.3)
    return np.array(factors)


def _distribution(age: np.ndarray, probs, table: dict, wider: np.ndarray) -> np.ndarray:
    """The network's distribution [N, 102], flattened by a temperature; without one, a normal distribution."""
    years = np.arange(102)
    logs = -0.5 * (years - age[:, None]) ** 2 if probs is None else np.log(np.maximum(probs.astype(float), 1e-12))
    logs /= (np.interp(age, table["at"], table["temperature"]) * wider**2)[:, None]
    probs = np.exp(logs - logs.max(axis=1, keepdims=True))
    return probs / probs.sum(axis=1, keepdims=True)


def _interval(age: np.ndarray, probs: np.ndarray, table: dict) -> tuple[np.ndarray, np.ndarray]:
    """What holds the share `level` of the distribution, weighted by age."""
    years = np.arange(102)
    weighted = probs * np.exp(np.interp(years, table["at"], table["log_weight"]))
    below = np.cumsum(weighted / weighted.sum(axis=1, keepdims=True), axis=1)
    tail = (1 - table["level"]) / 2
    low, high = (np.minimum((below < part).sum(axis=1), years[-1]) for part in (tail, 1 - tail))
    return np.minimum(low, age), np.maximum(high, age)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python predict.py PHOTO...")
    predictor, status = Predictor(), 0
    for photo in sys.argv[1:]:
        image = cv2.imread(photo)  # applies EXIF orientation
        if image is None:
            print(f"{photo} isn't a readable image.", file=sys.stderr)
            status = 1
            continue
        for face in predictor.predict(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)):
            print(json.dumps({"photo": photo, **face}))
    sys.exit(status)
