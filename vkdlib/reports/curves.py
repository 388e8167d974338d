"""What a paper says of a curve: does it rise, fall, stay flat, start low, or have a best value in between?

Claims are judged on the answers kept with a record. People are the units, as in `compare`; seeds are averaged
over.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vkdlib.evaluation.compare import add_holm, sign_flip, spread, t_interval
from vkdlib.reports.claims import CURVE_BALANCE, TASK, over_forgets, read_topic
from vkdlib.reports.columns import Column, balance, record_columns
from vkdlib.runs import records
from vkdlib.system import checks

FLAT = 2.0  # points: a smaller change is none


@dataclass(frozen=True)
class Curve:
    """The runs of one model and benchmark over the values of a setting.

    Attributes:
        task: model, benchmark, forget_ratio.
        x: column of the record with the setting's value; rows without one are vanilla and retain-only.
        rows: part of the record.
        columns: title -> column of the paper's table.
        answers: hash of a run -> its predictions.
        over_forgotten: values at which more is forgotten than by retain-only.
    """

    task: dict
    x: str
    rows: pd.DataFrame
    columns: dict[str, Column]
    answers: Mapping[str, pd.DataFrame]
    over_forgotten: list[float]


def read_curves(record: str, x: str, table: str) -> list[Curve]:
    """The curves of a record, one for each model and benchmark."""
    answers, curves = records.read_predictions(record), []
    recorded = records.read_records(record)
    checks.one_of(f"the setting that {record} is swept over", x, recorded.columns)
    for values, rows in recorded.groupby(TASK, sort=False):
        columns = {column.title: column for column in record_columns(rows, table)}
        over = over_forgotten_values(rows, x, answers)
        curves.append(Curve(dict(zip(TASK, values)), x, rows, columns, answers, over))
    return curves


def over_forgotten_values(rows: pd.DataFrame, x: str, answers: Mapping[str, pd.DataFrame]) -> list[float]:
    """Values of a setting at which its runs forget more than retain-only (`claims.over_forgets`): no success.

    Args:
        answers: hash of a run -> its predictions.
    """
    never = [answers[run] for run in rows.run[rows.method == "retain-only"].unique()]
    if not never:
        return []
    swept = {value: [answers[run] for run in runs.unique()] for value, runs in rows.groupby(x).run}
    return [value for value, predictions in swept.items() if over_forgets(predictions, never)]


def judge_curves(record: str, x: str, topic: str | None = None) -> pd.DataFrame:
    """Test every claim about a swept setting on the runs of a record.

    Args:
        x: column of the record with the setting's value; rows without one are vanilla and retain-only.
        topic: whose claims; None: the record's own.
    Returns:
        one row a claim, model and benchmark: claim, source, model, benchmark, forget_ratio, column, expected,
        runs_ours (hashes of the runs looked at), seeds, people, n, differ (questions whose answer depends on
        the setting), test, statistic, change (of a slope: the last value minus the first, in points), p_holm
        (over the rows of a claim; NaN where there is no p), verdict and over_forgotten: the values at which
        forget VQA is below retain-only's by more than noise, where forgetting is asked for.
    """
    meaning = read_topic(topic or record)
    judged = [
        _judge_claim(curve, claim, title)
        for curve in read_curves(record, x, meaning.table)
        for claim in meaning.claims
        for title in claim["columns"]
        if title in curve.columns or title == CURVE_BALANCE
    ]
    table = pd.DataFrame(judged)
    table["p_holm"] = add_holm(table.dropna(subset="p").assign(p_holm=1.0), ["claim"]).p_holm
    table["verdict"] = [_verdict(row) for row in table.itertuples()]
    return table.drop(columns=["p", "holds"])


def _judge_claim(curve: Curve, claim: dict, title: str) -> dict:
    """A row of `judge_curves`, without p over the claim and verdict."""
    column = curve.columns.get(title)
    rows = curve.rows if column is None else column.rows(curve.rows)
    rows = rows[~(rows[curve.x] > claim.get("up_to", np.inf))]
    swept = rows.dropna(subset=[curve.x])
    facts = _test(curve, claim, column, rows)
    over = [f"{v:g}" for v in curve.over_forgotten if v in set(rows[curve.x])]
    forgetting = column is None or column.less
    return (
        curve.task
        | {field: claim[field] for field in ("claim", "source", "expected")}
        | {"runs_ours": " ".join(swept.run.unique())}
        | {"over_forgotten": f"{curve.x} = {', '.join(over)}" if over and forgetting else ""}
        | {"column": title, "seeds": int(swept.seed.nunique())}
        | facts
    )


def _test(curve: Curve, claim: dict, column: Column | None, rows: pd.DataFrame) -> dict:
    """What a claim's test finds of a column; None: of the balance."""
    expected = claim["expected"]
    tests = BALANCE_TESTS if column is None else ANSWER_TESTS
    checks.one_of(f"what {claim['claim']!r} expects of this column", expected, tests)
    if column is not None:
        return tests[expected](*column_answers(rows, curve.x, curve.answers))
    balances = seed_balances(rows, curve.x)
    return good_at(balances, claim["at"]) if expected == "good at" else tests[expected](balances)


