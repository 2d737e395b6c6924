"""The about tab: the model, its accuracy and limitations, privacy, licence."""

from __future__ import annotations

import gradio as gr

from space.analyzer import FaceAnalyzer
from space.face import UNCERTAIN
from space.web.model_card import about

PRIVACY = """### Privacy
Photos, videos and folders are analyzed on this server, deleted with their results after about an hour or when it stops,
and sent nowhere else. The live camera's frames stay in memory and are deleted once they are analyzed. There are no
accounts and no analytics, and the page sends requests to no other server.

### Licence
The code is MIT. UTKFace, from which the network and the example images were made, is for non-commercial research
only, and so are they. FairFace is CC BY 4.0, the face detector YuNet is MIT.
"""


def describe(analyzer: FaceAnalyzer) -> str:
    """The line that says which model and detector answer, and how good the model was on its test faces."""
    model, metrics = analyzer.bundle.as_dict(), analyzer.bundle.card.get("metrics") or {}
    revision = f" at `{model['revision'][:12]}`" if model["revision"] else ""
    text = f"Model `{model['name']}` ({model['source']}{revision}), detector `{analyzer.detector.name}`."
    if metrics.get("n"):
        text += (
            f" On {metrics['n']} UTKFace test faces: mean absolute error of age {metrics['age_mae']['value']:.1f} "
            f"years, gender accuracy {100 * metrics['gender_accuracy']['value']:.1f}%."
        )
    if metrics.get("interval_coverage"):
        text += (
            f" {100 * metrics['interval_coverage']['value']:.0f}% of labelled ages fell inside the predicted "
            f"interval, which is {metrics['interval_width']['value']:.0f} years wide on average."
        )
    text += f" Below {100 * UNCERTAIN:.0f}% confidence the page shows “uncertain”."
    return text


def tab(analyzer: FaceAnalyzer, selected: gr.Tab) -> None:
    """Build the tab; the model's card is fetched once it is `selected`."""

    def show():
        text, figures = about(analyzer.bundle)
        pictures = (f'<img src="{url}" alt="{caption}">' for caption, url in figures)
        return f'<div class="figures">{"".join(pictures)}</div>', text

    model = analyzer.bundle.as_dict()
    text = describe(analyzer)
    if model["revision"]:
        address = f"https://huggingface.co/{model['source']}"
        text += f" [The model on the Hub]({address}/tree/{model['revision']})."
    gr.Markdown(text)
    card = gr.Markdown(elem_id="card")
    figures = gr.HTML(elem_id="figures")
    gr.Markdown(PRIVACY, elem_id="privacy")
    selected.select(show, None, [figures, card], api_visibility="private")
