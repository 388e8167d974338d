"""Predictions -> accuracy, ROUGE-L, BLEU, each with N and a 95 % interval."""

import functools
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from vkdlib.benchmarks.wording import one_form
from vkdlib.evaluation.tokens import Tokenizer

SHARES = ("accuracy", "unparsable")  # metrics that count questions


@functools.cache
def _rouge():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=Tokenizer())


def rouge_l(gold: str, answer: str, part: str = "fmeasure") -> float:
    """ROUGE-L of rouge-score with its stemmer, 0 to 1; equal texts score 1 in any script.

    Args:
        part: "fmeasure" (MLLMU-Bench, both papers), "recall" (CLEAR's own code) or "precision".
    """
    return getattr(_rouge().score(gold, answer)["rougeL"], part)


def bleu(gold: str, answer: str) -> float:
    """Sentence BLEU of nltk on words split at blanks, up to 4-grams, smoothing method 1, 0 to 1.

    A perfect answer of fewer than four words scores below 1. The Unicode form of accents changes nothing.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    gold, answer = (one_form(text).split() for text in (gold, answer))
    return sentence_bleu([gold], answer, smoothing_function=SmoothingFunction().method1)


def spread(values: Sequence[float], people: Sequence[str]) -> tuple[float, int]:
    """Variance of the mean of all values, with people as the units, and its degrees of freedom.

    It is that of a cluster-robust regression on a constant, from the difference between each person's sum
    and what the mean predicts. A single person says nothing about others: NaN.
    """
    sums, counts = _by_person(values, people)
    return _variance(sums, counts), len(sums) - 1


def _by_person(values: Sequence[float], people: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of each person's values, (people,) each."""
    groups = pd.Series(list(values), dtype=float).groupby(list(people))
    return groups.sum().to_numpy(), groups.count().to_numpy()


def _variance(sums: np.ndarray, counts: np.ndarray) -> float:
    """Variance of the mean of all values, from the (people,) of `_by_person`; NaN of one person."""
    people, questions = len(sums), counts.sum()
    rest = sums - sums.sum() / questions * counts
    return (rest**2).sum() * people / (people - 1) / questions**2 if people > 1 else float("nan")


def t_interval(mean: float, variance: float, free: int, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval: (low, high). Ten people's bootstrap interval is a fifth narrower, too narrow."""
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, free) * np.sqrt(variance) if free else float("nan")
    return float(mean - half), float(mean + half)


def share_interval(values: Sequence[float], people: Sequence[str]) -> tuple[float, float]:
    """95 % interval of a share with people as the units: (low, high), 0 to 1.

    Answers about one person depend on each other. So this is Wilson's interval, with the effective number of
    questions, p (1 - p) / Var(p), for their number, and Student's t for the normal quantile (Franco et al.
    2019, "Comparative study of confidence intervals for proportions in complex sample surveys"). There are no
    more effective questions than questions. Their number is found with one more person, who is right half of
    the time: where nearly everybody scores alike, the answers do not tell how unlike people are.
    """
    from scipy.stats import t

    sums, counts = _by_person(values, people)
    share, free, each = float(sums.sum() / counts.sum()), len(sums) - 1, counts.mean()
    if not free:
        return float("nan"), float("nan")
    sums, counts = np.append(sums, each / 2), np.append(counts, each)  # (people + 1,)
    wider, variance = sums.sum() / counts.sum(), _variance(sums, counts)
    n = min(wider * (1 - wider) / variance, len(values)) if variance else len(values)
    z = t.ppf(0.975, free) / np.sqrt(n)
    middle = (share + z**2 / 2) / (1 + z**2)
    half = z * np.sqrt(share * (1 - share) + z**2 / 4) / (1 + z**2)
    low, high = float(middle - half), float(middle + half)
    return max(0.0, min(share, low)), min(1.0, max(share, high))  # rounding must not leave the share outside


def mcnemar(a: Sequence[float], b: Sequence[float]) -> float:
    """McNemar's exact p: two models' right (1) and wrong (0) answers to the same questions, two-sided."""
    from scipy.stats import binomtest

    a, b = np.asarray(a), np.asarray(b)
    lost, gained = int((a > b).sum()), int((a < b).sum())
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def option_probability(options: str, gold: str) -> float:
    """Probability of the right option among the options, 0 to 1: softmax of their log-probabilities.

    Args:
        options: JSON of option -> log-probability, as `evaluate` keeps it.
    """
    from scipy.special import softmax

    scores = json.loads(options)
    return float(softmax(list(scores.values()))[list(scores).index(gold)])


def summarise(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a set, modality, kind and metric.

    Args:
        predictions: as `evaluate` returns.
    Returns:
        columns set, modality, kind, metric, value, n, people, low, high: accuracies and unparsable answers
        in per cent; probability, ROUGE-L (F, and recall as CLEAR's own code has it) and BLEU from 0 to 1.
        Intervals have people as units: `share_interval`, and of what is no share `t_interval`.
    """
    if predictions.empty:
        raise ValueError("the predictions are an empty table: no questions were asked")
    rows = []
    for (group, modality, kind), part in predictions.groupby(["set", "modality", "kind"], sort=False):
        for metric, scores in _scores(part).items():
            if not np.isfinite(scores).all():
                question = part.question[~np.isfinite(scores)].iloc[0]
                raise ValueError(f"question {question}, set {group}: its {metric} is not a finite number")
            if metric in SHARES:
                unit, (low, high) = 100, share_interval(scores, part.person)
            else:
                unit, (low, high) = 1, t_interval(scores.mean(), *spread(scores, part.person))
            row = {"set": group, "modality": modality, "kind": kind, "metric": metric}
            row |= {"value": scores.mean() * unit, "n": len(scores), "people": part.person.nunique()}
            rows.append(row | {"low": low * unit, "high": high * unit})
    return pd.DataFrame(rows)


def _scores(part: pd.DataFrame) -> dict[str, np.ndarray]:
    """Metric -> a score of each of some predictions, which are of one kind."""
    kind = part.kind.iloc[0]
    if kind == "generation":
        recall = [rouge_l(gold, answer, "recall") for gold, answer in zip(part.gold, part.answer)]
        scores = {"rouge_l": part.score, "rouge_l_recall": recall, "bleu": part.bleu}
    else:
        scores = {"accuracy": part.score}
    if kind == "classification" and part.options.isna().all():
        scores["unparsable"] = part.answer == ""
    elif kind == "classification":
        scores["probability"] = [option_probability(o, g) for o, g in zip(part.options, part.gold)]
    return {metric: np.asarray(values, float) for metric, values in scores.items()}
