"""Estimate the apparent age and gender of every face in a photo, using only the files in this folder.

    python predict.py photo.jpg

This file is part of a model bundle. It needs numpy, opencv-python-headless, onnxruntime and huggingface_hub (which
downloads the face detector YuNet, MIT).
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

FOLDER = Path(__file__).absolute().parent  # not resolved: in the Hub's cache, this file is a link to another folder
OLDEST = 116  # years, oldest age that an interval can name


class Predictor:
    """Detector, crop, network and calibration of the bundle in `folder`."""

    def __init__(self, folder=FOLDER, detector=None):
        """`detector`: the path of face_detection_yunet_2023mar.onnx; None downloads it."""
        if detector is None:
            from huggingface_hub import hf_hub_download

            detector = hf_hub_download("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx")
        self.card = json.loads((Path(folder) / "age_gender.json").read_text(encoding="utf-8"))
        self.network = onnxruntime.InferenceSession(str(Path(folder) / self.card["serve"]))
        self.detector = cv2.FaceDetectorYN.create(str(detector), "", (320, 320), 0.7, 0.3, 5000)

    def predict(self, rgb: np.ndarray) -> list[dict]:
        """Every face of an upright photo, uint8 [H, W, 3] RGB: box (x, y, width, height in pixels), score, age, age_low
        and age_high in years, gender, gender_probability; largest first."""
        factor = max(1.0, max(rgb.shape[:2]) / 1024)
        small = cv2.resize(rgb, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA) if factor > 1 else rgb
        self.detector.setInputSize((small.shape[1], small.shape[0]))
        rows = self.detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        rows = np.zeros((0, 15)) if rows is None else sorted(rows, key=lambda row: -row[2] * row[3])
        if not len(rows):
            return []
        crops = np.stack([self._crop(rgb, row[4:14].reshape(5, 2) * factor) for row in rows])
        names = [output.name for output in self.network.get_outputs()]
        outputs = dict(zip(names, self.network.run(names, {"face": crops}), strict=True))
        age, p_female = outputs["age"].astype(float), outputs["p_female"].astype(float)
        tables, low, high = self.card["calibration"], [None] * len(age), [None] * len(age)
        if tables:
            p_female = _temperature(p_female, tables["gender"]["temperature"])
            low, high = _interval(age, outputs.get("age_probs"), tables["age"])
        return [
            {
                "box": [float(v) * factor for v in row[:4]],
                "score": float(row[14]),
                "age": age[i],
                "age_low": low[i],
                "age_high": high[i],
                "gender": "female" if p_female[i] >= 0.5 else "male",
                "gender_probability": max(p_female[i], 1 - p_female[i]),
            }
            for i, row in enumerate(rows)
        ]

    def _crop(self, rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The face in UTKFace's framing: the similarity transform that brings its landmarks closest to the template."""
        size, target = self.card["crop"]["size"], np.array(self.card["crop"]["landmarks"]) @ [1, 1j]
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


def _interval(age: np.ndarray, probs, table: dict) -> tuple[np.ndarray, np.ndarray]:
    """From the youngest to the oldest age whose usual errors include the one that it would mean."""
    std = np.ones(len(age))
    if probs is not None:
        std = np.sqrt((probs * (np.arange(probs.shape[1]) - age[:, None]) ** 2).sum(axis=1) + 1.0)
    years = np.arange(OLDEST + 1)
    band = np.searchsorted(table["from"], years, side="right") - 1
    error = (years - age[:, None]) / std[:, None]
    usual = (np.array(table["low"])[band] <= error) & (error <= np.array(table["high"])[band])
    some = usual.any(axis=1)
    low = np.where(some, usual.argmax(axis=1), age)
    high = np.where(some, OLDEST - usual[:, ::-1].argmax(axis=1), age)
    return np.minimum(low, age), np.maximum(high, age)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python predict.py PHOTO...")
    predictor = Predictor()
    for photo in sys.argv[1:]:
        image = cv2.imread(photo)  # applies EXIF orientation
        if image is None:
            sys.exit(f"{photo} isn't a readable image.")
        for face in predictor.predict(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)):
            print(json.dumps({"photo": photo, **face}))
