"""What the notebooks of tables and figures share: records with their tests, a panel for each task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import pandas as pd

from vkdlib.reports import answers, claims, plots, rendering, tables
from vkdlib.reports.columns import MEASURED, NAMES, UNSEEN, Column, headings, record_columns
from vkdlib.reports.paper import published as paper
from vkdlib.reports.rendering import Tables
from vkdlib.reports.style.figure import fingerprints
from vkdlib.runs.records import check_starts, read_records
from vkdlib.system import checks, files, paths

PRINTED = "The paper's own numbers; it prints no intervals."


def model_name(model: str) -> str:
    """What titles call a model."""
    return f"Testbed's {NAMES[model]}" if model in NAMES else model


def reduction_titles(measure: str, unseen: bool) -> list[str]:
    """The titles of the two columns that a reduction is drawn from: what is to be forgotten, what is kept."""
    return [f"{group} {measure}{UNSEEN if unseen else ''}" for group in ("Forget", "Retain")]


def task_title(model: str, benchmark: str) -> str:
    """What titles call a model on a benchmark."""
    return f"{model_name(model)} on {NAMES.get(benchmark, benchmark)}"


@dataclass(frozen=True)
class Panel:
    """A model on a benchmark at a forget ratio: its part of a report.

    Attributes:
        title: what figures and tables call it.
        topic: what the paper says of the table or figure.
        published: model and benchmark as the paper calls them; None: the paper has no such panel.
        records: in the layout of figures/data; `method` is the row of the table.
        numbers: its part of <record>_table.csv.
        cases: its part of claims.csv.
        tests, quality: its part of <record>_tests.csv and <record>_quality.csv; empty for a figure.
    """

    model: str
    benchmark: str
    forget_ratio: int
    title: str
    topic: answers.Topic
    published: tuple[str, str] | None
    records: pd.DataFrame
    numbers: pd.DataFrame
    cases: pd.DataFrame
    tests: pd.DataFrame
    quality: pd.DataFrame

    @property
    def columns(self) -> list[Column]:
        return record_columns(self.numbers, self.topic.table)

    def part(self, rows: Sequence[str]) -> "Panel":
        """The panel with these rows of the table alone, in this order; Holm's p is over the whole table."""
        tests = self.tests[self.tests.other.isin(rows)]
        records, numbers = (tables.sort_rows(t, "method", rows) for t in (self.records, self.numbers))
        return replace(self, records=records, numbers=numbers, tests=tests)

    def published_table(self) -> pd.DataFrame:
        """The paper's own table, at this forget ratio. What it does not print is from the table beside it,
        if the topic names one; NaN where neither does."""
        own = paper.published_table(paper.table_at(self.topic.table, self.forget_ratio), *self.published)
        if not self.topic.beside:
            return own
        return own.combine_first(paper.published_table(self.topic.beside, *self.published))

    def reductions(self, measure: str, unseen: bool = False, published: bool = False) -> pd.DataFrame:
        """Each row's reduction of a measure on forget people, and what it keeps (`tables.reductions`).

        Args:
            measure: "ROUGE-L", "BLEU", "class" or "cloze".
            unseen: on unseen pictures.
            published: the paper's own; empty where it prints none.
        """
        pair = reduction_titles(measure, unseen)
        if not published:
            columns = {column.title: column.points(self.numbers) for column in self.columns}
            return tables.reductions(*(columns[title].set_index("method") for title in pair))
        printed = self.published_table() if self.published else pd.DataFrame()
        if not set(pair) <= set(printed):
            return pd.DataFrame()
        scale = {column.title: column.scale for column in self.columns}
        points = [printed[title].dropna().astype(float) * scale[title] for title in pair]
        return tables.reductions(*(pd.DataFrame(dict.fromkeys(MEASURED, p)) for p in points))

    def main_table(self) -> pd.DataFrame:
        """The table over draws, with the paper's numbers where it has any."""
        tests = self.tests if self.topic.ours else None
        table = tables.main_table(self.numbers, tests, self.topic.table)
        if not self.published:
            return table
        return tables.add_paper_numbers(table, self.published_table())

    def cases_with_paper_numbers(self) -> pd.DataFrame:
        """The cases, with the paper's own difference of the two rows where it has any."""
        if not self.published:
            return self.cases
        differences = paper.published_differences(self.published_table(), self.columns, self.cases)
        return self.cases.assign(published=differences)


