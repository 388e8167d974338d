"""Which settings a method gets. The rule, for each model, benchmark and method (and each row of Table 3):

Take the trial with the largest score on unseen pictures of selection people. The score is what is kept minus
the distance between what is left and what never-saw answers right, in points (`columns.kept_and_left`), all
averaged over the draws. So over-forgetting costs as much as forgetting too little. In the tables of VGID
each column is measured by itself, for what is told in one is not made good by silence in another; and where
one may refuse to answer, to tell less than never-saw costs nothing: a refusal is as seldom right as an answer
that is wrong on purpose. Multiple choice by likelihood cannot be refused. A tie goes to fewer steps, then to
the smaller learning rate; of MANU, which takes no steps, to the smaller share of neurons.

A trial is a learning rate and a number of epochs, of MANU a share of neurons. Trials come in three rounds.
The first is on draw 0 alone. The second, on all draws, is around the best of the first (`fine_trials`). In
these two all methods have equally many trials and runs. The third, on all draws, is for methods with settings
of their own. It varies these around the best of the second round (`own_trials`), as often for each of them.
In the tables of VGID there is no third round: all methods but GA vary theirs within the second (VARIANTS).
ICU-T and Noise-T, which are VGID with other teachers, have trials of their own there. Only trials that
have all draws are compared.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from vkdlib.experiments import presets
from vkdlib.experiments.model_names import CONTROLS, IDEALS
from vkdlib.reports.answers import NEVER_SAW, row_names
from vkdlib.reports.columns import UNSEEN, balance_columns, kept_and_left, record_columns
from vkdlib.runs.configuration import drop_zero_fraction
from vkdlib.runs.records import read_records
from vkdlib.system import checks

OWN = {  # settings of single methods
    "MANU": ["share"],
    "VKD": ["beta", "d_I", "d_F", "unlabelled", "views"],
    "NPO": ["beta"],
    "PO": ["beta"],
    "GA_Diff": ["weight"],
    "KL_Min": ["weight"],
    "MMUnlearner": ["alpha", "threshold"],
    "VGID": ["alpha", "beta"],
    "RMU": ["gamma", "block"],
}
SETTINGS = list(dict.fromkeys(["epochs", "lr", *sum(OWN.values(), [])]))  # of trials, as a tie is broken
NO_STEPS = "MANU"  # the method whose trials are shares
OWN_TRIALS = {  # the third round
    "VKD": [("beta", 1.0), ("beta", 10.0), ("d_I", 2.0), ("d_F", 3.0)],
    "NPO": [("beta", 0.1), ("beta", 0.2), ("beta", 0.8), ("beta", 1.6)],
    "MMUnlearner": [("alpha", 0.5), ("alpha", 2.0), ("threshold", 0.5), ("threshold", 2.0)],
}
# In the second round: what stands in the place of the two neighbouring learning rates. AdamW sees nothing of
# alpha and beta but their ratio.
_OF_VGID = [{"alpha": 2.0, "beta": 1.0}, {"alpha": 1.0, "beta": 2.0}]
VARIANTS = {
    "VGID": _OF_VGID,
    "ICU-T": _OF_VGID,
    "Noise-T": _OF_VGID,
    "GA_Diff": [{"weight": 0.5}, {"weight": 2.0}],
    "KL_Min": [{"weight": 0.5}, {"weight": 2.0}],
    "NPO": [{"beta": 0.2}, {"beta": 0.8}],
    "PO": [{"beta": 0.03}, {"beta": 0.3}],
    "RMU": [{"gamma": 100, "block": 2}, {"gamma": 30, "block": 1}],
}
TEACHERS = {"ICU-T": {"perturbation": "none"}, "Noise-T": {"prompt": "none"}}  # VGID's rows with half of it
MAY_REFUSE = "vgid"  # the paper in whose tables methods may refuse
ROUNDS = ("selection_fine", "selection_own")  # records of the second and the third round
TASKS_BEYOND = {  # model and benchmark -> preset of VKD beyond the paper
    ("testbed/llava", "testbed/mllmu"): "testbed-beyond",
    ("testbed/llava", "testbed/clear"): "testbed-beyond-clear",
    ("testbed/qwen2-vl", "testbed/mllmu"): "testbed-beyond-qwen2-vl",
    ("testbed/qwen2-vl", "testbed/clear"): "testbed-beyond-qwen2-vl-clear",
}


def read_trials() -> pd.DataFrame:
    """The testbed's trials of the second and the third round, from figures/data."""
    return pd.concat([read_records(name) for name in ROUNDS], ignore_index=True)


