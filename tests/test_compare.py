"""Comparisons on the same questions: closed forms, pairing, corrections."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from vkdlib import compare
from vkdlib.compare import differences, forget_quality, holm, paired_p, seeds_interval, truth_ratio


def predictions(scores, people=None, options=None):
    n = len(scores)
    return pd.DataFrame(
        {
            "set": "forget",
            "modality": "vqa",
            "kind": "classification",
            "question": [f"q{i}" for i in range(n)],
            "person": people or [f"p{i}" for i in range(n)],
            "gold": "A",
            "score": scores,
            "options": options,
        }
    )


def log_options(right):
    wrong = (1 - right) / 3
    return json.dumps({k: math.log(v) for k, v in {"A": right, "B": wrong, "C": wrong, "D": wrong}.items()})


def test_differences_pair_questions_whatever_their_order():
    rng = np.random.default_rng(0)
    ours = predictions(rng.integers(0, 2, 40).astype(float))
    theirs = predictions(rng.integers(0, 2, 40).astype(float))
    shuffled = theirs.sample(frac=1, random_state=1)
    rows = differences(ours, {"other": shuffled}).iloc[0]
    assert rows.difference == pytest.approx(100 * (ours.score.mean() - theirs.score.mean()))
    assert rows.p == pytest.approx(paired_p(ours.score, theirs.score))
    assert rows.low <= rows.difference <= rows.high and rows.n == 40
    same = differences(ours, {"itself": ours}).iloc[0]
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="not of the same questions"):
        differences(ours, {"other": theirs.iloc[1:]})


def test_pairing_finds_what_unpaired_intervals_do_not():
    """Ten of 100 answers get worse and none better: p = 2 * 0.5**10."""
    before, after = [1.0] * 60 + [0.0] * 40, [1.0] * 50 + [0.0] * 50
    assert paired_p(before, after) == pytest.approx(2 * 0.5**10)


def test_scores_between_are_compared_by_rank():
    a = np.linspace(0.2, 0.8, 12)
    assert paired_p(a, a - np.linspace(0.01, 0.12, 12)) == pytest.approx(2 * 0.5**12)
    assert paired_p(a, a) == 1.0


def test_people_are_redrawn_as_wholes():
    """Ten questions about each of four people that all go one way say less than forty people."""
    scores = [1.0] * 20 + [0.0] * 20
    zeros = [0.0] * 40
    few = differences(predictions(scores, [f"p{i // 10}" for i in range(40)]),
                      {"x": predictions(zeros, [f"p{i // 10}" for i in range(40)])}).iloc[0]  # fmt: skip
    many = differences(predictions(scores), {"x": predictions(zeros)}).iloc[0]
    assert few.high - few.low > many.high - many.low


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert len(holm([])) == 0


def test_forget_quality():
    rng = np.random.default_rng(0)
    knows, guesses = ([log_options(p) for p in rng.uniform(low, low + 0.2, 30)] for low in (0.75, 0.15))
    same = forget_quality(predictions([0.0] * 30, options=guesses), predictions([0.0] * 30, options=guesses))
    assert same == {"accuracy": 0, "ks": 0, "ks_p": 1, "n": 30}
    far = forget_quality(predictions([1.0] * 30, options=knows), predictions([0.0] * 30, options=guesses))
    assert far["ks"] == 1 and far["ks_p"] < 1e-9 and far["accuracy"] == 100
    with pytest.raises(ValueError, match="by likelihood"):
        forget_quality(predictions([1.0]), predictions([1.0]))


def test_truth_ratio():
    assert truth_ratio(log_options(0.25), "A") == pytest.approx(0.5)
    assert truth_ratio(log_options(0.7), "A") == pytest.approx(0.7 / (0.7 + 0.1))


def test_interval_over_seeds():
    low, high = seeds_interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2) and high - 2 == pytest.approx(
        4.302653 / math.sqrt(3), rel=1e-5
    )
    assert all(math.isnan(v) for v in compare.seeds_interval([1.0]))
