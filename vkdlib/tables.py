"""Records -> tables of text, with N and interval beside every number."""

import pandas as pd

from vkdlib.metrics import six_columns


def table_1(records: pd.DataFrame) -> pd.DataFrame:
    """The six columns of the VKD paper's Table 1: value [95 % interval], N in the title.

    Accuracy in per cent; for CLEAR's questions in text ROUGE-L F from 0 to 1.

    Args:
        records: rows in the layout of figures/data, one benchmark, one seed a method.
    Returns:
        one row a method, in the order of the records.
    """
    table = {}
    for title, rows in six_columns(records).items():
        cells = rows.set_index("method")
        if cells.index.has_duplicates:
            raise ValueError(f"{title}: several rows for one method; pass the records of one seed")
        n = "/".join(map(str, sorted(cells.n.unique())))
        table[f"{title} (N={n})"] = cells.apply(cell, axis=1)
    return pd.DataFrame(table).reindex(records.method.unique())


def cell(row: pd.Series) -> str:
    """A value with its interval, as "28.0 [17.5, 41.7]"; three decimals from 0 to 1."""
    places = 1 if row.metric == "accuracy" else 3
    return f"{row.value:.{places}f} [{row.low:.{places}f}, {row.high:.{places}f}]"


def over_seeds(records: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean, smallest and largest value over seeds, and how many seeds there are.

    Args:
        by: columns that tell cells apart, for example ["forget_ratio", "method", "set", "modality"].
    """
    found = records.groupby(by, sort=False).value.agg(["mean", "min", "max", "count"])
    return found.rename(columns={"count": "seeds"}).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A GitHub table."""
    columns = [table.index.name or "", *map(str, table.columns)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join([str(i), *map(str, row)]) + " |" for i, row in zip(table.index, table.values)]
    return "\n".join(lines)
