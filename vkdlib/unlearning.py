"""Unlearning: a method's terms, one combined gradient a step, the one training loop."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vkdlib import training
from vkdlib.masking import Hold
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.passes import activation_checkpoints, trainable
from vkdlib.system import checks, processes
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
        seed: of the order in which people come, and of what a method draws by chance.
        micro_batch: packs of each set on the device at a time; None: all of a step's. It changes no
            result but by rounding. The same holds for the number of processes (see `system.processes`).
        checkpointing: compute activations twice instead of keeping them: less memory, the same result.
        checkpoint_every: steps from one checkpoint to the next.
        stop_at: loss of the forget people's pictures (nats a token), mean over the steps of a round, at which
            training ends early; None: it does not. Gradient ascent has no end of its own, and a model that
            never saw the faces says where one is (`passes.packs_nll`). (Ours.)
    """

    epochs: float = checks.setting(above=0)
    lr: float = checks.setting(above=0)
    batch_size: int = checks.setting(4, low=1)
    retain_batch: int | None = checks.setting(None, low=1)
    schedule: str = checks.setting("constant", known=tuple(SCHEDULES))
    weight_decay: float = checks.setting(0.0, low=0)
    seed: int = checks.setting(0, low=0)
    micro_batch: int | None = checks.setting(None, low=1)
    checkpointing: bool = False
    checkpoint_every: int = checks.setting(20, low=1)
    stop_at: float | None = checks.setting(None, above=0)

    def __post_init__(self):
        checks.check_fields(self)

    def steps(self, pictures: int) -> int:
        """How many steps there are: epochs * forget pictures / batch_size, at least one."""
        return max(1, round(self.epochs * pictures / min(self.batch_size, pictures)))

    def is_enough(self, history: list[dict], pictures: int) -> bool:
        """Whether the last round over so many forget pictures has reached `stop_at`."""
        steps = replace(self, epochs=1).steps(pictures)
        losses = [row["forget_vqa"] for row in history[-steps:]] if self.stop_at is not None else []
        return len(losses) == steps and sum(losses) / steps >= self.stop_at


def make_training(**arguments) -> Training:
    """`Training` of given arguments.

    Raises:
        ValueError: an argument is unknown, missing, or out of its range.
    """
    return checks.make(Training, "training", arguments)


def unlearn(
    loaded: Loaded,
    tasks: Tasks,
    method,
    *,
    folder: Path | str | None = None,
    teacher: Loaded | None = None,
    **arguments,
) -> tuple[list[dict], dict[str, float]]:
    """Unlearn in place, starting from a vanilla model.

    Each step takes one batch of every set, one combined gradient (see `combine`) and one AdamW step.

    Args:
        method: from `methods.make_method`.
        folder: for checkpoints; an interrupted run continues from there, bit-identically.
        teacher: the model that the student is to agree with, where the method has such a term; None: itself,
            as it is at the start.
        arguments: fields of `Training`: epochs, lr, batch_size and so on.
    Returns:
        history (one row a step), and what the method reports of its preparation.
    Raises:
        ValueError: an argument is wrong, or the tasks cannot be trained on; nothing was computed.
    """
    regime = make_training(**arguments)
    if not hasattr(method, "scope"):
        raise ValueError(f"method is {method!r}; it must be one from methods.make_method")
    check_tasks(tasks, regime)
    check_pictures(tasks, method)
    if regime.stop_at is not None and not method.ascends:
        raise ValueError(
            f"stop_at is {regime.stop_at:g}, and {type(method).__name__} does not raise the loss that it "
            "watches: leave it out"
        )
    steps = regime.steps(len(tasks.forget_vqa))
    identity = training_facts(loaded, tasks, method, regime) if folder else None
    if folder and teacher:
        identity["teacher"] = weights_hash(teacher.model.state_dict())
    parameters = method.scope(loaded)

    def batch(step: int) -> Tasks:
        return tasks.batch(step, regime.batch_size, regime.seed, regime.retain_batch)

    shares = [batch(step).share(*processes.rank_and_size()) for step in range(steps)]
    retain_keys = {p.key for share in shares for p in (*share.retain_vqa, *share.unlabelled)}
    forget_packs = tuple(p for share in shares for p in share.forget_vqa)
    sizes = (regime.batch_size, regime.micro_batch)
    with trainable(loaded, parameters), activation_checkpoints(loaded, regime.checkpointing):
        shown = Steps(*sizes, retain_keys, regime.seed, forget_packs, teacher)
        prepared = method.prepare(loaded, tasks, shown)
        if not method.trains:
            return [], prepared.report
        history = training.fit(
            parameters,
            lambda step: combine(loaded, method, prepared, parameters, batch(step), regime.micro_batch),
            steps,
            regime.lr,
            schedule=SCHEDULES[regime.schedule],
            weight_decay=regime.weight_decay,
            after_step=Hold(parameters, prepared.held).restore,
            enough=lambda history: regime.is_enough(history, len(tasks.forget_vqa)),
            folder=folder,
            checkpoint_every=regime.checkpoint_every,
            identity=identity,
            description="unlearning",
        )
        report = prepared.report | (prepared.finish() if prepared.finish else {})
    return history, report


def training_facts(loaded: Loaded, tasks: Tasks, method, regime: Training) -> dict:
    """What tells a training from others; fields of `Training` that change no result are set alike."""
    facts = asdict(replace(regime, micro_batch=None, checkpointing=False, checkpoint_every=1))
    facts |= {"method": type(method).__name__, "settings": asdict(method)}
    return facts | {"data": tasks_hash(tasks), "weights": weights_hash(loaded.model.state_dict())}


def tasks_hash(tasks: Tasks) -> str:
    """sha256 of training questions by people and tokens, not by pixels."""
    content = {
        name: [{"key": p.key, "prefix": p.prefix, "segments": [vars(s) for s in p.segments]} for p in packs]
        for name, packs in vars(tasks).items()
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_tasks(tasks: Tasks, regime: Training) -> None:
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
        raise ValueError(f"person/picture {min(shared)!r} is both to forget and to retain: leave one out")
    pictures = min(len(tasks.forget_vqa), len(tasks.retain_vqa))
    training.check_shares(min(pictures, regime.batch_size, regime.retain_batch or regime.batch_size))


def check_pictures(tasks: Tasks, method) -> None:
    """Raise ValueError unless the tasks have the views and the unlabelled pictures that a method needs."""
    views = {1 + len(p.views) for p in tasks.forget_vqa}
    if views != {method.views}:
        raise ValueError(
            f"views is {method.views}, and the forget pictures have {min(views)}: give make_tasks the same"
        )
    if method.unlabelled and not tasks.unlabelled:
        raise ValueError(
            f"unlabelled is {method.unlabelled}, and there are no unlabelled pictures: give make_tasks some, "
            "or leave it out"
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
    parts = list(batch.share(*processes.rank_and_size()).parts(micro_batch))  # of this process
    for part in (p for p in parts if p.forget_vqa):
        backward(*method.forget_terms(loaded, part, batch, prepared.teacher), losses)
    for name, m in (prepared.mask or {}).items():
        if parameters[name].grad is not None:
            parameters[name].grad *= m
    for part in parts:
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
