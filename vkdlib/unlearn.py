"""Unlearning: a method's terms, one combined gradient a step, the one training loop."""

import functools
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vkdlib import training
from vkdlib.masking import Hold
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.passes import activation_checkpoints, trainable
from vkdlib.system import processes
from vkdlib.system.checks import check_fields, make, setting
from vkdlib.tasks import Steps, Tasks

SCHEDULES = {f.__name__: f for f in (training.constant, training.linear, training.one_cycle)}


@dataclass(frozen=True)
class Training:
    """How the steps of unlearning are taken.

    Attributes:
        epochs: rounds over the forget pictures.
        lr: peak learning rate.
        batch_size: packs (pictures with their questions) of each set in a step.
        retain_batch: packs of the retain sets in a step; None: as many as of the forget sets.
        schedule: of the learning rate: "constant", "linear" (down to 0) or "one_cycle".
        weight_decay: of AdamW.
        seed: of the order in which people come.
        micro_batch: packs of each set on the device at a time; None: all of a step's. It changes no
            result but by rounding. The same holds for the number of processes (see `system.processes`).
        checkpointing: compute activations twice instead of keeping them: less memory, the same result.
        checkpoint_every: steps from one checkpoint to the next.
    """

    epochs: float = setting(above=0)
    lr: float = setting(above=0)
    batch_size: int = setting(4, low=1)
    retain_batch: int | None = setting(None, low=1)
    schedule: str = setting("constant", known=tuple(SCHEDULES))
    weight_decay: float = setting(0.0, low=0)
    seed: int = setting(0, low=0)
    micro_batch: int | None = setting(None, low=1)
    checkpointing: bool = False
    checkpoint_every: int = setting(20, low=1)

    def __post_init__(self):
        check_fields(self)

    def steps(self, pictures: int) -> int:
        """How many steps there are: epochs * forget pictures / batch_size, at least one."""
        return max(1, round(self.epochs * pictures / min(self.batch_size, pictures)))


def make_training(**arguments) -> Training:
    """`Training` of given arguments.

    Raises:
        ValueError: an argument is unknown, missing, or out of its range.
    """
    return make(Training, "training", arguments)


def unlearn(
    loaded: Loaded, tasks: Tasks, method, *, folder: Path | str | None = None, **arguments
) -> tuple[list[dict], dict[str, float]]:
    """Unlearn in place, starting from a vanilla model.

    Each step takes one batch of every set, one combined gradient (see `combine`) and one AdamW step.

    Args:
        method: from `methods.make_method`.
        folder: for checkpoints; an interrupted run continues from there, bit-identically.
        arguments: fields of `Training`: epochs, lr, batch_size and so on.
    Returns:
        history (one row a step), and what the method reports of its preparation.
    Raises:
        ValueError: an argument is wrong, or the tasks cannot be trained on; nothing was computed.
    """
    how = make_training(**arguments)
    if not hasattr(method, "scope"):
        raise ValueError(f"method is {method!r}; it must be one from methods.make_method")
    check_tasks(tasks, how)
    steps = how.steps(len(tasks.forget_vqa))
    start = weights_hash(loaded.model.state_dict()) if folder else ""
    parameters = method.scope(loaded)
    batch = functools.partial(tasks.batch, size=how.batch_size, seed=how.seed, retain_size=how.retain_batch)
    seen = {p.key for step in range(steps) for p in batch(step).share(*processes.rank_and_size()).retain_vqa}
    with trainable(loaded, parameters), activation_checkpoints(loaded, how.checkpointing):
        prepared = method.prepare(loaded, tasks, Steps(how.batch_size, how.micro_batch, seen))
        if not method.trains:
            return [], prepared.report
        history = training.fit(
            parameters,
            lambda step: combine(loaded, method, prepared, parameters, batch(step), how.micro_batch),
            steps,
            how.lr,
            schedule=SCHEDULES[how.schedule],
            weight_decay=how.weight_decay,
            after_step=Hold(parameters, prepared.held).restore,
            folder=folder,
            checkpoint_every=how.checkpoint_every,
            identity=f"{method} {how.batch_size}/{how.retain_batch} {how.seed} data={digest(tasks)} "
            f"weights={start[:12]}",
            description="unlearning",
        )
        report = prepared.report | (prepared.finish() if prepared.finish else {})
    return history, report


def digest(tasks: Tasks) -> str:
    """Twelve hex digits that tell training questions apart by people and tokens, not by pixels."""
    content = {name: [(p.key, p.prefix, p.segments) for p in packs] for name, packs in vars(tasks).items()}
    return hashlib.sha256(repr(content).encode()).hexdigest()[:12]


def check_tasks(tasks: Tasks, how: Training) -> None:
    """Raise ValueError for tasks that cannot be trained on in this way."""
    for name in ("forget", "retain"):
        if not getattr(tasks, f"{name}_vqa"):
            raise ValueError(f"there is nobody to {name}: unlearning needs pictures of both sets")
    for name, packs in vars(tasks).items():
        for key, count in Counter(p.key for p in packs).items():
            if count > 1:
                raise ValueError(f"{name} has {count} packs of key {key!r}: give each a key of its own")
    shared = {p.key for p in tasks.forget_vqa} & {p.key for p in tasks.retain_vqa}
    if shared:
        raise ValueError(f"{min(shared)!r} is both to forget and to retain: take it out of one set")
    smallest = min(
        how.batch_size, how.retain_batch or how.batch_size, *map(len, (tasks.forget_vqa, tasks.retain_vqa))
    )
    count = processes.rank_and_size()[1]
    if smallest < count:
        raise ValueError(
            f"{count} processes cannot share batches of {smallest}: raise batch_size or retain_batch, or "
            "start fewer processes"
        )


def combine(
    loaded: Loaded, method, prepared, parameters: dict, batch: Tasks, micro_batch: int | None = None
) -> dict[str, float]:
    """Fill the gradients of one step: -m ⊙ alpha ∇L_f + ∇L_r + beta ∇L_VKD (Eq. 3 and 5).

    The mask m multiplies the gradient of the forget term alone; those of all other terms are added.

    Args:
        prepared: what `method.prepare` returned.
        parameters: name -> parameter, those that are trained; their `.grad` is filled.
        batch: what all processes together take in this step.
        micro_batch: see `Training`.
    Returns:
        the named losses.
    """
    losses: dict[str, Tensor] = {}
    mine = list(batch.share(*processes.rank_and_size()).parts(micro_batch))
    for part in (p for p in mine if p.forget_vqa):
        backward(*method.forget_terms(loaded, part, batch, prepared.teacher), losses)
    for name, m in (prepared.mask or {}).items():
        if parameters[name].grad is not None:
            parameters[name].grad *= m
    for part in mine:
        backward(*method.keep_terms(loaded, part, batch, prepared.teacher), losses)
    training.gather_gradients(parameters)
    names = sorted(set(processes.gather(list(losses))))  # a process may have had no pack of some set
    for name in names:
        losses.setdefault(name, torch.zeros((), device=loaded.device))
    processes.add_up(losses[name] for name in names)
    return {name: value.item() for name, value in losses.items()}


def backward(total: Tensor, named: dict[str, Tensor], losses: dict[str, Tensor]) -> None:
    """Add the gradient of a part of a batch to the parameters' `.grad`, and its named losses to `losses`."""
    if total.requires_grad:
        total.backward()
    for name, value in named.items():
        losses[name] = losses.get(name, 0.0) + value.detach()
