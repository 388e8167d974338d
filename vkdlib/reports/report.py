"""What the notebooks of tables and figures share: records with their tests, a panel for each task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML

from vkdlib.evaluation.compare import add_holm
from vkdlib.reports import plots, tables
from vkdlib.reports.claims import read_topic, row_names
from vkdlib.reports.columns import LABELS, QUESTIONS, Column, record_columns
from vkdlib.reports.paper.published import published_table
from vkdlib.reports.rendering import html, latex
from vkdlib.reports.tables import in_order
from vkdlib.runs.records import read_records
from vkdlib.system import checks, files, paths

NAMES, METHODS, ABLATION = (LABELS[part] for part in ("names", "methods", "ablation"))
TEST_AGAIN = "run the record's notebook with -p write True"


def model_name(model: str) -> str:
    """What titles call a model."""
    return f"Testbed's {NAMES[model]}" if model in NAMES else model


def task_title(model: str, benchmark: str) -> str:
    """What titles call a model on a benchmark."""
    return f"{model_name(model)} on {NAMES.get(benchmark, benchmark)}"


@dataclass(frozen=True)
class Panel:
    """A model on a benchmark: its part of a report.

    Attributes:
        records: in the layout of figures/data; `method` is the row of the table.
        tests, quality: its part of <record>_tests.csv and <record>_quality.csv; empty for a figure.
        table: paper and number, as in paper/columns.yaml.
        published: model and benchmark as the paper calls them; None: the paper has no such panel.
    """

    model: str
    benchmark: str
    records: pd.DataFrame
    tests: pd.DataFrame
    quality: pd.DataFrame
    table: str
    published: tuple[str, str] | None = None

    @property
    def title(self) -> str:
        return task_title(self.model, self.benchmark)

    @property
    def columns(self) -> list[Column]:
        return record_columns(self.records, self.table)

    @property
    def printed(self) -> pd.DataFrame:
        """The paper's table."""
        return published_table(self.table, *self.published)

    @property
    def vkd(self) -> pd.DataFrame:
        """The records of VKD."""
        return self.records[self.records.method == "VKD"]

    def part(self, rows: Sequence[str]) -> "Panel":
        """The panel with these rows of the table alone, in this order; Holm's p is over them."""
        tests = add_holm(self.tests[self.tests.other.isin(rows)], QUESTIONS)
        return replace(self, records=in_order(self.records, "method", rows), tests=tests)

    def main_table(self) -> pd.DataFrame:
        """The table over seeds, with the paper's numbers where it has any."""
        over_forgotten = set(self.quality.row[self.quality.over_forgotten])
        table = tables.main_table(self.records, self.tests, over_forgotten, self.table)
        return tables.beside_published(table, self.printed) if self.published else table


