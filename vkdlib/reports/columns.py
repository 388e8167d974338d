"""The columns of the papers' tables, from paper/columns.yaml: what each counts, and what is better in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vkdlib.benchmarks.schema import OPTIONS
from vkdlib.evaluation.metrics import PER_CENT, RATES, question_scores
from vkdlib.experiments.model_names import CONTROLS, IDEALS
from vkdlib.system import checks, files

FILE = Path(__file__).parent / "paper" / "columns.yaml"
LABELS = files.read_yaml(Path(__file__).parent / "style" / "labels.yaml")  # names and colours of all reports
NAMES = LABELS["names"]  # of the kit's own models and benchmarks, in the order in which they are shown
BALANCE = "Faces kept - forgotten"  # not a column: the mean of other faces minus what is to be forgotten
MINUS = " minus "  # between two titles: what is kept in one column minus what is not forgotten in the other
UNSEEN = ", unseen"  # ends the title of a column that asks about pictures on which no model was trained
QUESTIONS = ["set", "modality", "kind"]  # what tells questions of different columns apart
COUNTED = [*QUESTIONS, "metric"]  # what tells columns apart
MEASURED = ["value", "low", "high"]
COUNTS = {"n": "N={}", "people": "{} people", "runs": "{} runs"}


def is_control(row: str) -> bool:
    """Whether a row of a table, as "vanilla, blank picture", is of a model that is evaluated as it is."""
    return row.split(",")[0] in CONTROLS


def is_ideal(row: str) -> bool:
    """Whether a row of a table, as "never-saw, int8", is of a model that never saw the faces."""
    return row.split(",")[0] in IDEALS


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        set, modality, kind, metric: of the records that it counts.
        less: whether less is better. Of a rate neither is.
        other_faces: whether it asks about faces that are to be kept, as the claims count them.
        balance: whether a balance counts it. It does not count a column of seen pictures that has an unseen
            twin: forgetting is what is left on unseen pictures.
        published: set and modality that the paper gives it; None: its own.
    """

    title: str
    set: str
    modality: str
    kind: str
    metric: str
    less: bool = False
    other_faces: bool = False
    balance: bool = True
    published: list[str] | None = None

    @property
    def questions(self) -> tuple[str, str, str]:
        """Set, modality and kind of its questions."""
        return self.set, self.modality, self.kind

    @property
    def chance(self) -> float | None:
        """What guessing gives, per cent; None where nothing is chosen among options."""
        choice = self.kind.split(",")[0] == "classification"
        return 100 / OPTIONS if choice and not self.is_rate else None

    @property
    def is_rate(self) -> bool:
        """Whether it says how questions are answered, and not how well: nothing is better in it."""
        return self.metric in RATES

    @property
    def scale(self) -> int:
        """What a value is multiplied with to be in points: 1 for per cent and gains, 100 for values from 0 to
        1."""
        return 1 if self.metric in PER_CENT else 100

    @property
    def decimals(self) -> int:
        """Decimals that a value is printed with."""
        return 1 if self.metric in PER_CENT else 3

    def about(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table, of answers for example, that are about its questions."""
        parts = [table[name] == value for name, value in zip(QUESTIONS, self.questions)]
        return table[np.logical_and.reduce(parts)]

    def answers(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """The answers to its questions, with its metric as their score."""
        part = self.about(predictions)
        return part.assign(score=question_scores(part, self.metric))

    def rows(self, records: pd.DataFrame) -> pd.DataFrame:
        """The rows of records or tests that it counts."""
        rows = self.about(records)
        return rows[rows.metric == self.metric]

    def row_of_each(self, records: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
        """The rows of records that it counts, one for each method and draw, for example.

        Raises:
            ValueError: there are several.
        """
        rows = self.rows(records)
        if rows.duplicated(keys).any():
            names = " and ".join(keys)
            raise ValueError(f"{self.title}: several rows for one {names}; pass those of one setting and run")
        return rows

    def points(self, records: pd.DataFrame) -> pd.DataFrame:
        """The rows of records that it counts, with what was measured in points."""
        rows = self.rows(records)
        return rows.assign(**rows.filter(MEASURED) * self.scale)

    def heading(self, rows: pd.DataFrame) -> str:
        """Its title with what the rows say of questions, people and runs, as "Forget VQA (N=250, 50 people, 5
        runs)"."""
        return f"{self.title} ({counts(rows)})"


def counts(rows: pd.DataFrame) -> str:
    """What rows say of questions, people and runs, as far as they do: "N=250, 50 people, 1/5 runs"."""
    values = {name: "/".join(map(str, sorted(rows[name].unique()))) for name in COUNTS if name in rows}
    return ", ".join(form.format(values[name]) for name, form in COUNTS.items() if name in values)


def headings(rows: pd.DataFrame, columns: Sequence[Column]) -> str:
    """The headings of columns, for a caption."""
    return "; ".join(column.heading(column.rows(rows)) for column in columns)


