"""Several processes share one task, under `accelerate launch` or `notebook_launcher`.

Each process holds the whole model and takes its share of every batch; gradients are added up. No wrapper is
around the model. It would wait for the gradient of every trained weight, and questions in text reach none.
"""

import atexit
from collections.abc import Iterable

import torch
from torch import Tensor


def in_group() -> bool:
    """Whether `join_group` has joined this process to others, and it has not left them."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank_and_size() -> tuple[int, int]:
    """Number of this process, and how many there are: (0, 1) alone."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if in_group() else (0, 1)


def join_group() -> tuple[int, int]:
    """Join the processes that a launcher started, if one did, until this one ends.

    Returns:
        as `rank_and_size`.
    """
    import torch.distributed.nn.functional  # imported later, its functions would keep the group for ever
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    atexit.register(leave_group)
    return rank_and_size()


def leave_group() -> None:
    """Leave the group of processes, on CPUs.

    A process that ends in a group of gloo's is sometimes aborted by a thread that still holds a tensor
    (pytorch/pytorch#190489). On GPUs, leaving a group of NCCL's waits for the other processes. They never
    come if this process ends alone with an error. So it stays in the group there.
    """
    if in_group() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def own_share(items: Iterable) -> list:
    """The items that this process takes: every n-th of them, where there are n processes."""
    rank, size = rank_and_size()
    return list(items)[rank::size]


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if in_group():
        for t in tensors:
            torch.distributed.all_reduce(t)


def broadcast(value):
    """The value that the first process has."""
    box = [value]
    if in_group():
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def gather(items: list) -> list:
    """The items of all processes, those of the first process first."""
    if not in_group():
        return items
    parts = [None] * rank_and_size()[1]
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