@dataclass(frozen=True)
class Report:
    """A table or figure of a paper, made of one or several records.

    Attributes:
        panels: one for each model and benchmark, in the order of NAMES.
        judged: the rows of figures/data/claims.csv about the records.
        rows: names of the table's rows, in the order in which they are shown.
    """

    panels: list[Panel]
    judged: pd.DataFrame
    rows: list[str]

    @property
    def records(self) -> pd.DataFrame:
        return pd.concat([panel.records for panel in self.panels])

    def axes(
        self, width: float, height: float, across: int = 2, **options
    ) -> tuple[plt.Figure, Iterator[tuple[plt.Axes, Panel]]]:
        """A figure, and its axes with the panels; their titles stand.

        Args:
            width, height: of an axis, in inches.
            across: how many stand beside each other at most.
            options: of `plt.subplots`.
        """
        across = min(len(self.panels), across)
        down = -(-len(self.panels) // across)
        size = (width * across, height * down)
        figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, **options)
        for ax, panel in zip(axes.flat, self.panels):
            ax.set_title(panel.title)
        return figure, zip(axes.flat, self.panels)

    def forget_retain_figure(self, hidden: Sequence[str] = ()) -> plt.Figure:
        """Forgetting against keeping in every panel (`plots.forget_retain`), without the hidden rows."""
        figure, axes = self.axes(3.5, 3.2, sharex=True, sharey=True)
        for ax, panel in axes:
            plots.forget_retain(ax, panel.records[~panel.records.method.isin(hidden)], panel.table)
        for ax in figure.axes[1 : len(self.panels)]:
            ax.get_legend().remove()
        return figure

    def curve_figure(self, x: str, label: str, smallest: float | None = None) -> plt.Figure:
        """VKD's curve in every panel (`plots.column_curves`), and what retain-only has."""
        figure, axes = self.axes(3.7, 3.4, across=len(self.panels), sharey=True)
        for ax, panel in axes:
            plots.column_curves(ax, panel.vkd, x, smallest, panel.table)
            plots.retain_only_line(ax, panel.records, panel.table)
            ax.set(title=model_name(panel.model), xlabel=label)
        lines = figure.axes[0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=4)
        return figure

    def curve_tables(self, x: str) -> HTML:
        """VKD's curve in every panel, in numbers (`tables.curve_table`)."""
        curves = [tables.curve_table(panel.vkd, x, panel.table) for panel in self.panels]
        titles = [model_name(panel.model) for panel in self.panels]
        return HTML("".join(map(html, curves, titles)))

    def main_tables(self) -> HTML:
        """The table of every panel."""
        return HTML("".join(html(panel.main_table(), panel.title) for panel in self.panels))

    def quality_means(self) -> pd.DataFrame:
        """Forget VQA minus retain-only's, Kolmogorov-Smirnov distance and truth ratio of each row, in the
        mean over seeds."""
        quality = pd.concat([panel.quality for panel in self.panels])
        means = quality.groupby(["model", "benchmark", "row"])[["accuracy", "ks", "truth_ratio"]].mean()
        return means.unstack(["model", "benchmark"]).reindex(self.rows)

    def verdict_counts(self) -> pd.DataFrame:
        """How often each verdict was reached about each claim."""
        return pd.crosstab(self.judged.claim, self.judged.verdict).reindex(self.judged.claim.unique())

    def claim_table(self) -> HTML:
        """All claims, with what was measured, and with the paper's own differences where it has any."""
        published = {
            (panel.model, panel.benchmark): (panel.printed, panel.columns)
            for panel in self.panels
            if panel.published
        }
        return HTML(html(tables.claim_table(self.judged, published or None)))

    def write_latex(self, name: str, caption: Callable[[Panel], str]) -> None:
        """Write figures/<name>.tex: the table of every panel."""
        text = "\n".join(latex(panel.main_table(), caption(panel)) for panel in self.panels)
        with files.whole_file(paths.figures() / f"{name}.tex") as temporary:
            temporary.write_text(text)


def read_report(
    names: Sequence[str],
    topic: str,
    rows: Sequence[str] | None = None,
    published: Mapping[tuple[str, str], tuple[str, str]] | None = None,
) -> Report:
    """The report that records make: figures/data/<name>.csv with their claims, and where these compare rows,
    with <name>_tests.csv and <name>_quality.csv.

    Args:
        names: of the records.
        topic: of paper/claims.yaml, which says what table it is and how its rows are named.
        rows: of the table, in the order in which they are shown; None: as the records have them.
        published: model and benchmark of a panel -> what the paper calls them.
    Raises:
        FileNotFoundError: a record, its tests or its claims are not there.
        ValueError: a record has a row that is none of `rows`, or no claim is about it.
    """
    meaning = read_topic(topic)
    records = pd.concat(map(read_records, names))
    records = records.assign(method=row_names(records, meaning["rows"]))
    rows = list(records.method.unique() if rows is None else rows)
    checks.check_names("the table", records.method.unique(), rows)
    tests = quality = records[:0]
    if any("rows" in claim for claim in meaning["claims"]):
        tests, quality = (pd.concat(_read(f"{n}_{part}") for n in names) for part in ("tests", "quality"))
    judged = _read("claims").query("record in @names")
    if judged.empty:
        raise ValueError(f"claims.csv has no row about {', '.join(names)}: {TEST_AGAIN}")
    parts = [in_order(records, "method", rows), tests, quality]
    order = [*NAMES, *records.model, *records.benchmark]
    tasks = sorted(set(zip(records.model, records.benchmark)), key=lambda task: [*map(order.index, task)])
    panels = [
        Panel(*task, *(_part(part, *task) for part in parts), meaning["table"], (published or {}).get(task))
        for task in tasks
    ]
    return Report(panels, judged, rows)


def _read(name: str) -> pd.DataFrame:
    """What the tests of a record wrote to figures/data."""
    file = paths.figures() / "data" / f"{name}.csv"
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file; {TEST_AGAIN}")
    return pd.read_csv(file)


def _part(table: pd.DataFrame, model: str, benchmark: str) -> pd.DataFrame:
    """The rows of a model and a benchmark."""
    return table[(table.model == model) & (table.benchmark == benchmark)]
