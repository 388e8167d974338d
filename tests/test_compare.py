"""Comparisons on the same questions: closed forms, pairing, corrections."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from vkdlib.evaluation import compare
from vkdlib.evaluation.compare import (
    balance_difference,
    differences,
    forget_quality,
    holm,
    sign_flip,
    truth_ratio,
)
from vkdlib.evaluation.metrics import mcnemar, option_probability, share_interval


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
    assert rows.p == pytest.approx(sign_flip(ours.score - theirs.score, ours.person))
    assert rows.low <= rows.difference <= rows.high and rows.n == 40
    same = differences(ours, {"itself": ours}).iloc[0]
    assert (same.difference, same.p, same.p_holm) == (0, 1, 1) and same.low == -same.high
    with pytest.raises(ValueError, match="other was not asked the same questions"):
        differences(ours, {"other": theirs.iloc[1:]})
    with pytest.raises(ValueError, match="other was not asked the same questions"):  # of one id, and others
        differences(ours, {"other": theirs.assign(gold=["B", *theirs.gold[1:]])})
    assert differences(ours.drop(columns="gold"), {"other": theirs}).difference[0] == rows.difference
    assert differences(ours, {}).empty


def test_runs_are_paired_and_a_question_of_several_counts_once_with_the_mean():
    first, second = predictions([1.0, 0.0, 1.0]), predictions([1.0, 1.0, 0.0])
    other = predictions([0.0, 0.0, 0.0])
    rows = differences([first, second], {"x": [other, other]})
    assert rows.difference.tolist() == pytest.approx([100 * 2 / 3])
    assert rows.n.tolist() == [3] and rows.people.tolist() == [3]
    both = [pd.concat([t, t.assign(set="test")]) for t in (first, other)]
    everything = differences(both[0], {"x": both[1]})
    assert (everything.p_holm >= everything.p).all() and len(everything) == 2
    for ours, theirs in (([first, second.iloc[1:]], [other, other]), ([first, second], [other])):
        with pytest.raises(ValueError, match="x was not asked the same questions"):
            differences(ours, {"x": theirs})


def test_few_people_who_differ_do_not_tell_how_others_would():
    """Of 20 people none differs, or one does in one of four answers: the intervals are as wide as with two
    more people, who gain and lose half of theirs. If many differ, nothing is added."""
    people = [f"p{i // 4}" for i in range(80)]
    theirs = predictions([0.0] * 80, people)
    none, one = (predictions([first] + [0.0] * 79, people) for first in (0.0, 1.0))
    many = predictions([1.0, 0.0, 0.0, 0.0] * 10 + [0.0] * 40, people)
    widths = [differences(t, {"x": theirs}).iloc[0] for t in (none, one, many)]
    none, one, many = ((row.high - row.low) / 2 for row in widths)
    variance = 22 / 21 * 2 * 200**2 / 88**2  # of 22 people's sums, of which two are not 0
    assert none == pytest.approx(scipy.stats.t.ppf(0.975, 19) * variance**0.5)
    assert none < one < 1.1 * none and many < none
    assert widths[1].difference == pytest.approx(1.25)


def test_runs_are_units_too():
    """Three runs differ by 100, 50 and 0 points: their t interval is far wider than that of their people."""
    people = [f"p{i}" for i in range(40)]
    runs = [predictions([1.0] * n + [0.0] * (40 - n), people) for n in (40, 20, 0)]
    row = differences(runs, {"x": [predictions([0.0] * 40, people)] * 3}).iloc[0]
    half = scipy.stats.t.ppf(0.975, 2) * 50 / 3**0.5
    assert (row.low_runs, row.high_runs) == pytest.approx((50 - half, 50 + half))
    alone = differences(runs[0], {"x": predictions([0.0] * 40, people)}).iloc[0]
    assert math.isnan(alone.low_runs)


def test_draws_are_pooled():
    """Two draws ask about people of their own, and once about the same ones: all of them are units."""
    a = predictions([1.0, 1.0], ["p0", "p1"])
    b = predictions([1.0, 0.0], ["p2", "p1"]).assign(question=["q7", "q1"])
    zeros = [t.assign(score=0.0) for t in (a, b)]
    row = differences([a, b], {"x": zeros}).iloc[0]
    assert (row.n, row.people) == (3, 3)
    assert row.difference == pytest.approx(100 * (1 + 0.5 + 1) / 3)


def test_equivalence_and_the_smallest_difference_by_simulation():
    """The 90 % interval lies within a margin as one-sided tests say; the smallest difference to be seen
    is seen four times in five."""
    rng, found, people = np.random.default_rng(0), [], np.repeat(np.arange(30), 5)
    for _ in range(150):
        gaps = 10 * rng.standard_normal(30)[people] + 20 * rng.standard_normal(150)
        facts = compare.difference_facts(pd.Series(gaps), pd.Series(people))
        found.append(facts["low"] + facts["smallest"] > 0)  # the interval of gaps that are so much larger
    assert 0.72 < np.mean(found) < 0.88
    means = gaps.reshape(30, 5).mean(1)
    for margin in (3.0, 6.0, 9.0):
        above = scipy.stats.ttest_1samp(means, -margin, alternative="greater").pvalue
        below = scipy.stats.ttest_1samp(means, margin, alternative="less").pvalue
        within = -margin <= facts["low_90"] and facts["high_90"] <= margin
        assert within == (max(above, below) <= 0.05)


def test_a_share_has_people_as_units():
    """The interval holds the truth about as often as it says, few or many people, alike or not."""
    rng = np.random.default_rng(0)
    for people, share in ((10, 0.25), (50, 0.1), (50, 0.5), (150, 0.9)):
        held, names = [], np.repeat(np.arange(people), 5)
        for _ in range(200):
            chances = rng.beta(share * 2, (1 - share) * 2, people)[names]
            low, high = share_interval((rng.random(len(names)) < chances).astype(float), names)
            held.append(low <= share <= high)
        assert 0.9 < np.mean(held), (people, share)
    assert share_interval([1.0] * 50, ["p"] * 50) == pytest.approx((math.nan, math.nan), nan_ok=True)
    low, high = share_interval([1.0] * 50, np.repeat(np.arange(10), 5))  # not as fifty answers
    assert high == 1.0 and 0.75 < low < 0.85
    independent = share_interval([1.0, 0.0] * 200, range(400))
    assert independent == pytest.approx(
        scipy.stats.binomtest(200, 400).proportion_ci(method="wilson"), abs=1e-3
    )


def test_a_balance_takes_nothing_below_chance_for_forgetting():
    where, names = ("forget", "vqa", "classification"), [f"p{i // 5}" for i in range(50)]
    keep = predictions([1.0] * 50, names).assign(set="retain")
    models = [
        pd.concat([predictions([1.0] * right + [0.0] * (50 - right), names), keep], ignore_index=True)
        for right in (0, 5, 40)
    ]
    retain = [("retain", "vqa", "classification")]
    assert balance_difference(models[0], models[1], retain, where)["difference"] == 0
    assert balance_difference(models[0], models[2], retain, where)["difference"] == pytest.approx(80 - 25)


def test_sign_flips_by_hand():
    """Seven people better and one worse: 9 of 256 ways have a sum of 6 or more, and as many of -6 or less."""
    assert sign_flip([1.0] * 7 + [-1.0] + [0.0] * 5, list("abcdefghijklm")) == pytest.approx(18 / 256)
    assert sign_flip([0.0] * 3, list("abc")) == 1.0
    # All of one person's questions are one draw, however many they are.
    assert sign_flip([1.0] * 50, ["a"] * 50) == 1.0


def test_sign_flips_of_people_do_not_find_what_is_not_there():
    """No true difference, but people differ: below 0.05 in about 5 % of cases, not in a fourth of them."""
    rng = np.random.default_rng(0)
    people, found = np.repeat(np.arange(12), 5), []
    for _ in range(200):
        chance = 1 / (1 + np.exp(-3 * rng.standard_normal((2, 12))))[:, people]
        a, b = (rng.random((2, 60)) < chance).astype(float)
        found.append((sign_flip(a - b, people) < 0.05, mcnemar(a, b) < 0.05))
    by_person, by_question = np.mean(found, axis=0)
    assert by_person < 0.1 < by_question


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


def test_holm_holds_what_his_steps_hold():
    """Holm (1979): the smallest p against risk / m, the next against risk / (m - 1), ... until one fails."""
    draw = np.random.default_rng(0)
    for p in (draw.random(7), np.append(draw.random(30) / 50, [0, 1, 1]), np.array([0.02, 0.02, 0.5])):
        for risk in (0.001, 0.01, 0.05, 0.1, 0.5):
            left = sorted(p)
            while left and left[0] <= risk / len(left):
                left.pop(0)
            assert np.sum(holm(p) <= risk) == len(p) - len(left)
            assert set(p[holm(p) > risk]) == set(left)


def test_forget_quality():
    rng = np.random.default_rng(0)
    knows, guesses = ([log_options(p) for p in rng.uniform(low, low + 0.2, 30)] for low in (0.75, 0.15))
    same = forget_quality(predictions([0.0] * 30, options=guesses), predictions([0.0] * 30, options=guesses))
    ratio, probability = same.pop("truth_ratio"), same.pop("probability")
    assert probability == pytest.approx(np.mean([option_probability(o, "A") for o in guesses]))
    distances = {"ks": 0, "ks_p": 1, "js": 0, "js_p": 1, "truth_js": 0, "truth_js_p": 1}
    assert same.pop("low") == -same.pop("high")
    assert same == {"accuracy": 0, "accuracy_p": 1, "n": 30} | distances
    assert ratio == pytest.approx(np.mean([truth_ratio(o, "A") for o in guesses]))
    far = forget_quality(predictions([1.0] * 30, options=knows), predictions([0.0] * 30, options=guesses))
    assert far["ks"] == 1 and far["ks_p"] == 1 / 2000 and far["accuracy"] == 100
    assert far["js"] == far["truth_js"] == pytest.approx(1) and far["js_p"] == far["truth_js_p"] == 1 / 2000
    generated = forget_quality(predictions([0.0] * 4), predictions([0.0, 0.0, 0.0, 1.0]))
    assert (generated["accuracy"], generated["n"]) == (-25, 4)  # no probabilities, but still right or wrong
    assert all(math.isnan(generated[k]) for k in far.keys() - {"accuracy", "low", "high", "accuracy_p", "n"})
    with pytest.raises(ValueError, match="multiple choice about the forget people's pictures"):
        forget_quality(predictions([]), predictions([]))


def test_distances_pair_questions_whatever_their_order():
    rng = np.random.default_rng(0)
    people = [f"p{i % 7}" for i in range(30)]
    options = [[log_options(p) for p in rng.random(30)] for _ in range(2)]
    ours, theirs = (predictions([0.0] * 30, people, o) for o in options)
    found = forget_quality(ours, theirs)
    assert forget_quality(ours, theirs.sample(frac=1, random_state=1)) == pytest.approx(found)
    both = forget_quality([ours, ours], [theirs, theirs])  # two runs: as far apart
    assert all(both[name] == pytest.approx(found[name]) for name in ("ks", "js", "ks_p"))


def test_truth_ratio():
    assert truth_ratio(log_options(0.25), "A") == pytest.approx(0.5)
    assert truth_ratio(log_options(0.7), "A") == pytest.approx(0.7 / (0.7 + 0.1))


def test_thirds_that_cancel_are_no_difference():
    """Means over three seeds: a person's sum of 66.7 - 33.3 - 33.3 is nothing, and equal sums are ties."""
    assert sign_flip([200 / 3, -100 / 3, -100 / 3, 100], list("aaab")) == 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        thirds, people = rng.integers(-3, 4, 50), np.repeat(np.arange(10), 5)
        assert sign_flip(100 / 3 * thirds, people) == sign_flip(thirds, people)
        assert sign_flip(np.round(100 / 3 * thirds, 9), people) == sign_flip(thirds, people)


