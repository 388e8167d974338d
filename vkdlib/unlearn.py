"""Unlearning: a method's terms, one combined gradient a step, the one training loop."""

from pathlib import Path

from vkdlib import training
from vkdlib.masking import Hold
from vkdlib.models import Loaded, trainable
from vkdlib.tasks import Tasks

SCHEDULES = {f.__name__: f for f in (training.constant, training.linear, training.one_cycle)}


def unlearn(
    loaded: Loaded,
    tasks: Tasks,
    method,
    *,
    epochs: float,
    lr: float,
    batch_size: int = 4,
    retain_batch: int | None = None,
    seed: int = 0,
    schedule: str = "constant",
    weight_decay: float = 0.0,
    folder: Path | None = None,
    checkpoint_every: int = 20,
) -> tuple[list[dict], dict[str, float]]:
    """Unlearn in place, starting from a vanilla model.

    Each step takes one batch of every set, one combined gradient (see `combine`) and one AdamW step.

    Args:
        method: from `methods.make_method`.
        epochs: rounds over the forget pictures; steps = epochs * pictures / batch_size.
        batch_size: packs (pictures with their questions) of each set in a step.
        retain_batch: packs of the retain sets in a step; None: as many as of the forget sets.
        seed: of the order in which people come.
        schedule: of the learning rate: "constant", "linear" (down to 0) or "one_cycle".
        folder: for checkpoints; a run that was interrupted goes on from there, bit-identically.
    Returns:
        history (one row a step), and what the method reports of its preparation.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; it must be one of {', '.join(SCHEDULES)}")
    if not tasks.forget_vqa or not tasks.retain_vqa:
        raise ValueError("unlearning needs people to forget and people to retain; one set is empty")
    steps = max(1, round(epochs * len(tasks.forget_vqa) / min(batch_size, len(tasks.forget_vqa))))
    parameters = method.scope(loaded)
    prepared = method.prepare(loaded, tasks, batch_size)
    hold = Hold(parameters, prepared.held)

    def gradients(step: int) -> dict[str, float]:
        batch = tasks.batch(step, batch_size, seed, retain_batch)
        return combine(loaded, method, prepared, parameters, batch)

    with trainable(loaded, parameters):
        history = training.fit(
            parameters,
            gradients,
            steps,
            lr,
            schedule=SCHEDULES[schedule],
            weight_decay=weight_decay,
            after_step=hold.restore,
            folder=folder,
            checkpoint_every=checkpoint_every,
            identity=f"{method} {batch_size}/{retain_batch} {seed} {sorted(p.key for p in tasks.forget_vqa)}",
            description="unlearning",
        )
    return history, prepared.report


def combine(loaded: Loaded, method, prepared, parameters: dict, batch: Tasks) -> dict[str, float]:
    """Fill the gradients of one step: -m ⊙ alpha ∇L_f + ∇L_r + beta ∇L_VKD (Eq. 3 and 5).

    The mask m multiplies the gradient of the forget term alone; those of all other terms are added.

    Args:
        prepared: what `method.prepare` returned.
        parameters: name -> parameter, those that are trained; their `.grad` is filled.
    Returns:
        the named losses.
    """
    forget, named = method.forget_terms(loaded, batch)
    forget.backward()
    for name, m in (prepared.mask or {}).items():
        parameters[name].grad *= m
    keep, more = method.keep_terms(loaded, batch, prepared.teacher)
    keep.backward()
    return {name: value.item() for name, value in (named | more).items()}
