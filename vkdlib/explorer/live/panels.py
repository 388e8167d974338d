"""Panels of the explorer: what each shows, and where it stands."""

from collections.abc import Callable

import ipywidgets as w

SLOW = {"need": "a pass for each square", "neurons": "a pass through all faces"}
TEXTS = {  # of a panel: title, and what it shows
    "attention": (
        "Where it looks",
        "Attention of a model's own answer to the image's tokens: per cent of all of it, mean over heads, "
        "one scale for all models. <b>By itself it is no evidence of cause:</b> a patch can draw attention "
        "and not matter. Hiding a square, above, is: it changes what the model is given. Without sinks: what "
        "a patch gets beyond its attention under a question about nothing in particular.",
    ),
    "lens": (
        "What patches say",
        "The logit lens: the word that the output layer makes of each image token after a layer of the "
        "language model. Colour: its probability, or that of the right name's first token, 0 to 100 %.",
    ),
    "need": (
        "What it needs",
        "How many points of probability the right answer, or vanilla's, loses when a square is hidden; minus "
        "means that it gains. One scale for all models.",
    ),
    "neurons": (
        "Neurons",
        "The neurons with the largest ratio of Eq. 7 (importance for the people to forget over that for all "
        "others), in vanilla, with the faces that excite each most and, after the sixth, least. Numbers are "
        "mean absolute activations.",
    ),
    "curves": (
        "β and α",
        "The records of Figures 2 and 3 of the paper: β weighs distillation, α forgetting. The line is at "
        "the slider's value. Forgetting below never-saw's is no success.",
    ),
}


class Panel:
    """A figure with its controls, in a tab.

    Attributes:
        ready: whether it can be drawn at once.
    """

    def __init__(
        self, title: str, text: str, controls: list[w.Widget], draw: Callable, ready: Callable = lambda: True
    ):
        self.title, self.draw, self.ready = title, draw, ready
        self.image = w.Image(layout={"max_width": "100%", "align_self": "flex-start"})
        self.box = w.VBox(
            [
                w.HTML(f'<div style="max-width:52em;line-height:1.4">{text}</div>'),
                w.HBox(controls),
                self.image,
            ]
        )


def button(text: str, work: Callable[[], None], style: str = "") -> w.Button:
    """A button as wide as its text."""
    made = w.Button(description=text, button_style=style, layout={"width": "auto", "flex": "0 0 auto"})
    made.on_click(lambda _: work())
    return made
