"""The one training loop: AdamW on fp32 weights, a schedule, checkpoints, resume, history.

Everything random in a step must follow from its number. Then a run that was killed and resumed ends
with the same bits as one that was not (tests/test_training.py).
"""

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vkdlib.models.loaded import weights_hash
from vkdlib.system import checks, files, processes
from vkdlib.system.progress import bar

Schedule = Callable[[int, int], float]  # (step, steps) -> factor on the learning rate


def constant(step: int, steps: int) -> float:
    """The same learning rate all the way."""
    return 1.0


def linear(step: int, steps: int) -> float:
    """From the full learning rate straight down to (nearly) nothing."""
    return 1 - step / steps


def one_cycle(step: int, steps: int) -> float:
    """Up for the first tenth, then down along a cosine."""
    up = max(1, steps // 10)
    if step < up:
        return (step + 1) / up
    return 0.5 * (1 + math.cos(math.pi * (step - up) / (steps - up)))


def fit(
    parameters: dict[str, Tensor],
    gradients: Callable[[int], dict[str, float]],
    steps: int,
    lr: float,
    *,
    schedule: Schedule = constant,
    weight_decay: float = 0.0,
    clip: float | None = None,
    shares: Mapping[str, float] | None = None,
    after_step: Callable[[], None] | None = None,
    enough: Callable[[list[dict]], bool] | None = None,
    folder: Path | str | None = None,
    checkpoint_every: int = 50,
    identity=None,
    description: str = "training",
) -> list[dict]:
    """Train parameters in place.

    Args:
        parameters: name -> fp32 leaf tensor that requires grad.
        gradients: fills `.grad` of the parameters for a step and returns its named losses. It must
            depend on nothing but the step number and the parameters.
        lr: peak learning rate; `schedule` scales it.
        clip: largest norm of the whole gradient, or None.
        shares: of the learning rate, for parameters that do not have all of it.
        after_step: called after each update (restores weights that are held).
        enough: asked before each step whether the history so far ends the training early.
        folder: of checkpoint.safetensors; an interrupted training continues from there. None: no checkpoints.
        identity: what tells this training from others, as JSON can hold it; the checkpoint of another one is
            refused.
    Returns:
        one row a step: step, lr and the named losses.
    Raises:
        FloatingPointError: a loss or gradient is NaN or infinite; weights stay as before that step.
        ValueError: a number is out of range, or the checkpoint is damaged or belongs to another training.
        RuntimeError: a step trains nothing.
    """
    checks.number("steps", steps, 1, whole=True)
    checks.number("lr", lr, above=0)
    checks.number("weight_decay", weight_decay, 0)
    checks.number("checkpoint_every", checkpoint_every, 1, whole=True)
    half = [name for name, p in parameters.items() if p.dtype != torch.float32]
    if half:
        raise TypeError(f"{half[0]} is not fp32: half-precision weights lose small updates")
    folder = folder and Path(folder)
    optimiser = torch.optim.AdamW(_groups(parameters, shares or {}), lr=lr, weight_decay=weight_decay)
    facts = dict(training=identity, steps=steps, lr=lr, weight_decay=weight_decay, clip=clip)
    facts |= {"shares": dict(shares)} if shares else {}
    identity = json.dumps(facts | {"schedule": schedule.__name__}, sort_keys=True)
    start, history = _resume(folder, parameters, optimiser, identity)
    if start:
        print(f"{description} goes on at step {start} of {steps}, from {folder}", file=sys.stderr)
    for step in bar(range(start, steps), description, total=steps, initial=start):
        if enough and enough(history):
            return history
        optimiser.zero_grad(set_to_none=True)
        losses = gradients(step)
        if not losses or all(p.grad is None for p in parameters.values()):
            raise RuntimeError(f"step {step} trains nothing: no loss reached a trained weight")
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), math.inf if clip is None else clip)
        numbers = {f"{name} loss": value for name, value in losses.items()} | {"the gradient": norm.item()}
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value} at step {step}: lower the learning rate ({lr})")
        for group in optimiser.param_groups:
            group["lr"] = lr * schedule(step, steps) * group["share"]
        optimiser.step()
        if after_step:
            after_step()
        history.append({"step": step, "lr": lr * schedule(step, steps), **losses})
        due = (step + 1) % checkpoint_every == 0 or step + 1 == steps
        if folder and due and processes.rank_and_size()[0] == 0:
            _save(folder, step + 1, parameters, optimiser, history, identity)
    if len(history) != steps:
        raise RuntimeError(f"{steps} steps were to be taken, the history has {len(history)}")
    return history


