"""Which points of a sweep are done, and how long the others will take."""

import functools
from pathlib import Path

import nbformat

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.experiments.start import reference_model, starting_model
from vkdlib.models.folders import files_hash
from vkdlib.models.loaded import weights_hash
from vkdlib.models.loading import load
from vkdlib.runs.run import Run
from vkdlib.runs.store import read_run
from vkdlib.sweep.point import Point
from vkdlib.system import paths
from vkdlib.system.paths import RunError

KIND = ("model", "benchmark", "forget_ratio", "method", "epochs", "kinds")  # who agree in these take as long


def run_of(point: Point) -> Run | None:
    """A point's finished run, if there is one and it is of today's data and weights.

    Data or weights that cannot be looked at are not today's: the point's own notebook will say why.
    """
    began = point.began
    if not began:
        return None  # also one that failed after its run: it will find it again
    try:
        found = read_run(point.parameters["experiment"], point.run_hash or "none")
        found.check()
        return found if up_to_date(found, began, point.cwd) else None
    except (OSError, ValueError, RunError):
        return None


def up_to_date(run: Run, began: float, cwd: Path | None = None) -> bool:
    """Whether the run's data, weights and reference are those that are there now.

    Weights of embedded models are compared; others are too large for that: no file of their folders may have
    changed since the notebook began. If one has, the notebook is executed again, and looks at its content.

    Args:
        began: when, in seconds since 1970.
        cwd: where the notebook was, for folders that it named from there.
    """
    c = run.configuration
    benchmark = c.benchmark
    if cwd and (cwd / benchmark).is_dir():
        benchmark = str(cwd / benchmark)
    if _data(benchmark, c.data_revision) != c.data:
        return False
    if not c.model.startswith("testbed/"):
        names = (c.model, c.retain_only, c.settings.get("reference"))
        return not any(_changed(Path(cwd or "", name), began) for name in names if name)
    reference = reference_model(c)
    same = not reference or _files(reference) == c.reference_weights
    return same and _weights(starting_model(c), c.dtype, c.quantise) == c.weights


def _changed(folder: Path, since: float) -> bool:
    """Whether a file of a folder is newer than a time; what is no folder is on the Hub, or a word."""
    return folder.is_dir() and any(file.stat().st_ctime > since for file in folder.iterdir())


@functools.cache
def _data(benchmark: str, revision: str | None) -> str:
    return load_benchmark(benchmark, revision).hash


@functools.cache
def _weights(name: str, dtype: str, quantise: str | None) -> str:
    loaded = load(name, dtype=dtype, device="cpu", quantise=quantise)
    return weights_hash(loaded.model.state_dict())


_files = functools.cache(files_hash)


def expected_time(left: list[Point], workers: int, measured: float | None = None) -> str:
    """How long points will take: as long as the longest of their kind so far, in any experiment; else as long
    as where the sweep was made; else as others with their model, on whatever benchmark, by whatever method.

    Args:
        measured: minutes of one core that a point took when the sweep was run elsewhere.
    """
    if not left:
        return "nothing to do"
    took: dict[tuple, float] = {}
    for file in paths.runs().glob("*/notebooks/*.ipynb"):
        seconds, parameters = _took(file)
        if seconds:
            took[_kind(parameters)] = max(seconds, took.get(_kind(parameters), 0.0))
    kinds = [_kind(point.parameters) for point in left]
    new = [kind for kind in kinds if kind not in took]
    guesses = {}
    for kind in set(new):
        like = [measured * 60] if measured else [took[known] for known in took if known[0] == kind[0]]
        guesses |= {kind: sum(like) / len(like)} if like else {}
    took |= guesses
    unknown = sum(kind not in took for kind in kinds)
    if unknown == len(left):
        return "how long a point takes is not known yet"
    minutes = sum(took.get(kind, 0.0) for kind in kinds) / workers / 60
    by = "what the sweep took where it was made" if measured and new else "points that were run before"
    said = [f"about {minutes:.0f} minutes with {workers} workers, by {by}"]
    guessed = 0 if measured else len(new) - unknown
    said += [f"{guessed} are of kinds that were not run before"] if guessed else []
    said += [f"not counting {unknown}, with models that were not run before"] if unknown else []
    return "; ".join(said)


def _kind(parameters: dict) -> tuple:
    return tuple(str(parameters.get(name)) for name in KIND)


def _took(file) -> tuple[float | None, dict]:
    """Seconds that an executed notebook took, and its parameters; None for one that failed or is damaged."""
    try:
        made = nbformat.read(file, 4).metadata.papermill
    except (AttributeError, ValueError):
        return None, {}
    return None if made.get("exception") else made.get("duration"), made.get("parameters", {})