def trial_scores(records: pd.DataFrame, rows: str = "method", table: str = "vkd 1") -> pd.DataFrame:
    """The score of each trial, in points.

    Args:
        records: of one model and benchmark, in the layout of figures/data, with the columns "epochs", "lr"
            and those of SETTINGS that trials differ in. Never-saw (or retain-only) has a run of each draw.
        rows: how rows are named, see `answers.row_names`: "parts" for those of Table 3.
        table: whose columns count, as in paper/columns.yaml.
    Returns:
        one row a trial: row, the SETTINGS (NaN: it has none), draws (how many), and, as means over them,
        kept, left, never (what never-saw answers right) and score.
    Raises:
        ValueError: several models or benchmarks; a trial or never-saw lacks a column, or never-saw a draw; a
            trial has several runs of a draw.
    """
    checks.check_names("the record", ["model", "benchmark", "draw", "epochs", "lr"], records.columns)
    for field in ("model", "benchmark"):
        if len(names := records[field].unique()) > 1:
            raise ValueError(f"records of several {field}s, {', '.join(names)}: settings are chosen for each")
    trials = records[~records.method.isin(CONTROLS)]
    trials = trials.reindex(columns=[*records.columns, *(s for s in SETTINGS if s not in records)])
    trials["row"], steps = row_names(trials, rows), trials.method != NO_STEPS
    for setting in SETTINGS:
        owners = [method for method, own in OWN.items() if setting in own]
        there = steps if setting in ("epochs", "lr") else trials.method.isin(owners)
        trials[setting] = trials[setting].where(there)
    trials["trial"] = trials.groupby(["row", *SETTINGS], dropna=False).ngroup()
    parts = kept_and_left(trials, ["trial", "draw"], table=table)
    if parts.isna().any(axis=None):
        trial = trials[trials.trial == parts.index[parts.isna().any(axis=1)][0][0]].iloc[0]
        raise ValueError(f"a trial of {trial.row} lacks a column of the score: run the whole sweep")
    parts = parts.join(_never_saw(records, table).rename("never"), on="draw")
    if parts.never.isna().any():
        draw = parts.index[parts.never.isna()][0][1]
        raise ValueError(f"the records have no never-saw of draw {draw}, the measure of what is left: add it")
    means = parts.groupby("trial")[["kept", "left", "never"]].mean()
    means["score"] = means.kept - (
        _told_too_much(trials, records, table)
        if table.startswith(MAY_REFUSE)
        else (means.left - means.never).abs()
    )
    of_trial = parts.groupby("trial").size().rename("draws").to_frame().join(means)
    return trials.groupby("trial")[["row", *SETTINGS]].first().join(of_trial).reset_index(drop=True)


def _never_saw(records: pd.DataFrame, table: str) -> pd.Series:
    """What the models without the faces answer right of what is to be forgotten: draw -> points."""
    ideal = records[records.method.isin(IDEALS)]
    if not len(ideal):
        raise ValueError("the records have no never-saw, the measure of what is left: add its runs")
    return kept_and_left(ideal, ["draw"], table=table).left


def _told_too_much(trials: pd.DataFrame, records: pd.DataFrame, table: str) -> pd.Series:
    """The mean over columns, in points, of what each trial tells of forget people beyond what never-saw does,
    as means over draws. Where nobody can refuse, multiple choice by likelihood, telling less counts as much.
    """
    ideal, gaps = records[records.method.isin(IDEALS)], []
    for column in (c for c in balance_columns(records, table) if c.less):
        never = column.row_of_each(ideal, ["draw"]).set_index("draw").value
        rows = column.row_of_each(trials, ["trial", "draw"])
        gap = ((rows.value - rows.draw.map(never)) * column.scale).groupby(rows.trial).mean()
        asked = (records[["set", "modality", "kind"]] == list(column.questions)).all(axis=1)
        by_likelihood = column.chance is not None and "unparsable" not in set(records.metric[asked])
        gaps.append(gap.abs() if by_likelihood else gap.clip(lower=0))
    return sum(gaps) / len(gaps)


