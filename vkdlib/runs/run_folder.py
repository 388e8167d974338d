"""A run and its folder, which appears whole or not at all.

`runs/<experiment>/<hash>/` holds config.json, env.json, history.csv, predictions.parquet, metrics.json,
delta.safetensors (changed weights only) and, written last, DONE with the hash of every file. Until then
the folder is called `<hash>.part` and may hold a checkpoint to go on from.

Results are read without torch, which takes longer to load than most records.
"""

import functools
import hashlib
import html
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pyarrow.parquet import read_metadata

import vkdlib
from vkdlib.evaluation import metrics
from vkdlib.runs.configuration import Configuration
from vkdlib.system import files
from vkdlib.system.html import table_html
from vkdlib.system.paths import PACKAGE, RunError

RECORD = [
    "experiment", "model", "benchmark", "schema", "forget_ratio", "draw", "replicate", "method", "seed",
    "way", "set", "modality", "kind", "metric", "value", "n", "people", "low", "high", "start", "run",
]  # fmt: skip

SHOWN, HEADLINE = ("accuracy", "rouge_l"), "classification"  # in a notebook's tables of a run
FILES = [
    "config.json", "env.json", "history.csv", "predictions.parquet", "metrics.json", "delta.safetensors",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Run:
    """One run, finished or not.

    Attributes:
        experiment: name of the folder it is kept in.
        configuration: all that makes it what it is.
        home: where experiments are kept.
    """

    experiment: str
    configuration: Configuration
    home: Path

    def __repr__(self) -> str:
        c = self.configuration
        state = "finished" if self.done else "not finished"
        return f"<Run {self.hash} of {self.experiment}: {c.method} on {c.model}, {c.benchmark}, {state}>"

    def _repr_html_(self) -> str:
        """What it is and where; of a finished run, multiple choice in the columns of the papers' tables, and
        all other answers to unfold."""
        head = f"<b>{html.escape(repr(self).strip('<>'))}</b><div>in {html.escape(str(self.folder))}</div>"
        return head + (answers_html(metrics.summarise(self.predictions)) if self.done else "")

    @property
    def hash(self) -> str:
        """First 12 digits of the sha256 of configuration and library version."""
        return files.short_hash(self.configuration.identity | {"vkdlib": vkdlib.__version__})

    @property
    def folder(self) -> Path:
        return self.home / self.experiment / self.hash

    @property
    def partial(self) -> Path:
        """Where an unfinished run keeps its checkpoint."""
        return self.folder.with_name(self.hash + ".part")

    @property
    def done(self) -> bool:
        """Whether it is finished, whole, and a result (see `check_folder`)."""
        return is_finished(self.folder)

    def finish(
        self,
        predictions: pd.DataFrame,
        history: Sequence[dict] = (),
        report: dict | None = None,
        delta: dict | None = None,
        *,
        steps: int | None = None,
    ) -> None:
        """Write everything, DONE last, then give the folder its name.

        Args:
            history: one row of losses a step; of a series of requests, one a request.
            delta: name -> changed tensor; None for a model that was not changed.
            steps: how many the training was to have; None: as many as `history` has rows.
        Raises:
            RunError: there are no answers, or fewer steps than there should be.
        """
        files.make_folder(self.partial)
        files.write_json(self.partial / "config.json", vars(self.configuration))
        files.write_json(self.partial / "env.json", environment())
        numbers = metrics.summarise(predictions).to_dict("records")
        facts = {"steps": len(history) if steps is None else steps, "report": report or {}}
        files.write_json(self.partial / "metrics.json", facts | {"metrics": numbers})
        names = {name: getattr(self.configuration, name) for name in ("model", "method", "seed")}
        table = pd.concat([pd.DataFrame(names, predictions.index), predictions], axis=1)
        with files.whole_file(self.partial / "predictions.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        (self.partial / "history.csv").unlink(missing_ok=True)
        if history:
            files.write_csv(self.partial / "history.csv", history)
        if delta:
            from vkdlib.runs.deltas import save_delta

            save_delta(self.partial / "delta.safetensors", delta, self.configuration.weights or "")
        present = [self.partial / name for name in FILES if (self.partial / name).exists()]
        files.write_json(self.partial / "DONE", {file.name: files.file_hash(file) for file in present})
        check_folder(self.partial)
        self.publish()

    def publish(self) -> None:
        """Give the partial folder its name if it is finished, also after a kill just before that."""
        if is_finished(self.partial):
            (self.partial / "checkpoint.safetensors").unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)  # what is there is no finished run
            os.rename(self.partial, self.folder)

    def adopt(self) -> None:
        """Copy the same run from another experiment, if one has it whole."""
        folders = [done.parent for done in sorted(self.home.glob(f"*/{self.hash}/DONE"))]
        for source in filter(is_finished, folders):
            shutil.rmtree(self.partial, ignore_errors=True)
            shutil.copytree(source, self.partial, ignore=shutil.ignore_patterns("DONE"))
            with files.whole_file(self.partial / "DONE") as temporary:  # last: only a whole run looks whole
                shutil.copy(source / "DONE", temporary)
            return self.publish()

    def check(self) -> None:
        """Raise RunError unless the run's folder holds a result, as it was when the run ended."""
        check_folder(self.folder)

    @property
    def predictions(self) -> pd.DataFrame:
        """The predictions of a finished run, checked against DONE."""
        self.check()
        return pd.read_parquet(self.folder / "predictions.parquet")

    @property
    def report(self) -> dict:
        """What the method said of its preparation (neurons pruned, density of the mask)."""
        return files.read_json(self.folder / "metrics.json")["report"]

    @property
    def history(self) -> pd.DataFrame:
        """Losses by step; of a series of requests, what each spent; empty of a model that was not trained."""
        return read_history(self.folder)

    def records(self, **swept) -> pd.DataFrame:
        """The run's numbers in the layout of figures/data; `start`: hash of data and of first weights.

        Args:
            swept: further columns, name -> value.
        """
        names = [n for n in RECORD if n in vars(self.configuration)]
        values = {name: getattr(self.configuration, name) for name in names}
        values["start"] = files.short_hash([self.configuration.data, self.configuration.weights])
        table = metrics.summarise(self.predictions)
        return table.assign(experiment=self.experiment, run=self.hash, **values)[RECORD].assign(**swept)


def answers_html(table: pd.DataFrame) -> str:
    """What a model answers, from `metrics.summarise`: multiple choice (else the first kind of question there
    is) in one row, with a column a set and modality; below it, folded, all kinds."""
    table = table[table.metric.isin(SHOWN)]
    if table.empty:
        return ""
    digits = table.metric.map(lambda metric: 1 if metric in metrics.SHARES else 3)
    numbers = zip(table.value, table.low, table.high, digits)
    cells = [f"{value:.{d}f} [{low:.{d}f}, {high:.{d}f}]" for value, low, high, d in numbers]
    titles = table.set.str.replace("_", " ") + " " + table.modality.str.upper()
    counts = [f"N={n}, {people} people" for n, people in zip(table.n, table.people)]
    table = table.assign(cell=cells, title=titles, count=counts)
    kind = HEADLINE if HEADLINE in set(table.kind) else table.kind.iloc[0]
    first = table[table.kind == kind]
    row = pd.DataFrame([list(first.cell)], [kind], first.title + " (" + first["count"] + ")")
    every = table[["title", "kind", "metric", "cell", "n", "people"]]
    every = every.rename(columns={"title": "questions", "cell": "value [95 % interval]", "n": "N"})
    folded = f"<details><summary>all answers</summary>{table_html(every, index=False)}</details>"
    return table_html(row) + folded


def check_folder(folder: Path) -> None:
    """Raise RunError unless a folder holds a result: every file that DONE lists, unchanged; answers to
    questions; and all steps of the training, with their losses."""
    hashes = files.read_json(folder / "DONE")
    for name in dict.fromkeys(["config.json", "metrics.json", "predictions.parquet", *hashes]):
        file = folder / name
        if not file.exists() or _hash_of(file, *_state(file)) != hashes.get(name):
            state = "was changed" if file.exists() else "is missing"
            raise RunError(f"{file} {state} since the run ended: delete {folder}, run again")
    history, steps = read_history(folder), files.read_json(folder / "metrics.json").get("steps", 0)
    flaws = {
        "holds no answers": not read_metadata(folder / "predictions.parquet").num_rows,
        f"holds {len(history)} of {steps} steps": len(history) < steps,
        "holds steps without a loss": len(history) and not set(history) - {"step", "lr"},
    }
    for flaw, present in flaws.items():
        if present:
            raise RunError(f"{folder} {flaw}, and is no result: delete {folder}, run again")


def is_finished(folder: Path) -> bool:
    """Whether `check_folder` finds nothing wrong."""
    try:
        check_folder(folder)
    except RunError:
        return False
    return True


def read_history(folder: Path) -> pd.DataFrame:
    """Losses by step; empty for a model that was not trained."""
    file = folder / "history.csv"
    return pd.read_csv(file) if file.exists() else pd.DataFrame()


def _state(file: Path) -> tuple[int, int]:
    """What changes when a file is written: size, and time in nanoseconds."""
    state = file.stat()
    return state.st_size, state.st_mtime_ns


@functools.lru_cache(maxsize=100_000)
def _hash_of(file: Path, size: int, modified: int) -> str:
    """`file_hash`, computed once while the file does not change: a sweep looks at each run several times."""
    return files.file_hash(file)


@functools.cache
def code_hash() -> str:
    """Twelve hex digits of the library's own code: versions are few, edits are many."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def environment() -> dict[str, str]:
    """Versions, code and hardware of this run; of packages that not every run needs, those installed."""
    from importlib.metadata import version
    from importlib.util import find_spec

    import torch

    from vkdlib.system import processes

    packages = ["torch", "transformers", "datasets", "numpy", "pandas", "safetensors"]
    packages += [name for name in ("accelerate", "peft", "bitsandbytes") if find_spec(name)]
    return {
        "vkdlib": vkdlib.__version__,
        "code": code_hash(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "processes": str(processes.rank_and_size()[1]),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **{name: version(name) for name in packages},
    }
