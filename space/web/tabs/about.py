"""The about tab: the model, its accuracy and limitations, privacy, license."""

from __future__ import annotations

import gradio as gr

from ...analyzer import FaceAnalyzer
from ...face import UNCERTAIN
from ...hub.bundle import embedded, open_bundle
from ...text import printable
from .. import model_card
from ..about import about_html

PRIVACY = """<h2>Privacy</h2>
<p>Photos, videos and folders are analyzed on this server. Uploads and results are deleted within an hour or when the
server stops, and are not sent anywhere else. Live camera frames stay in memory and are deleted after analysis. The
app has no user accounts and no analytics, and the page sends no requests to other servers.</p>
"""


def describe(analyzer: FaceAnalyzer) -> str:
    """The lines that say which model and detector answer, and how good the model was on its test faces."""
    model, metrics = analyzer.bundle.as_dict(), analyzer.bundle.card["metrics"]
    source = f"{model['source']}@{model['revision'][:12]}" if model["revision"] else model["source"]
    lines = [f"Model: `{model['name']}` (`{source}`)", f"Detector: `{analyzer.detector.name}`"]
    ages = ""
    if "age_mae" in metrics:
        ages = f"the mean absolute error for age is {metrics['age_mae']['value']:.1f} years and "
    lines += [
        f"On {metrics['n']:,} {printable(metrics.get('collection') or 'test')} faces, {ages}the gender accuracy is "
        f"{100 * metrics['gender_accuracy']['value']:.1f}%.",
        f"The predicted interval contains the labeled age for {100 * metrics['interval_coverage']['value']:.0f}% "
        f"of these faces and is {metrics['interval_width']['value']:.0f} years wide on average.",
        f"Gender is shown as “uncertain” if the confidence is below {100 * UNCERTAIN[-1][1]:.0f}%. For estimated ages "
        f"under {UNCERTAIN[-2][0]:.0f}, the limit is higher: up to {100 * UNCERTAIN[0][1]:.0f}%.",
    ]
    return "\n\n".join(lines)


def tab(analyzer: FaceAnalyzer, selected: gr.Tab) -> None:
    """Build the tab; the model's card is fetched once it is `selected`."""

    def show():
        text, figures = model_card.about(analyzer.bundle)
        pictures = (f'<img src="{url}" alt="{caption}">' for caption, url in figures)
        return f'<div class="figures">{"".join(pictures)}</div>', text

    own = analyzer.bundle.source != "embedded"
    bundles = [analyzer.bundle] if own else [open_bundle(name) for name in embedded()]
    gr.HTML(about_html(bundles, PRIVACY), elem_id="about")
    model = analyzer.bundle.as_dict()
    if model["revision"]:
        address = f"https://huggingface.co/{model['source']}"
        gr.Markdown(f"[The model on the Hub]({address}/tree/{model['revision']})")
    with gr.Accordion("Model card", open=False, elem_id="model-card"):
        card = gr.Markdown(elem_id="card", elem_classes="notranslate")
        figures = gr.HTML(elem_id="figures")
    selected.select(show, None, [figures, card], api_visibility="private")