def choose(records: pd.DataFrame, rows: str = "method", table: str = "vkd 1") -> dict[str, dict[str, float]]:
    """What the rule gives each method or row: its settings.

    Args:
        records, rows, table: as in `trial_scores`.
    Returns:
        row -> {"epochs": ..., "lr": ...} with settings of its own, of MANU {"share": ...}.
    Raises:
        ValueError: rows had unequal numbers of trials or runs (those of OWN_TRIALS are compared with each
            other), or one has no trial with all draws.
    """
    trials = trial_scores(records, rows, table)
    budgets = trials.groupby("row").draws.agg(trials="size", runs="sum")
    for _, budget in budgets.groupby(budgets.index.isin(OWN_TRIALS)):
        for count in budget:
            if budget[count].nunique() > 1:
                numbers = ", ".join(f"{row} {number}" for row, number in budget[count].items())
                raise ValueError(f"unequal numbers of {count}: {numbers}; give all the same budget")
    draws = records[~records.method.isin(CONTROLS)].draw.nunique()
    whole = trials[trials.draws == draws]
    if missing := sorted(set(trials.row) - set(whole.row)):
        raise ValueError(f"no trial of {', '.join(missing)} has all draws: run the second round")
    whole = whole.assign(worse=-whole.score.round(6))  # as equal as the questions make them
    best = whole.sort_values(["worse", *SETTINGS]).drop_duplicates("row").set_index("row")
    return {row: settings.dropna().to_dict() for row, settings in best[SETTINGS].iterrows()}


def fine_trials(
    records: pd.DataFrame, rows: str = "method", table: str = "vkd 1"
) -> dict[str, list[dict[str, float]]]:
    """The second round around the best trial of the first: of each row, the settings to try.

    The best learning rate and one a quarter-decade to either side, with as many epochs as in the first round;
    the best one divided by 1.8 and by 3.2, with two and a half times as many. In the place of the two
    neighbours, in VGID's tables, a row of VARIANTS has the best rate with other settings of its own, and
    ICU-T and Noise-T are tried around the best of VGID. Of MANU, five shares.

    Args:
        records, rows, table: as in `trial_scores`.
    """
    trials, choices = {}, choose(records, rows, table)
    if table.startswith(MAY_REFUSE) and "VGID" in choices:
        choices |= dict.fromkeys(TEACHERS, choices["VGID"])
    for row, best in choices.items():
        if "share" in best:
            trials[row] = [{"share": _round(best["share"] * f)} for f in (0.5, 0.71, 1, 1.4, 2)]
            continue
        few, many = best["epochs"], 2.5 * best["epochs"]
        variants = VARIANTS.get(row) if table.startswith(MAY_REFUSE) else None
        pairs = [(few, 1), (many, 0.56), (many, 0.32)] + ([] if variants else [(few, 0.56), (few, 1.8)])
        fixed = best if variants else {}
        trials[row] = [fixed | {"epochs": epochs, "lr": _round(best["lr"] * f)} for epochs, f in pairs]
        trials[row] += [best | variant for variant in variants or ()]
    return trials


def fine_grid(records: pd.DataFrame, table: str = "vkd 1", draws: Sequence[int] = (0, 1)) -> list[dict]:
    """The second round's entries of a sweep's grid: of `fine_trials` of each model, benchmark and preset, and
    of never-saw.

        print(yaml.safe_dump(fine_grid(read_records("vgid_selection"), "vgid 3"), sort_keys=False))

    Args:
        records: of the first round, with the preset of each run.
        draws: of selection people.
    """
    checks.check_names("the record", ["preset"], records.columns)
    entries, by = [], ["model", "benchmark", "preset"]
    for values, part in records.groupby(by, sort=False):
        task = dict(zip(by, values)) | {"draw": list(draws)}
        entries.append(task | {"method": NEVER_SAW})
        for row, trials in fine_trials(part, table=table).items():
            teacher = TEACHERS.get(row, {})
            method = "VGID" if teacher else row
            trials = [_values(trial | teacher) for trial in trials]
            entries.append(task | {"method": method, "epochs, lr, settings": trials})
    return entries


def choose_attack_rates(records: pd.DataFrame) -> dict[str, float]:
    """The attacker's rates of relearning: attack_scope -> the rate that brings most back: the largest mean
    VQA about the *others*, whom nobody taught, on seen and on unseen pictures after the last epoch. A tie
    goes to the smaller. A rate that teaches the taught best may destroy what there is to find of the others.

    Args:
        records: of relearning one method, with columns attack_scope and attack_lr.
    Raises:
        ValueError: there are several methods, or not all rates of a scope have the same draws.
    """
    if len(methods := records.method.unique()) > 1:
        raise ValueError(f"records of several methods, {', '.join(methods)}: rates are chosen on one")
    titles = [f"Others VQA, epoch 5{end}" for end in ("", UNSEEN)]
    columns = [c for c in record_columns(records, "vkd 4") if c.title in titles]
    checks.check_names("the record", titles, [c.title for c in columns])
    rates = {}
    for scope, rows in pd.concat(c.rows(records) for c in columns).groupby("attack_scope"):
        wide = rows.pivot(index="attack_lr", columns=["set", "draw"], values="value")
        if wide.isna().any(axis=None):
            raise ValueError(f"rates of {scope} have not all draws: run the whole sweep")
        rates[scope] = float(wide.mean(axis=1).round(6).idxmax())
    return rates


