"""Records -> figures. Functions take an axis and a table and draw; `save_figure` writes PDF and PNG."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from vkdlib.benchmarks.pictures import open_image
from vkdlib.reports import columns as table_columns
from vkdlib.reports.columns import CHANCE, LOWER
from vkdlib.system import files, paths

COLOURS = {
    "vanilla": "#4c72b0", "retain-only": "#55a868", "VKD": "#c44e52", "VKD, β=0": "#dd8452",
    "GA": "#8172b3", "GA_Diff": "#937860", "KL_Min": "#da8bc3", "NPO": "#8c8c8c", "MANU": "#ccb974",
    "MMUnlearner": "#64b5cd",
    "B": "#8172b3", "B+Mask": "#937860", "B+Mask+VKD": "#da8bc3",
    "F": "#8c8c8c", "F+Mask": "#ccb974", "F+VKD": "#64b5cd", "F+Mask+VKD": "#c44e52",
}  # fmt: skip


def use_style() -> None:
    """Use the kit's figure style from here on."""
    plt.style.use(paths.PACKAGE / "reports" / "style.mplstyle")


def save_figure(figure: plt.Figure, name: str) -> Path:
    """Write figures/<name>.pdf and .png; the same figure always gives the same bytes."""
    folder = paths.figures()
    folder.mkdir(parents=True, exist_ok=True)
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with files.whole(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata)
    return folder / f"{name}.png"


def six_columns(ax: plt.Axes, records: pd.DataFrame) -> plt.Axes:
    """Table 1 as dots with 95 % intervals: six columns, one colour a method, chance dashed.

    ROUGE-L, where it is what a column measures, is drawn times 100.
    """
    columns = table_columns.six_columns(records)
    methods = list(records.method.unique())
    for k, method in enumerate(methods):
        for x, rows in enumerate(columns.values()):
            r = rows[rows.method == method]
            at = x + (k - (len(methods) - 1) / 2) * 0.2
            scale = np.where(r.metric == "accuracy", 1, 100)
            value, low, high = (r[column] * scale for column in ("value", "low", "high"))
            ax.errorbar(
                np.full(len(r), at), value.to_list(), [(value - low).to_list(), (high - value).to_list()],
                fmt="o", ms=4, capsize=2, lw=1, color=COLOURS.get(method), label=method if x == 0 else None,
            )  # fmt: skip
    ax.axhline(CHANCE, ls="--", lw=0.8, color="grey")
    ax.annotate("chance", (len(columns) - 0.55, CHANCE), ha="right", va="bottom", color="grey")
    ax.set_xticks(range(len(columns)), [t.replace(" ", "\n", 1) for t in columns])
    ax.set_ylim(0, 104)
    ax.set_ylabel("accuracy (%)")
    ax.legend(loc="center")
    return ax


def forget_retain(ax: plt.Axes, records: pd.DataFrame) -> plt.Axes:
    """Forget VQA against retain VQA: a dot a method (mean over seeds, mean 95 % interval), a star for
    retain-only, which unlearning should reach: neither more nor less forgotten; a ring for vanilla.

    Args:
        records: rows in the layout of figures/data of one model, benchmark and forget ratio.
    """
    columns = table_columns.six_columns(records)
    sides = ["value", "low", "high"]
    x, y = (columns[t].groupby("method", sort=False)[sides].mean() for t in (LOWER, "Retain VQA"))
    for method in x.index:
        (a, *a_ends), (b, *b_ends) = x.loc[method], y.loc[method]
        around = {"vanilla": 9, "retain-only": 13}.get(method)  # where unlearning begins and should end
        ax.errorbar(
            [a], [b], xerr=[[a - a_ends[0]], [a_ends[1] - a]], yerr=[[b - b_ends[0]], [b_ends[1] - b]],
            fmt="*" if method == "retain-only" else "o", ms=around or 5, mfc="none" if around else None, lw=1,
            capsize=2, color=COLOURS.get(method), label=method,
        )  # fmt: skip
    ax.axvline(CHANCE, ls="--", lw=0.8, color="grey")
    bottom = ax.get_xaxis_transform()
    ax.annotate("chance", (CHANCE, 0.02), xycoords=bottom, rotation=90, ha="right", va="bottom", color="grey")
    ax.set_xlim(-2, 104)
    ax.set_xlabel("forget VQA (%)")
    ax.set_ylabel("retain VQA (%)")
    ax.legend()
    return ax


