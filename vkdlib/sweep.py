"""A grid of runs from a YAML file: each point is a notebook executed by papermill.

    python -m vkdlib.sweep notebooks/sweeps/foundation.yaml

A finished point is found by its run's hash and not computed again, so a sweep that was stopped goes on
where it was. The file holds `notebook`, `experiment`, `parameters` (of every point), `grid` (a list of
{parameter: [values]}, each crossed), `record` (the CSV to write) and `columns` (parameters that become
columns of it). The notebook prints "run <hash>": that is how its run is found.
"""

import itertools
import re
import sys
from pathlib import Path

import yaml

from vkdlib import paths
from vkdlib.progress import bar
from vkdlib.runs import RECORD, Run, find, write_records


def points(sweep: dict) -> list[dict]:
    """All points of a sweep: parameters of the notebook."""
    found = []
    for axes in sweep["grid"]:
        values = [v if isinstance(v, list) else [v] for v in axes.values()]
        found += [dict(zip(axes, chosen)) for chosen in itertools.product(*values)]
    fixed = sweep.get("parameters", {}) | {"experiment": sweep["experiment"]}
    return [fixed | point for point in found]


def check(notebook: Path, wanted: list[dict]) -> None:
    """Stop before anything runs if a point names a parameter that the notebook lacks."""
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    for name in {n for point in wanted for n in point}:
        if name not in known:
            raise ValueError(f"{notebook.name} has no parameter {name!r}; it has: {', '.join(known)}")


def execute(file: Path) -> Path:
    """Run all points of a sweep that are not done yet, then write its record.

    Returns:
        the record: figures/data/<record>.csv.
    """
    import papermill

    sweep = yaml.safe_load(file.read_text())
    notebook = file.parent.parent / sweep["notebook"]
    wanted = points(sweep)
    check(notebook, wanted)
    folder = paths.runs() / sweep["experiment"] / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    hashes = set()
    for number, point in enumerate(bar(wanted, file.stem)):
        executed = papermill.execute_notebook(
            str(notebook),
            str(folder / f"{number:03d}.ipynb"),
            point,
            kernel_name="python3",
            cwd=str(notebook.parent),
            progress_bar=False,
            start_timeout=120,
        )
        hashes.add(run_hash(executed))
    runs = [run for run in find(sweep["experiment"]) if run.hash in hashes]
    records = [run.records(**columns(run, sweep.get("columns", []))) for run in runs]
    return write_records(sweep["record"], records)


def run_hash(executed) -> str:
    """The hash that an executed notebook printed as "run <hash>"."""
    text = "".join(o.text for c in executed.cells for o in c.get("outputs", []) if "text" in o)
    found = re.search(r"^run ([0-9a-f]{12})\b", text, re.MULTILINE)
    if not found:
        raise ValueError('the notebook did not print "run <hash>"')
    return found[1]


def columns(run: Run, names: list[str]) -> dict:
    """Values of swept parameters, wherever in the run's configuration they are; none for references."""
    flat = {**run.config, **run.config["settings"], **run.config["training"]}
    return {name: flat[name] for name in names if name not in RECORD and flat.get(name) is not None}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m vkdlib.sweep FILE.yaml")
    print(f"record: {execute(Path(sys.argv[1]))}")
