"""Tabs of the explorer: a figure each, with its controls and what it shows in words."""

from collections.abc import Callable

import ipywidgets as w
import matplotlib.pyplot as plt

from vkdlib.explorer import figures
from vkdlib.explorer.attention import Attention, attention
from vkdlib.explorer.beta_alpha import RECORDS, read_curve
from vkdlib.explorer.lens import logit_lens
from vkdlib.explorer.live.scene import Scene
from vkdlib.explorer.neurons import forget_neurons
from vkdlib.explorer.replies import hidden_replies, possible_answers
from vkdlib.explorer.twin import missing_record

WIDE = {"style": {"button_width": "auto"}}


class Tab:
    """A figure with its controls.

    Attributes:
        slow: what takes long about it, so that it waits for a click on its button; "": nothing does.
        memory: name of what it computes, in the scene's memory.

    Args:
        show: draws a tab; it is called when a control changes, and by the button.
    """

    title, text, slow, memory = "", "", "", ""

    def __init__(self, scene: Scene, show: Callable[["Tab"], None]):
        self.scene = scene
        self.figure = w.HTML()
        controls = self.controls()
        for control in controls:
            control.observe(lambda _: show(self), "value")
        if self.slow:
            controls = [button(f"Compute ({self.slow})", lambda: show(self), "primary")]
        words = w.HTML(f'<div style="max-width:52em;line-height:1.4">{self.text}</div>')
        self.box = w.VBox([words, w.HBox(controls), self.figure])

    def controls(self) -> list[w.Widget]:
        """What the user can set; a change draws the tab again."""
        return []

    def ready(self) -> bool:
        """Whether it can be drawn at once."""
        return not self.slow or self.scene.has(self.memory)

    def draw(self) -> plt.Figure:
        raise NotImplementedError

    def clear(self) -> None:
        """Show no figure."""
        self.figure.value = ""


class AttentionTab(Tab):
    title = "Where it looks"
    text = (
        "Attention of a model's own answer to the image's tokens: per cent of all of it, mean over heads, "
        "one scale for all models. <b>By itself it is no evidence of cause:</b> a patch can draw attention "
        "and not matter. Hiding a square, above, is: it changes what the model is given. Without sinks: what "
        "a patch gets beyond its attention under a question about nothing in particular."
    )

    def controls(self):
        self.kind = w.ToggleButtons(options={"raw": "raw", "without sinks": "without_sinks"}, **WIDE)
        self.layer = w.Dropdown(options=["mean"], description="Layer", layout={"width": "180px"})
        return [self.kind, self.layer]

    def draw(self):
        """Where each model's own answer looks; an empty one looks as the right answer would, or as any."""
        looks = self.scene.remember("attention", self.look)
        layers = next(iter(looks.values())).raw.shape[0]
        if len(self.layer.options) != layers + 1:
            self.layer.options = ["mean", *range(1, layers + 1)]
        rows = {}
        for name, look in looks.items():
            share = 100 * getattr(look, self.kind.value)  # (layers, image tokens)
            layer = self.layer.value
            rows[name] = (share.mean(0) if layer == "mean" else share[layer - 1]).tolist()
        titles = {name: f"{name}: {sum(row):.1f} % to the picture" for name, row in rows.items()}
        return figures.patch_maps(self.scene.view, rows, titles)

    def look(self) -> dict[str, Attention]:
        """The attention of each model's own answer."""
        scene, right = self.scene, self.scene.inquiry.right or "?"
        words, image = scene.inquiry.words, scene.view.image
        return {
            name: attention(loaded, image, words, scene.before[name].text or right)
            for name, loaded in scene.models.items()
        }


