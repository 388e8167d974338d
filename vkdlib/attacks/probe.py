"""A linear probe of identity: can one still read off the projector's tokens whose face it was?

It is trained on pictures that no model was trained on, of forget and of retain people, and tested on others.
Faces differ, so it tells strangers apart, too: what counts is how much better it does than on a model that
never saw the people.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from vkdlib.benchmarks.schema import Split
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import rows_by_image, visual_features
from vkdlib.packs.pack import Pack, batches, picture_pack
from vkdlib.pruning import image_inputs
from vkdlib.system.checks import number

PROBED = "set person picture answer score".split()


def probe_identity(loaded: Loaded, split: Split, ridge: float = 0.1, batch_size: int = 32) -> pd.DataFrame:
    """Name the people in unseen pictures by ridge regression, each picture by a probe trained on the others.

    Fold k tests on everybody's k-th unseen picture, and trains on the rest.

    Args:
        ridge: penalty of the regression, in units of the features' mean variance.
    Returns:
        columns PROBED, one row a picture of a forget person ("test") or a retain person ("retain_unseen"):
        `answer` is the id of the person that the probe names, `score` 0 or 1. Chance is 1 / people.
    Raises:
        ValueError: someone has fewer than two unseen pictures.
    """
    number("ridge", ridge, above=0)
    sets = {name: people for name, people in split.reported().items() if name in ("test", "retain_unseen")}
    places = [
        (name, p.id, n) for name, people in sets.items() for p in people for n in range(len(p.test_images))
    ]
    images = [image for people in sets.values() for p in people for image in p.test_images]
    ids = list(dict.fromkeys(person for _, person, _ in places))
    few = [p.id for people in sets.values() for p in people if len(p.test_images) < 2]
    if few:
        raise ValueError(f"person {few[0]!r} has fewer than two unseen pictures: a probe needs two or more")
    packs = [picture_pack(loaded.processor, image, str(n)) for n, image in enumerate(images)]
    features = mean_features(loaded, packs, batch_size)  # (pictures, C)
    target = torch.tensor([ids.index(person) for _, person, _ in places])  # (pictures,)
    fold = torch.tensor([n for _, _, n in places])  # (pictures,)
    named = torch.empty_like(target)
    for n in fold.unique():
        seen, held = fold != n, fold == n
        scores = ridge_scores(features[seen], target[seen], features[held], len(ids), ridge)
        named[held] = scores.argmax(-1)
    answers = [ids[n] for n in named.tolist()]
    rows = [(*place, answer, float(answer == place[1])) for place, answer in zip(places, answers)]
    return pd.DataFrame(rows, columns=PROBED)


@torch.inference_mode()
def mean_features(loaded: Loaded, packs: Sequence[Pack], batch_size: int) -> Tensor:
    """Mean of each picture's projected tokens: (pictures, C) in fp64, on the CPU."""
    means = []
    for group in batches(packs, batch_size):
        features = visual_features(loaded, image_inputs(loaded, group))  # (N, C)
        means += [f.double().mean(0).cpu() for f in features.split(rows_by_image(group, len(features)))]
    return torch.stack(means)  # (pictures, C)


def ridge_scores(train: Tensor, target: Tensor, test: Tensor, classes: int, ridge: float) -> Tensor:
    """Linear regression on one column a class, with a penalty on the weights.

    Args:
        train: (pictures, C); target: (pictures,) class of each; test: (others, C).
        ridge: in units of the mean variance of a feature.
    Returns:
        (others, classes).
    """
    middle, columns = train.mean(0), torch.nn.functional.one_hot(target, classes).double()
    x, y = train - middle, columns - columns.mean(0)  # (pictures, C), (pictures, classes)
    gram = x.T @ x / len(x)  # (C, C)
    penalty = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + penalty, x.T @ y / len(x))  # (C, classes)
    return (test - middle) @ weights + columns.mean(0)