@dataclass(frozen=True)
class Report:
    """A table or figure of a paper, made of one or several records.

    Attributes:
        topic: what the paper says of it.
        rows: names of the table's rows, in the order in which they are shown.
        records: in the layout of figures/data; `method` is the row of the table.
        cases: the rows of claims.csv about it.
        panels: one for each model, benchmark and forget ratio, in the order of NAMES.
        data: names of the tables in figures/data that panels hold.
    """

    topic: answers.Topic
    rows: list[str]
    records: pd.DataFrame
    cases: pd.DataFrame
    panels: list[Panel]
    data: list[str]

    def _axes(
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
            ax.tick_params(labelbottom=True)  # though shared, for there may be no panel below
        for ax in axes.flat[len(self.panels) :]:
            ax.set_axis_off()
        return figure, zip(axes.flat, self.panels)

    def _headings(self, columns: Sequence[Column]) -> str:
        """What all panels' numbers say of these columns, for a caption."""
        return headings(pd.concat(panel.numbers for panel in self.panels), columns)

    def forget_retain_figure(self, kept: str = "") -> plt.Figure:
        """Forgetting against keeping in every panel (`plots.forget_retain`); every row saw the pictures."""
        figure, axes = self._axes(3.5, 2.9, sharex=True, sharey=True)
        shown = {}
        for ax, panel in axes:
            numbers = panel.numbers[~panel.numbers.method.str.endswith(" picture")]
            plots.forget_retain(ax, numbers, self.topic.table, kept)
            pair = plots.plane_columns(numbers, self.topic.table, kept)
            shown |= {column.title: column for column in pair}
        plots.legend(figure, "right center")
        plots.caption(figure, f"{plots.BARS} {self._headings(shown.values())}.")
        return figure

    def reduction_figure(self, measure: str, unseen: bool = False, published: bool = False) -> plt.Figure:
        """Figures 4 to 7 of the VGID paper in every panel: the reduction of a measure on forget people
        against what is kept on retain people (`Panel.reductions`). The paper's own, where it prints any, if
        `published`."""
        points = [panel.reductions(measure, unseen, published) for panel in self.panels]
        panels = [panel for panel, table in zip(self.panels, points) if len(table)]
        if not panels:
            raise ValueError(f"the paper prints no {measure} of these rows: leave published out")
        figure, axes = replace(self, panels=panels)._axes(3.0, 2.7, across=2, sharex=True, sharey=True)
        end = f"{measure}{UNSEEN if unseen else ''} (points)"
        for (ax, panel), table in zip(axes, filter(len, points)):
            plots.reduction(ax, table)
            ax.set_title(f"{panel.published[0]}, {panel.forget_ratio} %" if published else panel.title)
            ax.set(xlabel=f"reduction of forget {end}", ylabel=f"retain {end}")
        plots.legend(figure, "right center")
        pair = [column for column in panels[0].columns if column.title in reduction_titles(measure, unseen)]
        plots.caption(figure, PRINTED if published else f"{plots.BARS} {self._headings(pair)}.")
        return figure

    def forest_figure(self, rows: Sequence[str]) -> plt.Figure:
        """Our row minus each of these in every panel, in questions about faces (`plots.forest`)."""
        faces = [
            tables.sort_rows(panel.tests.query("modality == 'vqa'"), "other", rows) for panel in self.panels
        ]
        figure, axes = self._axes(4.3, 0.6 + 0.17 * max(map(len, faces)), sharex=True)
        for (ax, panel), differences in zip(axes, faces):
            plots.forest(ax, differences, self.topic.ours, panel.columns)
        shown = {c.title: c for p in self.panels for c in p.columns if c.modality == "vqa"}
        words = f"{plots.BARS} Filled: Holm's p is below 0.05."
        plots.caption(figure, f"{words} {self._headings(shown.values())}.")
        return figure

    def curve_figure(self, label: str, smallest: float | None = None) -> plt.Figure:
        """The curve over the topic's setting in every panel (`plots.column_curves`)."""
        figure, axes = self._axes(3.7, 3.2, across=len(self.panels), sharey=True)
        for ax, panel in axes:
            plots.column_curves(ax, panel.numbers, self.topic.setting, smallest, self.topic.table)
            ax.set(title=f"{model_name(panel.model)}\n{ax.get_title()}".strip(), xlabel=label)
            ax.label_outer()
        plots.legend(figure, "upper center", 5)
        numbers = pd.concat(panel.numbers for panel in self.panels)
        faces = [c for c in record_columns(numbers, self.topic.table) if c.balance and c.modality == "vqa"]
        plots.caption(figure, f"{plots.BANDS} {self._headings(faces)}.")
        return figure

    def curve_tables(self) -> Tables:
        """The curve over the topic's setting in every panel, in numbers (`tables.curve_table`)."""
        setting, table = self.topic.setting, self.topic.table
        return Tables(
            (model_name(p.model), tables.curve_table(p.numbers, setting, table)) for p in self.panels
        )

    def main_tables(self) -> Tables:
        """The table of every panel."""
        return Tables((panel.title, panel.main_table()) for panel in self.panels)

    def quality_table(self) -> pd.DataFrame:
        """Of each row on seen and unseen pictures: forget VQA minus never-saw's in points, the right options'
        mean probability, its distances from never-saw's with their p, and the truth ratio
        (`compare.forget_quality`)."""
        parts = [tables.sort_rows(panel.quality, "row", self.rows) for panel in self.panels]
        quality = pd.concat(parts).replace(NAMES).set_index(["model", "benchmark", "row"])
        measures = ["accuracy", "accuracy_p", "probability", "ks", "ks_p", "js", "js_p", "truth_ratio"]
        columns = quality.groupby("column", sort=False)[measures]
        return pd.concat(dict(iter(columns)), axis=1)

    def verdict_counts(self) -> pd.DataFrame:
        """How often each verdict was reached about each claim."""
        return pd.crosstab(self.cases.claim, self.cases.verdict).reindex(self.cases.claim.unique())

    def claim_table(self) -> Tables:
        """All claims, with what was measured, and with the paper's own differences where it has any."""
        cases = pd.concat([panel.cases_with_paper_numbers() for panel in self.panels])
        return Tables([("", tables.evidence(cases))])

    def write_latex(self, name: str) -> None:
        """Write figures/<name>.tex: the table of every panel. Its first line has the hashes of its data."""
        captions = [p.title + (f"; published: {p.published[0]}" if p.published else "") for p in self.panels]
        parts = [panel.main_table() for panel in self.panels]
        with files.whole_file(paths.figures() / f"{name}.tex") as temporary:
            lines = [f"% {fingerprints(self.data)}", *map(rendering.latex, parts, captions)]
            temporary.write_text("\n".join(lines), encoding="utf-8")


def read_report(
    names: Sequence[str], topic: str, published: Mapping[tuple[str, str], tuple[str, str]] = {}
) -> Report:
    """The report that records make: figures/data/<name>.csv with their numbers over all draws
    (<name>_table.csv) and their claims, and where these compare rows, with <name>_tests.csv and
    <name>_quality.csv.

    Args:
        names: of the records.
        topic: of paper/claims.yaml, which says what table it is, how its rows are named and ordered.
        published: model and benchmark of a panel -> what the paper calls them.
    Raises:
        FileNotFoundError: a record, its tests or its claims are not there.
        ValueError: a record has a row that the table does not have, or no claim is about it; or records are
            of several editions.
    """
    meaning = answers.read_topic(topic)
    records = pd.concat(map(read_records, names))
    check_starts(records, ", ".join(names))
    records = records.assign(method=answers.row_names(records, meaning.rows))
    rows = meaning.order or list(records.method.unique())
    checks.check_names("the table", records.method.unique(), rows)
    written = ("table", "tests", "quality") if meaning.ours else ("table",)
    numbers, *rest = (pd.concat(claims.read_tests(f"{name}_{part}") for name in names) for part in written)
    tests, quality = rest or (records[:0], records[:0])
    cases = claims.read_claims().query("record in @names")
    if cases.empty:
        raise ValueError(f"claims.csv has no row about {', '.join(names)}: {claims.TEST_AGAIN}")
    for part, table in zip(("claims", *(f"{names[0]}_{part}" for part in written)), (cases, numbers, *rest)):
        claims.check_runs(records, table, part)
    records, numbers = (tables.sort_rows(table, "method", rows) for table in (records, numbers))
    order, ratios = [*NAMES, *records.model, *records.benchmark], sorted(records.forget_ratio.unique())
    tasks = set(records[answers.TASK].itertuples(index=False, name=None))
    panels = []
    for model, benchmark, ratio in sorted(tasks, key=lambda t: [order.index(t[0]), order.index(t[1]), t[2]]):
        title = task_title(model, benchmark) + (f", {ratio} %" if len(ratios) > 1 else "")
        task = dict(zip(answers.TASK, (model, benchmark, ratio)))
        parts = [_part(table, task) for table in (records, numbers, cases, tests, quality)]
        panels.append(
            Panel(
                **task,
                title=title,
                topic=meaning,
                published=published.get((model, benchmark)),
                **dict(zip(("records", "numbers", "cases", "tests", "quality"), parts)),
            )
        )
    return Report(meaning, rows, records, cases, panels, [f"{n}_{part}" for n in names for part in written])


def _part(table: pd.DataFrame, task: Mapping[str, object]) -> pd.DataFrame:
    """The rows of a model, a benchmark and a forget ratio."""
    return table[(table[list(task)] == list(task.values())).all(axis=1)]
