"""Which settings a method gets: trials on selection people, one rule, stated before they ran."""

import pandas as pd

from vkdlib.reports import columns


def balance(records: pd.DataFrame) -> pd.Series:
    """Mean accuracy of what is to be kept minus forget VQA, in points (`metrics.balance`); mean over draws.

    Args:
        records: of one benchmark, in the layout of figures/data, with columns "draw" and, for what was tried,
            "lr" (learning rate) or "share" (of MANU).
    Returns:
        (method, value tried) -> balance.
    Raises:
        ValueError: a trial lacks a draw that others have, or a column of Table 1.
    """
    tried = records.share.where(records.method == "MANU", records.lr)
    scores = columns.balance(records.assign(tried=tried), ["method", "tried", "draw"])
    trials = scores.groupby(level=["method", "tried"])
    if scores.isna().any() or trials.size().nunique() > 1:
        raise ValueError("every trial needs all draws and all columns: run the whole sweep")
    return trials.mean()


def choose(records: pd.DataFrame) -> dict[str, float]:
    """The value with the largest balance, of each method; of equal ones the smallest."""
    scores = balance(records).round(6)  # as equal as the questions make them
    return {method: float(of.idxmax()[1]) for method, of in scores.groupby(level="method")}
