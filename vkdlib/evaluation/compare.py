"""Two models on the same questions: whether they differ by more than noise, and how much is forgotten."""

import itertools
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vkdlib.evaluation.distances import distribution_distances
from vkdlib.evaluation.metrics import is_answered, option_probability, share_interval, spread, t_interval

KEYS = ["set", "modality", "kind", "question"]
MARGIN = 5.0  # points: two models that differ by less are as good
FEW = 5  # people who differ: fewer do not tell how others would


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


Tables = pd.DataFrame | Sequence[pd.DataFrame]  # predictions of one run, or of several: draws, seeds


def differences(ours: Tables, others: Mapping[str, Tables]) -> pd.DataFrame:
    """Our scores minus those of other models, question by question.

    Args:
        ours: predictions, as `evaluate` returns them; of several runs, a list.
        others: name -> predictions on the same questions, run by run in the same order.
    Returns:
        one row a model, set, modality and kind: difference in points (per cent, ROUGE-L times 100), and what
        `difference_facts` and `run_facts` say of it; p_holm over the models compared in a column.
    """
    rows = []
    for name, theirs in others.items():
        runs = run_gaps(ours, theirs, name)
        means = _run_means(runs)
        for where, part in pool_runs(runs).groupby(KEYS[:-1], sort=False):
            facts = difference_facts(part.score, part.person) | run_facts(means.loc[where])
            rows.append({"other": name} | dict(zip(KEYS[:-1], where)) | facts)
    return add_holm(pd.DataFrame(rows), KEYS[:-1]) if rows else pd.DataFrame()


def run_gaps(ours: Tables, theirs: Tables, name: str = "the other") -> list[pd.DataFrame]:
    """Ours minus theirs in points, a table a run, indexed by KEYS.

    Raises:
        ValueError: they were not asked the same questions, with the same right answers.
    """
    pairs = [[t] if isinstance(t, pd.DataFrame) else list(t) for t in (ours, theirs)]
    parts = []
    for a, b in itertools.zip_longest(*pairs):
        a, b = (pd.DataFrame(columns=[*KEYS, "score"]) if t is None else t for t in (a, b))
        a, b = a.set_index(KEYS), b.set_index(KEYS)
        gap = 100 * (a.score - b.score.reindex(a.index)) if _same_questions(a, b) else None
        if gap is None or gap.isna().any():
            raise ValueError(f"{name} was not asked the same questions: compare runs of one task")
        parts.append(a.assign(score=gap))
    return parts


