"""A sweep that was read and checked: its points, and what its record holds.

The file is read once: whoever edits it while the points run changes nothing.
"""

import ast
from dataclasses import dataclass, fields
from pathlib import Path

from vkdlib.experiments import presets
from vkdlib.experiments.pipeline import check_run, pose_task
from vkdlib.methods import METHODS
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.runs.run_folder import RECORD
from vkdlib.sweep.grid import grid_points, read_sweep
from vkdlib.sweep.point import Point, notebook_copy
from vkdlib.sweep.results import cached_benchmark
from vkdlib.system import paths
from vkdlib.system.checks import check_names, flag, number, one_of
from vkdlib.system.files import make_folder
from vkdlib.testbed.recipe import ARCHITECTURES

REPORTED = ("pruned", "mask_density")  # shares, 0 to 1: neurons pruned, weights that the forget term may move
SETTINGS = {f.name for method in METHODS.values() for f in fields(method)}
TYPES = {"str": str, "list[str]": list, "dict": dict}  # numbers and flags have checks of their own


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
    try:
        points = grid_points(content)
        defaults = check_points(notebook, points)
        columns = further_columns(points, content.get("columns", []), defaults)
        values = [run_values(defaults | point, notebook.parent) for point in points]
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{file.name}: {error}") from error
    folder = paths.runs().absolute() / content["experiment"] / "notebooks"
    make_folder(folder)
    copy = notebook_copy(notebook, folder)
    points = [Point(copy, point, folder, of, notebook.parent) for point, of in zip(points, values)]
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
                check_type(name, value, known[name]["inferred_type_name"])
    return {name: literal(parameter["default"]) for name, parameter in known.items()}


def check_type(name: str, value, kind: str) -> None:
    """Raise ValueError unless a value is of the type that the notebook's parameter says."""
    if kind in ("int", "float"):
        number(name, value, whole=kind == "int")
    elif kind == "bool":
        flag(name, value)
    elif not isinstance(value, TYPES.get(kind, object)):
        raise ValueError(f"{name} is {value!r}; it must be of type {kind}")


def run_values(parameters: dict, cwd: Path) -> dict:
    """Check what a run asks before it starts, and that its model and benchmark are there; of a notebook with
    other parameters than those of a run, nothing.

    Args:
        parameters: all parameters of the notebook.
        cwd: its folder; models and benchmarks may be folders named from there.
    Returns:
        what the point is by its preset, see `presets.point_values`.
    """
    if not {"preset", "method", "model", "benchmark"} <= set(parameters):
        return {}
    p = parameters | {"benchmark": located(parameters["benchmark"], cwd)}
    for field in ("model", "retain_only"):
        check_model(field, p[field], cwd)
    p["preset"] = p["preset"] or presets.fitting_preset(p["model"], p["benchmark"])
    c = run_configuration(p)
    check_run(p["experiment"], c, p["gate"])
    if not is_hub_name(c.benchmark):  # what is on the Hub is not downloaded for this
        pose_task(cached_benchmark(c.benchmark, c.data_revision), c)
    return presets.point_values(p)


def run_configuration(p: dict) -> Configuration:
    """The run's configuration, as 04_run_unlearn makes it of its parameters."""
    one_of("preset", p["preset"], presets.PRESETS)
    parts = {}
    for part in presets.PARTS:
        names = SETTINGS if part == "method" else presets.PRESETS[p["preset"]][part]
        parts[part] = presets.preset(p["preset"], part, p["method"], **{n: p[n] for n in names if n in p})
    own = {f.name: p[f.name] for f in fields(Configuration) if f.name in p}
    own |= parts["model"] | parts["data"] | parts["evaluation"]
    Machine(**parts["machine"])
    return Configuration(**own, settings=parts["method"], training=parts["training"])


def located(name: str, cwd: Path) -> str:
    """A folder's full path, if there is one of that name; else the name."""
    return str(cwd / name) if (cwd / name).is_dir() else name


def is_hub_name(name: str) -> bool:
    """Whether a name can only be one on the Hugging Face Hub."""
    return name.count("/") == 1 and not name.startswith(("testbed/", ".", "~")) and not Path(name).is_dir()


def check_model(field: str, name: str | None, cwd: Path) -> None:
    """Raise ValueError for a model that cannot be there."""
    if name is None or (cwd / name).is_dir() or is_hub_name(name):
        return
    if not name.startswith("testbed/"):
        raise ValueError(f"{field} is {name!r}; there is no such folder in {cwd}")
    if field == "model":
        one_of(field, name, [f"testbed/{family}" for family in ARCHITECTURES])


def further_columns(points: list[dict], named: list[str], defaults: dict) -> list[str]:
    """Columns of a record beside those of every record: those that the file names, and parameters that
    differ between points. A list cannot be a column."""
    check_names("the notebook", named, [*defaults, *REPORTED])
    names = dict.fromkeys(name for point in points for name in point)
    swept = [name for name in names if any(point.get(name) != points[0].get(name) for point in points)]
    lists = {
        n for point in [defaults, *points] for n, value in point.items() if isinstance(value, list | dict)
    }
    for name in lists & set(named):
        raise ValueError(f"{name} is a list, which cannot be a column of a record")
    return [name for name in dict.fromkeys([*named, *swept]) if name not in {*RECORD, *lists}]


def literal(text: str):
    """The value of a literal in Python; None for any other expression."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
