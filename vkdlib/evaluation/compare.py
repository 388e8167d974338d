"""Two models on the same questions: whether they differ by more than noise, and how much is forgotten."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vkdlib.evaluation.metrics import option_probability, spread, t_interval

KEYS = ["set", "modality", "kind", "question"]


def mean_over_seeds(tables: pd.DataFrame | Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Predictions of one or several seeds as one table: each question's score is the mean over seeds.

    Raises:
        ValueError: they are not about the same questions.
    """
    tables = [tables] if isinstance(tables, pd.DataFrame) else list(tables)
    first = tables[0].set_index(KEYS)
    for other in tables:
        index = pd.MultiIndex.from_frame(other[KEYS])
        if not index.is_unique or not index.sort_values().equals(first.index.sort_values()):
            raise ValueError("the predictions are not of the same questions: compare runs of one task")
    scores = sum(t.set_index(KEYS).score.reindex(first.index) for t in tables) / len(tables)
    return first.assign(score=scores)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values: those below 0.05 hold together, with 5 % risk of any false one."""
    p = np.asarray(p, float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted[np.argsort(order)]


def sign_flip(differences: Sequence[float], people: Sequence[str]) -> float:
    """Two-sided p of no difference on the same questions: whole people change sides by chance.

    Answers about one person depend on each other. A test that takes questions as independent (McNemar's)
    finds differences that are not there several times as often as it says. Exact for up to 16 people who
    differ, else from 99,999 seeded draws. With k people who differ, p is never below 2 / 2^k.

    Args:
        differences: one score minus the other, a question.
        people: the person of each question.
    """
    from scipy.stats import permutation_test

    def total(x, axis):
        return x.sum(axis).round(6)  # sums of thirds that are equal must count as equal

    by_person = pd.Series(list(differences), dtype=float).groupby(list(people)).sum().to_numpy()
    by_person = by_person[by_person.round(6) != 0]  # a person without a difference changes nothing
    if len(by_person) < 2:
        return 1.0
    options = {"permutation_type": "samples", "vectorized": True, "n_resamples": 99_999, "batch": 10_000}
    result = permutation_test((by_person,), total, rng=np.random.default_rng(0), **options)
    return float(result.pvalue)


Tables = pd.DataFrame | Sequence[pd.DataFrame]  # predictions of one seed, or of several


def differences(
    ours: Tables, others: Mapping[str, Tables], columns: Sequence[tuple[str, str, str]] | None = None
) -> pd.DataFrame:
    """Our scores minus those of other models, question by question, averaged over seeds.

    Args:
        ours: predictions, as `evaluate` returns them; of several seeds, a list.
        others: name -> predictions on the same questions.
        columns: (set, modality, kind) of the comparisons to make; None: all there are.
    Returns:
        one row a model and column: difference in points (per cent, ROUGE-L times 100), low and high (95 %,
        `t_interval` with people as units), n, differ (questions that are not answered the same), p of no
        difference (`sign_flip`), and p_holm over the models compared in a column. Seeds are averaged over:
        interval and p are about other people, not about other seeds.
    """
    names = ["other", *KEYS[:-1], "difference", "low", "high", "n", "differ", "p"]
    rows, a = [], mean_over_seeds(ours)
    for name, theirs in others.items():
        for where, part in _gaps(a, name, theirs).groupby(KEYS[:-1], sort=False):
            if columns is None or where in columns:
                mean = part.score.mean()
                interval = t_interval(mean, *spread(part.score, part.person))
                p = sign_flip(part.score, part.person)
                rows.append([name, *where, mean, *interval, len(part), int((part.score != 0).sum()), p])
    return add_holm(pd.DataFrame(rows, columns=names), KEYS[:-1])


def balance_difference(
    ours: Tables, theirs: Tables, retain: Sequence[tuple[str, str, str]], forget: tuple[str, str, str]
) -> dict[str, float]:
    """How much better our balance is: the mean difference in the columns to retain, minus the difference in
    the column to forget.

    Args:
        retain, forget: (set, modality, kind) of columns, each about people of its own.
    Returns:
        difference in points, low, high, n, differ and p, as of `differences`; the interval's degrees of
        freedom are those of the column with the fewest people.
    """
    parts = dict(list(_gaps(mean_over_seeds(ours), "the other", theirs).groupby(KEYS[:-1])))
    weights = {forget: -1.0} | {where: 1 / len(retain) for where in retain}
    variances, free = zip(*(spread(parts[where].score, parts[where].person) for where in weights))
    share = pd.concat([parts[where].score * w / len(parts[where]) for where, w in weights.items()])
    people = [f"{where} {person}" for where in weights for person in parts[where].person]
    mean = share.sum()
    low, high = t_interval(mean, sum(v * w**2 for v, w in zip(variances, weights.values())), min(free))
    numbers = {"difference": mean, "low": low, "high": high, "n": len(share)}
    return numbers | {"differ": int((share != 0).sum()), "p": sign_flip(share, people)}


def _gaps(a: pd.DataFrame, name: str, theirs: Tables) -> pd.DataFrame:
    """`a` (from `mean_over_seeds`) with the difference from another model for a score, in points."""
    b = mean_over_seeds(theirs)
    gap = 100 * (a.score - b.score.reindex(a.index))
    if gap.isna().any() or len(a) != len(b):
        raise ValueError(f"{name} was not asked the same questions: compare runs of one task")
    return a.assign(score=gap.where(gap.abs() > 1e-9, 0.0))  # the mean over seeds of equal scores is equal


def add_holm(table: pd.DataFrame, family: Sequence[str]) -> pd.DataFrame:
    """A table with p_holm: Holm over the rows that agree in the columns `family`, without those in which
    nothing differs, which have 1. With ten people no p is below 2/1024, so a family of all columns of a
    table could hold nothing.
    """
    table = table.assign(p_holm=1.0)
    for _, rows in table[table.differ > 0].groupby(list(family), sort=False):
        table.loc[rows.index, "p_holm"] = holm(rows.p)
    return table


def forget_quality(unlearned: pd.DataFrame, retain_only: pd.DataFrame) -> dict[str, float]:
    """How far forget VQA (multiple choice) is from a model that never saw the faces.

    Returns:
        "accuracy": difference in points, with "low" and "high" (95 %, people as units); "ks" and
        "ks_p": Kolmogorov-Smirnov distance, 0 to 1, of the right answers' probabilities, and its p; the
        unlearned model's mean "truth_ratio"; "n". Generated answers (protocol "generate") have no
        probabilities: "ks", "ks_p" and "truth_ratio" are NaN.
        TOFU's forget quality is this p for its truth ratio, whose answers' probabilities are taken per token.
        It takes questions as independent, so a small p says less than it seems to.
    Raises:
        ValueError: there is no multiple choice about the forget people's pictures, or not the same.
    """
    from scipy.stats import ks_2samp

    columns = "set == 'forget' and modality == 'vqa' and kind == 'classification'"
    a, b = (table.query(columns) for table in (unlearned, retain_only))
    if not len(a):
        raise ValueError("forget quality needs multiple choice about the forget people's pictures")
    gap = differences(a, {"retain-only": b}).iloc[0]
    numbers = {"accuracy": gap.difference, "low": gap.low, "high": gap.high, "n": len(a)}
    if a.options.isna().any() or b.options.isna().any():
        return numbers | dict.fromkeys(("ks", "ks_p", "truth_ratio"), float("nan"))
    p, q = ([option_probability(o, g) for o, g in zip(t.options, t.gold)] for t in (a, b))
    ks = ks_2samp(p, q)
    ratio = np.mean([truth_ratio(o, g) for o, g in zip(a.options, a.gold)])
    return numbers | {"ks": float(ks.statistic), "ks_p": float(ks.pvalue), "truth_ratio": float(ratio)}


def truth_ratio(options: str, gold: str) -> float:
    """p(right) / (p(right) + mean p(wrong)), 0 to 1; one half if right and wrong are as likely.

    After TOFU's, with the wrong options for its perturbed answers, and whole answers' probabilities (TOFU's
    are per token), so that a short option has an advantage.

    Args:
        options: JSON of option -> log-probability, as `evaluate` keeps it.
    """
    from scipy.special import expit, logsumexp

    scores = json.loads(options)
    wrong = [s for option, s in scores.items() if option != gold]
    return float(expit(scores[gold] - (logsumexp(wrong) - np.log(len(wrong)))))
