"""The one training loop: AdamW on fp32 weights, a schedule, checkpoints, resume, history.

Everything random in a step must follow from its number. Then a run that was killed and resumed ends
with the same bits as one that was not (tests/test_training.py).
"""

import csv
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from vkdlib.models.loaded import weights_hash
from vkdlib.system import processes
from vkdlib.system.checks import number
from vkdlib.system.files import make_folder, whole_file, write_csv
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
    after_step: Callable[[], None] | None = None,
    folder: Path | str | None = None,
    checkpoint_every: int = 50,
    identity: str = "",
    description: str = "training",
) -> list[dict]:
    """Train parameters in place.

    Args:
        parameters: name -> fp32 leaf tensor that requires grad.
        gradients: fills `.grad` of the parameters for a step and returns its named losses. It must
            depend on nothing but the step number and the parameters.
        lr: peak learning rate; `schedule` scales it.
        clip: largest norm of the whole gradient, or None.
        after_step: called after each update (restores weights that are held).
        folder: of checkpoint.safetensors; an interrupted training continues from there. None: no checkpoints.
        identity: what tells this training from others; the checkpoint of another one is refused.
    Returns:
        one row a step: step, lr and the named losses.
    Raises:
        FloatingPointError: a loss or gradient is NaN or infinite; weights stay as before that step.
        ValueError: a number is out of range, or the checkpoint is damaged or belongs to another training.
        RuntimeError: a step trains nothing.
    """
    number("steps", steps, 1, whole=True)
    number("lr", lr, above=0)
    number("weight_decay", weight_decay, 0)
    number("checkpoint_every", checkpoint_every, 1, whole=True)
    half = [name for name, p in parameters.items() if p.dtype != torch.float32]
    if half:
        raise TypeError(f"{half[0]} is not fp32: half-precision weights lose small updates")
    folder = None if folder is None else Path(folder)
    optimiser = torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=weight_decay)
    identity = f"{identity} steps={steps} lr={lr} {schedule.__name__} {weight_decay} {clip}"
    start, history = _resume(folder, parameters, optimiser, identity)
    for step in bar(range(start, steps), description, total=steps, initial=start):
        optimiser.zero_grad(set_to_none=True)
        losses = gradients(step)
        if not losses or all(p.grad is None for p in parameters.values()):
            raise RuntimeError(f"step {step} trains nothing: no loss reached a trained weight")
        for name, value in losses.items():
            _must_be_finite(f"{name} loss", value, step, lr)
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), math.inf if clip is None else clip)
        _must_be_finite("the gradient", norm.item(), step, lr)
        optimiser.param_groups[0]["lr"] = lr * schedule(step, steps)
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


def gather_gradients(parameters: dict[str, Tensor]) -> None:
    """Add up the gradients of all processes; a process may have had none for some parameters."""
    if processes.rank_and_size()[1] == 1:
        return
    reached = set(processes.gather([name for name, p in parameters.items() if p.grad is not None]))
    for p in (p for name, p in parameters.items() if name in reached):
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        processes.add_up([p.grad])


def _must_be_finite(what: str, value: float, step: int, lr: float) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(f"{what} is {value} at step {step}: lower the learning rate ({lr})")


def _save(folder: Path, step: int, parameters, optimiser, history: list[dict], identity: str) -> None:
    """Write weights, optimiser state and step as one file, then put it in place at once."""
    tensors = {f"weight/{name}": p.detach() for name, p in parameters.items()}
    for name, p in parameters.items():
        tensors |= {f"{k}/{name}": v for k, v in optimiser.state.get(p, {}).items()}
    facts = {"step": str(step), "identity": identity}
    make_folder(folder)
    write_csv(folder / "history.csv", history)
    with whole_file(folder / "checkpoint.safetensors") as temporary:
        save_file(tensors, temporary, metadata=facts | {"content": _content(tensors, history, facts)})


def _content(tensors: dict[str, Tensor], history: list[dict], facts: dict[str, str]) -> str:
    """sha256 of a checkpoint: a flipped bit must not be trained on."""
    rows = [[(name, float(value)) for name, value in row.items()] for row in history]
    text = f"{weights_hash(tensors)} {rows} {facts['step']} {facts['identity']}"
    return hashlib.sha256(text.encode()).hexdigest()


def _resume(folder: Path | None, parameters, optimiser, identity: str) -> tuple[int, list[dict]]:
    """Load the last checkpoint, if there is one; return the next step and the history so far."""
    file = folder and folder / "checkpoint.safetensors"
    if not file or not file.exists():
        return 0, []
    try:
        with safe_open(file, "pt") as saved:
            facts = saved.metadata()
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}
        step = int(facts["step"])
        with open(folder / "history.csv", newline="") as f:
            rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(f)][:step]
        if _content(tensors, rows, facts) != facts["content"]:
            raise ValueError("its content was changed")
    except Exception as error:
        raise ValueError(f"{file} is damaged ({error}): delete {folder} to start afresh") from error
    shapes = {n.split("/", 1)[1]: t.shape for n, t in tensors.items() if n.startswith("weight/")}
    if facts["identity"] != identity or shapes != {n: p.shape for n, p in parameters.items()}:
        raise ValueError(
            f"{file} belongs to another training ({facts['identity']}, not {identity}): delete {folder}"
        )
    for name, p in parameters.items():
        with torch.no_grad():
            p.copy_(tensors[f"weight/{name}"])
        kinds = [key.split("/", 1)[0] for key in tensors if key.split("/", 1)[1] == name]
        state = {k: tensors[f"{k}/{name}"] for k in kinds if k != "weight"}
        # AdamW keeps its step counter on the CPU and everything else beside the parameter.
        optimiser.state[p] = {k: t if k == "step" else t.to(p.device) for k, t in state.items()}
    return step, [row | {"step": int(row["step"])} for row in rows]
