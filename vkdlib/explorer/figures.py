"""What the explorer's functions return, as figures: exact numbers beside colour, one scale for all models."""

import html
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Person
from vkdlib.explorer.beta_alpha import Curve
from vkdlib.explorer.neurons import Neuron
from vkdlib.explorer.patches import View
from vkdlib.reports import plots
from vkdlib.reports.columns import headings, record_columns
from vkdlib.reports.style.figure import inline_picture

RED, BLUE = "#c41e1e", "#1e50b4"
OPACITY = 0.8  # of the largest value's colour
READABLE = 36  # cells of a map that have their number or word in them
MOST, LEAST = 6, 2  # faces beside a neuron


def patch_maps(
    view: View,
    values: Mapping[str, Sequence[float]],
    titles: Mapping[str, str] = {},
    words: Mapping[str, Sequence[str]] = {},
    top: float | None = None,
) -> plt.Figure:
    """The portrait once for each model, coloured by a value of each token or square: red above 0, blue below.

    Args:
        values: model -> value of each token, or of each square, row by row.
        titles: model -> what stands above its portrait, instead of its name.
        words: model -> what stands in each cell instead of its value.
        top: value of the fullest colour; None: the largest there is.
    """
    top = top or max(abs(v) for row in values.values() for v in row) or 1
    figure, axes = plt.subplots(1, len(values), figsize=(3.1 * len(values), 3.4), squeeze=False)
    for ax, (model, row) in zip(axes[0], values.items()):
        ax.imshow(open_image(view.image))
        ax.set_title(titles.get(model, model))
        ax.axis("off")
        boxes = view.boxes(1 if len(row) == view.rows * view.columns else view.size)
        texts = words.get(model) or [f"{value:.1f}" for value in row]
        for (left, upper, right, lower), value, text in zip(boxes, row, texts):
            colour, share = RED if value > 0 else BLUE, OPACITY * min(abs(value) / top, 1)
            size = (right - left, lower - upper)
            ax.add_patch(Rectangle((left - 0.5, upper - 0.5), *size, color=colour, alpha=share, lw=0))
            if len(row) <= READABLE:
                middle = ((left + right - 1) / 2, (upper + lower - 1) / 2)
                box = {"facecolor": "white", "alpha": 0.6, "pad": 0.6, "lw": 0}
                ax.text(*middle, text, ha="center", va="center", bbox=box)
    return figure


def neuron_faces(neurons: Sequence[Neuron], people: Mapping[str, Person]) -> plt.Figure:
    """A row for each neuron: the faces that excite it most, and, after a gap, least.

    Args:
        people: id -> person.
    """
    across = MOST + LEAST
    figure, axes = plt.subplots(
        len(neurons), across, figsize=(1.0 * across, 1.35 * len(neurons)), squeeze=False
    )
    for row, neuron in zip(axes, neurons):
        row[0].set_ylabel(
            f"block {neuron.block}\nneuron {neuron.number}\nratio {neuron.ratio:.2f}",
            rotation=0,
            ha="right",
            va="center",
        )
        for ax, (id, group, z) in zip(row, neuron.faces[:MOST] + neuron.faces[-LEAST:]):
            ax.imshow(open_image(people[id].image))
            ax.set_title(f"{group} {z:.2f}", color=RED if group == "forget" else "black")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    return figure


def curve(data: Curve, sign: str, value: float) -> plt.Figure:
    """A curve of the papers' figures, with a value of its setting marked."""
    figure, ax = plt.subplots(figsize=(6.5, 3.2))
    positive = [v for v in data.values if v > 0]
    plots.column_curves(ax, data.numbers, data.setting, smallest=min(positive))
    ax.axvline(value, color="black", lw=1)
    ax.set_xlabel(f"{sign} (linear up to {min(positive):g})")
    ax.legend(bbox_to_anchor=(1.02, 1), loc="upper left")
    faces = [c for c in record_columns(data.numbers) if c.balance and c.modality == "vqa"]
    plots.caption(figure, f"{plots.BANDS} {headings(data.numbers, faces)}.")
    return figure


def picture_html(figure: plt.Figure) -> str:
    """A figure as an element of a page, as large as it was made, with an alternative text; it is closed."""
    content, facts = inline_picture(figure)
    plt.close(figure)
    said = " ".join(f'{name}="{html.escape(str(value))}"' for name, value in facts.items())
    style = "max-width:100%;height:auto"
    return f'<img class="vkd-figure" src="data:image/png;base64,{content}" {said} style="{style}">'
