"""Models that stand beside each other: vanilla, never-saw, and what runs made of vanilla."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from vkdlib.benchmarks.schema import Person, Split
from vkdlib.experiments.model_names import CONTROLS, model_of_kind
from vkdlib.experiments.pipeline import load_unlearned, pose_task
from vkdlib.experiments.presets import cached_benchmark
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import read_run
from vkdlib.system import checks, paths
from vkdlib.system.files import read_json

SAME = ("model", "benchmark", "forget_ratio", "draw", "replicate", "select")  # what a task's runs share
KEPT = 6  # models that stay in memory


def task_runs(task: Configuration) -> list[Run]:
    """Runs in VKDLIB_RUNS that unlearned the people of a task. They are read, but not checked: that takes
    longer than to look at them all."""
    runs = {}
    for file in sorted(paths.runs().glob("[!.]*/*/DONE")):
        try:
            c = checks.make(Configuration, "a run", read_json(file.with_name("config.json")))
        except (ValueError, RuntimeError):
            continue  # of another version, or damaged
        run = Run(file.parents[1].name, c, paths.runs())
        same = all(getattr(c, name) == getattr(task, name) for name in SAME)
        if same and c.method not in CONTROLS and c == c.usual and run.hash == file.parent.name:
            runs.setdefault(run.hash, run)
    return list(runs.values())


def compared_models(task: Configuration, runs: Sequence[Run] = ()) -> dict[str, Loaded]:
    """Vanilla, the models of runs, and never-saw if there is one: name -> model, in this order.

    Raises:
        RunError: a run is not whole.
        FileNotFoundError: there is no vanilla model.
    """
    models = {"vanilla": _load(model_of_kind(task, "vanilla"))}
    names = run_names(runs)
    models |= {names[run.hash]: _load_run(run.experiment, run.hash, run.home) for run in runs}
    try:
        models["never-saw"] = _load(model_of_kind(task, "never-saw"))
    except (FileNotFoundError, ValueError):
        pass  # not every task has one
    return models


def run_names(runs: Iterable[Run]) -> dict[str, str]:
    """What runs are called beside each other: the method; of several of one method also the hash."""
    runs = list(runs)
    methods = [run.configuration.method for run in runs]
    return {
        run.hash: method if methods.count(method) == 1 else f"{method} {run.hash[:4]}"
        for run, method in zip(runs, methods)
    }


@functools.lru_cache(maxsize=KEPT)
def _load(name: str) -> Loaded:
    return load(name)


@functools.lru_cache(maxsize=KEPT)
def _load_run(experiment: str, hash: str, home: Path) -> Loaded:
    return load_unlearned(read_run(experiment, hash, home))


def task_split(task: Configuration) -> Split:
    """The people of a task."""
    return pose_task(cached_benchmark(task.benchmark, task.data_revision), task)


def groups(split: Split) -> dict[str, tuple[Person, ...]]:
    """People of a split who can be looked at: to forget, to retain, real-world."""
    return {"forget": split.forget, "retain": split.reported()["retain"], "real": split.real}
