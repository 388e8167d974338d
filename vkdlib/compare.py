"""Two models on the same questions: is there more than noise, and is a model as one that never knew?"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vkdlib.metrics import clustered_bootstrap, mcnemar, option_probability

KEYS = ["set", "modality", "kind", "question"]


def matched(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables of predictions in the same order of questions.

    Raises:
        ValueError: they are not about the same questions.
    """
    a, b = a.set_index(KEYS), b.set_index(KEYS)
    if not a.index.is_unique or not a.index.sort_values().equals(b.index.sort_values()):
        raise ValueError("the predictions are not of the same questions: compare runs of one task")
    return a, b.loc[a.index]


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values: those below 0.05 hold together, with 5 % risk of any false one."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(list(p), method="holm")[1] if len(p) else np.array([])


def paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of no difference on the same questions: McNemar's for right and wrong, Wilcoxon's signed
    ranks for scores between. 1 if all are the same."""
    from scipy.stats import wilcoxon

    a, b = np.asarray(a, float), np.asarray(b, float)
    if np.array_equal(a, b):
        return 1.0
    if set(np.unique([a, b])) <= {0.0, 1.0}:
        return mcnemar(a, b)
    return float(wilcoxon(a, b).pvalue)


def differences(ours: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Our scores minus those of other models, question by question.

    Args:
        ours: predictions, as `evaluate` returns them.
        others: name -> predictions on the same questions.
    Returns:
        one row a model, set, modality and kind: difference in points (per cent, ROUGE-L times 100), low and
        high (95 %, people redrawn as wholes), n, p of no difference, and p_holm over all rows.
    """
    rows = []
    for name, theirs in others.items():
        a, b = matched(ours, theirs)
        for where, part in a.groupby(KEYS[:-1], sort=False):
            x, y = part.score, b.loc[part.index].score
            low, high = clustered_bootstrap(100 * (x - y), part.person)
            numbers = {"difference": 100 * (x - y).mean(), "low": low, "high": high, "n": len(x)}
            rows.append({"other": name, **dict(zip(KEYS, where)), **numbers, "p": paired_p(x, y)})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table.p))


def forget_quality(unlearned: pd.DataFrame, retain_only: pd.DataFrame) -> dict[str, float]:
    """How far forget VQA (multiple choice) is from a model that never saw the faces.

    Returns:
        "accuracy": difference in points; "ks" and "ks_p": Kolmogorov-Smirnov distance, 0 to 1, of the right
        answers' probabilities, and its p (TOFU's forget quality; they differ if it is small); "n".
    """
    from scipy.stats import ks_2samp

    wanted = "set == 'forget' and modality == 'vqa' and kind == 'classification'"
    a, b = matched(unlearned.query(wanted), retain_only.query(wanted))
    if not len(a) or a.options.isna().any() or b.options.isna().any():
        raise ValueError('forget quality needs multiple choice by likelihood (protocol "likelihood")')
    p, q = ([option_probability(o, g) for o, g in zip(t.options, t.gold)] for t in (a, b))
    found = ks_2samp(p, q)
    distance = 100 * (a.score.mean() - b.score.mean())
    return {"accuracy": distance, "ks": float(found.statistic), "ks_p": float(found.pvalue), "n": len(a)}


def truth_ratio(options: str, gold: str) -> float:
    """p(right) / (p(right) + mean p(wrong)), 0 to 1, one half where the model does not know.

    After TOFU's, with the wrong options for its perturbed answers, and whole answers' probabilities.

    Args:
        options: JSON of option -> log-probability, as `evaluate` keeps it.
    """
    from scipy.special import expit, logsumexp

    scores = json.loads(options)
    wrong = [s for option, s in scores.items() if option != gold]
    return float(expit(scores[gold] - (logsumexp(wrong) - np.log(len(wrong)))))


def seeds_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % t interval of the mean over seeds: (low, high); NaN for a single one."""
    from scipy.stats import t

    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
