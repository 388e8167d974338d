"""What a paper says of a curve: does it rise, fall, stay flat, start low, or have a best value in between?

Judged on the answers kept with a record, people as units, as in `compare`. Seeds are averaged over.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vkdlib.evaluation.compare import adjusted, sign_flip, spread, t_interval
from vkdlib.reports.claims import below, statements
from vkdlib.reports.columns import FACES, LOWER, balance, six_columns
from vkdlib.runs import records

FLAT = 2.0  # points: a smaller change is none
WHERE = ["set", "modality", "kind"]


def judge_curves(record: str, x: str, of: str | None = None) -> pd.DataFrame:
    """Test every claim about a swept setting on the runs of a record.

    Args:
        x: column of the record with the setting's value; rows without one are vanilla and retain-only.
        of: whose claims; None: the record's own.
    Returns:
        one row a claim, model and benchmark: claim, source, model, benchmark, forget_ratio, column, expected,
        runs_ours (hashes of the runs looked at), seeds, people, n, differ (questions whose answer depends on
        the setting), test, statistic, change (of a slope: the last value minus the first, in points), p_holm
        (over the rows of a claim; NaN where there is no p), verdict and over_forgotten: the values at which
        forget VQA is below retain-only's by more than noise, where forgetting is asked for.
    """
    keys, found = ["model", "benchmark", "forget_ratio"], []
    predictions = records.read_predictions(record)
    for values, part in records.read_records(record).groupby(keys, sort=False):
        columns, too_far = six_columns(part), over_forgotten(part, x, predictions)
        for one in statements(of or record):
            for title in (t for t in one["columns"] if t in columns or t == "Balance"):
                rows = part if title == "Balance" else columns[title]
                rows = rows[~(rows[x] > one.get("up_to", np.inf))]
                curve = (balances(rows, x),) if title == "Balance" else answers(rows, x, predictions)
                tested = TESTS[one["expected"]](*curve, **{k: one[k] for k in one if k == "at"})
                known = dict(zip(keys, values)) | {k: one[k] for k in ("claim", "source", "expected")}
                known["runs_ours"] = " ".join(rows.dropna(subset=[x]).run.unique())
                seeds = int(rows.dropna(subset=[x]).seed.nunique())
                far = [f"{v:g}" for v in too_far if title in (LOWER, "Balance") and v in set(rows[x])]
                known["over_forgotten"] = f"{x} = {', '.join(far)}" if far else ""
                found.append(known | {"column": title, "seeds": seeds} | tested)
    table = pd.DataFrame(found)
    table["p_holm"] = adjusted(table.dropna(subset="p").assign(p_holm=1.0), ["claim"]).p_holm
    table["verdict"] = [_verdict(row) for row in table.itertuples()]
    return table.drop(columns=["p", "holds"])


def over_forgotten(part: pd.DataFrame, x: str, predictions: Mapping[str, pd.DataFrame]) -> list[float]:
    """Values of a setting at which forget VQA is `claims.below` that of retain-only: no success there.

    Args:
        predictions: hash of a run -> its predictions.
    """

    def of(rows: pd.DataFrame) -> list[pd.DataFrame]:
        return [predictions[run] for run in rows.run.unique()]

    never = of(part[part.method == "retain-only"])
    return [value for value, rows in part.groupby(x) if never and below(of(rows), never)]


def answers(
    rows: pd.DataFrame, x: str, predictions: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.Series]:
    """Scores of a column's questions at each value of the setting, in points, and each question's person.

    Args:
        rows: of one column of Table 1, one a run.
        predictions: hash of a run -> its predictions.
    Returns:
        (questions, values ascending), mean over seeds; vanilla's are under -inf, if there are any.
    Raises:
        ValueError: not all runs were asked the same questions, or a seed lacks some value.
    """
    at = rows[x].where(rows.method != "vanilla", -np.inf)
    tables = []
    for value, row in zip(at, rows.itertuples()):
        if not np.isnan(value):
            table = predictions[row.run]
            where = (table[WHERE] == [getattr(row, w) for w in WHERE]).all(axis=1)
            tables.append(table[where][["question", "person", "score"]].assign(at=value))
    scores = pd.concat(tables)
    asked = scores[scores["at"] > -np.inf].groupby(["question", "at"]).size()
    if asked.nunique() > 1 or asked.unstack().isna().any(axis=None):
        raise ValueError(f"not every value of {x} has the same questions and seeds: run the whole sweep")
    wide = scores.pivot_table(index="question", columns="at", values="score") * 100
    return wide, scores.groupby("question").person.first()[wide.index]


def balances(part: pd.DataFrame, x: str) -> pd.DataFrame:
    """(seeds, values ascending) of `metrics.balance` of faces, in points: answers in text cannot change here,
    and would only thin out what does."""
    of = balance(part.dropna(subset=[x]), ["seed", x], FACES).unstack()
    if len(of) < 2 or of.shape[1] < 3 or of.isna().any(axis=None):
        raise ValueError(f"an optimum needs two seeds, three values of {x}, and each seed at each value")
    return of


def slope(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Change over the whole range in points, by the straight line over the order of the values; p by sign
    flips of people's own changes."""
    scores = _swept(scores)
    steps = np.arange(scores.shape[1]) - (scores.shape[1] - 1) / 2
    tilt = scores @ steps / (steps**2).sum() * (len(steps) - 1)
    change = (scores.iloc[:, -1] - scores.iloc[:, 0]).mean()
    found = {"test": "slope, sign flips", "statistic": tilt.mean(), "change": change}
    return _facts(scores, people) | found | {"p": sign_flip(tilt, people)}


