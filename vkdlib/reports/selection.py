"""Which settings a method gets. The rule, stated before any trial ran:

For each model, benchmark and method (and each row of Table 3) take the trial with the largest balance on
unseen pictures of selection people (`columns.balance`), averaged over their draws. A tie goes to fewer steps,
then to the smaller learning rate; of MANU, which takes no steps, to the smaller share of neurons.

A trial is a learning rate and a number of epochs, of MANU a share of neurons. All methods have equally many
trials, and equally many runs. Trials come in two rounds: all on draw 0, and the best of each method, with
more around them, on the other draws as well. Only trials that have all draws are compared.
"""

import pandas as pd

from vkdlib.experiments.model_names import CONTROLS
from vkdlib.reports.answers import row_names
from vkdlib.reports.columns import balance
from vkdlib.system import checks

SETTINGS = ["epochs", "lr", "share"]  # what tells trials apart, in the order in which a tie is broken
NO_STEPS = "MANU"  # the method whose trials are shares


def trial_balances(records: pd.DataFrame, rows: str = "method") -> pd.DataFrame:
    """The balance of keeping and forgetting (`columns.balance`) of each trial, in points.

    Args:
        records: of one model and benchmark, in the layout of figures/data, with the columns "epochs", "lr"
            and, if MANU is there, "share".
        rows: how rows are named, see `answers.row_names`: "parts" for those of Table 3.
    Returns:
        one row a trial: row, epochs, lr, share (NaN: it has none), draws (how many), balance (mean over
        them).
    Raises:
        ValueError: several models or benchmarks; a trial lacks a column of the balance, or has several runs
            of a draw.
    """
    checks.check_names("the record", ["model", "benchmark", "draw", "epochs", "lr"], records.columns)
    for field in ("model", "benchmark"):
        if len(names := records[field].unique()) > 1:
            raise ValueError(f"records of several {field}s, {', '.join(names)}: settings are chosen for each")
    trials = records[~records.method.isin(CONTROLS)]
    trials = trials.assign(row=row_names(trials, rows), share=trials.get("share"))
    steps = trials.method != NO_STEPS
    trials = trials.assign(
        epochs=trials.epochs.where(steps), lr=trials.lr.where(steps), share=trials.share.mask(steps)
    )
    trials["trial"] = trials.groupby(["row", *SETTINGS], dropna=False).ngroup()
    scores = balance(trials, ["trial", "draw"])
    if scores.isna().any():
        trial = trials[trials.trial == scores.index[scores.isna()][0][0]].iloc[0]
        raise ValueError(f"a trial of {trial.row} lacks a column of the balance: run the whole sweep")
    of_trial = scores.groupby("trial").agg(draws="size", balance="mean")
    return trials.groupby("trial")[["row", *SETTINGS]].first().join(of_trial).reset_index(drop=True)


def choose(records: pd.DataFrame, rows: str = "method") -> dict[str, dict[str, float]]:
    """What the rule gives each method or row: its settings.

    Args:
        records, rows: as in `trial_balances`.
    Returns:
        row -> {"epochs": ..., "lr": ...}, of MANU {"share": ...}.
    Raises:
        ValueError: rows had unequal numbers of trials or runs, or one has no trial with all draws.
    """
    trials = trial_balances(records, rows)
    budget = trials.groupby("row").draws.agg(trials="size", runs="sum")
    for count in budget:
        if budget[count].nunique() > 1:
            numbers = ", ".join(f"{row} {number}" for row, number in budget[count].items())
            raise ValueError(f"unequal numbers of {count}: {numbers}; give all the same budget")
    whole = trials[trials.draws == records.draw.nunique()]
    if missing := sorted(set(trials.row) - set(whole.row)):
        raise ValueError(f"no trial of {', '.join(missing)} has all draws: run the second round")
    whole = whole.assign(worse=-whole.balance.round(6))  # as equal as the questions make them
    best = whole.sort_values(["worse", *SETTINGS]).drop_duplicates("row").set_index("row")
    return {row: settings.dropna().to_dict() for row, settings in best[SETTINGS].iterrows()}


def fine_trials(records: pd.DataFrame, rows: str = "method") -> dict[str, list[dict[str, float]]]:
    """The second round around the best trial of the first: of each row, the settings to try.

    The best learning rate and one a quarter-decade to either side, with as many epochs as in the first round;
    the best one divided by 1.8 and by 3.2, with two and a half times as many. Of MANU, five shares.

    Args:
        records, rows: as in `trial_balances`.
    """
    trials = {}
    for row, best in choose(records, rows).items():
        if "share" in best:
            trials[row] = [{"share": _round(best["share"] * f)} for f in (0.5, 0.71, 1, 1.4, 2)]
        else:
            few, many = best["epochs"], 2.5 * best["epochs"]
            pairs = [(few, 0.56), (few, 1), (few, 1.8), (many, 0.56), (many, 0.32)]
            trials[row] = [{"epochs": epochs, "lr": _round(best["lr"] * f)} for epochs, f in pairs]
    return trials


def _round(value: float) -> float:
    """Two digits are enough."""
    return float(f"{value:.2g}")
