"""Where the spread of a table's numbers comes from: other vanilla models, people, seeds.

Runs are crossed: every replicate of the vanilla model unlearns every draw with several seeds. The parts of
the variance follow from the mean squares of this balanced design with random effects (Searle, Casella and
McCulloch 1992, "Variance Components", chapter 4). Their intervals are those of Williams (1962) and Tukey
(1951).
"""

import numpy as np
import pandas as pd

SOURCES = ("replicate", "draw", "replicate and draw", "seed")


def variance_parts(values: pd.DataFrame) -> pd.DataFrame:
    """How much of the variance of a run's value each source explains.

    Args:
        values: one row a run, with columns replicate, draw, seed and value; every replicate has every draw,
            with as many seeds each.
    Returns:
        indexed by SOURCES: variance (squared points, 0 where the estimate is below), its 95 % interval low
        and high, free (degrees of freedom of the source's mean square), and deviation, the variance's root.
    Raises:
        ValueError: fewer than two replicates, draws or seeds, or some combination is missing.
    """
    cells = values.groupby(["replicate", "draw"]).value.agg(["mean", "size"])
    means = cells["mean"].unstack()  # (replicates, draws)
    seeds = cells["size"].iloc[0]
    if means.isna().any(axis=None) or cells["size"].nunique() > 1 or min(*means.shape, seeds) < 2:
        raise ValueError(
            "variance parts need two replicates, draws and seeds or more, and all combinations of them"
        )
    replicates, draws = means.shape
    rows, columns = means.mean(axis=1), means.mean()
    rest = means.sub(rows, axis=0).sub(columns, axis=1) + means.to_numpy().mean()
    within = values.value - values.join(cells["mean"], on=["replicate", "draw"])["mean"]
    free = (replicates - 1, draws - 1, (replicates - 1) * (draws - 1), replicates * draws * (seeds - 1))
    squares = (
        draws * seeds * rows.var(),
        replicates * seeds * columns.var(),
        seeds * (rest**2).sum().sum() / free[2],
        (within**2).sum() / free[3],
    )
    below = {0: 2, 1: 2, 2: 3}  # whose mean square each exceeds if its source matters
    runs = (draws * seeds, replicates * seeds, seeds, 1)
    parts = [_part(squares, free, i, below.get(i), runs[i]) for i in range(len(SOURCES))]
    return pd.DataFrame(parts, SOURCES).assign(deviation=lambda table: np.sqrt(table.variance))


def _part(squares, free, source: int, below: int | None, runs: int) -> dict[str, float]:
    """A source's variance, with its interval: its mean square minus that of the source `below` it, a run."""
    from scipy.stats import chi2, f

    square, degrees = squares[source], free[source]
    low, high = (degrees / chi2.ppf(q, degrees) for q in (0.975, 0.025))
    if below is None:
        bounds = (square * low, square * high)
    else:
        other = squares[below]
        smallest, largest = (f.ppf(q, degrees, free[below]) for q in (0.025, 0.975))
        bounds = (low * (square - largest * other), high * (square - smallest * other))
        square -= other
    values = [max(0.0, value / runs) for value in (square, *bounds)]
    return dict(zip(("variance", "low", "high"), values)) | {"free": degrees}


def mean_deviation(
    parts: pd.DataFrame, replicates: int, draws: int, seeds: int = 1, people: float = 1.0
) -> pd.Series:
    """Standard deviation, in points, of the mean of a table's cell over so many replicates, draws and seeds.

    Var = σ²_replicate / R + σ²_draw / (D P) + σ²_both / (R D P) + σ²_seed / (R D S).

    Args:
        parts: from `variance_parts`. An estimate below 0 counts there as 0, so a sum is rather too large.
        people: P, how many times as many people a draw has as those of the parts.
    Returns:
        "variance": by the estimates; "low", "high": if every part were at its interval's end.
    """
    runs = (replicates, draws * people, replicates * draws * people, replicates * draws * seeds)
    parts = parts.loc[list(SOURCES), ["variance", "low", "high"]]
    return np.sqrt(parts.div(runs, axis=0).sum())
