"""Records -> figures. Functions take an axis and a table and draw; `save_figure` writes PDF and PNG, which
say what they show and which files they follow from."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from vkdlib.benchmarks.pictures import open_image
from vkdlib.evaluation.metrics import spread, t_interval
from vkdlib.reports.columns import LABELS, UNSEEN, Column, record_columns
from vkdlib.reports.style.figure import caption as caption
from vkdlib.reports.style.figure import metadata
from vkdlib.reports.style.figure import use_style as use_style
from vkdlib.system import files, paths

COLOURS = LABELS["colours"]  # of a table's rows
LINES = LABELS["lines"]  # colours of a table's columns
DASHED = {"ls": "--", "lw": 0.8, "color": "grey"}
DOT = {"lw": 1, "capsize": 2}
REFERENCES = {"vanilla": ("o", 9), "never-saw": ("*", 13)}  # where unlearning begins and should end: markers
RIGHT, WRONG = "#2a7f3f", "#b3262e"  # colours of answers
LETTERS = 24  # of an answer below a portrait
TITLE = 52  # letters of a title above an axis, in a line
TOP = 98  # points; curves that stay above it lie on one another, so they are named and not drawn
BARS = "Bars: 95 % intervals with people as units."
BANDS = "Bands: 95 % intervals with people as units, of faces that the balance counts."  # `column_curves`


def save_figure(figure: plt.Figure, name: str, *data: str) -> Path:
    """Write figures/<name>.pdf and .png; the same figure always gives the same bytes.

    Args:
        data: what it was drawn from: names of tables in figures/data, or files of the package by their path
            in it. Their hashes go into both files: a test tells when the figure no longer follows from them.
    Raises:
        ValueError: it names no data.
        FileNotFoundError: some of them are not there.
    """
    if not data:
        raise ValueError(f"figure {name!r} names no data: give the tables of figures/data that it shows")
    folder = paths.figures()
    folder.mkdir(parents=True, exist_ok=True)
    for kind, said in metadata(figure, data).items():
        with files.whole_file(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, metadata=said)
    return folder / f"{name}.png"


def legend(figure: plt.Figure, place: str, across: int = 1) -> None:
    """One legend for all axes of a figure, outside of them: every label once."""
    handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(handles.values(), handles, loc=f"outside {place}", ncols=across)


def column_dots(ax: plt.Axes, records: pd.DataFrame, table: str = "vkd 1") -> plt.Axes:
    """A table as dots with 95 % intervals: its columns side by side, one colour a method, chance dashed.

    ROUGE-L, where it is what a column measures, is drawn times 100.
    """
    columns, methods = record_columns(records, table), records.method.unique()
    for k, method in enumerate(methods):
        offset = (k - (len(methods) - 1) / 2) * 0.2
        for place, column in enumerate(columns):
            rows = column.points(records[records.method == method])
            ax.errorbar(
                [place + offset] * len(rows), rows.value, _arms(rows), fmt="o", ms=4,
                color=COLOURS.get(method), label=None if place else method, **DOT,
            )  # fmt: skip
    chance = _chance(columns)
    if chance is not None:
        ax.axhline(chance, **DASHED)
        ax.annotate("chance", (len(columns) - 0.55, chance), ha="right", va="bottom", color="grey")
    ax.set_xticks(range(len(columns)), [column.title.replace(" ", "\n", 1) for column in columns])
    ax.set(ylim=(0, 104), ylabel="accuracy (%)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(methods))
    return ax


def _chance(columns: Sequence[Column]) -> float | None:
    """What guessing gives in the columns in which options are chosen from; None: there is no such column."""
    return next((column.chance for column in columns if column.chance is not None), None)


def forget_retain(ax: plt.Axes, numbers: pd.DataFrame, table: str = "vkd 1", kept: str = "") -> plt.Axes:
    """Forgetting against keeping, as a balance counts them: the table's first column in which less is better,
    against its first of other faces, both of unseen pictures if the table has such. A dot is a method, with
    its 95 % intervals. The star is never-saw, which unlearning should reach; it should forget neither more
    nor less. The ring is vanilla.

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        kept: see `plane_columns`.
    """
    forget, keep = plane_columns(numbers, table, kept)
    x, y = (column.row_of_each(numbers, ["method"]).set_index("method") for column in (forget, keep))
    for method in x.index:
        marker, size = REFERENCES.get(method, ("o", 5))
        ax.errorbar(
            x.value[method], y.value[method], _arms(y.loc[[method]]), _arms(x.loc[[method]]), fmt=marker,
            ms=size, mfc="none" if method in REFERENCES else None, color=COLOURS.get(method),
            label=method, **DOT,
        )  # fmt: skip
    if forget.chance is not None:
        ax.axvline(forget.chance, **DASHED)
        ax.annotate(
            "chance", (forget.chance, 0.02), xycoords=ax.get_xaxis_transform(), rotation=90, ha="right",
            va="bottom", color="grey",
        )  # fmt: skip
    labels = [f"{column.title[0].lower()}{column.title[1:]} (%)" for column in (forget, keep)]
    ax.set(xlim=(-2, 104), xlabel=labels[0], ylabel=labels[1])
    return ax


def plane_columns(numbers: pd.DataFrame, table: str, kept: str = "") -> tuple[Column, Column]:
    """The columns that `forget_retain` draws.

    Args:
        kept: how the title of the column of other faces begins, "Real" for strangers.
    """
    columns = [column for column in record_columns(numbers, table) if column.balance]
    others = (c for c in columns if c.other_faces and c.title.startswith(kept))
    return next(column for column in columns if column.less), next(others)


def frontier(ax: plt.Axes, points: pd.DataFrame) -> plt.Axes:
    """What is left of faces to forget against what is kept of strangers: a dot a trial, a star for never-saw.

    Args:
        points: from `selection.frontier_points`.
    """
    for row, trials in points.groupby("row", sort=False):
        marker, size = REFERENCES.get(row, ("o", 4))
        colour = COLOURS.get(row, "black" if row in REFERENCES else None)
        ax.plot(trials.left, trials.kept, marker, ms=size, color=colour, alpha=0.8, label=row)
    ax.set(xlim=(-2, 104), xlabel="forget VQA, unseen (%)", ylabel="real-world VQA (%)")
    return ax


def reduction(ax: plt.Axes, points: pd.DataFrame) -> plt.Axes:
    """How much less of forget people is told than by vanilla, against what is kept: a dot a row, with the
    95 % intervals of its own two values. The star is never-saw: whoever is to its right tells less than a
    model that cannot know. The ring is vanilla.

    Args:
        points: from `tables.reductions`.
    """
    for method in points.index:
        x, y = (points.loc[[method], side] for side in ("reduction", "kept"))
        marker, size = REFERENCES.get(method, ("o", 5))
        ax.errorbar(
            x.value, y.value, _arms(y), _arms(x), fmt=marker, ms=size, label=method,
            mfc="none" if method in REFERENCES else None, color=COLOURS.get(method), **DOT,
        )  # fmt: skip
    return ax


def _arms(rows: pd.DataFrame) -> np.ndarray:
    """The arms of each row's error bar: (2, rows)."""
    return np.array([rows.value - rows.low, rows.high - rows.value])


