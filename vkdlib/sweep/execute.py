"""Run all points of a sweep (see `grid`), each as a notebook in a process of its own.

    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --workers 2
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --dry-run          # what is done, what is left
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --dask ADDRESS     # see `cluster`
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --slurm > array.sh

A point that is done is not run again: its executed notebook is there and says which run it is, that run is
whole, and it is of today's data and weights. So a sweep that was stopped goes on where it was. Points that
failed are reported with their cell and error, the others go on. The notebook prints "run <hash>": that is how
its run is found. Executed notebooks are in runs/<experiment>/notebooks/, with a report, <sweep's name>.md.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from vkdlib.experiments import presets
from vkdlib.experiments.start import AS_THEY_ARE
from vkdlib.runs.records import write_predictions, write_records
from vkdlib.runs.run import RECORD, Run
from vkdlib.sweep import grid, slurm
from vkdlib.sweep.finished import expected_time, run_of
from vkdlib.sweep.here import on_this_machine, share
from vkdlib.sweep.on_dask import on_dask
from vkdlib.sweep.point import Point, snapshot
from vkdlib.system import paths
from vkdlib.system.files import make_folder, whole
from vkdlib.system.progress import bar


def points(file: Path) -> list[Point]:
    """All points of a sweep, by their number; its parameters are checked."""
    sweep = grid.read(file)
    notebook = file.absolute().parent.parent / sweep["notebook"]
    wanted = grid.points(sweep)
    known = grid.check(notebook, wanted, sweep.get("columns", []))
    folder = paths.runs().absolute() / sweep["experiment"] / "notebooks"
    make_folder(folder)
    copy, found = snapshot(notebook, folder), []
    for given in wanted:
        settings = presets.point_values(known | given)
        found.append(Point(copy, given, folder, settings, notebook.parent))
    return found


def execute(file: Path | str, workers: int = 1, dask: str | None = None) -> list[Point]:
    """Run all points that are not done yet; write a report, and once every point is done, the record: numbers
    and predictions.

    Args:
        file: the sweep.
        workers: processes at a time; CPU cores are shared out, and GPUs where there are any.
        dask: address of a Dask scheduler that runs them instead; "local": one that is started here, with
            so many workers.
    Returns:
        the points that failed.
    """
    file = Path(file)
    sweep = grid.read(file)  # it may be edited while the points run
    everything, left = look(file, workers)
    alone = FileLock(everything[0].folder / ".lock")  # another sweep of the same points may end now, too
    try:
        if left:
            attempt(left, workers, dask, file.stem)
    except BaseException:
        # A module that was just being imported may be in pieces: what stopped it matters, not the report.
        with contextlib.suppress(Exception), alone:
            write_report(file.stem, everything)
        raise
    with alone:
        write_report(file.stem, everything)
    found = [(point, run_of(point)) for point in everything]
    failed = [point for point, run in found if not run]  # also one whose data or weights changed meanwhile
    if not failed:
        name, columns = sweep["record"], sweep.get("columns", [])
        with alone:
            write_records(name, [run.records(**swept(run, p.parameters, columns)) for p, run in found])
            write_predictions(name, {run.hash: run for _, run in found}.values())
    return failed


def execute_one(file: Path, name: str) -> list[Point]:
    """Run one point of a sweep, unless it is done: all that a task of an array does.

    Returns:
        the point, if it failed.
    """
    named = [point for point in points(file) if point.name == name]
    if not named:
        raise ValueError(
            f"{file.name} has no point {name!r}: --dry-run lists those that are left; once its parameters, "
            "their preset, the notebook or the version of vkdlib have changed, a point has another name"
        )
    return attempt(unfinished(named), 1, None, file.stem)


def array_script(file: Path) -> str:
    """A SLURM script that runs what is left to do, see `slurm`."""
    everything = points(file)
    left = [point.name for point in unfinished(everything)]
    if not left:
        raise SystemExit(f"{file.stem}: all points are done; the plain command writes the record")
    return slurm.script(file, left, everything[0].folder)


def look(file: Path, workers: int) -> tuple[list[Point], list[Point]]:
    """All points and those that are left to do; say how many, and how long they will take."""
    everything, minutes = points(file), grid.read(file).get("core_minutes")
    left = unfinished(everything)
    print(f"{file.stem}: {len(everything)} points, {len(everything) - len(left)} done, {len(left)} to do")
    print(expected_time(left, workers, minutes and minutes / len(everything)))
    return everything, left


def unfinished(everything: list[Point]) -> list[Point]:
    """The points that are left to do."""
    return [point for point in bar(everything, "looking for finished points") if not run_of(point)]


def attempt(left: list[Point], workers: int, dask: str | None, title: str) -> list[Point]:
    """Run points, with a bar, and a line for each that fails as soon as it does; return those that failed."""
    failed = []
    with contextlib.closing(ended(left, workers, dask)) as ending:
        progress = bar(ending, title, total=len(left))
        for point in progress:
            if not run_of(point):
                failed.append(point)
                progress.write(f"failed: {point.parameters}: {point.error}")
            progress.set_postfix(failed=len(failed))
    return failed


def ended(left: list[Point], workers: int, dask: str | None) -> Iterator[Point]:
    """Run points where they are to be run; each comes out when it has ended."""
    if dask:
        return on_dask(left, dask, [share(slot, workers) for slot in range(workers)])
    return on_this_machine(left, workers)


def write_report(title: str, everything: list[Point]) -> None:
    """<title>.md beside the executed notebooks: what each point is, its run or its error, its notebook."""
    lines = [f"# {title}", "", "| parameters | run | notebook |", "|---|---|---|"]
    for p in everything:
        given = ", ".join(f"{k}={v}" for k, v in p.parameters.items())
        run = run_of(p)
        came = run.hash if run else " ".join(p.error.split()).replace("|", r"\|")
        lines.append(f"| {given} | {came} | [{p.name}]({p.executed.name}) |")
    with whole(everything[0].folder / f"{title}.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def swept(run: Run, given: dict, names: list[str]) -> dict:
    """Values of swept parameters: those of the run's configuration, wherever in it they are, else as the
    point gave them, and of what the run reports; none for references."""
    given = {} if run.configuration.method in AS_THEY_ARE else given
    known = given | {
        name: value for name, value in (run.configuration.flat | run.report).items() if value is not None
    }
    return {name: known[name] for name in names if name not in RECORD and known.get(name) is not None}


def main(arguments: list[str]) -> int:
    """What `python -m vkdlib.sweep` does; returns its exit status: 1 if a point failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m vkdlib.sweep", description="Run all points of a sweep.")
    parser.add_argument("file", type=Path, help="YAML file, as in notebooks/sweeps")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time, here or on --dask local")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dask", metavar="ADDRESS", help='run on a Dask cluster; "local": one started here')
    how.add_argument("--slurm", action="store_true", help="print a SLURM array script for what is left to do")
    how.add_argument("--point", metavar="NAME", help="run only this point; --dry-run tells names")
    how.add_argument("--dry-run", action="store_true", help="only say what is done and what is left to do")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; it must be 1 or more")
    if options.slurm:
        print(array_script(options.file), end="")
        return 0
    if options.dry_run:
        everything, left = look(options.file, options.workers)
        for point in everything:
            if point in left:
                print(f"  to do: {point.name} {point.parameters}" + f": {point.error}" * point.tried)
            else:
                print(f"  done:  {point.name} {point.parameters}: run {point.run_hash}")
        return 0
    try:
        if options.point is None:
            failed = execute(options.file, options.workers, options.dask)
        else:
            failed = execute_one(options.file, options.point)
    except KeyboardInterrupt:
        print("stopped: what is finished is kept, and the same command goes on from here")
        return 130  # as shells have it
    if failed:
        print(f"{len(failed)} points failed; the same command tries them again:")
    for point in failed:
        print(f"  {point.parameters}: {point.error}\n    {point.executed}")
    return int(bool(failed))
