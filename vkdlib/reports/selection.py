"""Which settings a method gets: trials on selection people, one rule, stated before they ran."""

import pandas as pd

from vkdlib.reports.columns import balance


def trial_balances(records: pd.DataFrame) -> pd.Series:
    """The balance of keeping and forgetting (`columns.balance`) of each trial, in points; mean over draws.

    Args:
        records: of one benchmark, in the layout of figures/data, with columns "draw" and, for the value on
            trial, "lr" (learning rate) or "share" (of MANU).
    Returns:
        (method, value) -> balance.
    Raises:
        ValueError: a trial lacks a draw that others have, or a column of the table.
    """
    trial = records.share.where(records.method == "MANU", records.lr)
    scores = balance(records.assign(trial=trial), ["method", "trial", "draw"])
    trials = scores.groupby(level=["method", "trial"])
    if scores.isna().any() or trials.size().nunique() > 1:
        raise ValueError("every trial needs all draws and all columns: run the whole sweep")
    return trials.mean()


def choose(records: pd.DataFrame) -> dict[str, float]:
    """The value with the largest balance, of each method; the smallest among equals."""
    scores = trial_balances(records).round(6)  # as equal as the questions make them
    return {method: float(trials.idxmax()[1]) for method, trials in scores.groupby(level="method")}
