"""The file of a sweep, and its points: a grid in YAML -> parameters of a notebook.

notebook: 04_run_unlearn.ipynb
experiment: fig2_beta          # runs/<experiment> keeps the runs
parameters: {forget_ratio: 5}  # of every point
grid:                          # the axes of an entry are crossed; the points of all entries are added up
  - {seed: [0, 1, 2], beta: {linspace: [0, 10, 11]}}     # also logspace: [0.01, 10, 7]
  - {"lr, epochs": [[0.001, 50], [0.0001, 200]]}         # names with a comma go together
record: fig2_beta              # figures/data/fig2_beta.csv and, every answer behind it, fig2_beta.parquet
columns: [pruned, select]      # further columns of the record: what VKD reports, or a fixed parameter
core_minutes: 100              # once measured: how long all points took together, on one core

A parameter that differs between points is a column of the record by itself. Lists, such as `kinds`, are not.
A setting that the notebook has no parameter for, such as one of a new method, is put into `settings`:
`settings: [{patience: 1}, {patience: 2}]`. It is a column, too.

A sweep at paper scale is a file beside the one that it builds upon:

base: fig2_beta.yaml           # all that is not said here
experiment: fig2_beta_7b
record: fig2_beta_7b
instead: {preset: paper-llava-1.5-7b, model: vanilla-7b}   # takes the place of what the base says

Its record is shown and judged by the notebook of the base's record: papermill 14_fig2_beta.ipynb with
`-p name fig2_beta_7b -p write True`. 12_table3_ablation takes a list of `names` instead.
"""

import itertools
from pathlib import Path

import numpy as np

from vkdlib.system.checks import check_names, check_type, folder_name, number
from vkdlib.system.files import blame_file, read_yaml

FIELDS = dict.fromkeys(["base", "notebook", "experiment", "record"], str)
FIELDS |= dict.fromkeys(["parameters", "instead"], dict) | dict.fromkeys(["grid", "columns"], list)
FIELDS |= {"core_minutes": int}
SPACED = {"linspace": np.linspace, "logspace": np.geomspace}


def read_sweep(file: Path, above: tuple[Path, ...] = ()) -> dict:
    """The content of a sweep's file, with that of its base.

    Args:
        above: files that build upon this one.
    Raises:
        ValueError: one line that names file and field: the file cannot be read, or a field is missing, not
            known, or of another type.
    """
    content = read_yaml(file)
    with blame_file(file):
        check_content(content)
        base = content.pop("base", None)
        if base and file in above:
            raise ValueError("the sweep builds upon itself: give it another base")
        if base and not file.with_name(base).exists():
            raise ValueError(f"base is {base!r}; there is no such file beside it")
    if base is None:
        return content
    inherited = read_sweep(file.with_name(base), (*above, file))
    inherited.pop("core_minutes", None)  # they are the base's
    return inherited | content


def check_content(content: dict) -> None:
    """Raise ValueError unless a sweep's file has all fields that it needs, and no others."""
    check_names("a sweep", content, FIELDS)
    needed = ["experiment", "record"] if "base" in content else ["notebook", "experiment", "grid", "record"]
    for field in needed:
        if field not in content:
            raise ValueError(f"the sweep has no field {field!r}; a sweep has {', '.join(FIELDS)}")
    for field, value in content.items():
        check_type(field, value, FIELDS[field])
    if "core_minutes" in content:
        number("core_minutes", content["core_minutes"], above=0, whole=True)
    for field in ("experiment", "record"):  # they become names of files
        folder_name(field, content[field])


def grid_points(sweep: dict) -> list[dict]:
    """All points of a sweep, each once, in order: parameters of the notebook.

    Raises:
        ValueError: there are none; an entry has no axes, an axis has no values, or two of the same name.
    """
    fixed = sweep.get("parameters", {}) | {"experiment": sweep["experiment"]}
    points = []
    for entry in sweep["grid"]:
        if not isinstance(entry, dict):
            raise ValueError(f"grid has the entry {entry!r}; it must be names and values")
        for parts in itertools.product(*(axis_points(str(name), values) for name, values in entry.items())):
            swept = {name: value for part in parts for name, value in part.items()}
            if len(swept) < sum(map(len, parts)):
                raise ValueError(f"grid has two axes of one name in the entry {entry!r}")
            point = fixed | swept | sweep.get("instead", {})
            if point not in points:
                points.append(point)
    if not points:
        raise ValueError("grid is empty; it must be a list of entries, as `- {seed: [0, 1, 2]}`")
    return points


def axis_points(name: str, values) -> list[dict]:
    """One axis of a grid: a list of {parameter: value}.

    Args:
        name: of a parameter, or of several with commas between them.
        values: a list; one value; linspace or logspace of [first, last, number]. For several parameters: a
            list with a list of their values each time.
    """
    names = [part.strip() for part in name.split(",")]
    if isinstance(values, dict):
        values = spaced_values(name, values)
    values = values if isinstance(values, list) else [values]
    if not values:
        raise ValueError(f"axis {name!r} has no values")
    if len(names) == 1:
        return [{name: value} for value in values]
    for together in values:
        if not isinstance(together, list) or len(together) != len(names):
            raise ValueError(f"axis {name!r}: {together!r} does not give a value to each of its names")
    return [dict(zip(names, together)) for together in values]


def spaced_values(name: str, scale: dict) -> list[int] | list[float]:
    """The values of {"linspace": [first, last, number]} or logspace, six digits each; whole numbers (seeds)
    from a whole number in whole steps stay whole."""
    try:
        ((kind, (first, last, number)),) = scale.items()
        values = [float(f"{value:.6g}") for value in SPACED[kind](first, last, number)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"axis {name!r}: {scale} is neither linspace nor logspace of [first, last, number] ({error})"
        ) from error
    whole = isinstance(first, int) and all(value.is_integer() for value in values)
    return [int(value) for value in values] if whole else values
