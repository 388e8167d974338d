"""Records -> tables of text, with N and interval beside every number."""

import pandas as pd

from vkdlib.metrics import TABLE_1


def table_1(records: pd.DataFrame) -> pd.DataFrame:
    """The six columns of the VKD paper's Table 1: accuracy in per cent [95 % interval], N in the title.

    Args:
        records: rows in the layout of figures/data, one seed a method.
    Returns:
        one row a method, in the order of the records.
    """
    rows = records[(records.kind == "classification") & (records.metric == "accuracy")]
    table = {}
    for title, (group, modality) in TABLE_1.items():
        cells = rows[(rows.set == group) & (rows.modality == modality)].set_index("method")
        if cells.empty:
            continue
        if cells.index.has_duplicates:
            raise ValueError(f"{title}: several rows for one method; pass the records of one seed")
        n = "/".join(map(str, sorted(cells.n.unique())))
        table[f"{title} (N={n})"] = cells.apply(cell, axis=1)
    return pd.DataFrame(table).reindex(rows.method.unique())


def cell(row: pd.Series) -> str:
    """A value with its interval, as "28.0 [17.5, 41.7]"."""
    return f"{row.value:.1f} [{row.low:.1f}, {row.high:.1f}]"


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