def _values(trial: Mapping[str, float]) -> list:
    """Epochs, learning rate and further settings of a trial, as a grid has them."""
    settings = {name: value for name, value in trial.items() if name not in ("epochs", "lr")}
    return [trial["epochs"], trial["lr"], {n: drop_zero_fraction(v) for n, v in settings.items()}]


def own_trials(records: pd.DataFrame) -> dict[str, list[dict[str, float]]]:
    """The third round around the best trial of the second: of each method with settings of its own, what to
    try, with the best rate and epochs.

    Args:
        records: of the second round, as in `trial_scores`.
    """
    best, trials = choose(records), {}
    for method in best.keys() & OWN_TRIALS:
        steps = {name: best[method][name] for name in ("epochs", "lr")}
        trials[method] = [steps | {name: value} for name, value in OWN_TRIALS[method]]
    return trials


def frontier_points(records: pd.DataFrame) -> pd.DataFrame:
    """What trials forget and what they keep, both on pictures on which no model was trained.

    Args:
        records: of one model and MLLMU-Bench, with the columns "keep", "unlabelled" and "views".
    Returns:
        one row a trial: row (as "VKD+features+views", or never-saw), left ("Forget VQA, unseen") and kept
        ("Real-world VQA", of strangers), in points, means over draws.
    """
    records = records.assign(row=row_names(records, "additions"))
    keys = ["row", *(setting for setting in SETTINGS if setting in records)]
    titles = {"left": f"Forget VQA{UNSEEN}", "kept": "Real-world VQA"}
    columns = {column.title: column for column in record_columns(records)}
    checks.check_names("the record", titles.values(), columns)
    parts = {name: columns[title].rows(records) for name, title in titles.items()}
    means = {name: rows.groupby(keys, dropna=False, sort=False).value.mean() for name, rows in parts.items()}
    return pd.DataFrame(means).reset_index()[["row", *titles]]


def beyond_trials(best: Mapping[str, Mapping]) -> list[dict]:
    """VKD beyond the paper around VKD's own choice: as many trials as VKD has in its second and third rounds.

    Three learning rates, its own among them, each with three strengths of the terms that keep: gamma 1 and 3,
    and gamma 1 with a third of beta. Epochs, d_I, d_F and alpha are VKD's. Four views, features in place of
    answers.

    Args:
        best: what VKD gets, part -> field -> value: "method" and "training".
    """
    method, training = best["method"], best["training"]
    same = {name: method[name] for name in ("alpha", "d_I", "d_F")} | {"keep": "features", "views": 4}
    strengths = [(1.0, method["beta"]), (3.0, method["beta"]), (1.0, _round(method["beta"] / 3))]
    return [
        {"epochs": training["epochs"], "lr": _round(training["lr"] * f)}
        | {"settings": same | {"unlabelled": gamma, "beta": beta}}
        for f in (0.56, 1, 1.8)
        for gamma, beta in strengths
    ]


def beyond_grid() -> list[dict]:
    """The entries of vkd_beyond_selection.yaml: `beyond_trials` of each of TASKS_BEYOND around what VKD has
    in chosen.yaml, and never-saw.

        for entry in beyond_grid():
            print("  -", yaml.safe_dump(entry, sort_keys=False, default_flow_style=True, width=9999), end="")
    """
    entries = []
    for (model, benchmark), name in TASKS_BEYOND.items():
        usual, clear = presets.fitting_preset(model, benchmark), benchmark.endswith("clear")
        kinds = ["classification", "generation"] if clear else ["classification"]
        task = {"model": model, "benchmark": benchmark, "kinds": [kinds], "draw": [0, 1]}
        trials = beyond_trials({part: presets.preset(usual, part) for part in ("method", "training")})
        entries.append(task | {"method": NEVER_SAW})
        values = [[trial[name] for name in ("epochs", "lr", "settings")] for trial in trials]
        entries.append(task | {"preset": name, "method": "VKD", "epochs, lr, settings": values})
    return entries


def _round(value: float) -> float:
    """Two digits are enough."""
    return float(f"{value:.2g}")
