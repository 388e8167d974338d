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


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share: (low, high), 0 to 1. It treats questions as independent."""
    from scipy.stats import binomtest

    if n == 0:
        raise ValueError("no questions: a share of nothing has no interval")
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return min(float(interval.low), hits / n), max(float(interval.high), hits / n)  # the share is inside


def clustered_bootstrap(
    values: Sequence[float], clusters: Sequence[str], resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean when whole people are redrawn, not single questions.

    Args:
        values: one score a question.
        clusters: the person of each question.
    """
    from scipy.stats import bootstrap

    def mean(total, count, axis):
        return total.sum(axis) / count.sum(axis)

    by_person = pd.Series(list(values)).groupby(list(clusters)).agg(["sum", "count"])
    if len(by_person) < 2:
        return float("nan"), float("nan")  # one person says nothing about others
    columns, rng = tuple(by_person.to_numpy(float).T), np.random.default_rng(seed)  # (people,) each
    result = bootstrap(columns, mean, paired=True, n_resamples=resamples, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


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
        columns set, modality, kind, metric, value, n, low, high: accuracies and unparsable answers in
        per cent; probability, ROUGE-L (F, and recall as CLEAR's own code has it) and BLEU from 0 to 1. The
        interval of a share is Wilson's; that of the others is clustered by person.
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
                unit, (low, high) = 100, wilson(int(scores.sum()), len(scores))
            else:
                unit, (low, high) = 1, clustered_bootstrap(scores, part.person)
            row = {"set": group, "modality": modality, "kind": kind, "metric": metric}
            row |= {"value": scores.mean() * unit, "n": len(scores), "low": low * unit, "high": high * unit}
            rows.append(row)
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