def forest(ax: plt.Axes, differences: pd.DataFrame, reference: str, columns: Sequence[Column]) -> plt.Axes:
    """Paired differences with 95 % intervals, a line each; filled where Holm's p is below 0.05.

    Args:
        differences: from `answers.rival_tests`.
        reference: the method that the others are subtracted from.
        columns: of the table, for their titles.
    """
    titles = {(*column.questions, column.metric): column.title for column in columns}
    rows = differences.rename(columns={"difference": "value"})
    for line, row in enumerate(rows.itertuples()):
        ax.errorbar(
            row.value, line, xerr=_arms(rows.iloc[[line]]), fmt="o", ms=4, color=COLOURS.get(row.other),
            mfc=None if row.p_holm < 0.05 else "white", **DOT,
        )  # fmt: skip
    labels = [
        f"{row.other}, {titles[row.set, row.modality, row.kind, row.metric]}" for row in rows.itertuples()
    ]
    ax.axvline(0, lw=0.8, color="grey")
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlabel(f"{reference} minus the other (points)")
    return ax


def column_curves(
    ax: plt.Axes, numbers: pd.DataFrame, x: str, smallest: float | None = None, table: str = "vkd 1"
) -> plt.Axes:
    """The columns of a table against a setting. A column and its unseen twin have one colour: unseen solid,
    seen dashed; questions in text are thin. Bands are 95 % intervals, of faces that a balance counts. Dotted:
    what never-saw has where less is better.

    Columns that stay at the top (above TOP) lie on one another: the axis's title names them instead. The
    lines are labelled. The figure makes the legend, for it may have several such axes. ROUGE-L is drawn
    times 100.

    Args:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        x: column with the setting's value; it is empty for models that are not unlearned.
        smallest: x is logarithmic from here up, and linear below, where it may be 0.
    """
    swept = numbers.dropna(subset=[x]).sort_values(x)
    columns = record_columns(swept, table)
    top = [column for column in columns if column.points(swept).value.min() > TOP]
    if top:
        names = "; ".join(column.title for column in top)
        ax.set_title(textwrap.fill(f"above {TOP} everywhere: {names}", TITLE, break_on_hyphens=False))
    for column in (c for c in columns if c not in top):
        rows, colour = column.points(swept), LINES.get(column.title.removesuffix(UNSEEN))
        text, style = column.modality == "qa", "-" if column.balance else "--"
        ax.plot(rows[x], rows.value, style, color=colour, lw=0.8 if text else 1.5, label=column.title)
        if column.balance and (column.less or column.other_faces):
            ax.fill_between(rows[x], rows.low, rows.high, color=colour, alpha=0.15, lw=0)
    if smallest:
        ax.set_xscale("symlog", linthresh=smallest)
        ax.set_xlim(swept[x].min() - smallest / 3, swept[x].max() * 1.3)
    chance = _chance(columns)
    if chance is not None:
        ax.axhline(chance, label="Chance", **DASHED)
    never = numbers[numbers.method == "never-saw"]
    for column in (c for c in columns if c.less and c.balance):  # what forgetting should reach, and not pass
        for value in column.points(never).value:
            ax.axhline(value, ls=":", lw=1, color="black", label=f"{column.title}: never-saw")
    ax.set(ylim=(0, 104), ylabel="accuracy (%)")
    return ax


