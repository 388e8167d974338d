"""Several processes on one task, under `accelerate launch` or `notebook_launcher`; alone, nothing happens.

Each process holds the whole model and takes its share of every batch; gradients are added up. There is no
wrapper around the model: questions in text reach none of the trained weights, and a wrapper that waits for
every gradient would fail.
"""

import atexit
from collections.abc import Iterable

import torch
from torch import Tensor


def joined() -> bool:
    """Whether `start` has joined this process to others, and it has not left them."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def processes() -> tuple[int, int]:
    """(number of this process, how many there are): (0, 1) alone."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if joined() else (0, 1)


def start() -> tuple[int, int]:
    """Join the processes that a launcher started, if one did, until this one ends; returns `processes()`."""
    import torch.distributed.nn.functional  # imported later, its functions would keep the group for ever
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    atexit.register(leave)
    return processes()


def leave() -> None:
    """Leave the process group, on CPUs. A process that ends without leaving is sometimes aborted by a thread
    of gloo's that still has a tensor to give back (pytorch/pytorch#190489). On GPUs it is not left: to leave
    a group of NCCL's is to wait for the others, and they never come when this process alone ends with an
    error.
    """
    if joined() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def mine(items: Iterable) -> list:
    """What this process takes of some items: every n-th."""
    number, size = processes()
    return list(items)[number::size]


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if processes()[1] > 1:
        for t in tensors:
            torch.distributed.all_reduce(t)


def from_first(value):
    """The value that the first process has."""
    if processes()[1] == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def gather(items: list) -> list:
    """The items of all processes, those of the first process first."""
    size = processes()[1]
    if size == 1:
        return items
    found = [None] * size
    torch.distributed.all_gather_object(found, items)
    return [item for part in found for item in part]
