"""Can a published percentage be a share of so many questions? And what else in the tables looks odd?

A value that is not reachable may be an average over runs, or of another number of questions: the words are
"not reachable with N = ...", never "wrong".
"""

import itertools
import math
from decimal import Decimal

import pandas as pd

from vkdlib.reports.paper.published import FOLDER, paper_cells, published_table
from vkdlib.system import files

ROW = ["paper", "table", "model", "benchmark", "method", "condition"]


def is_share(value: str, n: int) -> bool:
    """Is a printed percentage k of n questions, for some k, rounded or cut at the digits printed?

    Args:
        value: as printed, "45.8".
        n: number of questions, at least 1.
    """
    places = max(0, -Decimal(value).as_tuple().exponent)
    unit = 10**places
    digits = round(float(value) * unit)
    for k in {math.floor(float(value) / 100 * n) + step for step in (-1, 0, 1, 2)} & set(range(n + 1)):
        scaled = 100 * unit * k  # over n: exact in whole numbers
        if digits in (scaled // n, (2 * scaled + n) // (2 * n)):
            return True
    return False


def fit_by_chance(*n: int, places: int = 1) -> float:
    """How easily a value fits: the share of all printable percentages that are k of n questions, for some k
    and one of the numbers n."""
    values = [f"{i / 10**places:.{places}f}" for i in range(100 * 10**places + 1)]
    return sum(any(is_share(v, k) for k in n) for v in values) / len(values)


def audit_cells() -> pd.DataFrame:
    """Published accuracies whose number of questions is known: cells with `n` (numbers of questions that are
    possible, as "46/48"), `why`, and `reachable` with one of them.

    The AG column of the relearning attack has differences. They are no shares, and they are left out.
    """
    cells = paper_cells()
    cells = cells[(cells.metric == "accuracy") & (cells.condition != "AG")]
    entries = files.read_yaml(FOLDER / "denominators.yaml")["entries"]
    table = pd.concat([_audit(cells, entry) for entry in entries])
    if table.index.has_duplicates:
        raise ValueError("denominators.yaml: two entries are about the same cell")
    return table.sort_index().reset_index(drop=True)


def _audit(cells: pd.DataFrame, entry: dict) -> pd.DataFrame:
    """The cells that an entry of denominators.yaml is about, checked against its numbers of questions."""
    for column in set(entry) - {"n", "why"}:
        values = entry[column] if isinstance(entry[column], list) else [entry[column]]
        cells = cells[cells[column].isin(list(map(str, values)))]
    fits = [any(is_share(value, n) for n in entry["n"]) for value in cells.value]
    return cells.assign(n="/".join(map(str, entry["n"])), why=entry["why"], reachable=fits)


def repeated_rows(least: int = 6) -> pd.DataFrame:
    """Rows of tables that have the same numbers under different labels, and at least `least` numbers.

    Two tables may show the same model, method and forget ratio. That is no finding, and it is left out.
    Returns:
        columns a, b (what the rows are called) and values.
    """
    groups = paper_cells().groupby([*ROW, "forget_ratio"], sort=False)
    rows = [(dict(zip([*ROW, "forget_ratio"], key)), tuple(part.value)) for key, part in groups]
    pairs = [
        {"a": _row_name(a), "b": _row_name(b), "values": " ".join(values)}
        for (a, values), (b, others) in itertools.combinations(rows, 2)
        if len(values) >= least and values == others and _are_different(a, b)
    ]
    return pd.DataFrame(pairs, columns=["a", "b", "values"])


def _are_different(a: dict, b: dict) -> bool:
    """Whether two rows are of different methods, models or forget ratios, as far as their tables say."""
    stated = [field for field in ("model", "forget_ratio") if a[field] and b[field]]
    return a["method"] != b["method"] or any(a[field] != b[field] for field in stated)


def _row_name(row: dict) -> str:
    """What a row is called, as "vkd table 3 B"."""
    ratio = f"{row['forget_ratio']} %" if row["forget_ratio"] else ""
    names = [row["paper"], "table", *(row[field] for field in ROW[1:]), ratio]
    return " ".join(filter(None, names))


def unequal_cells() -> pd.DataFrame:
    """Numbers that VGID's Tables 1 to 6 print of the same row, model and column, and not alike.

    Returns:
        row, column (as `published_table` calls them), values, as "0.458 (Table 1), 0.462 (Table 2)".
    """
    printed: dict[tuple[str, str], dict[str, list[str]]] = {}
    for number in range(1, 7):
        for column, cells in published_table(f"vgid {number}", "LLaVA-1.5-7B", "MLLMU-Bench").items():
            for row, value in cells.items():
                printed.setdefault((row, column), {}).setdefault(value, []).append(f"Table {number}")
    rows = [
        {
            "row": row,
            "column": column,
            "values": "; ".join(f"{v} ({', '.join(t)})" for v, t in values.items()),
        }
        for (row, column), values in printed.items()
        if len(values) > 1
    ]
    return pd.DataFrame(rows)


def swapped_rows() -> pd.DataFrame:
    """Rows of VGID's tables in which cloze and classification fit if exchanged, and not as printed.

    Returns:
        one row a table's row and set: paper, table, model, method, set, cloze, classification as printed.
    """
    checked = audit_cells()
    rows = []
    for key, part in checked[checked.paper == "vgid"].groupby([*ROW, "set"], sort=False):
        by_kind = part.set_index("kind")
        if len(part) != 2 or by_kind.reachable.all():
            continue
        n = {kind: list(map(int, text.split("/"))) for kind, text in by_kind.n.items()}
        exchanged = {"cloze": "classification", "classification": "cloze"}
        if all(any(is_share(by_kind.value[kind], k) for k in n[exchanged[kind]]) for kind in exchanged):
            rows.append({**dict(zip([*ROW, "set"], key)), **by_kind.value.to_dict()})
    return pd.DataFrame(rows)
