"""Which settings a method gets: trials on selection people, one rule, stated before they ran."""

import pandas as pd

from vkdlib.metrics import CHANCE

KEPT = (("retain", "vqa"), ("real", "vqa"), ("forget", "qa"), ("retain", "qa"), ("real", "qa"))


def balance(records: pd.DataFrame) -> pd.Series:
    """Mean accuracy of what is to be kept minus forget VQA, in points; the mean over draws.

    Kept is what people to retain and strangers are recognised for, and all that is known in text. Forget
    VQA below chance counts as chance: to answer wrongly on purpose is not to have forgotten.

    Args:
        records: of multiple choice of MLLMU-Bench, in the layout of figures/data, with columns "draw" and,
            for what was tried, "lr" (learning rate) or "share" (of MANU).
    Returns:
        (method, value tried) -> balance.
    Raises:
        ValueError: a trial lacks a draw that others have, or a column of Table 1.
    """
    rows = records[(records.kind == "classification") & (records.metric == "accuracy")]
    rows = rows.assign(tried=rows.share.where(rows.method == "MANU", rows.lr))
    wide = rows.pivot(index=["method", "tried", "draw"], columns=["set", "modality"], values="value")
    counts = wide.groupby(level=["method", "tried"]).size()
    if counts.nunique() > 1 or wide[[*KEPT, ("forget", "vqa")]].isna().any(axis=None):
        raise ValueError("every trial needs all draws and all columns: run the whole sweep")
    scores = wide[list(KEPT)].mean(axis=1) - wide["forget", "vqa"].clip(lower=CHANCE)
    return scores.groupby(level=["method", "tried"]).mean()


def choose(records: pd.DataFrame) -> dict[str, float]:
    """The value with the largest balance, of each method; of equal ones the smallest."""
    scores = balance(records).round(6)  # as equal as the questions make them
    return {method: float(of.idxmax()[1]) for method, of in scores.groupby(level="method")}
