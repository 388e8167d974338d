"""What a paper says of a curve: does it rise, fall, stay flat, start low, or have a best value in between?

Claims are judged on the answers kept with a record. People are the units, as in `compare`; seeds are averaged
over.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from vkdlib.evaluation.compare import add_holm, sign_flip, spread, t_interval
from vkdlib.reports import claims
from vkdlib.reports.columns import QUESTIONS, balance
from vkdlib.system import checks

FLAT = 2.0  # points: a smaller change is none


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
    meaning, judged = claims.read_topic(topic or record), []
    for table in claims.answered_tables(record, meaning):
        checks.one_of(f"the setting that {record} is swept over", x, table.records.columns)
        over = over_forgotten_values(table, x)
        for claim in meaning["claims"]:
            titles = [title for title in claim["columns"] if title in [*table.columns, claims.CURVE_BALANCE]]
            judged += [_judge_claim(table, x, over, claim, title) for title in titles]
    curves = pd.DataFrame(judged)
    curves["p_holm"] = add_holm(curves.dropna(subset="p"), ["claim"]).p_holm
    curves["verdict"] = [_verdict(row) for row in curves.itertuples()]
    return curves.drop(columns=["p", "holds"])


def over_forgotten_values(table: claims.AnsweredTable, x: str) -> list[float]:
    """Values of a setting at which its runs forget more than retain-only (`claims.over_forgets`)."""
    if "retain-only" not in set(table.records.row):
        return []
    never = table.predictions("retain-only")
    runs = table.records.groupby(x).run.unique()
    return [
        value for value, run in runs.items() if claims.over_forgets([table.answers[r] for r in run], never)
    ]


def _judge_claim(table: claims.AnsweredTable, x: str, over: list[float], claim: dict, title: str) -> dict:
    """A row of `judge_curves`, without p over the claim and verdict; `over`: `over_forgotten_values`."""
    column, expected = table.columns.get(title), claim["expected"]  # no column: the balance
    rows = table.records if column is None else column.rows(table.records)
    rows = rows[~(rows[x] > claim.get("up_to", np.inf))]
    swept = rows.dropna(subset=[x])
    tests = BALANCE_TESTS if column is None else ANSWER_TESTS
    checks.one_of(f"what {claim['claim']!r} expects of this column", expected, tests)
    if column is not None:
        facts = answer_facts(*column_answers(rows, x, table.answers), expected)
    elif expected == "good at":
        facts = good_at(seed_balances(rows, x), claim["at"])
    else:
        facts = optimum(seed_balances(rows, x))
    too_far = ", ".join(f"{value:g}" for value in over if value in set(swept[x]))
    forgetting = column is None or column.less
    return (
        table.task
        | {field: claim[field] for field in ("claim", "source", "expected")}
        | {"runs_ours": " ".join(swept.run.unique())}
        | {"over_forgotten": f"{x} = {too_far}" if too_far and forgetting else ""}
        | {"column": title, "seeds": int(swept.seed.nunique())}
        | facts
    )


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
    rows = rows.assign(at=rows[x].where(rows.method != "vanilla", -np.inf)).dropna(subset="at")
    scores = pd.concat(answers[run].assign(run=run) for run in rows.run)
    scores = scores.merge(rows[["run", "at", *QUESTIONS]])  # this column's
    swept = scores[scores["at"] > -np.inf]
    times = pd.crosstab(swept.question, swept["at"])
    if (times != times.iloc[0, 0]).any(axis=None):
        raise ValueError(f"not every value of {x} has the same questions and seeds: run the whole sweep")
    wide = scores.pivot_table(index="question", columns="at", values="score") * 100
    return wide, scores.groupby("question").person.first()[wide.index]


def seed_balances(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """(seeds, values ascending) of `columns.balance` of faces, in points: answers in text cannot change here,
    and would only thin out what does."""
    balances = balance(rows.dropna(subset=[x]), ["seed", x], faces=True).unstack()
    if len(balances) < 2 or balances.shape[1] < 3 or balances.isna().any(axis=None):
        raise ValueError(f"an optimum needs two seeds, three values of {x}, and each seed at each value")
    return balances


def answer_facts(scores: pd.DataFrame, people: pd.Series, expected: str) -> dict:
    """What a test finds of `column_answers`, with how many questions and people there are, and of how many
    questions the answer depends on the setting.

    Args:
        expected: one of ANSWER_TESTS.
    """
    if expected == "starts low":
        scores = scores.iloc[:, :2]  # vanilla, first value
    else:
        scores = scores.drop(columns=-np.inf, errors="ignore")
    differ = int((scores.nunique(axis=1) > 1).sum())
    counts = {"n": len(scores), "people": people.nunique(), "differ": differ}
    return counts | ANSWER_TESTS[expected](scores, people)


def slope(scores: pd.DataFrame, people: pd.Series, downwards: bool = False) -> dict:
    """Change over the whole range in points, by the straight line over the order of the values; p by sign
    flips of people's own changes. Holds if it is FLAT points or more, upwards or downwards."""
    steps = np.arange(scores.shape[1]) - (scores.shape[1] - 1) / 2
    tilt = scores @ steps / (steps**2).sum() * (len(steps) - 1)
    change = (scores.iloc[:, -1] - scores.iloc[:, 0]).mean()
    statistic = tilt.mean()
    holds = statistic <= -FLAT if downwards else statistic >= FLAT
    facts = {"test": "slope, sign flips", "statistic": statistic, "change": change}
    return facts | {"p": sign_flip(tilt, people), "holds": bool(holds)}


