"""Load a benchmark: one reader for the Hub's files, a download and the testbed."""

import warnings
from pathlib import Path

from vkdlib.benchmarks.clear import read_clear
from vkdlib.benchmarks.mllmu import read_mllmu
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.schema import OPTIONS, Benchmark

READERS = {"Full_Set": read_mllmu, "full": read_clear}  # by a configuration that only one of them has
EMBEDDED = ("mllmu", "clear")
# Of a dataset on the Hub, what the readers read: not CLEAR's `default` (again `full`) nor its +tofu of forget
# and retain sets (parts of `full+tofu`).
READ = [
    f"{config}/*.parquet"
    for config in (
        *("Full_Set", "Test_Set", "Retain_Set", "ft_Data", "forget*[0-9]", "retain*[0-9]"),
        *("full", "full+tofu", "forget*[0-9]_perturbed", "retain_perturbed", "real_faces", "real_world"),
    )
]


def load_benchmark(source: str = "testbed/mllmu", revision: str | None = None) -> Benchmark:
    """Read MLLMU-Bench or CLEAR.

    Args:
        source: "testbed/mllmu" or "testbed/clear" (made on first use, cached), a folder laid out as
            `<configuration>/*.parquet`, or a dataset id of the Hugging Face Hub.
        revision: commit of the Hub's dataset; None takes the newest.
    Raises:
        DataError: naming file, column and row, if the data are not as published; a revision of what is not
            on the Hub.
    """
    benchmark = _read(_folder(source, revision), source)
    asked = [p.questions for p in (*benchmark.people.values(), *benchmark.real, *benchmark.world)]
    asked += [questions for own in benchmark.forget_questions.values() for questions in own.values()]
    odd = {len(q.options) for questions in asked for q in questions if q.kind == "classification"} - {OPTIONS}
    if odd:
        warnings.warn(
            f"{source}: there are questions with {sorted(odd)} options to choose from; the chance of 25 % in "
            f"tables, figures and balances is that of {OPTIONS}",
            stacklevel=2,
        )
    return benchmark


def _folder(source: str, revision: str | None) -> Path:
    embedded = source in (f"testbed/{name}" for name in EMBEDDED)
    if revision and (embedded or Path(source).is_dir()):
        raise DataError(
            f"data_revision is {revision!r}, a commit on the Hub; {source} is not from there: leave it out"
        )
    if embedded:
        from vkdlib.benchmarks.made_up.cache import benchmark_folder

        return benchmark_folder(source.removeprefix("testbed/"))
    if Path(source).is_dir():
        return Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "testbed/")):
        known = ", ".join(f"testbed/{name}" for name in EMBEDDED)
        raise DataError(f"{source}: no such folder, and neither a Hub id nor one of {known}")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns=READ))


def _read(folder: Path, source: str) -> Benchmark:
    for config, reader in READERS.items():
        if (folder / config).is_dir():
            return reader(folder, source.rstrip("/") if source.startswith("testbed/") else Path(source).name)
    raise DataError(
        f"{folder}: neither MLLMU-Bench (no configuration Full_Set) nor CLEAR (no configuration full)"
    )
