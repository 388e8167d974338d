"""Unlearning: a method's terms, one combined gradient a step, the one training loop."""

import functools
import hashlib
from pathlib import Path

import torch
from torch import Tensor

from vkdlib import training
from vkdlib.masking import Hold
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.passes import activation_checkpoints, trainable
from vkdlib.system import processes
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
    micro_batch: int | None = None,
    checkpointing: bool = False,
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
        micro_batch: packs of each set on the device at a time; None: all of a step's. It changes no
            result but by rounding. The same holds for the number of processes (see `parallel`).
        checkpointing: compute activations twice instead of keeping them: less memory, the same result.
        seed: of the order in which people come.
        schedule: of the learning rate: "constant", "linear" (down to 0) or "one_cycle".
        folder: for checkpoints; a run that was interrupted goes on from there, bit-identically.
    Returns:
        history (one row a step), and what the method reports of its preparation.
    """
    _check(tasks, schedule, epochs, batch_size, retain_batch or batch_size)
    steps = max(1, round(epochs * len(tasks.forget_vqa) / min(batch_size, len(tasks.forget_vqa))))
    start = weights_hash(loaded.model.state_dict()) if folder else ""
    parameters = method.scope(loaded)

    batch = functools.partial(tasks.batch, size=batch_size, seed=seed, retain_size=retain_batch)
    mine = {p.key for step in range(steps) for p in batch(step).share(*processes.processes()).retain_vqa}
    with trainable(loaded, parameters), activation_checkpoints(loaded, checkpointing):
        prepared = method.prepare(loaded, tasks, batch_size, micro_batch, mine)
        if not method.trains:
            return [], prepared.report
        history = training.fit(
            parameters,
            lambda step: combine(loaded, method, prepared, parameters, batch(step), micro_batch),
            steps,
            lr,
            schedule=SCHEDULES[schedule],
            weight_decay=weight_decay,
            after_step=Hold(parameters, prepared.held).restore,
            folder=folder,
            checkpoint_every=checkpoint_every,
            identity=f"{method} {batch_size}/{retain_batch} {seed} data={digest(tasks)} weights={start[:12]}",
            description="unlearning",
        )
        report = prepared.report | (prepared.last() if prepared.last else {})
    return history, report


def digest(tasks: Tasks) -> str:
    """Twelve hex digits that tell training questions apart by people and tokens, not by pixels."""
    asked = {name: [(p.key, p.prefix, p.segments) for p in packs] for name, packs in vars(tasks).items()}
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:12]


def _check(tasks: Tasks, schedule: str, epochs: float, batch_size: int, retain_batch: int) -> None:
    """Raise ValueError for what could not be trained."""
    if epochs <= 0:
        raise ValueError(f"epochs is {epochs}; it must be above 0")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; it must be one of {', '.join(SCHEDULES)}")
    if not tasks.forget_vqa or not tasks.retain_vqa:
        raise ValueError("unlearning needs people to forget and people to retain; one set is empty")
    smallest = min(batch_size, retain_batch, len(tasks.forget_vqa), len(tasks.retain_vqa))
    count = processes.processes()[1]
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
        batch: of all processes together.
        micro_batch: see `unlearn`.
    Returns:
        the named losses.
    """
    losses: dict[str, Tensor] = {}
    mine = list(batch.share(*processes.processes()).parts(micro_batch))
    for part in (p for p in mine if p.forget_vqa):
        backward(*method.forget_terms(loaded, part, batch, prepared.teacher), losses)
    for name, m in (prepared.mask or {}).items():
        if parameters[name].grad is not None:
            parameters[name].grad *= m
    for part in mine:
        backward(*method.keep_terms(loaded, part, batch, prepared.teacher), losses)
    gather_gradients(parameters)
    names = sorted(set(processes.gather(list(losses))))  # a process may have had no pack of some set
    for name in names:
        losses.setdefault(name, torch.zeros((), device=loaded.device))
    processes.add_up(losses[name] for name in names)
    return {name: value.item() for name, value in losses.items()}


def backward(total: Tensor, named: dict[str, Tensor], losses: dict[str, Tensor]) -> None:
    """Add the gradient of a part of a batch to those there are, and its named losses to `losses`."""
    if total.requires_grad:
        total.backward()
    for name, value in named.items():
        losses[name] = losses.get(name, 0.0) + value.detach()


def gather_gradients(parameters: dict) -> None:
    """Add the gradients of all processes up."""
    if processes.processes()[1] > 1:
        reached = set(processes.gather([name for name, p in parameters.items() if p.grad is not None]))
        found = [p for name, p in parameters.items() if name in reached]
        for p in found:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        processes.add_up(p.grad for p in found)
