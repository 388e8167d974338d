"""All runs: one is found by what it was made from, and never made twice."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import vkdlib
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run, read_history
from vkdlib.system import paths
from vkdlib.system.checks import check_names, make
from vkdlib.system.files import make_folder, read_json
from vkdlib.system.paths import RunError

LOCKS = ".locks"  # folder beside the experiments


@contextlib.contextmanager
def open_run(experiment: str, configuration: Configuration, home: Path | str | None = None) -> Iterator[Run]:
    """Within: this process alone works on the run; another one that wants the same run waits.

    Look at `run.done` first: a finished run is never computed again, whatever experiment it was made for.

    Raises:
        RunError: the run's folder was damaged since it ended, or is no result.
    """
    run = Run(experiment, configuration, Path(home or paths.runs()))
    for folder in (run.folder.parent, run.home / LOCKS):
        make_folder(folder)
    with lock(run.home / LOCKS / f"{run.hash}.lock"):
        run.publish()
        if (run.folder / "DONE").exists():
            run.check()
        else:
            run.adopt()
        yield run


@contextlib.contextmanager
def lock(file: Path) -> Iterator[None]:
    """Within: no other process is in here with the same file.

    Raises:
        OSError: the file cannot be written.
    """
    from filelock import FileLock

    try:
        acquired = FileLock(file).acquire()
    except OSError as error:
        raise OSError(
            f"{file} could not be written ({error}): give access there, or choose another place for runs "
            "(VKDLIB_RUNS)"
        ) from error
    with acquired:
        yield


def read_run(experiment: str, hash: str, home: Path | str | None = None) -> Run:
    """A finished run by its hash.

    Raises:
        FileNotFoundError: there is none, or another version of the library made it.
        RunError: it is damaged, or no result.
    """
    home = Path(home or paths.runs())
    folder = home / experiment / hash
    if not (folder / "DONE").exists():
        raise FileNotFoundError(f"{folder} is no finished run: run it, or the sweep of its record, again")
    try:
        run = Run(experiment, make(Configuration, "a run", read_json(folder / "config.json")), home)
    except ValueError:  # it has fields that are not known here
        run = None
    if run is None or run.hash != hash:
        raise FileNotFoundError(
            f"{folder} was made by another version of vkdlib than {vkdlib.__version__}: run it again"
        )
    run.check()
    return run


def finished_runs(experiment: str, home: Path | str | None = None) -> list[Run]:
    """All finished runs of an experiment that this version of the library made; a damaged one is left out
    with a warning that names it."""
    runs = []
    for done in sorted((Path(home or paths.runs()) / experiment).glob("*/DONE")):
        try:
            runs.append(read_run(experiment, done.parent.name, home))
        except FileNotFoundError:
            continue  # of another version
        except RunError as error:
            warnings.warn(str(error), stacklevel=2)
    return runs


def interrupted_runs(experiment: str, home: Path | str | None = None) -> dict[str, int]:
    """Hash -> steps done, of each run of an experiment whose training has a checkpoint to go on from."""
    folders = sorted((Path(home or paths.runs()) / experiment).glob("*.part"))
    begun = [folder for folder in folders if (folder / "checkpoint.safetensors").exists()]
    return {folder.name.removesuffix(".part"): len(read_history(folder)) for folder in begun}


def runs_table(home: Path | str | None = None, **values) -> pd.DataFrame:
    """Finished runs of all experiments, one a row: experiment, run (its hash), and its configuration.

        store.runs_table(method="VKD", forget_ratio=5)

    Args:
        values: what columns must have; settings and training are columns, too.
    Raises:
        ValueError: no run has such a column; the message names those there are.
    """
    home = Path(home or paths.runs())
    runs = [run for folder in sorted(home.glob("[!.]*/")) for run in finished_runs(folder.name, home)]
    rows = [{"experiment": run.experiment, "run": run.hash, **run.configuration.flat} for run in runs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if rows:
        check_names("a run", values, columns)
    matches = [row for row in rows if all(row.get(name) == value for name, value in values.items())]
    return pd.DataFrame(matches, columns=columns)