def table_columns(table: str, schema: str) -> list[Column]:
    """The columns of a paper's table under a benchmark.

    Args:
        table: paper and number, as "vkd 1".
        schema: of the benchmark: "mllmu" or "clear".
    Raises:
        ValueError: paper/columns.yaml has no such table or schema.
    """
    tables = files.read_yaml(FILE)
    checks.one_of("table", table, tables)
    checks.one_of(f"schema of a benchmark in {table}", schema, tables[table])
    entries = tables[table][schema].items()
    return [column for title, entry in entries for column in _columns(title, **entry)]


def _columns(title: str, counts: list[str], again: Sequence[str] = (), **options) -> list[Column]:
    """A column and those in which the same is asked again: "Forget VQA, epoch 1", before ", unseen"."""
    column = Column(title, *counts, **options)
    name, unseen = title.removesuffix(UNSEEN), UNSEEN if title.endswith(UNSEEN) else ""
    further = {f"{name}, {when}{unseen}": f"{column.kind}, {when}" for when in again}
    return [column, *(replace(column, title=t, kind=k, balance=False) for t, k in further.items())]


def record_schema(records: pd.DataFrame) -> str:
    """The schema of the benchmark that records are about, from their column `schema`.

    Raises:
        ValueError: the records are empty, do not name a schema, or are of several.
    """
    if records.empty:
        raise ValueError("the record is empty: there is nothing to show")
    if "schema" not in records:
        raise ValueError("the record has no column schema; add it: mllmu or clear")
    (schema, *others) = records.schema.unique()
    if others:
        raise ValueError(f"records of several benchmarks, {schema} and {others[0]}: a table has one")
    return schema


def record_columns(records: pd.DataFrame, table: str = "vkd 1") -> list[Column]:
    """The columns of a table that records have rows of.

    Args:
        records: in the layout of figures/data, of one benchmark.
    Raises:
        ValueError: see `record_schema`; or there is none, or a value that a column counts is NaN.
    """
    columns = [c for c in table_columns(table, record_schema(records)) if len(c.rows(records))]
    if not columns:
        raise ValueError(f"the record has no row of any column of {table}")
    for column in columns:
        missing = column.rows(records).query("value.isna()")
        if len(missing):
            run = missing.iloc[0].filter(["model", "method", "draw"]).to_dict()
            number = len(missing)
            raise ValueError(f"{column.title} is NaN in {number} rows, first of {run}: run the sweep again")
    return columns


def rows_by_title(records: pd.DataFrame, table: str = "vkd 1") -> dict[str, pd.DataFrame]:
    """Title of each of `record_columns` -> its rows."""
    return {column.title: column.rows(records) for column in record_columns(records, table)}


def benchmark_names(cases: pd.DataFrame) -> pd.Series:
    """What the benchmark of each case is called; with the forget ratio if there are several."""
    names = cases.benchmark.replace(NAMES)
    return names + ", " + cases.forget_ratio.astype(str) + " %" if cases.forget_ratio.nunique() > 1 else names


def balance_columns(records: pd.DataFrame, table: str = "vkd 1", faces: bool = False) -> list[Column]:
    """The columns that a balance counts.

    Args:
        faces: of those in which more is better, only those of other faces.
    Raises:
        ValueError: the records have no rows of one.
    """
    columns = [c for c in table_columns(table, record_schema(records)) if c.balance and not c.is_rate]
    columns = [c for c in columns if c.less or c.other_faces or not faces]
    there = {column.title for column in record_columns(records, table)}
    if missing := ", ".join(column.title for column in columns if column.title not in there):
        raise ValueError(
            f"a balance counts {missing}; the record has {', '.join(sorted(there))}: ask them all"
        )
    return columns


def kept_and_left(
    records: pd.DataFrame,
    by: list[str],
    faces: bool = False,
    table: str = "vkd 1",
    from_chance: bool = False,
) -> pd.DataFrame:
    """What a balance weighs, in points, each the mean of its columns: `kept` of those in which more is
    better, `left` of those in which less is. ROUGE-L counts times 100.

    Args:
        records: in the layout of figures/data, of one benchmark.
        by: columns of the records that tell rows of the table apart.
        faces: only columns of other faces count as kept.
        from_chance: what is left counts as chance where it is below.
    Returns:
        indexed by `by`; NaN where a row lacks one of the columns.
    Raises:
        ValueError: one of `balance_columns` is missing in all rows, or there are several values for one row.
    """
    keep, forget = [], []
    for column in balance_columns(records, table, faces):
        points = column.row_of_each(records, by).set_index(by).value * column.scale
        if column.less:
            forget.append(points.clip(lower=column.chance) if from_chance else points)
        else:
            keep.append(points)
    return pd.DataFrame({"kept": sum(keep) / len(keep), "left": sum(forget) / len(forget)})


def balance(records: pd.DataFrame, by: list[str], faces: bool = False, table: str = "vkd 1") -> pd.Series:
    """What is kept minus what is left, in points, as `kept_and_left` has them. What is left counts as chance
    where it is below chance: to answer wrongly on purpose is not to have forgotten.

    Returns:
        indexed by `by`; NaN where a row lacks one of the columns.
    """
    parts = kept_and_left(records, by, faces, table, from_chance=True)
    return parts.kept - parts.left
