"""How far two models' answers are apart beyond their mean: distances of distributions."""

import itertools
from collections.abc import Sequence

import numpy as np

BINS = 10  # of a histogram, all of one width, from 0 to 1
FLIPS = 2000  # ways in which people change sides, the measured one among them


def distribution_distances(
    ours: Sequence[float], theirs: Sequence[float], people: Sequence[str]
) -> dict[str, float]:
    """Distances of the distributions of two models' values, one a question, and the p of each.

    Answers about one person depend on each other. So p is of whole people who change sides by chance: the
    share of ways in which the models are as far apart, the measured one among them; exact for up to ten
    people. Two models of one kind are apart by chance, too, the more so the fewer questions there are: a
    distance says little without its p.

    Args:
        ours, theirs: values from 0 to 1 on the same questions, such as probabilities of the right option.
        people: the person of each question.
    Returns:
        ks: Kolmogorov-Smirnov, the largest difference of the two distribution functions.
        js: Jensen-Shannon to base 2 (the square root of the divergence) of histograms with BINS bins.
        ks_p, js_p: of no difference. A distance is 0 for equal distributions, and at most 1.
    """
    from scipy.spatial.distance import jensenshannon

    values = np.array([list(ours), list(theirs)], float)  # (2, questions)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("distances are of values from 0 to 1, such as probabilities; there are others")
    names, person = np.unique(list(people), return_inverse=True)  # person: (questions,)
    signs = sign_patterns(len(names))  # (ways, people)

    def counts(places: np.ndarray) -> np.ndarray:
        """Questions of each model, person and place: (2, people, places)."""
        table = np.zeros((2, len(names), places.max() + 1))
        np.add.at(table, (np.array([[0], [1]]), person, places), 1)
        return table

    steps = counts(np.searchsorted(np.unique(values), values))  # (2, people, different values)
    bars = counts(np.minimum(values * BINS, BINS - 1).astype(int))  # (2, people, bins)
    change = signs @ (bars[0] - bars[1])  # (ways, bins)
    both = bars.sum((0, 1))  # (bins,)
    found = {  # (ways,) each
        "ks": abs((signs @ (steps[0] - steps[1])).cumsum(1)).max(1) / len(person),
        "js": jensenshannon(both + change, both - change, base=2, axis=1),
    }
    distances = {name: float(d[0]) for name, d in found.items()}
    return distances | {f"{name}_p": float((d >= d[0] - 1e-9).mean()) for name, d in found.items()}


def sign_patterns(people: int) -> np.ndarray:
    """Ways in which people change sides (-1) or do not (1), all or FLIPS seeded ones: (ways, people).

    In the first nobody does.
    """
    if 2**people <= FLIPS:
        return np.array(list(itertools.product([1.0, -1.0], repeat=people)))
    flips = np.random.default_rng(0).choice([1.0, -1.0], (FLIPS - 1, people))
    return np.vstack([np.ones(people), flips])
