"""Points of a sweep on this machine: so many processes at a time, CPU cores and GPUs shared out."""

import concurrent.futures
import os
import queue
from collections.abc import Iterator

import torch

from vkdlib.sweep.point import Point, lifeline
from vkdlib.system import paths


def share(slot: int, slots: int) -> dict[str, str]:
    """The environment of a process that has one of so many shares of the machine: cores, and GPUs (one, if
    there are no more than shares)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // slots)))
    environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}  # Dask's workers set both
    if gpus := torch.cuda.device_count():
        ours = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))).split(",")
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(ours[slot % gpus :: slots])
    return environment


def on_this_machine(left: list[Point], workers: int) -> Iterator[Point]:
    """Execute points; yield each when it has ended, done or failed. All end when this is closed."""
    shares = queue.SimpleQueue()
    for slot in range(workers):
        shares.put(paths.places() | share(slot, workers))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool, lifeline() as alive:
        started = {pool.submit(with_a_share, shares, point, alive): point for point in left}
        try:
            for future in concurrent.futures.as_completed(started):
                future.result()
                yield started[future]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def with_a_share(shares: queue.SimpleQueue, point: Point, alive: int) -> None:
    """Execute a point with the next free share of the machine."""
    mine = shares.get()
    try:
        point.execute(mine, alive)
    finally:
        shares.put(mine)