def relearning_curves(ax: plt.Axes, numbers: pd.DataFrame, title: str) -> plt.Axes:
    """Accuracy by epoch of a relearning attack, a line a method; never-saw under the same attack is dotted.

    Args:
        numbers: from `answers.table_numbers`, of rows with one share and scope, as "VKD, 20 %".
        title: of the column before the attack, as "Others VQA, unseen".
    """
    at = [f"{title.removesuffix(UNSEEN)}, epoch {n}{UNSEEN * title.endswith(UNSEEN)}" for n in range(1, 6)]
    columns = {column.title: column for column in record_columns(numbers, "vkd 4")}
    for row in numbers.method.unique():
        values = [columns[name].points(numbers[numbers.method == row]).value.item() for name in (title, *at)]
        method = row.split(",")[0]
        style = ":" if method == "never-saw" else "-"
        ax.plot(range(6), values, style, marker=".", color=COLOURS.get(method), label=method)
    ax.axhline(columns[title].chance, **DASHED)
    ax.set(ylim=(0, 104), xlabel="epoch of the attack", ylabel=f"{title[0].lower()}{title[1:]} (%)")
    return ax


def request_curves(ax: plt.Axes, numbers: pd.DataFrame) -> plt.Axes:
    """VQA on unseen pictures after each request of a series: of people who are forgotten by then, who are to
    come, and who stay.

    Args:
        numbers: from `answers.table_numbers`, of one row, as "VKD, 1 by 1".
    """
    columns = [c for c in record_columns(numbers, "vkd continual") if ", request " in c.kind]
    for people, style in {"Forget": "-", "To come": "--", "Retain": ":"}.items():
        shown = {int(c.kind.split()[-1]): c for c in columns if c.title.startswith(people)}
        values = [column.points(numbers).value.item() for column in shown.values()]
        ax.plot(list(shown), values, style, marker=".", color="black", label=f"{people} VQA")
    ax.set(ylim=(0, 104), xlabel="requests")
    return ax


