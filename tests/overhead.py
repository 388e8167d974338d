"""What a sweep costs beside papermill alone, and twelve points on a cluster that loses a worker.

    python tests/overhead.py     # -> figures/data/overhead.csv; also `make overhead`

In each round the same points are executed three times, one at a time: by papermill's own command, by a sweep,
and by a sweep on a Dask worker, whose cluster is started and ended with it. Each is a command, so its start
counts. The points are tiny, so that what is measured is all that is not a run, but for one thing: they have
no data and weights, and whether those are today's is not looked at. Times are this machine's; the ratio to
papermill is within a round.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import pandas as pd
from conftest import start_sweep, tiny_sweep

from vkdlib.sweep import results
from vkdlib.sweep.sweep import load_sweep
from vkdlib.system import files, paths
from vkdlib.system.progress import bar

POINTS, ROUNDS = 6, 5
HOW = ("papermill", "sweep", "dask")


def executed_alone(file: Path) -> None:
    """All points by papermill's command, one after the other."""
    for point in load_sweep(file).points:
        given = [f"-p {name} {value}" for name, value in point.parameters.items() if value != ""]
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(file.parent.parent)]
        command += [str(point.notebook), str(point.executed), *" ".join(given).split()]
        subprocess.run(command, check=True, capture_output=True)


def measure(how: str, seeds: list[int], faults=(), workers: int = 1) -> dict:
    """Execute points from nothing: points, how many ended with a run, how often one was executed, seconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        places = {"VKDLIB_RUNS": str(root / "runs"), "VKDLIB_ROOT": str(root)}
        with mock.patch.dict(os.environ, places), mock.patch.object(results, "is_current", lambda *_: True):
            file = tiny_sweep(root, seeds=seeds, faults=faults)
            start = time.perf_counter()
            if how == "papermill":
                executed_alone(file)
            else:
                said = start_sweep(file, f"--workers={workers}", *["--dask=local"] * (how == "dask"))
                said.communicate()
            seconds = time.perf_counter() - start
            points = load_sweep(file).points
            done = sum(result.run is not None for result in results.point_results(points))
            executed = sum(f.read_text().count("once") for f in root.glob("runs/ran_*"))
    return {"points": len(points), "done": done, "executed": executed, "seconds": round(seconds, 2)}


def main() -> None:
    """Measure all; print and write the record."""
    rows = []
    for number in bar(range(ROUNDS), "rounds"):
        order = HOW[number % 3 :] + HOW[: number % 3]  # none is always first
        measured = {how: measure(how, list(range(POINTS))) for how in order}
        alone = measured["papermill"]["seconds"]
        for how in HOW:
            ratio = round(measured[how]["seconds"] / alone, 3)
            rows.append({"how": how, "round": number, **measured[how], "ratio": ratio})
    lost = measure("dask", list(range(11)), [[11, "worker"]], workers=2)
    rows.append({"how": "dask, 2 workers, one killed", "round": 0, **lost})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    print(table.groupby("how", sort=False).ratio.agg(["median", "min", "max"]).dropna())
    file = paths.figures() / "data" / "overhead.csv"
    with files.whole_file(file) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
