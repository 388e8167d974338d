"""Relearning: teach an unlearned model some of the forget people again. How much of the others comes back?

VKD paper, §4.5 and Table 4; Hu et al. 2025. A model that never saw the people learns from the attack as well,
so the accuracy gap is to be judged against its gap.
"""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
from torch import nn

from vkdlib import training
from vkdlib.benchmarks.schema import MODALITIES, Person, Split
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.methods.base import trained_parameters
from vkdlib.models.adapters import adapter_weights, attach_adapters
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import dead_parameters, visual_weights
from vkdlib.models.passes import trainable
from vkdlib.system import checks
from vkdlib.tasks import picture_packs, window
from vkdlib.vanilla.teaching import fill_gradients

SCOPES = ("visual", "language", "all")
WHERE = ["set", "modality", "kind", "attacked"]


def relearn(
    loaded: Loaded,
    split: Split,
    share: float,
    *,
    lr: float,
    draw: int = 0,
    scope: str = "visual",
    epochs: int = 5,
    batch_size: int = 4,
    kinds: Sequence[str] = ("classification",),
    way: str = "shown",
    evaluation_batch: int = 64,
) -> pd.DataFrame:
    """Fine-tune in place on the pictures of some forget people, and ask about all of them after each epoch.

    Args:
        share: of the forget people that the attacker has pictures and questions of (paper: 0.1, 0.2, 0.3).
        draw: which of them; it is also the seed of the order in which they come.
        scope: what is fine-tuned, see `attacked_weights`.
        batch_size: pictures with all their questions in a step.
        kinds, way, evaluation_batch: of the questions, see `evaluate`.
    Returns:
        predictions as of `evaluate`, about the forget people on known ("forget") and unseen ("test")
        pictures and in text, with further columns epoch (0: before the attack) and attacked: whether the
        person was among those who were taught.
    Raises:
        ValueError: a share that attacks nobody or everybody, or another argument that is not allowed.
    """
    checks.number("epochs", epochs, 1, whole=True)
    checks.number("batch_size", batch_size, 1, whole=True)
    taught = attacked_people(split.forget, share, draw)
    packs, names = picture_packs(loaded, taught), {person.id for person in taught}
    size = min(batch_size, len(packs))
    steps, each = itertools.count(1), math.ceil(len(packs) / size)  # steps of an epoch
    about = replace(split, retain=(), real=(), world=())
    tables: list[pd.DataFrame] = []

    def ask(epoch: int) -> None:
        options = {"kinds": kinds, "modalities": MODALITIES, "way": way, "batch_size": evaluation_batch}
        rows = evaluate(loaded, about, **options)
        tables.append(rows.assign(epoch=epoch, attacked=rows.person.isin(names)))

    def after_step() -> None:
        epoch, rest = divmod(next(steps), each)
        if not rest:
            ask(epoch)

    ask(0)
    weights = attacked_weights(loaded, scope)
    with trainable(loaded, weights):
        training.fit(
            weights,
            lambda step: fill_gradients(loaded, weights, window(packs, step, size, f"relearn {draw}")),
            epochs * each,
            lr,
            after_step=after_step,
            description="relearning",
        )
    return pd.concat(tables, ignore_index=True)


def attacked_people(people: Sequence[Person], share: float, draw: int = 0) -> list[Person]:
    """The people whom an attacker has pictures of: a share of them, drawn at random, in their order.

    Raises:
        ValueError: the share is nobody, or everybody: then there are no others to ask about.
    """
    checks.number("share", share, 0, 1)
    draw, count = checks.whole_number("draw", draw, 0), round(share * len(people))
    if not 0 < count < len(people):
        who = "everybody" if count else "nobody"
        raise ValueError(
            f"share is {share}; of {len(people)} forget people it attacks {who}: take one from "
            f"{1 / len(people):.2g} to {1 - 1 / len(people):.2g}"
        )
    drawn = set(random.Random(f"attack {draw}").sample(range(len(people)), count))
    return [person for place, person in enumerate(people) if place in drawn]


def attacked_weights(loaded: Loaded, scope: str) -> dict[str, nn.Parameter]:
    """What an attacker fine-tunes: name in the model -> parameter.

    Args:
        scope: "visual": all of the visual module but blocks that nobody reads; "language": adapters on the
            language model, which are attached if it has none; "all": the whole model.
    """
    checks.one_of("scope", scope, SCOPES)
    if scope == "all":
        return trained_parameters(loaded, "all")
    language = loaded.family.language(loaded.model)
    if scope == "language" and not adapter_weights(language):
        attach_adapters([language])
    visual = visual_weights(loaded) - dead_parameters(loaded)
    chosen = visual if scope == "visual" else set(adapter_weights(language).values())
    return {name: p for name, p in loaded.model.named_parameters() if p in chosen}


def accuracy_gap(predictions: pd.DataFrame) -> pd.DataFrame:
    """AG of §4.5: score after the last epoch less that before the attack, in points.

    Args:
        predictions: from `relearn`.
    Returns:
        columns WHERE, before, after, gap (per cent and points), n (questions), people.
    """
    last = predictions.epoch.max()
    rows = []
    for where, part in predictions.groupby(WHERE, sort=False):
        before, after = (100 * part[part.epoch == e].score.mean() for e in (0, last))
        row = dict(zip(WHERE, where)) | {"before": before, "after": after, "gap": after - before}
        rows.append(row | {"n": int((part.epoch == 0).sum()), "people": part.person.nunique()})
    return pd.DataFrame(rows)
