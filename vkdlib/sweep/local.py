"""Points of a sweep on this machine: some processes at a time, each with its share of CPU cores and GPUs."""

import contextlib
import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from vkdlib.sweep.point import Point, Worker
from vkdlib.system import paths


def machine_share(slot: int, slots: int) -> dict[str, str]:
    """The environment of a process that has one of `slots` equal shares of the machine: its CPU cores, and
    its GPUs (with more shares than GPUs, one that it has in common with others)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // slots)))
    environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}  # Dask's workers set both
    if gpus := torch.cuda.device_count():
        devices = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))).split(",")
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[slot % gpus :: slots])
    return environment


def run_locally(points: list[Point], workers: int) -> Iterator[Point]:
    """Execute points; yield each when it ends, done or failed. Closing the generator stops all."""
    free = queue.SimpleQueue()
    with ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
        for slot in range(workers):
            worker = Worker(paths.places() | machine_share(slot, workers))
            free.put(stack.enter_context(contextlib.closing(worker)))
        futures = {pool.submit(execute_by_next, free, point): point for point in points}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def execute_by_next(free: queue.SimpleQueue, point: Point) -> None:
    """Execute a point by the next free worker."""
    worker = free.get()
    try:
        worker.execute(point)
    finally:
        free.put(worker)
