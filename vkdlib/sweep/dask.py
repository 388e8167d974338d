"""Points of a sweep on a Dask cluster.

    dask scheduler                                                      # prints its address
    dask worker ADDRESS --nthreads 1                                    # as many as you like, anywhere
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --dask ADDRESS

`--dask local` starts a scheduler and workers on this machine instead, as many as --workers says.

Workers have vkdlib installed and see the same files under the same paths. A worker does as many points at a
time as it has threads, each in a process of its own with the worker's environment: its GPU
(CUDA_VISIBLE_DEVICES; dask-cuda starts one worker a GPU) and its OMP_NUM_THREADS and MKL_NUM_THREADS (Dask
sets them to 1, see `distributed.nanny.pre-spawn-environ` in its configuration). A point whose worker is lost
runs again on another, from its checkpoint. After Ctrl-C the points that run there end by themselves and are
kept; those that wait are not begun.
"""

import contextlib
from collections.abc import Iterator

from vkdlib.sweep.point import Point, Worker
from vkdlib.system import paths


def run_on_dask(points: list[Point], address: str, shares: list[dict[str, str]]) -> Iterator[Point]:
    """Execute points; yield each when it ends, done or failed.

    Args:
        address: of the scheduler; "local" starts one here, with a worker for each share.
        shares: environment of each local worker's points.
    Raises:
        ImportError: distributed is not installed.
        ConnectionError: no scheduler answers there.
    """
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError as error:
        raise ImportError("--dask needs distributed: pip install distributed") from error
    with contextlib.ExitStack() as stack:
        if address == "local":
            local = LocalCluster(n_workers=len(shares), threads_per_worker=1, dashboard_address=":0")
            address = stack.enter_context(local).scheduler_address
        else:
            shares = []
        try:
            client = stack.enter_context(Client(address))
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no Dask scheduler answers at {address}: is it running?") from error
        print(f"Dask: {len(client.nthreads()) or 'waiting for'} workers, {client.dashboard_link}")
        places, by_key = paths.places(), {str(point.executed): point for point in points}
        futures = [client.submit(run_on_worker, p, places, shares, key=key) for key, p in by_key.items()]
        completed = as_completed(futures)
        del futures  # a future that is kept is computed again if its worker is lost
        for future in completed:
            point = by_key[future.key]
            try:
                future.result()
            except Exception as error:  # several workers were lost with it, or one is not set up
                point.log.write_text(f"{type(error).__name__}: {error}")
            future.release()
            yield point


def run_on_worker(point: Point, places: dict[str, str], shares: list[dict[str, str]]) -> None:
    """Execute a point in a process of this worker, which ends with it."""
    from distributed import get_worker

    share = shares[get_worker().name] if shares else {}
    with contextlib.closing(Worker(places | share)) as worker:
        worker.execute(point)
