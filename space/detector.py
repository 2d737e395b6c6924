"""A photo → its faces: YuNet, or OpenCV's Haar cascade where YuNet cannot be had.

Knows nothing of age, gender or where the photo came from.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np

from space.bundle import BundleError, hub_file, sha256_of
from space.face import Face

REPO, FILE = "opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
THRESHOLD = 0.7  # default score from which something counts as a face
MAX_SIDE = 1024  # pixels, longer side at which a photo is searched
CLOSE_UP = 320  # pixels, longer side of a second look, for faces that fill the photo
SMALL = 24  # pixels; a photo in which a face is smaller at MAX_SIDE is searched at twice that


class YuNet:
    """Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector"; five landmarks a face."""

    name = "yunet"

    def __init__(self, path: str | Path):
        """Open the ONNX file. Raises BundleError if OpenCV cannot."""
        try:
            # From memory: OpenCV opens no path with letters beyond ASCII on Windows.
            content = np.frombuffer(Path(path).read_bytes(), np.uint8)
            self._net = cv2.FaceDetectorYN.create("onnx", content, np.array([], np.uint8), (320, 320), 0.5, 0.3, 5000)
        except cv2.error as error:
            raise BundleError(f"{path} is no YuNet model that OpenCV can open: {error}") from error
        self._lock = threading.Lock()  # the network's input size is state

    def detect(self, rgb: np.ndarray, threshold: float = THRESHOLD, side: int | None = None) -> list[Face]:
        """Find faces in uint8 [H, W, 3]; boxes in pixels of `rgb`.

        It is searched at a longer side of at most `side`; None: of MAX_SIDE, and where small faces are found, or none,
        of twice that too.
        """
        side, thorough = side or MAX_SIDE, side is None
        faces = self._detect_at(rgb, side, threshold)
        longer = max(rgb.shape[:2])
        sides = [max(face.box[2:]) for face in faces]
        more = []
        # YuNet learned faces up to about 300 pixels: larger ones are found in a smaller picture.
        if min(longer, side) > CLOSE_UP and max(sides, default=longer) > 0.25 * longer:
            more += self._detect_at(rgb, CLOSE_UP, threshold)
        # And from about 12: where there are small faces, there may be smaller ones.
        if thorough and longer > side and min(sides, default=0) * side < SMALL * longer:
            more += self._detect_at(rgb, 2 * side, threshold)
        return suppress(faces + more) if more else faces

    def _detect_at(self, rgb: np.ndarray, side: int, threshold: float) -> list[Face]:
        small, factor = shrink(rgb, side)
        bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        with self._lock:
            self._net.setInputSize((bgr.shape[1], bgr.shape[0]))
            self._net.setScoreThreshold(threshold)
            rows = self._net.detect(bgr)[1]
        faces = []
        for row in rows if rows is not None else ():
            if np.isfinite(row).all() and min(row[2:4]) >= 1:
                box = tuple(float(v) * factor for v in row[:4])
                faces.append(Face(box, float(row[14]), np.asarray(row[4:14], np.float32).reshape(5, 2) * factor))
        return faces


class Haar:
    """Viola & Jones 2001 with the cascade that comes with OpenCV: frontal faces, no landmarks."""

    name = "haar"

    def __init__(self):
        """Open OpenCV's cascade. Raises BundleError if this OpenCV has none."""
        path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_alt2.xml"
        try:
            flags = cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY  # from memory, as above
            storage = cv2.FileStorage(path.read_text(encoding="utf-8"), flags)
            self._cascade = cv2.CascadeClassifier()
            if not self._cascade.read(storage.getFirstTopLevelNode()):
                raise BundleError(f"{path} is no cascade.")
        except (OSError, cv2.error, AttributeError) as error:
            raise BundleError(
                f"OpenCV {cv2.__version__} has no Haar cascade ({error}): install opencv-python-headless below 5."
            ) from error
        self._lock = threading.Lock()

    def detect(self, rgb: np.ndarray, threshold: float = THRESHOLD, side: int | None = None) -> list[Face]:
        """Find faces in uint8 [H, W, 3], searched at a longer side of `side` (None: MAX_SIDE); best first.

        A cascade gives no probability, but true faces are hit by many neighbouring windows and false ones by
        few: the score is hits / (hits + 3), so the default threshold asks for 7.
        """
        small, factor = shrink(rgb, side or MAX_SIDE)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        with self._lock:
            boxes, hits = self._cascade.detectMultiScale2(grey, scaleFactor=1.1, minNeighbors=3, minSize=(24, 24))
        faces = [
            Face(tuple(float(v) * factor for v in box), float(count / (count + 3)))
            for box, count in zip(boxes, np.ravel(hits), strict=True)
            if count / (count + 3) >= threshold
        ]
        return sorted(faces, key=lambda face: -face.score)


def load_detector(source: str | None = None) -> tuple[YuNet | Haar, str]:
    """A detector, and what to tell the user about it.

    Args:
        source: YuNet's ONNX file, "haar", or None: YuNet from the Hub, and Haar if that cannot be had.

    Returns:
        The detector (`.name`, `.detect(rgb, threshold)`) and a note, empty when all is as it should be: its first
        line is for visitors, the rest, the reason, for whoever runs the app.

    Raises:
        BundleError: a file was asked for and cannot be used.
    """
    if source == "haar":
        return Haar(), ""
    if source is not None:
        path = Path(source).expanduser()
        if not path.is_file():
            raise BundleError(f"No detector at {source}: give the path of {FILE}, or haar.")
        return YuNet(path), ""
    if os.environ.get("AGE_GENDER_DETECTOR"):
        return load_detector(os.environ["AGE_GENDER_DETECTOR"])
    try:
        _, path = hub_file(REPO, FILE, sha256=SHA256)
        if sha256_of(path) != SHA256:
            raise BundleError(f"{FILE} of {REPO} is not the file this app knows (its SHA-256 differs)")
        return YuNet(path), ""
    except BundleError as error:
        return Haar(), (
            "Faces are found with OpenCV's Haar cascade, which misses profiles and small faces: YuNet is not "
            f"available.\n{error}"
        )


def shrink(rgb: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """A picture whose longer side is at most `side` pixels, and the factor back to the original's pixels."""
    factor = max(rgb.shape[:2]) / side
    if factor <= 1:
        return rgb, 1.0
    width, height = (max(1, round(n / factor)) for n in (rgb.shape[1], rgb.shape[0]))
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), factor


def suppress(faces: list[Face], overlap: float = 0.3) -> list[Face]:
    """Keep the best of faces whose boxes overlap by more than `overlap` (intersection over union)."""
    if not faces:
        return []
    kept = cv2.dnn.NMSBoxes([face.box for face in faces], [face.score for face in faces], 0.0, overlap)
    return [faces[i] for i in np.ravel(kept)]
