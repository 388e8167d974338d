"""All runs: one is found by what it was made from, and never redone; records of many in figures/data."""

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import vkdlib
from vkdlib.runs.run import Run
from vkdlib.system import paths
from vkdlib.system.files import make_folder, read_json
from vkdlib.system.paths import RunError

LOCKS = ".locks"  # folder beside the experiments


@contextlib.contextmanager
def open_run(experiment: str, config: dict, home: Path | None = None) -> Iterator[Run]:
    """Within: this process alone works on the run; another one that wants it waits, whatever it wants it for.

    Look at `run.done` first: a finished run is never computed again, whatever experiment it was for.
    """
    from filelock import FileLock

    run = Run(experiment, json.loads(json.dumps(config)), home or paths.runs())
    for folder in (run.folder.parent, run.home / LOCKS):
        make_folder(folder)
    with FileLock(run.home / LOCKS / f"{run.hash}.lock"):
        run.publish()
        if run.done:
            run.check()
        else:
            run.adopt()
        yield run


def find_run(experiment: str, hash: str, home: Path | None = None) -> Run:
    """A finished run by its hash.

    Raises:
        FileNotFoundError: there is none.
    """
    home = home or paths.runs()
    folder = home / experiment / hash
    if not (folder / "DONE").exists():
        raise FileNotFoundError(f"{folder} is no finished run: run it, or the sweep of its record, again")
    run = Run(experiment, read_json(folder / "config.json"), home)
    if run.folder != folder:
        raise FileNotFoundError(
            f"{folder} was made by another version of vkdlib than {vkdlib.__version__}: run it again"
        )
    return run


def finished(experiment: str, home: Path | None = None) -> list[Run]:
    """All finished runs of an experiment; a damaged one is left out with a warning that names it."""
    home = home or paths.runs()
    found = []
    for done in sorted((home / experiment).glob("*/DONE")):
        try:
            run = Run(experiment, read_json(done.parent / "config.json"), home)
        except RunError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if run.folder == done.parent:  # else it was made by another version of the library
            found.append(run)
    return found


def find(home: Path | None = None, **wanted) -> pd.DataFrame:
    """Finished runs of all experiments, one a row: experiment, run (its hash), and its configuration.

        runs.find(method="VKD", forget_ratio=5)

    Args:
        wanted: values that columns must have; settings and training are columns too.
    Raises:
        ValueError: no run has such a column; the message names those there are.
    """
    home = home or paths.runs()
    every = [run for folder in sorted(home.glob("[!.]*/")) for run in finished(folder.name, home)]
    rows = [{"experiment": run.experiment, "run": run.hash, **run.flat} for run in every]
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in wanted:
        if rows and name not in known:
            raise ValueError(f"no run has {name!r}; they have: {', '.join(known)}")
    matching = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    return pd.DataFrame(matching, columns=known)
