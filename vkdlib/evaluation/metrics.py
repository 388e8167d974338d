"""Predictions -> accuracy, ROUGE-L, BLEU, each with N and a 95 % interval."""

import functools
import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

CONFIDENCE = 0.95


@functools.cache
def _rouge():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(gold: str, answer: str, part: str = "fmeasure") -> float:
    """ROUGE-L of rouge-score with its stemmer, 0 to 1.

    Args:
        part: "fmeasure" (MLLMU-Bench, both papers), "recall" (CLEAR's own code) or "precision".
    """
    return getattr(_rouge().score(gold, answer)["rougeL"], part)


def bleu(gold: str, answer: str) -> float:
    """Sentence BLEU of nltk on words split at blanks, up to 4-grams, smoothing method 1, 0 to 1.

    A perfect answer of fewer than four words scores below 1.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    return sentence_bleu([gold.split()], answer.split(), smoothing_function=SmoothingFunction().method1)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a share: (low, high), 0 to 1. Takes questions as independent."""
    from scipy.stats import binomtest

    if n == 0:
        raise ValueError("no questions: a share of nothing has no interval")
    found = binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return min(float(found.low), hits / n), max(float(found.high), hits / n)  # the share is inside


def clustered_bootstrap(
    values: Sequence[float], clusters: Sequence[str], resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean when whole people are redrawn, not single questions.

    Args:
        values: one score a question.
        clusters: the person of each question.
    """
    from scipy.stats import bootstrap

    by_person = pd.Series(list(values)).groupby(list(clusters)).agg(["sum", "count"])
    if len(by_person) < 2:
        return float("nan"), float("nan")  # one person says nothing about others
    result = bootstrap(
        (by_person["sum"].to_numpy(), by_person["count"].to_numpy()),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
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


def summarise(predictions: pd.DataFrame, interval: str = "wilson") -> pd.DataFrame:
    """One row a set, modality, kind and metric.

    Args:
        predictions: as `evaluate` returns.
        interval: of accuracies, "wilson" or "clustered" (by person). ROUGE-L and BLEU are no shares,
            so theirs is always clustered, and so is that of the probability of the right option.
    Returns:
        columns set, modality, kind, metric, value, n, low, high: accuracies and unparsable answers in
        per cent; probability, ROUGE-L (F, and recall as CLEAR's own code has it) and BLEU from 0 to 1.
    """
    rows = []
    for (group, modality, kind), part in predictions.groupby(["set", "modality", "kind"], sort=False):
        where = {"set": group, "modality": modality, "kind": kind}
        if kind == "generation":
            recall = [rouge_l(g, a, "recall") for g, a in zip(part.gold, part.answer)]
            measured = [("rouge_l", part.score), ("rouge_l_recall", pd.Series(recall))]
            measured.append(("bleu", part.bleu.astype(float)))
        else:
            measured = [("accuracy", part.score)]
        if kind == "classification":
            if part.options.isna().all():
                measured.append(("unparsable", (part.answer == "").astype(float)))
            else:
                chances = [option_probability(o, g) for o, g in zip(part.options, part.gold)]
                measured.append(("probability", pd.Series(chances)))
        for metric, scores in measured:
            share = metric in ("accuracy", "unparsable")
            if share and interval == "wilson":
                low, high = wilson(int(scores.sum()), len(scores))
            else:
                low, high = clustered_bootstrap(scores, part.person)
            unit = 100.0 if share else 1.0
            numbers = {"value": scores.mean() * unit, "n": len(scores)}
            rows.append({**where, "metric": metric, **numbers, "low": low * unit, "high": high * unit})
    return pd.DataFrame(rows)