def test_the_interval_is_students_over_people():
    """Ten people, five questions each: as the t interval of ten means, which it must be."""
    rng = np.random.default_rng(0)
    ours, people = rng.integers(0, 2, 50).astype(float), [f"p{i // 5}" for i in range(50)]
    row = differences(predictions(ours, people), {"x": predictions([0.0] * 50, people)}).iloc[0]
    means = 100 * ours.reshape(10, 5).mean(axis=1)
    low, high = scipy.stats.t.interval(0.95, 9, means.mean(), scipy.stats.sem(means))
    assert (row.low, row.high) == pytest.approx((low, high))
    alone = differences(predictions([1.0, 0.0], ["p", "p"]), {"x": predictions([0.0, 0.0], ["p", "p"])})
    assert alone[["low", "high"]].isna().all(axis=None)  # one person says nothing about others


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """People with unequal numbers of questions, who differ."""
    rng = np.random.default_rng(0)
    people, held = np.repeat(np.arange(10), [2, 3, 5, 5, 5, 5, 5, 5, 7, 8]), []
    for _ in range(300):
        values = rng.standard_normal(10)[people] + rng.standard_normal(50)
        low, high = compare.t_interval(values.mean(), *compare.spread(values, people))
        held.append(low <= 0 <= high)
    assert 0.92 < np.mean(held) < 0.98


