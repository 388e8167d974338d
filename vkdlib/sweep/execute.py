"""Run all points of a sweep (see `grid`), each as a notebook, by one process or several.

    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --workers 2
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --dry-run          # what is done, what is left
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --dask ADDRESS     # on a Dask cluster, see `dask`
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --slurm > array.sh # as a SLURM array, see `slurm`

A notebook prints "run <hash>", and the sweep finds the run by this line. A point is done if its notebook
ended well, its run is whole, and data and weights have not changed since. It is not run again. So the same
command continues a sweep that was stopped, and tries failed points again. A point that fails does not stop
the others; its cell and its error are reported. Executed notebooks are in runs/<experiment>/notebooks/, with
a report, <sweep's name>.md.

Once every point is done, the record is written: figures/data/<record>.csv has the numbers, and
<record>.parquet has every answer behind them, run by run (`runs.records`).
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from vkdlib.experiments.model_names import CONTROLS
from vkdlib.runs.records import write_predictions, write_records
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import interrupted_runs
from vkdlib.sweep.dask import run_on_dask
from vkdlib.sweep.local import machine_share, run_locally
from vkdlib.sweep.point import Point, is_complete, read_notebook
from vkdlib.sweep.results import Result, expected_time, failure, point_result, point_results
from vkdlib.sweep.slurm import slurm_script
from vkdlib.sweep.sweep import Sweep, flat_parameters, load_sweep
from vkdlib.system import paths
from vkdlib.system.command import exit_status
from vkdlib.system.files import whole_file
from vkdlib.system.progress import bar


def run_sweep(file: Path | str, workers: int = 1, dask: str | None = None) -> list[Result]:
    """Run all points that are not done yet; write a report and, once every point is done, the record.

    Args:
        file: the sweep.
        workers: processes at a time; CPU cores are shared out, and GPUs where there are any.
        dask: address of a Dask scheduler that runs them instead; "local": one that is started here, with
            so many workers.
    Returns:
        the points that failed, with their errors.
    """
    sweep = load_sweep(Path(file))
    results = sweep_state(sweep, workers)
    lock = FileLock(sweep.folder / ".lock")  # another sweep of the same points may end now, too
    try:
        if points := [result.point for result in results if not result.run]:
            run_points(points, workers, dask, sweep.name)
            results = point_results(sweep.points)  # all: data or weights may have changed meanwhile
    except BaseException:
        # A module that was being imported may be in pieces: what stopped it matters, not the report.
        with contextlib.suppress(Exception), lock:
            write_report(sweep, point_results(sweep.points))
        raise
    failed = [result for result in results if not result.run]
    with lock:
        write_report(sweep, results)
        print(f"report, with links to all notebooks: {sweep.folder / sweep.name}.md")
        if not failed:
            print(f"record: {write_record(sweep, results)}")
    return failed


def run_point(file: Path, name: str) -> list[Result]:
    """Run one point of a sweep, unless it is done: all that a task of an array does.

    Returns:
        the point if it failed, with its error.
    """
    sweep = load_sweep(file)
    points = [point for point in sweep.points if point.name == name]
    if not points:
        raise ValueError(
            f"{file} has no point {name!r}: --dry-run lists those there are; once its parameters, "
            "their preset, the notebook or the version of vkdlib have changed, a point has another name"
        )
    if not point_result(points[0]).run:
        run_points(points, 1, None, sweep.name)
    return [result for result in point_results(points) if not result.run]


def array_script(file: Path) -> str:
    """A SLURM script that runs what is left to do, see `slurm`."""
    sweep = load_sweep(file)
    names = [result.point.name for result in point_results(sweep.points) if not result.run]
    if not names:
        raise SystemExit(f"{sweep.name}: all points are done; the plain command writes the record")
    return slurm_script(file, names, sweep.folder)


def sweep_state(sweep: Sweep, workers: int) -> list[Result]:
    """What became of each point; prints how many are left to do, how long they will take, where results are,
    and which trainings go on from a checkpoint."""
    results = point_results(sweep.points)
    done = sum(result.run is not None for result in results)
    print(f"{sweep.name}: {len(results)} points, {done} done, {len(results) - done} to do")
    print(expected_time(results, workers, sweep.core_minutes))
    record = paths.figures() / "data" / f"{sweep.record}.csv"
    print(f"runs: {sweep.folder.parent}; record, once all are done: {record}")
    if done < len(results):
        for hash, step in interrupted_runs(sweep.folder.parent.name).items():
            print(f"run {hash} was interrupted, and goes on at step {step}")
    return results


def run_points(points: list[Point], workers: int, dask: str | None, title: str) -> None:
    """Run points, with a bar, and a line for each that fails as soon as it does."""
    failed = 0
    with contextlib.closing(ending_points(points, workers, dask)) as ending:
        progress = bar(ending, title, total=len(points))
        for point in progress:
            notebook = read_notebook(point.executed)
            if not is_complete(notebook):
                failed += 1
                progress.write(f"failed: {point.parameters}: {failure(point, notebook)}")
            progress.set_postfix(failed=failed)


def ending_points(points: list[Point], workers: int, dask: str | None) -> Iterator[Point]:
    """Run points here or on a cluster; yield each when it ends."""
    if dask:
        return run_on_dask(points, dask, [machine_share(slot, workers) for slot in range(workers)])
    return run_locally(points, workers)


def write_report(sweep: Sweep, results: list[Result]) -> None:
    """<sweep's name>.md beside the executed notebooks: each point's parameters, its run or its error, and its
    notebook."""
    lines = [f"# {sweep.name}", "", "| parameters | run | notebook |", "|---|---|---|"]
    for point, run, error in ((r.point, r.run, r.error) for r in results):
        parameters = ", ".join(f"{name}={value}" for name, value in point.parameters.items())
        outcome = run.hash if run else " ".join(error.split()).replace("|", r"\|")
        lines.append(f"| {parameters} | {outcome} | [{point.name}]({point.executed.name}) |")
    with whole_file(sweep.folder / f"{sweep.name}.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def write_record(sweep: Sweep, results: list[Result]) -> Path:
    """Numbers and predictions of all runs; returns the file of the numbers."""
    tables = [r.run.records(**column_values(r.run, r.point.parameters, sweep.columns)) for r in results]
    write_predictions(sweep.record, {r.run.hash: r.run for r in results}.values())
    return write_records(sweep.record, tables)


def column_values(run: Run, parameters: dict, columns: list[str]) -> dict:
    """Values of a record's further columns: those of the run's configuration, wherever in it they are, of
    what the run reports, or its steps; else as the point has them, but not for models that are evaluated as
    they are."""
    c = run.configuration
    taken = {"steps": len(run.history) or None} if "steps" in columns else {}
    layers = [{} if c.method in CONTROLS else flat_parameters(parameters), c.flat, taken, run.report]
    known = {name: value for layer in layers for name, value in layer.items() if value is not None}
    return {name: known[name] for name in columns if name in known}


def main(arguments: list[str]) -> int:
    """What `vkdlib sweep` does.

    Returns:
        its exit status: 1 if a point failed, 2 if something in its input is wrong, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="vkdlib sweep", description="Run all points of a sweep.")
    parser.add_argument("file", type=Path, help="YAML file, as in notebooks/sweeps")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time, here or on --dask local")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dask", metavar="ADDRESS", help='run on a Dask cluster; "local": one started here')
    how.add_argument("--slurm", action="store_true", help="print a SLURM array script for what is left to do")
    how.add_argument("--point", metavar="NAME", help="run only this point; --dry-run lists names")
    how.add_argument("--dry-run", action="store_true", help="only say what is done and what is left to do")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; it must be 1 or more")
    try:
        return exit_status(run_command, options)
    except KeyboardInterrupt:
        print("stopped: what is finished is kept, and the same command goes on from here")
        return 130  # as shells have it


def run_command(options: argparse.Namespace) -> int:
    """The command that the options ask for; returns its exit status."""
    if options.slurm:
        print(array_script(options.file), end="")
        return 0
    if options.dry_run:
        for result in sweep_state(load_sweep(options.file), options.workers):
            state, outcome = ("done: ", f"run {result.run.hash}") if result.run else ("to do:", result.error)
            print(f"  {state} {result.point.name} {result.point.parameters}: {outcome}")
        return 0
    if options.point:
        failed = run_point(options.file, options.point)
    else:
        failed = run_sweep(options.file, options.workers, options.dask)
    if failed:
        print(f"{len(failed)} points failed; the same command tries them again:")
    for result in failed:
        print(f"  {result.point.parameters}: {result.error}\n    {result.point.executed}")
    return int(bool(failed))
