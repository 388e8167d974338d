"""Predictions -> accuracy, ROUGE-L, BLEU, refusals, each with N and a 95 % interval."""

import functools
import json
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from vkdlib.benchmarks.wording import one_form
from vkdlib.evaluation.refusals import is_refusal
from vkdlib.evaluation.tokens import Tokenizer

RATES = ("unparsable", "refusals")  # metrics that say how it is answered, not how well
SHARES = ("accuracy", *RATES)  # metrics that count questions
GAIN = "gain"  # what an attack changed: a score minus the one before, -1 to 1
PER_CENT = (*SHARES, GAIN)  # metrics whose values are per cent, or points


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
        columns set, modality, kind, metric, value, n, people, low, high: accuracies, unparsable answers and
        refusals in per cent; gains in points; probability, ROUGE-L (F, and recall as CLEAR's own code has it)
        and BLEU from 0 to 1. Intervals have people as units: `share_interval`, and of what is no share
        `t_interval`. Refusals are counted among answers in words (`refusals.is_refusal`).
    """
    if predictions.empty:
        raise ValueError("the predictions are an empty table: no questions were asked")
    rows = []
    for (group, modality, kind), part in predictions.groupby(["set", "modality", "kind"], sort=False):
        for metric in _metrics(part):
            scores = question_scores(part, metric)
            if not np.isfinite(scores).all():
                question = part.question[~np.isfinite(scores)].iloc[0]
                raise ValueError(f"question {question}, set {group}: its {metric} is not a finite number")
            unit = 100 if metric in PER_CENT else 1
            if metric in SHARES:
                low, high = share_interval(scores, part.person)
            else:
                low, high = t_interval(scores.mean(), *spread(scores, part.person))
            row = {"set": group, "modality": modality, "kind": kind, "metric": metric}
            row |= {"value": scores.mean() * unit, "n": len(scores), "people": part.person.nunique()}
            rows.append(row | {"low": low * unit, "high": high * unit})
    return pd.DataFrame(rows)


def _metrics(part: pd.DataFrame) -> list[str]:
    """What can be said of some predictions, which are of one kind.

    Runs from before `text` was kept say nothing of refusals in multiple choice.
    """
    kind = part.kind.iloc[0]
    if kind == "generation":
        return ["rouge_l", "rouge_l_recall", "bleu", "refusals"]
    if kind == GAIN:
        return [GAIN]
    if kind.split(",")[0] != "classification":  # clozes, what leak@k says of them, and identities
        return ["accuracy", *(["refusals"] if kind == "cloze" else [])]
    if not part.options.isna().all():
        return ["accuracy", "probability"]
    has_text = "text" in part and part.text.notna().all()
    return ["accuracy", "unparsable", *(["refusals"] if has_text else [])]


def question_scores(part: pd.DataFrame, metric: str) -> np.ndarray:
    """What a metric says of each of some predictions, which are of one kind: 0 to 1."""
    return np.asarray(QUESTION_SCORES[metric](part), float)


def _recalls(part: pd.DataFrame) -> list[float]:
    return [rouge_l(gold, answer, "recall") for gold, answer in zip(part.gold, part.answer)]


def _probabilities(part: pd.DataFrame) -> list[float]:
    return [option_probability(options, gold) for options, gold in zip(part.options, part.gold)]


def written_words(part: pd.DataFrame) -> pd.Series:
    """What a model wrote to each of some questions. It is the letter alone where this is all that was kept,
    and where options were judged by their likelihood. Of samples no words are kept: NaN."""
    return part.text.where(part.text.notna(), part.answer) if "text" in part else part.answer


def is_answered(part: pd.DataFrame) -> pd.Series:
    """Whether each of some questions was answered, rightly or wrongly: a refusal is no answer. Of samples
    nobody knows, so they are not."""
    return (
        written_words(part).map(lambda words: isinstance(words, str) and not is_refusal(words)).astype(bool)
    )


def _refusals(part: pd.DataFrame) -> list[bool]:
    return [is_refusal(words) for words in written_words(part)]


QUESTION_SCORES: dict[str, Callable[[pd.DataFrame], Sequence[float]]] = {
    "accuracy": lambda part: part.score,
    GAIN: lambda part: part.score,
    "unparsable": lambda part: part.answer == "",
    "probability": _probabilities,
    "rouge_l": lambda part: part.score,
    "rouge_l_recall": _recalls,
    "bleu": lambda part: part.bleu,
    "refusals": _refusals,
}