def gallery(
    people: Sequence[tuple[str, bytes]], question: str, answers: Mapping[str, Sequence[tuple[str, bool]]]
) -> plt.Figure:
    """Portraits with a question and what each model answers; right answers are green, wrong ones red.

    Args:
        people: (title, PNG or JPEG bytes), at least one.
        answers: model -> (answer, is it right) for each of the people.
    """
    height = 2 + 0.18 * len(answers)
    figure, axes = plt.subplots(1, len(people), figsize=(1.65 * len(people), height), squeeze=False)
    figure.suptitle(f"“{question}”")
    for i, (ax, (title, image)) in enumerate(zip(axes[0], people)):
        ax.imshow(open_image(image), interpolation="lanczos")
        ax.set_title(title)
        ax.axis("off")
        for line, (model, pairs) in enumerate(answers.items()):
            text, right = pairs[i]
            place = {"transform": ax.transAxes, "y": -0.12 - 0.16 * line}
            words = textwrap.shorten(text or "(nothing)", LETTERS, placeholder=" …")
            ax.text(0.5, s=words, color=RIGHT if right else WRONG, ha="center", **place)
            if not i:
                ax.text(-0.25, s=f"{model}:", ha="right", **place)
    caption(figure, f"{len(people)} people, one question each. Green: the right answer, red: a wrong one.")
    return figure


def intervention_bars(ax: plt.Axes, probabilities: pd.DataFrame) -> plt.Axes:
    """Figure 2 of the VGID paper, over many questions: the mean probability that an answer begins with a
    sensitive token (orange) or with a safe one (green) under each intervention, with 95 % intervals that have
    people as units.

    Args:
        probabilities: one row a question, with columns intervention, person, sensitive and safe (0 to 1).
    """
    groups = dict(list(probabilities.groupby("intervention", sort=False)))
    for offset, (name, colour) in enumerate({"sensitive": "#dd8452", "safe": "#55a868"}.items()):
        means = np.array([group[name].mean() for group in groups.values()])
        ends = [
            t_interval(mean, *spread(group[name], group.person))
            for mean, group in zip(means, groups.values())
        ]
        places = np.arange(len(groups)) + 0.4 * offset - 0.2
        arms = np.abs(np.transpose(ends) - means)  # (2, interventions)
        ax.bar(places, means, 0.4, yerr=arms, color=colour, capsize=2, label=f"{name} tokens")
    ax.set_xticks(range(len(groups)), groups)
    ax.set(ylim=(0, 1), xlabel="intervention", ylabel="probability of the first token")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return ax


def loss_curves(ax: plt.Axes, history: pd.DataFrame) -> plt.Axes:
    """The named losses of a run by step; the figure's caption says what they are."""
    losses = history.set_index("step").drop(columns="lr").sort_index(axis="columns")
    caption(ax.figure, "Each axis shows one run. A loss is that of one step's pictures, without interval.")
    return losses.plot(ax=ax, lw=1, logy=True, xlabel="step", ylabel="loss")
