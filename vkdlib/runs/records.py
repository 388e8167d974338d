"""Records in figures/data: the numbers of many runs, and every answer behind them."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from vkdlib.runs.run_folder import RECORD, Run
from vkdlib.system import paths
from vkdlib.system.files import make_folder, whole_file

OTHER_STARTS = ("base", "retain-only", "never-saw")  # models that are evaluated; all else starts from vanilla


def write_records(name: str, records: list[pd.DataFrame]) -> Path:
    """Write figures/data/<name>.csv: sorted rows, so that two records can be compared.

    What was measured has four decimals; settings stay as they are, for a learning rate has more.
    """
    table = pd.concat(records).drop_duplicates()
    keys = [c for c in table.columns if c not in ("value", "n", "people", "low", "high", "start", "run")]
    table = table.sort_values(keys)
    for measured in ("value", "low", "high"):
        table[measured] = table[measured].map("{:.4f}".format)
    file = _record_file(f"{name}.csv")
    with whole_file(file) as temporary:
        table.to_csv(temporary, index=False)
    return file


def read_records(name: str) -> pd.DataFrame:
    """Read figures/data/<name>.csv.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is of the first edition, whose runs had one draw of people and other models, or it
            mixes runs of several starts (`check_starts`).
    """
    file = _existing(f"{name}.csv")
    table = pd.read_csv(file, dtype={"run": str, "start": str})  # hashes may look like numbers
    if missing := [column for column in RECORD if column not in table]:
        raise ValueError(
            f"{file} is a record of the first edition, for it has no column {', '.join(missing)}. It is not "
            f"shown beside those of the second: run its sweep again (make {name})"
        )
    check_starts(table, str(file))
    return table


def check_starts(records: pd.DataFrame, source: str) -> None:
    """Raise ValueError if runs of one kind started from different data or weights: those of several editions
    of a benchmark or model are never mixed.

    A kind: all that is unlearned from the same vanilla model, and that model; each reference by itself.

    Args:
        source: of the records, for the error.
    """
    kind = records.method.where(records.method.isin(OTHER_STARTS), "vanilla")
    ratio = records.forget_ratio.where(kind == "retain-only", 0)
    keys = [records[name] for name in ("model", "benchmark", "replicate")] + [kind, ratio]
    starts = records.start.groupby(keys).nunique()
    if (starts > 1).any():
        model, benchmark, replicate, kind, _ = starts.idxmax()
        raise ValueError(
            f"{source}: runs of {model} on {benchmark} (replicate {replicate}, from {kind}) started from "
            f"{starts.max()} different data or weights: run the sweep again, so that all are of one edition"
        )


def write_predictions(name: str, runs: Iterable[Run]) -> Path:
    """Write figures/data/<name>.parquet: every answer behind figures/data/<name>.csv.

    Whoever has it can count the numbers again, or test something new, without the runs. It holds the runs'
    own predictions with the run's hash; log-probabilities have four decimals.
    """
    tables = [run.predictions.astype({"bleu": float}).assign(run=run.hash) for run in runs]
    table = pd.concat(tables, ignore_index=True).drop(columns=["model", "method", "seed"])
    table["options"] = table.options.map(_four_decimals, na_action="ignore")
    file = _record_file(f"{name}.parquet")
    with whole_file(file) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd", compression_level=19)
    return file


def read_predictions(name: str) -> dict[str, pd.DataFrame]:
    """Hash of each run of a record -> its predictions, as `evaluate` returned them."""
    table = pd.read_parquet(_existing(f"{name}.parquet"))
    return {run: rows.drop(columns="run").reset_index(drop=True) for run, rows in table.groupby("run")}


def write_table(name: str, table: pd.DataFrame) -> Path:
    """Write figures/data/<name>.csv: numbers that come from no run, such as counts and times."""
    file = _record_file(f"{name}.csv")
    with whole_file(file) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return file


def read_table(name: str) -> pd.DataFrame:
    """Read what `write_table` wrote.

    Raises:
        FileNotFoundError: it is not there.
    """
    return pd.read_csv(_existing(f"{name}.csv"))


def _record_file(name: str) -> Path:
    """A file of figures/data, to be written; its folder is there."""
    make_folder(paths.figures() / "data")
    return paths.figures() / "data" / name


def _existing(name: str) -> Path:
    """A file of figures/data.

    Raises:
        FileNotFoundError: it is not there.
    """
    file = paths.figures() / "data" / name
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such record; the Makefile says which command makes it")
    return file


def _four_decimals(options: str) -> str:
    return json.dumps({option: round(score, 4) for option, score in json.loads(options).items()})