def test_each_question_counts_alike_however_many_a_person_has():
    """By hand: sums of people less their share of the mean, of questions, not of people, that are equal."""
    values, people = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0], list("aaabbc")
    mean, sums, counts = 4 / 6, np.array([3, 0, 1]), np.array([3, 2, 1])
    expected = ((sums - mean * counts) ** 2).sum() * 3 / 2 / 36
    assert compare.spread(values, people) == pytest.approx((expected, 2))
    alike = np.var([1.0, 0.0, 1.0], ddof=1) / 3  # of three means
    assert abs(expected - alike) > 0.005


def test_balance_is_what_is_kept_minus_what_is_not_forgotten():
    rng = np.random.default_rng(1)
    wheres = [("forget", "vqa", "classification"), ("retain", "vqa", "classification")]
    wheres += [("real", "vqa", "classification")]

    def model(right):
        tables = [predictions((rng.random(60) < r).astype(float), [f"p{i // 6}" for i in range(60)])
                  .assign(set=where[0]) for where, r in zip(wheres, right)]  # fmt: skip
        return pd.concat(tables, ignore_index=True)

    ours, other = model([0.4, 0.9, 0.9]), model([0.9, 0.8, 0.5])
    found = balance_difference(ours, other, wheres[1:], wheres[0])
    parts = differences(ours, {"x": other}).set_index("set")
    gap = parts.difference
    assert found["difference"] == pytest.approx((gap.retain + gap.real) / 2 - gap.forget)
    half = (parts.high - parts.low) / 2
    together = math.sqrt(half.forget**2 + (half.retain**2 + half.real**2) / 4)  # ten people in each
    assert found["high"] - found["difference"] == pytest.approx(together)
    assert found["n"] == 180 and found["p"] < 0.001
    assert balance_difference(ours, ours, wheres[1:], wheres[0])["p"] == 1.0


def test_to_be_below_the_floor_of_ones_run_is_no_gain():
    """Two draws, whose model without the faces tells 40 and 60 %: what is told counts at least as much."""
    forget, retain = ("forget", "vqa", "cloze"), ("retain", "vqa", "cloze")

    def run(told, draw):
        one = [predictions([float(i % 10 < n) for i in range(20)], [f"{draw}{i // 4}" for i in range(20)])
               .assign(set=where[0], kind="cloze") for where, n in ((forget, told), (retain, 9))]  # fmt: skip
        table = pd.concat(one, ignore_index=True)
        return table.assign(question=table.question.astype(str) + f" {draw}")

    refuser, exact, knows = (
        [run(n, draw) for draw, n in enumerate(told)] for told in ((0, 0), (4, 6), (8, 8))
    )
    for other, gap in ((exact, 0), (knows, 80 - 50)):
        found = balance_difference(refuser, other, [retain], forget, [0.4, 0.6])
        assert found["difference"] == pytest.approx(gap)
    assert balance_difference(refuser, exact, [retain], forget, 0)["difference"] == pytest.approx(50)
    with pytest.raises(ValueError):
        balance_difference(refuser, exact, [retain], forget, [0.4])
