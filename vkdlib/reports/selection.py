"""Which settings a method gets. The rule, stated before any trial ran:

For each model, benchmark and method (and each row of Table 3) take the trial with the largest balance on
unseen pictures of selection people (`columns.balance`), averaged over their draws. A tie goes to fewer steps,
then to the smaller learning rate; of MANU, which takes no steps, to the smaller share of neurons.

A trial is a learning rate and a number of epochs, of MANU a share of neurons; those of VGID and RMU differ in
settings of their own as well (OWN). All methods have equally many trials, and equally many runs. Trials come
in two rounds: all on draw 0, and the best of each method, with more around them, on the other draws as well.
Only trials that have all draws are compared.

For VGID's tables the columns are those of its Table 3. Cloze, ROUGE-L and BLEU of what is to be forgotten
have no chance. There never-saw is in its place: to tell less than it does is worth nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vkdlib.experiments.model_names import CONTROLS
from vkdlib.reports.answers import NEVER_SAW, row_names
from vkdlib.reports.columns import balance, balance_columns
from vkdlib.runs.configuration import drop_zero_fraction
from vkdlib.system import checks

OWN = {
    "MANU": ["share"],
    "VGID": ["alpha", "beta"],
    "RMU": ["gamma", "block"],
}  # a method's, beside the usual
SETTINGS = ["epochs", "lr", *sum(OWN.values(), [])]  # what tells trials apart, as a tie is broken
NO_STEPS = "MANU"  # the method whose trials are shares
# In the second round: what stands in the place of the two neighbouring learning rates. AdamW sees nothing of
# alpha and beta but their ratio.
VARIANTS = {
    "VGID": [{"alpha": 2.0, "beta": 1.0}, {"alpha": 1.0, "beta": 2.0}],
    "RMU": [{"gamma": 100, "block": 2}, {"gamma": 30, "block": 1}],
}


def trial_balances(records: pd.DataFrame, rows: str = "method", table: str = "vkd 1") -> pd.DataFrame:
    """The balance of keeping and forgetting (`columns.balance`) of each trial, in points.

    Args:
        records: of one model and benchmark, in the layout of figures/data, with the columns "epochs", "lr"
            and those of OWN whose methods are there.
        rows: how rows are named, see `answers.row_names`: "parts" for those of Table 3.
        table: whose columns the balance counts, as in paper/columns.yaml.
    Returns:
        one row a trial: row, SETTINGS (NaN: it has none), draws (how many), balance (mean over them).
    Raises:
        ValueError: several models or benchmarks; a trial lacks a column of the balance, or has several runs
            of a draw.
    """
    checks.check_names("the record", ["model", "benchmark", "draw", "epochs", "lr"], records.columns)
    for field in ("model", "benchmark"):
        if len(names := records[field].unique()) > 1:
            raise ValueError(f"records of several {field}s, {', '.join(names)}: settings are chosen for each")
    trials = records[~records.method.isin(CONTROLS)]
    trials = trials.assign(row=row_names(trials, rows))
    for setting in ("epochs", "lr"):
        trials[setting] = trials[setting].where(trials.method != NO_STEPS)
    for method, settings in OWN.items():
        own = trials.reindex(columns=settings).astype(float)
        trials[settings] = np.where((trials.method == method).to_numpy()[:, None], own, np.nan)
    trials["trial"] = trials.groupby(["row", *SETTINGS], dropna=False).ngroup()
    scores = balance(trials, ["trial", "draw"], table=table, floors=never_saw_floors(records, table))
    if scores.isna().any():
        trial = trials[trials.trial == scores.index[scores.isna()][0][0]].iloc[0]
        raise ValueError(f"a trial of {trial.row} lacks a column of the balance: run the whole sweep")
    of_trial = scores.groupby("trial").agg(draws="size", balance="mean")
    return trials.groupby("trial")[["row", *SETTINGS]].first().join(of_trial).reset_index(drop=True)


def never_saw_floors(records: pd.DataFrame, table: str) -> dict[str, float]:
    """What never-saw has in the columns of what is to be forgotten, in points, the mean over draws: title ->
    points. A column with chance needs none."""
    columns = [column for column in balance_columns(records, table) if column.less and column.chance is None]
    known = {column.title: column.points(records[records.method == NEVER_SAW]).value for column in columns}
    if missing := ", ".join(title for title, values in known.items() if values.empty):
        raise ValueError(f"the record has no never-saw in {missing}: add it to the sweep")
    return {title: values.mean() for title, values in known.items()}


def choose(records: pd.DataFrame, rows: str = "method", table: str = "vkd 1") -> dict[str, dict[str, float]]:
    """What the rule gives each method or row: its settings.

    Args:
        records, rows, table: as in `trial_balances`.
    Returns:
        row -> {"epochs": ..., "lr": ...} and those of OWN; of MANU {"share": ...} alone.
    Raises:
        ValueError: rows had unequal numbers of trials or runs, or one has no trial with all draws.
    """
    trials = trial_balances(records, rows, table)
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


def fine_trials(
    records: pd.DataFrame, rows: str = "method", table: str = "vkd 1"
) -> dict[str, list[dict[str, float]]]:
    """The second round around the best trial of the first: of each row, the settings to try.

    The best learning rate and one a quarter-decade to either side, with as many epochs as in the first round;
    the best one divided by 1.8 and by 3.2, with two and a half times as many. In the place of the two
    neighbours a method of VARIANTS has the best rate with other settings of its own. Of MANU, five shares.

    Args:
        records, rows, table: as in `trial_balances`.
    """
    trials = {}
    for row, best in choose(records, rows, table).items():
        if "share" in best:
            trials[row] = [{"share": _round(best["share"] * f)} for f in (0.5, 0.71, 1, 1.4, 2)]
            continue
        few, many = best["epochs"], 2.5 * best["epochs"]
        variants = VARIANTS.get(row)
        pairs = [(few, 1), (many, 0.56), (many, 0.32)] + ([] if variants else [(few, 0.56), (few, 1.8)])
        trials[row] = [best | {"epochs": epochs, "lr": _round(best["lr"] * f)} for epochs, f in pairs]
        trials[row] += [best | variant for variant in variants or ()]
    return trials


def fine_grid(records: pd.DataFrame, table: str = "vkd 1", draws: Sequence[int] = (0, 1)) -> list[dict]:
    """The second round's entries of a sweep's grid: of `fine_trials` of each model and benchmark, and of
    never-saw.

        print(yaml.safe_dump(fine_grid(read_records("vgid_selection"), "vgid 3"), sort_keys=False))

    Args:
        records: of the first round.
        draws: of selection people.
    """
    entries = []
    for (model, benchmark), part in records.groupby(["model", "benchmark"], sort=False):
        task = {"model": model, "benchmark": benchmark, "draw": list(draws)}
        entries.append(task | {"method": NEVER_SAW})
        for method, trials in fine_trials(part, table=table).items():
            entries.append(task | {"method": method, "epochs, lr, settings": list(map(_values, trials))})
    return entries


def _values(trial: Mapping[str, float]) -> list:
    """Epochs, learning rate and further settings of a trial, as a grid has them."""
    settings = {name: value for name, value in trial.items() if name not in ("epochs", "lr")}
    return [trial["epochs"], trial["lr"], {n: drop_zero_fraction(v) for n, v in settings.items()}]


def _round(value: float) -> float:
    """Two digits are enough."""
    return float(f"{value:.2g}")
