"""The points of a sweep: a grid in YAML -> parameters of a notebook, checked before anything runs.

notebook: 04_run_unlearn.ipynb
experiment: fig2_beta          # where runs are kept
parameters: {forget_ratio: 5}  # of every point
grid:                          # a list; each entry's axes are crossed, and entries are added up
  - {seed: [0, 1, 2], beta: {linspace: [0, 10, 11]}}     # also logspace: [0.01, 10, 7]
  - {"lr, epochs": [[0.001, 50], [0.0001, 200]]}         # names with a comma go together
record: fig2_beta              # figures/data/fig2_beta.csv
columns: [beta, pruned]        # parameters that become columns of it, or what VKD reports (REPORTED)
core_minutes: 100              # once measured: how long all points took together, on one core each

Another file may say what is different, for example at paper scale:

base: fig2_beta.yaml           # all that is not said here
experiment: fig2_beta_7b
record: fig2_beta_7b
instead: {preset: paper-llava-1.5-7b, model: vanilla-7b}   # of what `parameters` and `grid` say
"""

import ast
import itertools
from pathlib import Path

import numpy as np
import yaml

from vkdlib.benchmarks.schema import KINDS
from vkdlib.experiments.presets import PRESETS
from vkdlib.experiments.start import AS_THEY_ARE
from vkdlib.methods import METHODS

FIELDS = (
    "base", "notebook", "experiment", "parameters", "grid", "instead", "record", "columns", "core_minutes",
)  # fmt: skip
REPORTED = ("pruned", "mask_density")  # shares, 0 to 1: neurons pruned, weights that the forget term may move
KINDS_OF_FIELDS = {"parameters": dict, "grid": list, "instead": dict, "columns": list, "core_minutes": int}
SPACED = {"linspace": np.linspace, "logspace": np.geomspace}
KNOWN = {"method": [*METHODS, *AS_THEY_ARE], "preset": [*PRESETS], "kinds": [*KINDS]}
TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool, "list[str]": list, "dict": dict}


def read(file: Path, upon: tuple[Path, ...] = ()) -> dict:
    """A sweep's YAML file.

    Args:
        upon: files that build upon this one.
    Raises:
        ValueError: a field is missing, not known or not of its kind; the message names file and field.
    """
    own = yaml.safe_load(file.read_text()) or {}
    base = own.pop("base", None)
    if base and not file.with_name(str(base)).exists():
        raise ValueError(f"{file.name}: base is {base!r}; there is no such file beside it")
    if file in upon:
        raise ValueError(f"{file.name} builds upon itself: give it another base")
    for field in ("experiment", "record") if base else ("notebook", "experiment", "grid", "record"):
        if field not in own:
            raise ValueError(f"{file.name} has no field {field!r}; a sweep has {', '.join(FIELDS)}")
    inherited = read(file.with_name(base), (*upon, file)) if base else {}
    inherited.pop("core_minutes", None)
    sweep = inherited | own
    for field in sweep:
        if field not in FIELDS:
            raise ValueError(f"{file.name}: field {field!r} is not known; a sweep has {', '.join(FIELDS)}")
        if not isinstance(sweep[field], KINDS_OF_FIELDS.get(field, str)):
            raise ValueError(f"{file.name}: {field} is {sweep[field]!r}; see the example in vkdlib/grid.py")
    if not all(isinstance(entry, dict) for entry in sweep["grid"]) or not points(sweep):
        raise ValueError(f"{file.name}: grid has no points; see the example in vkdlib/grid.py")
    return sweep


def points(sweep: dict) -> list[dict]:
    """All points of a sweep, each once, in order: parameters of the notebook."""
    fixed = sweep.get("parameters", {}) | {"experiment": sweep["experiment"]}
    found = []
    for axes in sweep["grid"]:
        steps = [axis(name, values) for name, values in axes.items()]
        for chosen in itertools.product(*steps):
            point = fixed | {name: value for part in chosen for name, value in part.items()}
            point |= sweep.get("instead", {})
            if point not in found:
                found.append(point)
    return found


def axis(name: str, values) -> list[dict]:
    """One axis of a grid: a list of {parameter: value}."""
    names = [n.strip() for n in name.split(",")]
    if isinstance(values, dict):
        try:
            ((scale, (first, last, number)),) = values.items()
            values = [float(f"{v:.6g}") for v in SPACED[scale](first, last, number)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"axis {name!r}: {values} is neither linspace nor logspace of [first, last, number] ({error})"
            ) from error
        if isinstance(first, int) and all(value.is_integer() for value in values):
            values = [int(value) for value in values]  # seeds
    values = values if isinstance(values, list) else [values]
    if len(names) == 1:
        return [{names[0]: v} for v in values]
    for together in values:
        if not isinstance(together, list) or len(together) != len(names):
            raise ValueError(f"axis {name!r}: {together} does not give a value to each of its names")
    return [dict(zip(names, together)) for together in values]


def check(notebook: Path, wanted: list[dict], columns: list[str] = ()) -> dict:
    """Stop before anything runs if a point names a parameter that the notebook lacks, or gives it another
    type or a value that nothing has.

    Args:
        columns: parameters that become columns of the record, or of REPORTED.
    Returns:
        the notebook's parameters and their defaults; None for one that is computed.
    """
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    columns = [name for name in columns if name not in REPORTED]
    for name in dict.fromkeys([*(n for point in wanted for n in point), *columns]):
        if name not in known:
            raise ValueError(f"{notebook.name} has no parameter {name!r}; it has: {', '.join(known)}")
        kind, optional = known[name]["inferred_type_name"], known[name]["default"] == "None"
        for value in (point[name] for point in wanted if name in point):
            right = isinstance(value, TYPES.get(kind, object))
            if isinstance(value, bool) and kind in ("int", "float"):  # for Python False is 0
                right = False
            if not right and not (optional and value is None):
                hint = " (YAML wants a dot in it, as 1.0e-5)" if "e-" in str(value) else ""
                raise ValueError(f"{notebook.name}: {name} is {value!r}; it must be of type {kind}{hint}")
            for one in value if kind == "list[str]" else [value]:
                if one not in KNOWN.get(name, [one]):
                    there = ", ".join(KNOWN[name])
                    raise ValueError(f"{notebook.name}: {name} is {one!r}; known are {there}")
        if name in columns and kind in ("list[str]", "dict"):
            raise ValueError(f"{notebook.name}: {name} is a list, which cannot be a column of a record")
    return {name: literal(parameter["default"]) for name, parameter in known.items()}


def literal(text: str):
    """The value of a literal in Python; None for any other expression."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