def _same_questions(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether tables indexed by KEYS hold the same questions, each once, with the same right answers, where
    these were kept."""
    unique = a.index.is_unique and b.index.is_unique
    if not unique or len(a) != len(b) or not a.index.isin(b.index).all():
        return False
    golds = [table.gold.reindex(a.index).fillna("") for table in (a, b) if "gold" in table]
    return len(golds) < 2 or bool((golds[0] == golds[1]).all())


def paired_gaps(ours: Tables, theirs: Tables, name: str = "the other") -> pd.DataFrame:
    """`run_gaps`, pooled: one row a question."""
    return pool_runs(run_gaps(ours, theirs, name))


def pool_runs(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Score and person of each question that runs were asked, indexed by KEYS. A question that several were
    asked counts once, with the mean."""
    table = pd.concat(tables).groupby(KEYS, sort=False).agg({"score": "mean", "person": "first"})
    return table.assign(score=table.score.where(table.score.abs() > 1e-9, 0.0))  # equal scores are equal


def difference_facts(gaps: pd.Series, people: pd.Series) -> dict[str, float]:
    """What is known of a mean difference of questions, with people as units.

    Returns:
        difference; low, high: 95 % `t_interval`; low_90, high_90: 90 %, which lies within a margin exactly if
        two one-sided tests at 5 % say so; smallest: difference that its own p, before Holm, would have found
        with 80 % power; n (questions), people, differ (people whose answers differ) and p of no difference
        (`sign_flip`).
    """
    return _facts(gaps.mean(), *wary_spread(gaps, people)) | _counts(gaps, people)


def wary_spread(gaps: pd.Series, people: Sequence[str]) -> tuple[float, int]:
    """`metrics.spread` of differences in points. If fewer than FEW people differ, it is at least what it
    would be with two more people, of whom one gains half of the answers and one loses half: that nobody among
    a few people differs does not show that nobody would."""
    variance, free = spread(gaps, people)
    if not free or (gaps != 0).groupby(list(people)).any().sum() >= FEW:
        return variance, free
    each = max(1, round(len(gaps) / (free + 1)))
    more, numbers = [50.0] * each + [-50.0] * each, [-1] * each + [-2] * each
    return max(variance, spread([*gaps, *more], [*pd.Series(people).factorize()[0], *numbers])[0]), free


def _run_means(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of each run in `run_gaps`: (columns of questions, runs)."""
    return pd.concat([run.groupby(KEYS[:-1], sort=False).score.mean() for run in runs], axis=1)


def run_facts(means: pd.Series) -> dict[str, float]:
    """What the runs' own differences say of other runs, whose people, seed and luck are others: low_runs and
    high_runs, the 95 % t interval with runs as units. NaN of a single run."""
    means = means.dropna()
    low, high = t_interval(means.mean(), means.var() / max(len(means), 1), len(means) - 1)
    return {"low_runs": low, "high_runs": high}


def _facts(mean: float, variance: float, free: int) -> dict[str, float]:
    from scipy.stats import t

    (low, high), (low_90, high_90) = (t_interval(mean, variance, free, level) for level in (0.95, 0.9))
    smallest = (t.ppf(0.975, free) + t.ppf(0.8, free)) * np.sqrt(variance) if free else float("nan")
    facts = {"difference": mean, "low": low, "high": high, "low_90": low_90, "high_90": high_90}
    return facts | {"smallest": float(smallest)}


def _counts(gaps: pd.Series, people: Sequence[str]) -> dict[str, float]:
    by_person = (gaps != 0).groupby(list(people)).any()
    counts = {"n": len(gaps), "people": len(by_person), "differ": int(by_person.sum())}
    return counts | {"p": sign_flip(gaps, people)}


def balance_difference(
    ours: Tables,
    theirs: Tables,
    retain: Sequence[tuple[str, str, str]],
    forget: tuple[str, str, str],
    floors: float | Sequence[float] = 0.25,
) -> dict[str, float]:
    """How much better our balance is: the mean difference in the columns to retain, minus the difference in
    the column to forget.

    Args:
        retain, forget: (set, modality, kind) of columns, each about people of its own: nobody is to be
            forgotten in one run and reported as retained in another.
        floors: score, 0 to 1, below which to forget more is no gain: a run below it counts as if it were
            there (as in `columns.balance`). It is no less uncertain for that. One for all runs, as chance is,
            or one a run, as what a model without the faces scores in its draw.
    Returns:
        as `difference_facts` and `run_facts`; the interval's degrees of freedom are those of the column with
        the fewest people.
    """
    weights = {forget: -1.0} | {where: 1 / len(retain) for where in retain}
    parts = dict(list(paired_gaps(ours, theirs).groupby(KEYS[:-1])))
    variances, free = zip(*(wary_spread(parts[where].score, parts[where].person) for where in weights))
    runs = run_gaps(*(_raise_to_floor(tables, forget, floors) for tables in (ours, theirs)))
    parts = dict(list(pool_runs(runs).groupby(KEYS[:-1])))
    share = pd.concat([parts[where].score * w / len(parts[where]) for where, w in weights.items()])
    people = [f"{where} {person}" for where in weights for person in parts[where].person]
    variance = sum(v * w**2 for v, w in zip(variances, weights.values()))
    means = sum(_run_means(runs).loc[where] * w for where, w in weights.items())  # (runs,)
    facts = _facts(share.sum(), variance, min(free)) | run_facts(means)
    return facts | _counts(share, people) | {"people": min(free) + 1}


def _raise_to_floor(
    tables: Tables, forget: tuple[str, str, str], floors: float | Sequence[float]
) -> list[pd.DataFrame]:
    """Predictions in which the column to forget scores its floor throughout, in a run whose mean is below."""
    tables, raised = [tables] if isinstance(tables, pd.DataFrame) else list(tables), []
    floors = [floors] * len(tables) if isinstance(floors, int | float) else floors
    for table, floor in zip(tables, floors, strict=True):
        rows = (table[KEYS[:-1]] == list(forget)).all(axis=1)
        below = table.score[rows].mean() < floor
        raised.append(table.assign(score=table.score.where(~rows, floor)) if below else table)
    return raised


def add_holm(table: pd.DataFrame, family: Sequence[str]) -> pd.DataFrame:
    """A table with p_holm: Holm over the rows that agree in the columns `family`, without those in which
    nothing differs, which have 1."""
    table = table.assign(p_holm=1.0)
    for _, rows in table[table.differ > 0].groupby(list(family), sort=False):
        table.loc[rows.index, "p_holm"] = holm(rows.p)
    return table


def over_forgets(
    ours: Sequence[pd.DataFrame], never_saw: Sequence[pd.DataFrame], chance: float | None = None
) -> bool:
    """Whether answers about what is to be forgotten are wrong on purpose: right less often than those of a
    model that never saw the faces, by more than noise; or less often than by guessing, by more than noise,
    where such a model is more than MARGIN better. A model that never saw a face has habits, too, and may be
    somewhat below chance.

    A refusal is no wrong answer: it is right less often than a guess, and hides nothing behind a false fact.
    So only questions that ours answer count, and never-saw's answers to the same ones. If all are refused,
    nothing is over-forgotten.

    More than noise: the 95 % interval says so, and of the difference its p as well.

    Args:
        ours: predictions of one column, a table a run, with `answer` and, if it was kept, `text`.
        never_saw: on the same questions, run by run; none: chance alone decides.
        chance: share of right answers, 0 to 1; None: nothing is guessed.
    """
    ours, never_saw = _without_refusals(ours, never_saw)
    if not ours:
        return False
    answers = pool_runs(ours)
    below_chance = chance is not None and share_interval(answers.score, answers.person)[1] < chance
    if not never_saw:
        return below_chance
    gaps = paired_gaps(ours, never_saw, "the model that never saw the faces")
    if gaps.score.mean() >= 0:
        return False
    facts = difference_facts(gaps.score, gaps.person)
    below = facts["high"] < 0 and facts["p"] < 0.05
    return below or (below_chance and facts["difference"] < -MARGIN)


def _without_refusals(
    ours: Sequence[pd.DataFrame], never_saw: Sequence[pd.DataFrame]
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """The questions that each of our runs answers, and never-saw's answers to them; runs that answer none are
    left out."""
    answered = [table[is_answered(table)] for table in ours]
    keys = [pd.MultiIndex.from_frame(table[KEYS]) for table in answered]
    never = [t[pd.MultiIndex.from_frame(t[KEYS]).isin(k)] for t, k in zip(never_saw, keys)]
    whole = [len(table) > 0 for table in answered]
    return list(itertools.compress(answered, whole)), list(itertools.compress(never, whole))


def forget_quality(unlearned: Tables, never_saw: Tables, set: str = "forget") -> dict[str, float]:
    """How far VQA (multiple choice) about the forget people is from a model that never saw the faces.

    Args:
        unlearned, never_saw: predictions of one run, or of several: draws.
        set: "forget"; "test": the same people on other pictures.
    Returns:
        "accuracy": difference in points, with "low", "high" (95 %, people as units) and "accuracy_p"; the
        unlearned model's mean "probability" of the right option and mean "truth_ratio"; "ks" and "js":
        distances of the right options' probabilities, with "ks_p" and "js_p" (`distribution_distances`);
        "truth_js" and "truth_js_p" of the truth ratios, whose "ks" is that of the probabilities where all
        questions have as many options; "n". Generated answers (protocol "generate") have no probabilities:
        then all of these but "accuracy" are NaN.
    Raises:
        ValueError: there is no multiple choice about the forget people's pictures, or not the same.
    """
    pairs = [[t] if isinstance(t, pd.DataFrame) else list(t) for t in (unlearned, never_saw)]
    where = {"set": set, "modality": "vqa", "kind": "classification"}
    pairs = [[t[(t[list(where)] == list(where.values())).all(axis=1)] for t in tables] for tables in pairs]
    if not sum(map(len, pairs[0])):
        raise ValueError(
            f"forget quality needs multiple choice about the forget people's pictures (set {set})"
        )
    gap = differences(pairs[0], {"never-saw": pairs[1]}).iloc[0]
    numbers = {"accuracy": gap.difference, "low": gap.low, "high": gap.high, "accuracy_p": gap.p}
    numbers |= {"n": int(gap.n)}
    both = pd.concat(a.merge(b, on=KEYS, suffixes=("", "_other")) for a, b in zip(*pairs))
    measures = ("probability", "ks", "js", "ks_p", "js_p", "truth_ratio", "truth_js", "truth_js_p")
    if both[["options", "options_other"]].isna().any(axis=None):
        return numbers | dict.fromkeys(measures, float("nan"))
    sides = [(both.options, both.gold), (both.options_other, both.gold_other)]
    right, truth = (
        [[*map(measure, *side)] for side in sides] for measure in (option_probability, truth_ratio)
    )
    ratios = distribution_distances(*truth, both.person)
    means = {"probability": float(np.mean(right[0])), "truth_ratio": float(np.mean(truth[0]))}
    numbers |= distribution_distances(*right, both.person) | means
    return numbers | {"truth_js": ratios["js"], "truth_js_p": ratios["js_p"]}


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
