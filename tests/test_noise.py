"""Parts of the variance: closed forms, and simulated runs."""

import itertools

import numpy as np
import pandas as pd
import pytest

from vkdlib.reports.noise import SOURCES, mean_deviation, variance_parts


def runs(value, replicates=3, draws=5, seeds=2):
    rows = [
        {"replicate": r, "draw": d, "seed": s, "value": value(r, d, s)}
        for r, d, s in itertools.product(range(replicates), range(draws), range(seeds))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "source, value",
    [
        ("replicate", lambda r, d, s: 10.0 * r),
        ("draw", lambda r, d, s: 10.0 * d),
        ("replicate and draw", lambda r, d, s: 10.0 * ((r + d) % 2)),
        ("seed", lambda r, d, s: 10.0 * s),
    ],
)
def test_a_single_source_has_all_of_the_variance(source, value):
    parts = variance_parts(runs(value, replicates=4, draws=4))
    others = parts.variance.drop(source)
    assert parts.variance[source] > 0 and np.allclose(others, 0, atol=1e-9)


def test_of_replicates_alone_the_variance_is_that_of_their_means():
    table = runs(lambda r, d, s: (0.0, 3.0, 9.0)[r])
    assert variance_parts(table).variance["replicate"] == pytest.approx(np.var([0, 3, 9], ddof=1))


def simulate(rng, deviations, replicates=3, draws=5, seeds=2):
    a, b, ab, s = deviations
    effect = {r: rng.normal(0, a) for r in range(replicates)}
    people = {d: rng.normal(0, b) for d in range(draws)}
    both = {(r, d): rng.normal(0, ab) for r in range(replicates) for d in range(draws)}
    return runs(
        lambda r, d, _: effect[r] + people[d] + both[r, d] + rng.normal(0, s), replicates, draws, seeds
    )


def test_parts_are_unbiased_and_their_intervals_hold_the_truth():
    rng, truth = np.random.default_rng(0), np.array([4.0, 6.0, 2.0, 3.0])
    tables = [variance_parts(simulate(rng, truth)) for _ in range(300)]
    inside = np.mean([(t.low <= truth**2) & (truth**2 <= t.high) for t in tables], axis=0)
    assert (inside > 0.9).all()
    means = np.mean([t.variance for t in tables], axis=0)
    assert np.allclose(means, truth**2, rtol=0.25)  # those cut off at zero make it a little larger


def test_the_deviation_of_a_mean_is_that_of_simulated_means():
    rng, truth = np.random.default_rng(1), np.array([4.0, 6.0, 2.0, 3.0])
    parts = pd.DataFrame({"variance": truth**2, "low": truth**2 / 4, "high": truth**2 * 9}, SOURCES)
    means = [simulate(rng, truth, 2, 5, 3).value.mean() for _ in range(600)]
    assert mean_deviation(parts, replicates=2, draws=5, seeds=3).variance == pytest.approx(
        np.std(means), rel=0.1
    )


@pytest.mark.parametrize(
    "table",
    [
        runs(lambda r, d, s: 1.0, replicates=1),
        runs(lambda r, d, s: 1.0, seeds=1),
        runs(lambda r, d, s: 1.0).iloc[1:],
        runs(lambda r, d, s: 1.0).query("replicate != 2 or draw != 4"),
    ],
)
def test_runs_that_are_not_crossed_are_refused(table):
    with pytest.raises(ValueError, match="two replicates, draws and seeds"):
        variance_parts(table)
