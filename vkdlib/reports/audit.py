"""Can a published percentage be a share of so many questions? And what else in the tables looks odd.

A value that is not reachable may be an average over runs, or of another number of questions: the words are
"not reachable with N = ...", never "wrong".
"""

import itertools
import math
from decimal import Decimal

import pandas as pd
import yaml

from vkdlib.reports.published import FOLDER, published


def reachable(value: str, n: int) -> bool:
    """Is a printed percentage k of n questions, for some k, rounded or cut at the digits printed?

    Args:
        value: as printed, "45.8".
        n: number of questions, at least 1.
    """
    places = max(0, -Decimal(value).as_tuple().exponent)
    unit = 10**places
    printed = round(float(value) * unit)
    for k in {math.floor(float(value) / 100 * n) + step for step in (-1, 0, 1, 2)} & set(range(n + 1)):
        scaled = 100 * unit * k  # over n: exact in whole numbers
        if printed in (scaled // n, (2 * scaled + n) // (2 * n)):
            return True
    return False


def chance(*n: int, places: int = 1) -> float:
    """Share of all printable percentages that one of some numbers of questions reaches: how easily a value
    fits."""
    values = [f"{i / 10**places:.{places}f}" for i in range(100 * 10**places + 1)]
    return sum(any(reachable(v, k) for k in n) for v in values) / len(values)


def denominators() -> list[dict]:
    """What is known of numbers of questions: conditions on the columns of `published`, n, and why."""
    return yaml.safe_load((FOLDER / "denominators.yaml").read_text())


def audit() -> pd.DataFrame:
    """Published accuracies whose number of questions is known: cells with `n` (numbers of questions that are
    possible, as "46/48"), `why`, and `reachable` with one of them.

    Differences (the AG column of the relearning attack) are no shares and are left out.
    """
    cells = published()
    cells = cells[(cells.metric == "accuracy") & (cells.condition != "AG")]
    found = []
    for known in denominators():
        rows = cells
        for column in set(known) - {"n", "why"}:
            wanted = known[column] if isinstance(known[column], list) else [known[column]]
            rows = rows[rows[column].isin([str(w) for w in wanted])]
        fits = [any(reachable(v, n) for n in known["n"]) for v in rows.value]
        found.append(rows.assign(n="/".join(map(str, known["n"])), why=known["why"], reachable=fits))
    table = pd.concat(found)
    if table.index.has_duplicates:
        raise ValueError("denominators.yaml: two entries are about the same cell")
    return table.sort_index().reset_index(drop=True)


WHERE = ["paper", "table", "model", "benchmark", "method", "condition"]


def repeated_rows(least: int = 6) -> pd.DataFrame:
    """Rows of tables that have the same numbers under different labels, all of at least `least` numbers.

    The same model, method and forget ratio shown in two tables is no finding and is left out.
    Returns:
        columns a, b (what the rows are called) and values.
    """
    cells = published()
    rows = {key: tuple(part.value) for key, part in cells.groupby([*WHERE, "forget_ratio"], sort=False)}
    found = []
    for (a, x), (b, y) in itertools.combinations(rows.items(), 2):
        same = len(x) >= least and x == y
        other = any(a[i] and b[i] and a[i] != b[i] for i in (2, 6))  # model, forget ratio
        if same and (a[4] != b[4] or other):
            ratios = [f"{k[6]} %" if k[6] else "" for k in (a, b)]
            names = [" ".join(filter(None, (k[0], "table", *k[1:6], r))) for k, r in zip((a, b), ratios)]
            found.append({"a": names[0], "b": names[1], "values": " ".join(x)})
    return pd.DataFrame(found, columns=["a", "b", "values"])


def swapped() -> pd.DataFrame:
    """Rows of VGID's tables in which cloze and classification fit if exchanged, and not as printed.

    Returns:
        one row a table's row and set: paper, table, model, method, set, cloze, classification as printed.
    """
    checked = audit()
    found = []
    for key, part in checked[checked.paper == "vgid"].groupby([*WHERE, "set"], sort=False):
        by_kind = part.set_index("kind")
        if len(part) != 2 or by_kind.reachable.all():
            continue
        ns = {kind: [int(n) for n in by_kind.n[kind].split("/")] for kind in by_kind.index}
        values = by_kind.value
        exchanged = any(reachable(values["cloze"], n) for n in ns["classification"]) and any(
            reachable(values["classification"], n) for n in ns["cloze"]
        )
        if exchanged:
            found.append({**dict(zip([*WHERE, "set"], key)), **values.to_dict()})
    return pd.DataFrame(found)