def forest(ax: plt.Axes, differences: pd.DataFrame, reference: str) -> plt.Axes:
    """Paired differences with 95 % intervals, a line each; filled where Holm's p is below 0.05.

    Args:
        differences: from `compare.differences`.
        reference: the method that the others are subtracted from.
    """
    titles = {where[:3]: title for title, where in table_columns.table_1(differences.set).items()}
    labels = []
    for line, row in enumerate(differences.itertuples()):
        sure = row.p_holm < 0.05
        ax.errorbar(
            [row.difference], [line], xerr=[[row.difference - row.low], [row.high - row.difference]], fmt="o",
            ms=4, lw=1, capsize=2, color=COLOURS.get(row.other), mfc=None if sure else "white",
        )  # fmt: skip
        labels.append(f"{row.other}, {titles[row.set, row.modality, row.kind]}")
    ax.axvline(0, lw=0.8, color="grey")
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlabel(f"{reference} minus the other (points)")
    return ax


def six_curves(ax: plt.Axes, records: pd.DataFrame, x: str, smallest: float | None = None) -> plt.Axes:
    """The six columns of Table 1 against a setting: mean over seeds, the band from lowest to highest seed.

    The lines are labelled; a legend is left to the figure, which may have several such axes. ROUGE-L, where
    it is what a column measures, is drawn times 100.

    Args:
        records: rows in the layout of figures/data of one model, benchmark and forget ratio.
        x: column with the setting's value.
        smallest: draw x on a logarithmic scale from here up, and in proportion below (it may be 0 there).
    """
    import seaborn as sns

    columns = table_columns.six_columns(records)
    long = pd.concat([rows.assign(column=title) for title, rows in columns.items()], ignore_index=True)
    long["value"] *= np.where(long.metric == "accuracy", 1, 100)
    forget = [title for title in columns if title == LOWER]
    sns.lineplot(
        long, x=x, y="value", hue="column", style="column", markers=True, dashes=False, ms=4, lw=1,
        errorbar=("pi", 100), size="column", sizes={t: 2 if t in forget else 1 for t in columns}, ax=ax,
    )  # fmt: skip
    if smallest:
        ax.set_xscale("symlog", linthresh=smallest)
        ax.set_xlim(long[x].min() - smallest / 3, long[x].max() * 1.3)
    ax.axhline(CHANCE, ls="--", lw=0.8, color="grey", label="Chance")
    ax.set_ylim(0, 104)
    ax.set_ylabel("accuracy (%)")
    ax.get_legend().remove()
    return ax


def gallery(
    people: Sequence[tuple[str, bytes]], question: str, answers: Mapping[str, Sequence[tuple[str, bool]]]
) -> plt.Figure:
    """Portraits with a question and what each model answers; right answers are green, wrong ones red.

    Args:
        people: (title, PNG or JPEG bytes), at least one.
        answers: model -> (answer, is it right) for each of the people.
    """
    figure, axes = plt.subplots(1, len(people), figsize=(1.45 * len(people), 2.4), squeeze=False)
    figure.suptitle(f"“{question}”")
    for i, (ax, (title, image)) in enumerate(zip(axes[0], people)):
        ax.imshow(open_image(image), interpolation="lanczos")
        ax.set_title(title)
        ax.axis("off")
        for line, (model, said) in enumerate(answers.items()):
            text, right = said[i]
            label = f"{model}: {textwrap.shorten(text or '(nothing)', 24)}"
            colour = "#2a7f3f" if right else "#b3262e"
            ax.text(0.5, -0.14 - 0.15 * line, label, color=colour, ha="center", fontsize=7,
                    transform=ax.transAxes)  # fmt: skip
    return figure


def losses(ax: plt.Axes, history: pd.DataFrame) -> plt.Axes:
    """The named losses of a run by step."""
    for name in history.columns.difference(["step", "lr"]):
        ax.plot(history.step, history[name], lw=1, label=name)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.set_yscale("log")
    ax.legend()
    return ax
