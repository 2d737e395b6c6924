"""Components and settings that several tabs share."""

from __future__ import annotations

import math

import gradio as gr

from space.detector import THRESHOLD
from space.face import apparent_gender, interval_years, whole_years

# One queue for all that runs the network: two cores answer one photo faster than two halves.
NETWORK = {"concurrency_limit": 1, "concurrency_id": "network"}
# Films and folders take minutes: they wait for each other, and photos for none of them.
LONG = {"concurrency_limit": 1, "concurrency_id": "long"}
# A text of a hidden component → a file of the visitor's, without one on the server.
SAVE = """(text) => {
  if (!text) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff", text], {type: "text/csv"}));
  link.download = "%s";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""


class Slider(gr.Slider):
    """`gr.Slider` that takes numbers only."""

    is_template = True  # the browser shows it as the stock Slider

    def preprocess(self, payload: float) -> float:
        if not isinstance(payload, (int, float)) or math.isnan(payload):  # which the stock Slider lets through
            text = f"The threshold must be a number from {self.minimum} to {self.maximum}."
            raise gr.Error(text, print_exception=False)
        return super().preprocess(payload)


def threshold_slider(label: str = "Detection threshold", **options) -> Slider:
    """The detector's score from which something counts as a face."""
    return Slider(0.3, 0.95, THRESHOLD, step=0.05, label=label, **options)


def answer_cells(answer: dict) -> list[str]:
    """Age, interval, gender and confidence of a face or person, as tables show them; from their JSON."""
    return [
        whole_years(answer["age"]),
        interval_years(answer["age_low"], answer["age_high"]),
        apparent_gender(answer["gender"], answer["gender_probability"]),
        f"{100 * answer['gender_probability']:.0f} %",
    ]