class LensTab(Tab):
    title = "What patches say"
    text = (
        "The logit lens: the word that the output layer makes of each image token after a layer of the "
        "language model. Colour: its probability, or that of the right name's first token, 0 to 100 %."
    )

    def controls(self):
        self.right = w.ToggleButtons(options={"most probable word": False, "the right name": True}, **WIDE)
        self.depth = w.IntSlider(min=1, max=1, value=1, description="Layer")
        return [self.right, self.depth]

    def draw(self):
        """What image tokens say; they do not see the question."""
        scene = self.scene
        lenses = scene.remember(
            "lens",
            lambda: {m: logit_lens(x, scene.view.image, scene.person.name) for m, x in scene.models.items()},
        )
        if self.depth.max != (layers := len(next(iter(lenses.values())).words)):
            self.depth.max = self.depth.value = layers
        layer, right = self.depth.value - 1, self.right.value
        shares = {m: (lens.right if right else lens.probability)[layer] for m, lens in lenses.items()}
        words = {} if right else {m: lens.words[layer] for m, lens in lenses.items()}
        values = {m: (100 * share).tolist() for m, share in shares.items()}
        return figures.patch_maps(scene.view, values, {}, words, 100)


class NeedTab(Tab):
    title, slow, memory = "What it needs", "a pass for each square", "need"
    text = (
        "How many points of probability the right answer, or vanilla's, loses when a square is hidden; minus "
        "means that it gains. One scale for all models."
    )

    def draw(self):
        """What vanilla's answer, or the right one, loses by each square."""
        scene = self.scene
        answers = possible_answers(scene.inquiry, [reply.text for reply in scene.before.values()])
        if not answers:
            raise ValueError("no model has an answer that a square could matter to: ask something else")
        answer = scene.inquiry.right or answers[0]
        hidden = scene.remember(
            self.memory,
            lambda: {
                m: hidden_replies(x, scene.view, scene.inquiry, answers) for m, x in scene.models.items()
            },
        )
        before = {m: reply.probabilities[answer] for m, reply in scene.before.items()}
        losses = {
            m: [100 * (before[m] - r.probabilities[answer]) for r in rows] for m, rows in hidden.items()
        }
        titles = {m: f"{m}: {answer} {100 * p:.1f} %" for m, p in before.items()}
        return figures.patch_maps(scene.view, losses, titles)


class NeuronTab(Tab):
    title, slow, memory = "Neurons", "a pass through all faces", "neurons"
    text = (
        "The neurons with the largest ratio of Eq. 7 (importance for the people to forget over that for all "
        "others), in vanilla, with the faces that excite each most and, after the sixth, least. Numbers are "
        "mean absolute activations."
    )

    def draw(self):
        """Of vanilla, whoever is chosen."""
        models, split = self.scene.models, self.scene.split
        neurons = self.scene.remember(self.memory, lambda: forget_neurons(models["vanilla"], split))
        return figures.neuron_faces(neurons, {p.id: p for p in (*split.forget, *split.retain)})


class CurveTab(Tab):
    title = "β and α"
    text = (
        "The records of Figures 2 and 3 of the paper: β weighs distillation, α forgetting. The line is at "
        "the slider's value. Forgetting below never-saw's is no success."
    )

    def controls(self):
        self.sign = w.ToggleButtons(options=list(RECORDS), **WIDE)
        self.value = w.SelectionSlider(options=[0.0], description="value")
        return [self.sign, self.value]

    def draw(self):
        """A curve of the papers' figures, with the value of the slider."""
        sign, task = self.sign.value, self.scene.task
        try:
            curve = read_curve(sign, task.model, task.benchmark)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(missing_record(sign, error)) from error
        if list(self.value.options) != curve.values:
            self.value.options = curve.values
        return figures.curve(curve, sign, self.value.value)


TABS = (AttentionTab, LensTab, NeedTab, NeuronTab, CurveTab)  # in their order


def button(text: str, work: Callable[[], None], style: str = "") -> w.Button:
    """A button as wide as its text."""
    widget = w.Button(description=text, button_style=style, layout={"width": "auto", "flex": "0 0 auto"})
    widget.on_click(lambda _: work())
    return widget
