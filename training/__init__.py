"""Everything that makes a model bundle: data, networks, training, evaluation, export, push."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on this machine's CPU and GPU
