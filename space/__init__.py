"""Everything that serves the models. Importing it first keeps libraries from sending usage reports."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime keeps a device's id and uploads events, from 1.32 on
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")  # a table of all calls, made after each of them


def __getattr__(name: str):
    """`FaceAnalyzer`, imported when it is asked for: the settings above come first, and ONNX Runtime takes a second."""
    if name == "FaceAnalyzer":
        from .analyzer import FaceAnalyzer

        return FaceAnalyzer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