def peak(scores: pd.DataFrame, people: pd.Series) -> dict:
    """The value with the highest mean. In between: p that it is no better than one of the ends, the larger
    of two. At an end: p that it is no better than the best in between; then there is no peak. Either p is
    multiplied by the number of values that could have been the best (Bonferroni)."""
    if scores.shape[1] < 3:
        raise ValueError(f"a peak needs at least three values; there are {list(scores.columns)}")
    best, ends = scores.mean().idxmax(), scores.columns[[0, -1]]
    inside = scores.columns.drop(ends)
    rivals = ends if best in inside else [scores[inside].mean().idxmax()]
    p = max(sign_flip(scores[best] - scores[rival], people) for rival in rivals)
    p = min(1.0, p * len(inside if best in inside else ends))
    return {"test": "best at, sign flips", "statistic": best, "p": p, "holds": best not in ends}


def flat(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Largest distance of a mean from the first, in points; whether all 95 % intervals of these distances
    are within FLAT (holds), one is outside (does not hold), or neither."""
    gaps = scores.sub(scores.iloc[:, 0], axis=0)
    bounds = np.array([t_interval(gaps[value].mean(), *spread(gaps[value], people)) for value in gaps])
    within = (np.abs(bounds) <= FLAT).all()
    outside = ((bounds[:, 0] > FLAT) | (bounds[:, 1] < -FLAT)).any()
    holds = True if within else False if outside else None
    statistic = gaps.mean().abs().max()
    return {"test": f"within {FLAT:g} points", "statistic": statistic, "p": np.nan, "holds": holds}


def starts_low(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Mean at the first value minus vanilla's, in points; p by sign flips. Holds if it is FLAT points or more
    below."""
    gap = scores.iloc[:, 1] - scores[-np.inf]
    facts = {"test": "first - vanilla, sign flips", "statistic": gap.mean(), "p": sign_flip(gap, people)}
    return facts | {"holds": bool(gap.mean() <= -FLAT)}


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


ANSWER_TESTS = {
    "rises": slope,
    "falls": partial(slope, downwards=True),
    "peaks": peak,
    "flat": flat,
    "starts low": starts_low,
}
BALANCE_TESTS = ("has an optimum", "good at")


def _seed_facts(true: pd.Series) -> dict:
    """A claim holds if it does in every seed, and does not hold if it does in none; there is no p."""
    holds = True if true.all() else None if true.any() else False
    return {"differ": 1, "p": np.nan, "holds": holds}


def _verdict(row) -> str:
    """What a test says of a claim; where there is no p, `holds` decides alone and None is neither."""
    if pd.isna(row.p):
        unclear = "in some seeds" if row.column == claims.CURVE_BALANCE else "inside the noise"
        return {True: "holds", False: "does not hold", None: unclear}[row.holds]
    return claims.tested_verdict(row, row.holds)