def peak(scores: pd.DataFrame, people: pd.Series) -> dict:
    """The value with the highest mean. In between: p that it is no better than one of the ends, the larger
    of two. At an end: p that it is no better than the best in between; then there is no peak. Both times p
    counts as often as there are values that could have been the best (Bonferroni)."""
    scores = _swept(scores)
    if scores.shape[1] < 3:
        raise ValueError(f"a peak needs at least three values; there are {list(scores.columns)}")
    best, ends = scores.mean().idxmax(), scores.columns[[0, -1]]
    inside = scores.columns.drop(ends)
    rivals = ends if best in inside else [scores[inside].mean().idxmax()]
    p = max(sign_flip(scores[best] - scores[rival], people) for rival in rivals)
    p = min(1.0, p * len(inside if best in inside else ends))
    found = {"test": "best at, sign flips", "statistic": best, "p": p, "holds": best not in ends}
    return _facts(scores, people) | found


def flat(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Largest distance of a mean from the first, in points; whether all 95 % intervals of these distances
    are within FLAT (holds), one is outside (does not hold), or neither."""
    scores = _swept(scores)
    gaps = scores.sub(scores.iloc[:, 0], axis=0)
    bounds = np.array([t_interval(gaps[value].mean(), *spread(gaps[value], people)) for value in gaps])
    outside = ((bounds[:, 0] > FLAT) | (bounds[:, 1] < -FLAT)).any()
    holds = True if (np.abs(bounds) <= FLAT).all() else False if outside else None
    found = {"test": f"within {FLAT:g} points", "statistic": gaps.mean().abs().max(), "holds": holds}
    return _facts(scores, people) | found | {"p": np.nan}


def starts_low(scores: pd.DataFrame, people: pd.Series) -> dict:
    """Mean at the first value minus vanilla's, in points; p by sign flips."""
    gap = scores[scores.columns[1]] - scores[-np.inf]
    found = {"test": "first - vanilla, sign flips", "statistic": gap.mean(), "p": sign_flip(gap, people)}
    return _facts(scores.iloc[:, :2], people) | found


def optimum(of: pd.DataFrame) -> dict:
    """The value with the best of `balances`. Holds if in every seed that value in between which is best
    in the others' mean is better than both ends by FLAT points or more, does not if in none; else it does
    "in some seeds"."""
    inside, ends = of.iloc[:, 1:-1], of.iloc[:, [0, -1]]
    better = _best_of_others(inside) - ends.max(axis=1) >= FLAT
    return _by_seed(better) | {"test": "best at, every seed", "statistic": of.mean().idxmax()}


def good_at(of: pd.DataFrame, at: float) -> dict:
    """How much better than at a value the balance is, in every seed, at the value that is best in the others'
    mean; in points, averaged over seeds. Holds if it is less than FLAT in every seed, not if in none."""
    short = _best_of_others(of) - of[at]
    return _by_seed(short < FLAT) | {"test": f"best - at {at:g}", "statistic": short.mean()}


def _best_of_others(of: pd.DataFrame) -> pd.Series:
    """Each seed's balance at the value that is best in the mean of the other seeds: the best of many values
    is always good by luck as well, but not in a seed that did not choose it."""
    return pd.Series({seed: of.at[seed, of.drop(index=seed).mean().idxmax()] for seed in of.index})


TESTS = {
    "rises": slope,
    "falls": slope,
    "peaks": peak,
    "flat": flat,
    "starts low": starts_low,
    "has an optimum": optimum,
    "good at": good_at,
}


def _swept(scores: pd.DataFrame) -> pd.DataFrame:
    """`answers` without vanilla's."""
    return scores.drop(columns=-np.inf, errors="ignore")


def _facts(scores: pd.DataFrame, people: pd.Series) -> Mapping:
    differ = int((scores.nunique(axis=1) > 1).sum())
    return {"n": len(scores), "people": people.nunique(), "differ": differ, "holds": None}


def _by_seed(true: pd.Series) -> dict:
    """What holds in every seed holds, what in none does not; there is no p."""
    holds = True if true.all() else None if true.any() else False
    return {"n": np.nan, "people": np.nan, "differ": 1, "p": np.nan, "holds": holds}


def _verdict(row) -> str:
    if row.expected in ("flat", "has an optimum", "good at"):
        unclear = "inside the noise" if row.expected == "flat" else "in some seeds"
        return {True: "holds", False: "does not hold", None: unclear}[row.holds]
    if not row.differ:
        return "no answer differs"
    if row.p_holm >= 0.05:
        return "inside the noise"
    wanted = {
        "rises": row.statistic >= FLAT,
        "falls": row.statistic <= -FLAT,
        "starts low": row.statistic <= -FLAT,
        "peaks": row.holds,
    }
    return "holds" if wanted[row.expected] else "does not hold"