def _groups(parameters: dict[str, Tensor], shares: Mapping[str, float]) -> list[dict]:
    """Parameters by their share of the learning rate."""
    groups: dict[float, list[Tensor]] = {}
    for name, p in parameters.items():
        groups.setdefault(shares.get(name, 1.0), []).append(p)
    return [{"params": group, "share": share} for share, group in groups.items()]


def check_shares(size: int) -> None:
    """Raise ValueError if there is nothing for some process in a batch of a size."""
    count = processes.rank_and_size()[1]
    if size < count:
        raise ValueError(
            f"{count} processes cannot share batches of {size}: raise batch_size (and retain_batch), or "
            "start fewer processes"
        )


def gather_gradients(parameters: dict[str, Tensor]) -> None:
    """Add up the gradients of all processes; a process may have had none for some parameters."""
    if processes.rank_and_size()[1] == 1:
        return
    reached = set(processes.gather([name for name, p in parameters.items() if p.grad is not None]))
    for p in (p for name, p in parameters.items() if name in reached):
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        processes.add_up([p.grad])


def _save(folder: Path, step: int, parameters, optimiser, history: list[dict], identity: str) -> None:
    """Write weights, optimiser state and step as one file, then put it in place at once."""
    tensors = {f"weight/{name}": p.detach() for name, p in parameters.items()}
    for name, p in parameters.items():
        tensors |= {f"{k}/{name}": v for k, v in optimiser.state.get(p, {}).items()}
    facts = {"step": str(step), "identity": identity}
    files.make_folder(folder)
    files.write_csv(folder / "history.csv", history)
    with files.whole_file(folder / "checkpoint.safetensors") as temporary:
        save_file(tensors, temporary, metadata=facts | {"content": _content(tensors, history, facts)})


def _content(tensors: dict[str, Tensor], history: list[dict], facts: dict[str, str]) -> str:
    """sha256 of a checkpoint: a flipped bit must not be trained on."""
    text = f"{weights_hash(tensors)} {json.dumps(history)} {facts['step']} {facts['identity']}"
    return hashlib.sha256(text.encode()).hexdigest()


def _resume(folder: Path | None, parameters, optimiser, identity: str) -> tuple[int, list[dict]]:
    """Load the last checkpoint, if there is one; return the next step and the history so far."""
    file = folder and folder / "checkpoint.safetensors"
    if not file or not file.exists():
        return 0, []
    try:
        with safe_open(file, "pt") as checkpoint:
            facts = checkpoint.metadata()
            tensors = {key: checkpoint.get_tensor(key) for key in checkpoint.keys()}
        step, rows = int(facts["step"]), pd.read_csv(folder / "history.csv", float_precision="round_trip")
        history = rows[:step].to_dict("records")
        if facts["identity"] == identity and _content(tensors, history, facts) != facts["content"]:
            raise ValueError("its content was changed")
    except Exception as error:
        raise ValueError(f"{file} is damaged ({error}): delete {folder} to start afresh") from error
    shapes = {key: t.shape for key, t in tensors.items() if key.startswith("weight/")}
    if facts["identity"] != identity or shapes != {f"weight/{n}": p.shape for n, p in parameters.items()}:
        raise ValueError(
            f"{file} belongs to another training ({facts['identity']}, not {identity}): delete {folder}"
        )
    states = defaultdict(dict)  # name -> the weight, and what AdamW keeps of it
    for key, tensor in tensors.items():
        kind, name = key.split("/", 1)
        states[name][kind] = tensor
    for name, p in parameters.items():
        with torch.no_grad():
            p.copy_(states[name].pop("weight"))
        # AdamW keeps its step counter on the CPU and everything else beside the parameter.
        optimiser.state[p] = {k: t if k == "step" else t.to(p.device) for k, t in states[name].items()}
    return step, history
