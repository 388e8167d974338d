"""Run all points of a sweep (see `grid`), each as a notebook in a process of its own.

    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --workers 2
    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --dry-run

A point that is done is not run again: its executed notebook is there and says which run it is, that run is
whole, and it is of today's data and weights. So a sweep that was stopped goes on where it was. Points that
failed are reported with their cell and error, the others go on. The notebook prints "run <hash>": that is how
its run is found. Executed notebooks and report.md are in runs/<experiment>/notebooks/.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import torch
import yaml

import vkdlib
from vkdlib import grid, paths
from vkdlib.data import load_benchmark
from vkdlib.models import weights_hash
from vkdlib.paths import whole
from vkdlib.progress import bar
from vkdlib.runs import RECORD, Run, RunError, find_run, write_records
from vkdlib.starts import load_start


@dataclass(frozen=True)
class Point:
    """One notebook to execute: `notebook` with `parameters`; what came of it is in `executed`."""

    notebook: Path
    parameters: dict
    folder: Path

    @property
    def executed(self) -> Path:
        """Named by what the point is: parameters, code of the notebook, version of the library."""
        cells = [c.source for c in nbformat.read(self.notebook, 4).cells if c.cell_type == "code"]
        identity = json.dumps([self.parameters, cells, vkdlib.__version__], sort_keys=True)
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:12]}.ipynb"

    @property
    def content(self) -> nbformat.NotebookNode:
        """The executed notebook; an empty one if there is none, or half a file."""
        try:
            return nbformat.read(self.executed, 4)
        except (FileNotFoundError, nbformat.reader.NotJSONError):
            return nbformat.v4.new_notebook()

    @property
    def log(self) -> Path:
        """What the notebook's process said."""
        return self.executed.with_suffix(".log")

    @property
    def run(self) -> Run | None:
        """The finished run, if there is one and it is of today's data and weights."""
        try:
            found = find_run(self.parameters["experiment"], run_hash(self.content))
            found.check()
        except (ValueError, FileNotFoundError, RunError):
            return None
        return found if up_to_date(found) else None

    def execute(self, worker: int, workers: int) -> None:
        """Run the notebook by papermill; leave what it got to in `executed`."""
        share = max(1, (os.cpu_count() or 1) // workers)
        environment = os.environ | {"OMP_NUM_THREADS": str(share), "VKDLIB_PROGRESS": "0"}
        if gpus := torch.cuda.device_count():
            ours = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
            environment["CUDA_VISIBLE_DEVICES"] = ours.split(",")[worker % gpus]
        command = [sys.executable, "-m", "papermill", str(self.notebook), str(self.executed)]
        command += ["--cwd", str(self.notebook.parent), "-k", "python3", "--no-progress-bar"]
        command += ["--start-timeout", "120"]
        command += ["-y", yaml.safe_dump(self.parameters)]  # keeps types, also that of 1e-05
        with open(self.log, "w") as log:
            subprocess.run(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def cell_error(self) -> str | None:
        """The cell that failed and its error; None if none did."""
        for number, cell in enumerate(c for c in self.content.cells if c.cell_type == "code"):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return f"cell {number}: {output.ename}: {output.evalue}"
        return None

    @property
    def error(self) -> str:
        """What went wrong."""
        said = self.log.read_text().strip().splitlines() if self.log.exists() else []
        early = f"the notebook's process ended early; the last it said: {said[-1] if said else 'nothing'}"
        return self.cell_error or early


@functools.cache
def _today(start: str) -> tuple[str, str]:
    """Hashes of the data and the weights that a run with such a start (JSON) would have now."""
    config = json.loads(start)
    return load_benchmark(config["benchmark"]).hash, weights_hash(load_start(config).model.state_dict())


def up_to_date(run: Run) -> bool:
    """Whether the run's data and weights are those that are there now."""
    start = {k: run.config.get(k) for k in ("model", "benchmark", "method", "forget_ratio", "precision")}
    return _today(json.dumps(start)) == (run.config["data"], run.config["weights"])


def execute(file: Path, workers: int = 1, dry_run: bool = False) -> list[Point]:
    """Run all points that are not done yet; write report.md, and the record once every point is done.

    Args:
        file: the sweep.
        workers: processes at a time; CPU cores are shared out, and each gets a GPU where there are any.
        dry_run: only say what there is to do.
    Returns:
        the points that are not done: those that failed, or all that are left for a dry run.
    """
    sweep = grid.read(file)
    notebook = file.parent.parent / sweep["notebook"]
    wanted = grid.points(sweep)
    grid.check(notebook, wanted)
    folder = paths.runs() / sweep["experiment"] / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    everything = [Point(notebook, parameters, folder) for parameters in wanted]
    left = [p for p in bar(everything, "looking for finished points") if not p.run]
    print(f"{file.stem}: {len(everything)} points, {len(everything) - len(left)} done, {len(left)} to do")
    print(expected_time(everything, len(left), workers))
    if dry_run:
        for point in left:
            print("  to do:", point.parameters)
        return left
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        slots = queue.SimpleQueue()
        for number in range(workers):
            slots.put(number)
        started = [pool.submit(in_slot, slots, workers, point) for point in left]
        try:
            for _ in bar(concurrent.futures.as_completed(started), file.stem, total=len(left)):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failed = [p for p in left if not p.run]
    write_report(file.stem, everything)
    if failed:
        return failed
    columns = sweep.get("columns", [])
    write_records(sweep["record"], [p.run.records(**swept(p.run, columns)) for p in everything])
    return []


def in_slot(slots: queue.SimpleQueue, workers: int, point: Point) -> None:
    """Execute a point in the next free slot (a GPU, a share of the cores).

    A kernel now and then dies before its first cell, above all when several start at once: then once more.
    """
    slot = slots.get()
    try:
        for _ in range(2):
            point.execute(slot, workers)
            if point.cell_error or point.run:
                return
    finally:
        slots.put(slot)


def expected_time(everything: list[Point], left: int, workers: int) -> str:
    """How long the points that are left will take, from those that are there."""
    there = [point.content.metadata for point in everything]
    took = [metadata.papermill.duration for metadata in there if "papermill" in metadata]
    took = [seconds for seconds in took if seconds]
    if not left or not took:
        return "nothing to do" if not left else "how long a point takes is not known yet"
    return f"about {sum(took) / len(took) * left / workers / 60:.0f} minutes, by the points already there"


def write_report(title: str, everything: list[Point]) -> None:
    """report.md beside the executed notebooks: what each point is, its run or its error, its notebook."""
    lines = [f"# {title}", "", "| parameters | run | notebook |", "|---|---|---|"]
    for p in everything:
        given = ", ".join(f"{k}={v}" for k, v in p.parameters.items())
        lines.append(
            f"| {given} | {p.run.hash if p.run else p.error} | [{p.executed.stem}]({p.executed.name}) |"
        )
    with whole(everything[0].folder / "report.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def run_hash(executed) -> str:
    """The hash that an executed notebook printed as "run <hash>"."""
    text = "".join(o.text for c in executed.cells for o in c.get("outputs", []) if "text" in o)
    found = re.search(r"^run ([0-9a-f]{12})\b", text, re.MULTILINE)
    if not found:
        raise ValueError('the notebook did not print "run <hash>"')
    return found[1]


def swept(run: Run, names: list[str]) -> dict:
    """Values of swept parameters, wherever in the run's configuration they are; none for references."""
    flat = {**run.config, **run.config["settings"], **run.config["training"]}
    return {name: flat[name] for name in names if name not in RECORD and flat.get(name) is not None}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m vkdlib.sweep", description="Run all points of a sweep.")
    parser.add_argument("file", type=Path, help="YAML file, as in notebooks/sweeps")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--dry-run", action="store_true", help="only say what there is to do")
    options = parser.parse_args(arguments)
    missing = execute(options.file, options.workers, options.dry_run)
    if missing and not options.dry_run:
        print(f"{len(missing)} points failed; the same command tries them again:")
        for point in missing:
            print(f"  {point.parameters}: {point.error}\n    {point.executed}")
    return int(bool(missing) and not options.dry_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
