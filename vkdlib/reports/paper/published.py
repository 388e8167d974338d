"""The two papers' published numbers: every cell of every table, as it is printed.

Each number was read twice, independently, and both readings agree. Nothing is corrected: `audit` is for
what looks like a slip. In published.csv `condition` tells rows of one method apart (epochs of an attack,
with and without an attack, what is trained). `value` is text, because the printed digits matter. Where
`model`, `benchmark` or `forget_ratio` is empty, the table does not state it.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from vkdlib.reports.columns import LABELS, MINUS, Column, table_columns
from vkdlib.system import checks

FOLDER = Path(__file__).parent
PAPER = LABELS["published"]  # what the papers call things -> what we do
TABLE_2 = {"Ours (VKD)": "VKD", "Ours (w/o VKD)": "VKD without distillation"}  # its rows under our names


def paper_cells(paper: str | None = None, table: int | None = None) -> pd.DataFrame:
    """Published cells: columns paper, table, model, benchmark, forget_ratio, method, condition, set,
    modality, kind, metric, value, spread, all text, and `number`, the value as a float (NaN for words).

    Args:
        paper: "vkd" or "vgid"; None: both.
        table: its number; None: all.
    Raises:
        ValueError: there is no such paper or table.
    """
    cells = pd.read_csv(FOLDER / "published.csv", dtype=str, keep_default_na=False)
    cells["number"] = pd.to_numeric(cells.value, errors="coerce")
    for column, value in (("paper", paper), ("table", table)):
        if value is not None:
            checks.one_of(column, str(value), sorted(cells[column].unique()))
            cells = cells[cells[column] == str(value)]
    return cells.reset_index(drop=True)


def published_table(table: str, model: str, benchmark: str) -> pd.DataFrame:
    """A table as the paper prints it, under our names of methods and columns, to be shown beside ours.

    Args:
        table: paper and number, as "vkd 1"; paper/columns.yaml has its columns.
        model, benchmark: as the paper calls them, "LLaVA-1.5-7B" and "MLLMU-Bench".
    Returns:
        one row a method, text; without columns that the paper does not have.
    Raises:
        ValueError: the table has no such model or benchmark.
    """
    cells = paper_cells(*table.split()).assign(**PAPER["unstated"].get(table, {}))
    for field, value in (("model", model), ("benchmark", benchmark)):
        checks.one_of(f"{field} of the published table {table}", value, sorted(cells[field].unique()))
        cells = cells[cells[field] == value]
    names = cells.method.replace(PAPER["methods"] | PAPER["rows"].get(table, {}))
    cells = cells.assign(method=names + cells.condition.map(PAPER["conditions"]).fillna(""))
    columns = {}
    for column in table_columns(table, PAPER["schemas"][benchmark]):
        printed = replace(column, **dict(zip(("set", "modality"), column.published or ())))
        if len(rows := printed.rows(cells)):
            columns[column.title] = rows.set_index("method").value
    return pd.DataFrame(columns).reindex(cells.method.unique())


def table_at(table: str, forget_ratio: int) -> str:
    """The table that has the numbers at a forget ratio: of "vgid 3" at 10 % "vgid 8"."""
    return PAPER["ratios"].get(table, {}).get(forget_ratio, table)


def published_costs() -> pd.DataFrame:
    """VKD's Table 2 as printed: method -> minutes of an epoch and gigabytes, as numbers."""
    cells = paper_cells("vkd", 2)
    cells = cells.assign(method=cells.method.replace(PAPER["methods"] | TABLE_2))
    return cells.pivot(index="method", columns="metric", values="number").reindex(cells.method.unique())


def published_relearning(modality: str = "vqa") -> pd.DataFrame:
    """VKD's Table 4 as printed, in per cent and points: method -> Original, Epoch1 to Epoch5, AG.

    Args:
        modality: "vqa" or "qa".
    """
    cells = paper_cells("vkd", 4)
    checks.one_of("modality", modality, cells.modality.unique())
    cells = cells[cells.modality == modality]
    cells = cells.assign(method=cells.method.replace(PAPER["methods"]))
    table = cells.pivot(index="method", columns="condition", values="number")
    return table.reindex(cells.method.unique())[cells.condition.unique()]


def published_differences(table: pd.DataFrame, columns: list[Column], cases: pd.DataFrame) -> list[str]:
    """What the paper prints in place of each case's difference, in points; "" where it does not.

    Args:
        table: from `published_table`.
        columns: of the same table.
        cases: with "ours" and "other", rows of the table, and "column", a title or two with MINUS between.
    """
    points = table.astype(float) * pd.Series({c.title: c.scale for c in columns if c.title in table})
    texts = []
    for case in cases.itertuples():
        names = case.column.split(MINUS)
        if {case.ours, case.other} <= set(points.index) and set(names) <= set(points):
            keep, *forget = points.loc[case.ours, names] - points.loc[case.other, names]
            difference = keep - sum(forget)
            texts.append("" if pd.isna(difference) else f"{difference:+.1f}")
        else:
            texts.append("")
    return texts
