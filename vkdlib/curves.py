"""What a paper says of a curve: does it rise, fall, stay flat, or have a best value in between?"""

import numpy as np
import pandas as pd

from vkdlib import runs
from vkdlib.claims import statements
from vkdlib.compare import holm
from vkdlib.metrics import six_columns

FLAT = 2.0  # points: how far a flat curve's means may be from its first


def judge_curves(record: str, x: str) -> pd.DataFrame:
    """Test every claim about a swept setting on a record.

    Args:
        x: column of the record with the setting's value.
    Returns:
        one row a claim, model and benchmark: claim, source, model, benchmark, forget_ratio, column, expected,
        seeds, test (which), statistic, p_holm (over all rows that have a p) and verdict.
    """
    keys, found = ["model", "benchmark", "forget_ratio"], []
    for values, part in runs.read_records(record).groupby(keys, sort=False):
        columns = six_columns(part)
        for one in statements(record):
            for title in (t for t in one["columns"] if t in columns):
                rows = columns[title]
                scale = 1 if rows.metric.iloc[0] == "accuracy" else 100
                by_seed = scale * rows.pivot(index="seed", columns=x, values="value")
                tested = dict(zip(("test", "statistic", "p"), TESTS[one["expected"]](by_seed)))
                known = dict(zip(keys, values)) | {k: one[k] for k in ("claim", "source", "expected")}
                found.append(known | {"column": title, "seeds": len(by_seed)} | tested)
    table = pd.DataFrame(found)
    tested = table.p.notna()
    table.loc[tested, "p_holm"] = holm(table.p[tested])
    table["verdict"] = [_verdict(row) for row in table.itertuples()]
    return table.drop(columns="p")


def slope(by_seed: pd.DataFrame) -> tuple[str, float, float]:
    """(which test, Kendall's tau of setting and accuracy, its two-sided p).

    Args:
        by_seed: a row a seed, a column a value of the setting, ascending; accuracy in per cent.
    """
    from scipy.stats import kendalltau

    found = kendalltau(np.tile(by_seed.columns, len(by_seed)), by_seed.to_numpy().ravel())
    # All the same: no slope, and no doubt about it.
    return "Kendall's tau", float(np.nan_to_num(found.statistic)), float(np.nan_to_num(found.pvalue, nan=1.0))


def peak(by_seed: pd.DataFrame) -> tuple[str, float, float]:
    """(which test, setting with the highest mean, p that it is no better than one of the ends).

    The larger one-sided p of Welch's two tests; 1 if the best is an end. The best of several is compared, so
    p is somewhat too small. Arguments as `slope`.
    """
    from scipy.stats import ttest_ind

    best = by_seed.mean().idxmax()
    ends = by_seed.columns[[0, -1]]
    if best in ends or len(by_seed) < 2:
        return "peak, Welch", float(best), 1.0
    with np.errstate(divide="ignore", invalid="ignore"):  # seeds may agree to the last question
        tests = [ttest_ind(by_seed[best], by_seed[e], equal_var=False, alternative="greater") for e in ends]
    return "peak, Welch", float(best), float(max(np.nan_to_num(t.pvalue, nan=1.0) for t in tests))


def spread(by_seed: pd.DataFrame) -> tuple[str, float, float]:
    """(which test, largest distance of a mean from the first in points, NaN: no p). Arguments as `slope`."""
    means = by_seed.mean()
    return f"within {FLAT:g} points", float((means - means.iloc[0]).abs().max()), float("nan")


TESTS = {"rises": slope, "falls": slope, "peaks": peak, "flat": spread}


def _verdict(row) -> str:
    if row.expected == "flat":
        return "holds" if row.statistic <= FLAT else "does not hold"
    if row.p_holm >= 0.05:
        return "inside the noise"
    wrong_way = {"rises": row.statistic < 0, "falls": row.statistic > 0, "peaks": False}
    return "does not hold" if wrong_way[row.expected] else "holds"
