"""Distances of distributions against scipy's, and their p where there is no difference."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from vkdlib.evaluation.compare import differences, over_forgets
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


def guesses(rng, people):
    """Predictions of two models that never saw the faces, and the probabilities of their right options.

    They guess: from what the questions suggest to both, and from what each takes a face for.
    """
    face = 2 * rng.standard_normal((2, people.max() + 1, 4))[:, people]  # (models, questions, options)
    logits = rng.standard_normal((len(people), 4)) + face + rng.standard_normal((2, len(people), 4))
    facts = {"set": "test", "modality": "vqa", "kind": "classification", "person": people}
    table = pd.DataFrame(facts | {"question": range(len(people)), "answer": "A"})
    scores = (logits.argmax(-1) == 0).astype(float)  # (models, questions)
    return [table.assign(score=s) for s in scores], softmax(logits, axis=-1)[..., 0]


def test_a_never_saw_model_passes_every_audit_in_the_place_of_another():
    """Another replicate is told apart about as seldom as 5 % of risk say, whatever the measure. A test with
    questions as independent units tells them apart more than twice as often."""
    rng, people, found = np.random.default_rng(0), np.repeat(np.arange(12), 5), []
    for _ in range(100):
        (a, b), (p, q) = guesses(rng, people)
        gap = differences(a, {"b": b}).iloc[0]
        distances = distribution_distances(p, q, people)
        audits = {name: distances[name] < 0.05 for name in ("ks_p", "js_p")}
        audits |= {"accuracy": gap.p < 0.05, "interval": gap.low > 0 or gap.high < 0}
        audits |= {"over-forgets": over_forgets([a], [b], 0.25)}
        found.append(audits | {"by question": scipy.stats.ks_2samp(p, q).pvalue < 0.05})
    rates = pd.DataFrame(found).mean()
    assert rates.pop("by question") > 0.1
    assert (rates < 0.1).all() and rates.mean() > 0.01
