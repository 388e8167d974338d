"""A sweep that was read and checked: its points, and what its record holds.

The file is read once: whoever edits it while the points run changes nothing.
"""

import ast
from dataclasses import dataclass, replace
from pathlib import Path

from vkdlib.experiments import presets
from vkdlib.experiments.pipeline import check_run, pose_task
from vkdlib.models.folders import HUB_ID
from vkdlib.runs.run_folder import RECORD
from vkdlib.sweep.grid import grid_points, read_sweep
from vkdlib.sweep.point import Point, notebook_copy
from vkdlib.system import paths
from vkdlib.system.checks import check_names, check_type
from vkdlib.system.files import blame_file, make_folder

# Shares, 0 to 1: neurons pruned, weights that the forget term may move. What training took.
REPORTED = ("pruned", "mask_density", "steps", "seconds")
TYPES = {"int": int, "float": float, "bool": bool, "str": str, "list[str]": list, "dict": dict}


@dataclass(frozen=True)
class Sweep:
    """A sweep's file.

    Attributes:
        name: of the file, without its ending.
        points: in the order of the file; at least one.
        record: name in figures/data.
        columns: of the record: parameters, and what runs report.
        core_minutes: how long all points took on one core where the sweep was made; None: not known.
    """

    name: str
    points: list[Point]
    record: str
    columns: list[str]
    core_minutes: int | None

    @property
    def folder(self) -> Path:
        """Of the executed notebooks and the report."""
        return self.points[0].folder


def load_sweep(file: Path) -> Sweep:
    """Read a sweep's file and check all its points.

    Raises:
        ValueError: one line that names the file and the field.
    """
    content = read_sweep(file)
    notebook = file.absolute().parent.parent / content["notebook"]
    with blame_file(file):
        points = grid_points(content)
        defaults = check_points(notebook, points)
        columns = further_columns(points, content.get("columns", []), defaults)
        runs = [run_identity(defaults | point, notebook.parent) for point in points]
    folder = paths.runs().absolute() / content["experiment"] / "notebooks"
    make_folder(folder)
    copy = notebook_copy(notebook, folder)
    points = [Point(copy, point, folder, notebook.parent, run) for point, run in zip(points, runs)]
    return Sweep(file.stem, points, content["record"], columns, content.get("core_minutes"))


def check_points(notebook: Path, points: list[dict]) -> dict:
    """Stop before anything runs if a point has a parameter that the notebook lacks, or gives it a value of
    another type.

    Returns:
        the notebook's parameters and their defaults; None for one that is computed.
    """
    import papermill

    if not notebook.exists():
        raise ValueError(f"notebook is {notebook.name!r}; there is no such file in {notebook.parent}")
    known = papermill.inspect_notebook(str(notebook))
    for point in points:
        check_names(f"{notebook.name}", point, known)
        for name, value in point.items():
            optional = known[name]["default"] == "None"
            if not (optional and value is None):
                check_type(name, value, TYPES.get(known[name]["inferred_type_name"], object))
    return {name: literal(parameter["default"]) for name, parameter in known.items()}


def run_identity(parameters: dict, cwd: Path) -> dict:
    """Check a run before it starts: its values, and that its model and benchmark are there.

    Args:
        parameters: all parameters of the notebook.
        cwd: its folder; models and benchmarks may be folders named from there.
    Returns:
        the run's identity, which depends on its preset; nothing for a notebook with other parameters.
    """
    if not {"preset", "method", "model", "benchmark"} <= set(parameters):
        return {}
    benchmark = full_path(parameters["benchmark"], cwd)
    preset = parameters["preset"] or presets.fitting_preset(parameters["model"], benchmark)
    values = {name: parameters[name] for name in presets.PARAMETERS if name in parameters}
    c, _ = presets.configure(preset, **values)
    folders = {name: full_path(getattr(c, name), cwd) for name in ("model", "retain_only", "benchmark")}
    settings = {n: full_path(v, cwd) if n == "reference" else v for n, v in c.settings.items()}
    check_run(
        parameters["experiment"], replace(c, settings=settings, **folders), parameters.get("gate", True)
    )
    if not HUB_ID.fullmatch(benchmark) or benchmark.startswith("testbed/"):  # nothing is downloaded for this
        pose_task(presets.cached_benchmark(benchmark, c.data_revision), c)
    return c.identity


def full_path(name: str | None, cwd: Path) -> str | None:
    """A folder's full path, if there is one of that name; else the name."""
    return str(cwd / name) if name and (cwd / name).is_dir() else name


def further_columns(points: list[dict], named: list[str], defaults: dict) -> list[str]:
    """Columns of a record beside those of every record: those that the file names (parameters, settings of
    methods, which a preset may give, and REPORTED), and parameters that differ between points. A list cannot
    be a column."""
    points = [flat_parameters(point) for point in points]
    given = dict.fromkeys(name for point in [defaults, *points] for name in point)
    check_names("the notebook", named, [*given, *presets.SETTINGS, *REPORTED])
    names = dict.fromkeys(name for point in points for name in point)
    swept = [name for name in names if any(point.get(name) != points[0].get(name) for point in points)]
    lists = {
        n for point in [defaults, *points] for n, value in point.items() if isinstance(value, list | dict)
    }
    for name in lists & set(named):
        raise ValueError(f"{name} is a list, which cannot be a column of a record")
    return [name for name in dict.fromkeys([*named, *swept]) if name not in {*RECORD, *lists}]


def flat_parameters(parameters: dict) -> dict:
    """A point's parameters, with those in `settings` among them."""
    settings = parameters.get("settings") or {}
    return {name: value for name, value in parameters.items() if name != "settings"} | settings


def literal(text: str):
    """The value of a literal in Python; None for any other expression."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
