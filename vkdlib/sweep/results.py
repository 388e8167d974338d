"""What became of a sweep's points: a finished run, or why there is none; and how long the rest takes."""

import contextlib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import nbformat

from vkdlib.experiments.model_names import reference_model, starting_model
from vkdlib.experiments.presets import cached_benchmark
from vkdlib.models.folders import files_hash
from vkdlib.models.loaded import weights_hash
from vkdlib.models.loading import load
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import read_run
from vkdlib.sweep.point import Point, is_complete, read_notebook
from vkdlib.system.paths import RunError
from vkdlib.system.progress import bar

STALE = "not whole, or not of today's data, weights and version of vkdlib"


@dataclass(frozen=True)
class Result:
    """What became of a point.

    Attributes:
        run: its finished run; None: the point is left to do.
        error: why there is no run.
        seconds: that the notebook took, where there is a run.
    """

    point: Point
    run: Run | None
    error: str = ""
    seconds: float = 0.0


def point_results(points: Iterable[Point]) -> list[Result]:
    """Look at each point once."""
    return [point_result(point) for point in bar(points, "looking for finished points")]


def point_result(point: Point) -> Result:
    """What became of a point. It has a run if its notebook came to a good end, the run is whole, and data and
    weights are those that are there now. If data or weights cannot be read, the notebook will say why."""
    notebook = read_notebook(point.executed)
    if not is_complete(notebook):
        return Result(point, None, failure(point, notebook))
    hash = printed_hash(notebook)
    if hash is None:
        return Result(point, None, 'the notebook printed no line "run <hash>": a sweep finds its run by it')
    facts = notebook.metadata.papermill
    with contextlib.suppress(OSError, ValueError, RunError):
        run = read_run(point.parameters["experiment"], hash)
        if is_current(run, datetime.fromisoformat(facts.start_time).timestamp(), point.cwd):
            return Result(point, run, seconds=facts.get("duration") or 0.0)
    return Result(point, None, f"run {hash} is {STALE}")


def printed_hash(notebook: nbformat.NotebookNode) -> str | None:
    """The hash that an executed notebook printed as "run <hash>"; None if it did not."""
    text = "".join(o.text for c in notebook.cells for o in c.get("outputs", []) if "text" in o)
    line = re.search(r"^run ([0-9a-f]{12})\b", text, re.MULTILINE)
    return line and line[1]


def failure(point: Point, notebook: nbformat.NotebookNode) -> str:
    """Why an executed notebook did not come to its end: the cell that failed, by its number in Jupyter, and
    its error; else the last that its process printed."""
    if not point.log.exists():
        return "not begun"
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"cell {number}: {output.ename}: {output.evalue}"
    lines = point.log.read_text().strip().splitlines()
    return f"the notebook's process ended early; the last it said: {lines[-1] if lines else 'nothing'}"


def is_current(run: Run, start: float, cwd: Path) -> bool:
    """Whether the run's data, weights and reference are those that are there now.

    Weights of embedded models are compared. Others are too large for that: no file of their folders may have
    changed since the notebook began. If one has, the notebook is executed again and compares them itself.

    Args:
        start: of the notebook, in seconds since 1970.
        cwd: the folder that the notebook worked in; it may name folders from there.
    """
    c = run.configuration
    folder = cwd / c.benchmark
    if _data(str(folder) if folder.is_dir() else c.benchmark, c.data_revision) != c.data:
        return False
    if not c.model.startswith("testbed/"):
        names = (c.model, c.retain_only, c.settings.get("reference"))
        return not any(_changed(cwd / name, start) for name in names if name)
    reference = reference_model(c)
    same = not reference or files_hash(reference) == c.reference_weights
    return same and _weights(starting_model(c), c.dtype, c.quantise) == c.weights


def _changed(folder: Path, since: float) -> bool:
    """Whether a file of a folder is newer than a time; what is no folder is on the Hub, or a word."""
    return folder.is_dir() and any(file.stat().st_ctime > since for file in folder.iterdir())


def _data(source: str, revision: str | None) -> str:
    return cached_benchmark(source, revision).hash


@functools.cache
def _weights(name: str, dtype: str, quantise: str | None) -> str:
    loaded = load(name, dtype=dtype, device="cpu", quantise=quantise)
    return weights_hash(loaded.model.state_dict())


def expected_time(results: list[Result], workers: int, core_minutes: float | None) -> str:
    """How long the points that are left will take: each as long as the mean of those that are done, else as
    where the sweep was made.

    Args:
        core_minutes: that all points took there, on one core.
    """
    done = [result.seconds for result in results if result.run]
    left = len(results) - len(done)
    if not left:
        return "nothing to do"
    if not done and not core_minutes:
        return "how long a point takes is not known yet"
    minutes = sum(done) / len(done) / 60 if done else core_minutes / len(results)
    source = "the points that are done" if done else "what the sweep took where it was made"
    return f"about {left * minutes / workers:.0f} minutes with {workers} workers, by {source}"