def column_answers(
    rows: pd.DataFrame, x: str, answers: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.Series]:
    """Scores of a column's questions at each value of the setting, in points, and each question's person.

    Args:
        rows: of one column of a table, one a run.
        answers: hash of a run -> its predictions.
    Returns:
        (questions, values ascending), mean over seeds; vanilla's are under -inf, if there are any.
    Raises:
        ValueError: not all runs were asked the same questions, or a seed lacks some value.
    """
    rows = rows.assign(value=rows[x].where(rows.method != "vanilla", -np.inf)).dropna(subset="value")
    place = ["set", "modality", "kind"]
    tables = []
    for row in rows.to_dict("records"):
        table = answers[row["run"]]
        counted = table[(table[place] == [row[field] for field in place]).all(axis=1)]
        tables.append(counted[["question", "person", "score"]].assign(value=row["value"]))
    scores = pd.concat(tables)
    times = scores[scores["value"] > -np.inf].groupby(["question", "value"]).size()
    if times.nunique() > 1 or times.unstack().isna().any(axis=None):
        raise ValueError(f"not every value of {x} has the same questions and seeds: run the whole sweep")
    wide = scores.pivot_table(index="question", columns="value", values="score") * 100
    return wide, scores.groupby("question").person.first()[wide.index]


def seed_balances(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """(seeds, values ascending) of `columns.balance` of faces, in points: answers in text cannot change here,
    and would only thin out what does."""
    balances = balance(rows.dropna(subset=[x]), ["seed", x], faces=True).unstack()
    if len(balances) < 2 or balances.shape[1] < 3 or balances.isna().any(axis=None):
        raise ValueError(f"an optimum needs two seeds, three values of {x}, and each seed at each value")
    return balances


def slope(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Change over the whole range in points, by the straight line over the order of the values; p by sign
    flips of people's own changes."""
    scores = _without_vanilla(scores)
    steps = np.arange(scores.shape[1]) - (scores.shape[1] - 1) / 2
    tilt = scores @ steps / (steps**2).sum() * (len(steps) - 1)
    change = (scores.iloc[:, -1] - scores.iloc[:, 0]).mean()
    facts = {"test": "slope, sign flips", "statistic": tilt.mean(), "change": change}
    return _counts(scores, people) | facts | {"p": sign_flip(tilt, people)}


def rises(scores: pd.DataFrame, people: pd.Series) -> dict:
    """`slope`; holds if it is FLAT points or more."""
    facts = slope(scores, people)
    return facts | {"holds": bool(facts["statistic"] >= FLAT)}


def falls(scores: pd.DataFrame, people: pd.Series) -> dict:
    """`slope`; holds if it is FLAT points or more, downwards."""
    facts = slope(scores, people)
    return facts | {"holds": bool(facts["statistic"] <= -FLAT)}


def peak(scores: pd.DataFrame, people: pd.Series) -> dict:
    """The value with the highest mean. In between: p that it is no better than one of the ends, the larger
    of two. At an end: p that it is no better than the best in between; then there is no peak. Either p is
    multiplied by the number of values that could have been the best (Bonferroni)."""
    scores = _without_vanilla(scores)
    if scores.shape[1] < 3:
        raise ValueError(f"a peak needs at least three values; there are {list(scores.columns)}")
    best, ends = scores.mean().idxmax(), scores.columns[[0, -1]]
    inside = scores.columns.drop(ends)
    rivals = ends if best in inside else [scores[inside].mean().idxmax()]
    p = max(sign_flip(scores[best] - scores[rival], people) for rival in rivals)
    p = min(1.0, p * len(inside if best in inside else ends))
    facts = {"test": "best at, sign flips", "statistic": best, "p": p, "holds": best not in ends}
    return _counts(scores, people) | facts


def flat(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Largest distance of a mean from the first, in points; whether all 95 % intervals of these distances
    are within FLAT (holds), one is outside (does not hold), or neither."""
    scores = _without_vanilla(scores)
    gaps = scores.sub(scores.iloc[:, 0], axis=0)
    bounds = np.array([t_interval(gaps[value].mean(), *spread(gaps[value], people)) for value in gaps])
    within = (np.abs(bounds) <= FLAT).all()
    outside = ((bounds[:, 0] > FLAT) | (bounds[:, 1] < -FLAT)).any()
    holds = True if within else False if outside else None
    facts = {"test": f"within {FLAT:g} points", "statistic": gaps.mean().abs().max(), "holds": holds}
    return _counts(scores, people) | facts | {"p": np.nan}


def starts_low(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Mean at the first value minus vanilla's, in points; p by sign flips. Holds if it is FLAT points or more
    below."""
    gap = scores[scores.columns[1]] - scores[-np.inf]
    facts = {"test": "first - vanilla, sign flips", "statistic": gap.mean(), "p": sign_flip(gap, people)}
    return _counts(scores.iloc[:, :2], people) | facts | {"holds": bool(gap.mean() <= -FLAT)}


def optimum(balances: pd.DataFrame) -> dict:
    """The value with the best of `seed_balances`. For each seed, take the value in between that is best in
    the mean of the other seeds. The claim holds if in every seed this value is better than both ends by FLAT
    points or more, does not hold if in none, and else holds "in some seeds"."""
    inside, ends = balances.iloc[:, 1:-1], balances.iloc[:, [0, -1]]
    better = _best_of_others(inside) - ends.max(axis=1) >= FLAT
    return _seed_facts(better) | {"test": "best at, every seed", "statistic": balances.mean().idxmax()}


def good_at(balances: pd.DataFrame, value: float) -> dict:
    """By how much the balance at the best value exceeds that at a given value, in points, averaged over
    seeds. For each seed the best value is that of the other seeds' mean. Holds if it is less than FLAT in
    every seed, does not hold if in none."""
    checks.one_of(f"the value of {balances.columns.name} that a claim calls good", value, balances.columns)
    short = _best_of_others(balances) - balances[value]
    return _seed_facts(short < FLAT) | {"test": f"best - at {value:g}", "statistic": short.mean()}


def _best_of_others(balances: pd.DataFrame) -> pd.Series:
    """Each seed's balance at the value that is best in the mean of the other seeds: the best of many values
    is always good by luck as well, but not in a seed that did not choose it."""
    best = {seed: balances.drop(index=seed).mean().idxmax() for seed in balances.index}
    return pd.Series({seed: balances.at[seed, value] for seed, value in best.items()})


ANSWER_TESTS = {"rises": rises, "falls": falls, "peaks": peak, "flat": flat, "starts low": starts_low}
BALANCE_TESTS = {"has an optimum": optimum, "good at": good_at}


def _without_vanilla(scores: pd.DataFrame) -> pd.DataFrame:
    """`column_answers` at the setting's values alone."""
    return scores.drop(columns=-np.inf, errors="ignore")


def _counts(scores: pd.DataFrame, people: pd.Series) -> dict:
    """How many questions and people there are, and how many questions whose answer depends on the setting."""
    differ = int((scores.nunique(axis=1) > 1).sum())
    return {"n": len(scores), "people": people.nunique(), "differ": differ}


def _seed_facts(true: pd.Series) -> dict:
    """A claim holds if it does in every seed, and does not hold if it does in none; there is no p."""
    holds = True if true.all() else None if true.any() else False
    return {"n": np.nan, "people": np.nan, "differ": 1, "p": np.nan, "holds": holds}


def _verdict(row) -> str:
    """What a test says of a claim; where there is no p, `holds` decides alone and None is neither."""
    if pd.isna(row.p):
        unclear = "in some seeds" if row.column == CURVE_BALANCE else "inside the noise"
        return {True: "holds", False: "does not hold", None: unclear}[row.holds]
    if not row.differ:
        return "no answer differs"
    if row.p_holm >= 0.05:
        return "inside the noise"
    return "holds" if row.holds else "does not hold"
