"""What a paper says of a curve: does it rise, fall, stay flat, start low, or have a best value in between?

`claims` tests such sentences on the answers kept with a record. A test takes the scores of `column_answers`
or the balances of `draw_balances`. It returns `test` (what it is called), `statistic`, `p` (NaN: there is
none) and `holds` (None: neither).
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from vkdlib.evaluation.compare import sign_flip
from vkdlib.evaluation.metrics import spread, t_interval
from vkdlib.reports.columns import QUESTIONS, balance
from vkdlib.system import checks

FLAT = 2.0  # points: a smaller change is none


def column_answers(
    rows: pd.DataFrame, x: str, answers: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.Series]:
    """Scores of questions at each value of a setting, in points, and each question's person.

    Args:
        rows: of one column of a table, or of several.
        x: column of the rows with the setting's value; it is empty for models that are not unlearned.
        answers: hash of a run -> its predictions.
    Returns:
        (questions, values ascending), mean over draws; vanilla's are under -inf, if there are any.
    Raises:
        ValueError: not all runs were asked the same questions, or a draw lacks some value.
    """
    rows = rows.assign(at=rows[x].where(rows.method != "vanilla", -np.inf)).dropna(subset="at")
    scores = pd.concat(answers[run].assign(run=run) for run in rows.run.unique())
    scores = scores.merge(rows[["run", "at", "draw", "replicate", *QUESTIONS]])  # those of the columns
    keys = [*QUESTIONS, "question"]
    swept, once = scores[scores["at"] > -np.inf], ["draw", "replicate", *keys]
    times = swept.pivot_table(index=once, columns="at", values="score", aggfunc="size", fill_value=0)
    if times.ne(times.iloc[:, 0], axis=0).any(axis=None):
        raise ValueError(f"not every value of {x} has the same questions and draws: run the whole sweep")
    wide = scores.pivot_table(index=keys, columns="at", values="score") * 100
    return wide, scores.groupby(keys).person.first()[wide.index]


def draw_balances(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    """(draws, values ascending) of `columns.balance` of faces, in points: answers in text cannot change here,
    and would only thin out what does."""
    balances = balance(rows.dropna(subset=[x]), ["draw", "replicate", x], faces=True).unstack()
    if len(balances) < 2 or balances.shape[1] < 3 or balances.isna().any(axis=None):
        raise ValueError(f"an optimum needs two draws, three values of {x}, and each draw at each value")
    return balances


def counts(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Of `column_answers`: how many questions and people there are, of several columns the fewest people; and
    of how many people an answer depends on the setting."""
    differ = people[scores.nunique(axis=1) > 1].nunique()
    return {"n": len(scores), "people": int(people.groupby(QUESTIONS).nunique().min()), "differ": differ}


def answer_facts(scores: pd.DataFrame, people: pd.Series, expected: str) -> dict:
    """What a test says of `column_answers`, with `counts`.

    Args:
        expected: one of ANSWER_TESTS.
    """
    if expected == "starts low":
        scores = scores.iloc[:, :2]  # vanilla, first value
    else:
        scores = scores.drop(columns=-np.inf, errors="ignore")
    return counts(scores, people) | ANSWER_TESTS[expected](scores, people)


def slope(scores: pd.DataFrame, people: pd.Series, downwards: bool = False) -> dict:
    """Change over the whole range in points, by the straight line over the order of the values; p by sign
    flips of people's own changes. Holds if it goes up, or down; equivalent to none if its 90 % interval is
    within FLAT. `change` is the last value minus the first, in points."""
    steps = np.arange(scores.shape[1]) - (scores.shape[1] - 1) / 2
    tilt = scores @ steps / (steps**2).sum() * (len(steps) - 1)
    change = (scores.iloc[:, -1] - scores.iloc[:, 0]).mean()
    statistic = tilt.mean()
    holds = statistic < 0 if downwards else statistic > 0
    low, high = t_interval(statistic, *spread(tilt, people), level=0.9)
    facts = {"test": "slope, sign flips", "statistic": statistic, "change": change}
    facts |= {"equivalent": -FLAT <= low and high <= FLAT}
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
    below; equivalent to vanilla if the 90 % interval is within FLAT."""
    gap = scores.iloc[:, 1] - scores[-np.inf]
    low, high = t_interval(gap.mean(), *spread(gap, people), level=0.9)
    facts = {"test": "first - vanilla, sign flips", "statistic": gap.mean(), "p": sign_flip(gap, people)}
    return facts | {"holds": bool(gap.mean() <= -FLAT), "equivalent": -FLAT <= low and high <= FLAT}


def optimum(balances: pd.DataFrame) -> dict:
    """The value with the best of `draw_balances`. For each draw, take the value in between that is best in
    the mean of the other draws. The claim holds if in every draw this value is better than both ends by FLAT
    points or more, does not hold if in none, and else holds "in some draws"."""
    inside, ends = balances.iloc[:, 1:-1], balances.iloc[:, [0, -1]]
    better = _best_of_others(inside) - ends.max(axis=1) >= FLAT
    return {"test": "best at, every draw", "statistic": balances.mean().idxmax(), **_in_draws(better)}


def shortfall(balances: pd.DataFrame, value: float) -> dict:
    """By how much the balance at the best value exceeds that at a given value, in points, averaged over
    draws. For each draw the best value is that of the other draws' mean. Holds if it is less than FLAT in
    every draw, does not hold if in none."""
    checks.one_of(f"the value of {balances.columns.name} that a claim calls good", value, balances.columns)
    short = _best_of_others(balances) - balances[value]
    return {"test": f"best - at {value:g}", "statistic": short.mean(), **_in_draws(short < FLAT)}


def _best_of_others(balances: pd.DataFrame) -> pd.Series:
    """Each draw's balance at the value that is best in the mean of the other draws: the best of many values
    is always good by luck as well, but not in a draw that did not choose it."""
    best = {draw: balances.drop(index=draw).mean().idxmax() for draw in balances.index}
    return pd.Series({draw: balances.at[draw, value] for draw, value in best.items()})


def _in_draws(true: pd.Series) -> dict:
    """A claim holds if it does in every draw, and does not hold if it does in none; there is no p."""
    return {"p": np.nan, "holds": True if true.all() else None if true.any() else False}


ANSWER_TESTS = {
    "rises": slope,
    "falls": partial(slope, downwards=True),
    "peaks": peak,
    "flat": flat,
    "starts low": starts_low,
}
BALANCE_TESTS = ("has an optimum", "good at")
