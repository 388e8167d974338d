"""Distances of distributions against scipy's, and their p where there is no difference."""

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.distance import jensenshannon

from vkdlib.evaluation.distances import distribution_distances


def test_distances_are_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.random(60), rng.random(60).round(1) ** 2  # with ties
    found = distribution_distances(a, b, np.arange(60) // 5)
    assert found["ks"] == pytest.approx(scipy.stats.ks_2samp(a, b).statistic)
    bars = [np.histogram(values, 10, (0, 1))[0] for values in (a, b)]
    assert found["js"] == pytest.approx(jensenshannon(*bars, base=2))
    assert found == distribution_distances(a, b, np.arange(60) // 5)  # seeded


def test_equal_and_disjoint_distributions():
    a, people = np.linspace(0, 0.4, 40), np.repeat(range(20), 2)
    same = distribution_distances(a, a[::-1], people[::-1])
    assert (same["ks"], same["js"], same["ks_p"], same["js_p"]) == (0, 0, 1, 1)
    far = distribution_distances(a, 1 - a, people)
    assert far["ks"] == far["js"] == pytest.approx(1)
    assert far["ks_p"] == far["js_p"] == 1 / 2000
    few = distribution_distances(a, 1 - a, people // 5)  # four people: one way in eight is as far
    assert few["ks_p"] == 1 / 8


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan")])
def test_distances_are_of_probabilities(wrong):
    with pytest.raises(ValueError, match="values from 0 to 1"):
        distribution_distances([0.5, wrong], [0.5, 0.5], "ab")


def test_replicates_of_one_kind_are_rarely_told_apart():
    """People differ, and each model errs about a person in its own way: p is below 0.05 in about 5 % of
    cases. A test that takes questions as independent finds a difference in more than a tenth of them."""
    rng, people, found = np.random.default_rng(0), np.repeat(np.arange(12), 5), []
    for _ in range(120):
        logits = rng.standard_normal(12)[people] + 2 * rng.standard_normal((2, 12))[:, people]
        a, b = 1 / (1 + np.exp(-logits - 0.5 * rng.standard_normal((2, 60))))
        distances = distribution_distances(a, b, people)
        found.append((distances["ks_p"], distances["js_p"], scipy.stats.ks_2samp(a, b).pvalue))
    ks, js, by_question = (np.array(found) < 0.05).mean(0)
    assert 0.01 < ks < 0.1 and 0.01 < js < 0.1 and by_question > 0.1
