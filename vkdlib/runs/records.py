"""Records in figures/data: the numbers of many runs, and every answer behind them."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from vkdlib.runs.run_folder import Run
from vkdlib.system import paths
from vkdlib.system.files import make_folder, whole_file


def write_records(name: str, records: list[pd.DataFrame]) -> Path:
    """Write figures/data/<name>.csv: sorted rows, so that two records can be compared.

    What was measured has four decimals; settings stay as they are, for a learning rate has more.
    """
    table = pd.concat(records).drop_duplicates()
    keys = [c for c in table.columns if c not in ("value", "n", "people", "low", "high", "run")]
    table = table.sort_values(keys)
    for measured in ("value", "low", "high"):
        table[measured] = table[measured].map("{:.4f}".format)
    file = _record_file(f"{name}.csv")
    with whole_file(file) as temporary:
        table.to_csv(temporary, index=False)
    return file


def read_records(name: str) -> pd.DataFrame:
    """Read figures/data/<name>.csv. Older records do not name the schema: theirs are testbed/<schema>."""
    table = pd.read_csv(_existing(f"{name}.csv"))
    if "schema" not in table:
        table.insert(table.columns.get_loc("benchmark") + 1, "schema", table.benchmark.str.split("/").str[-1])
    return table


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
