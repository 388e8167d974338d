"""Load a benchmark: one reader for the Hub's files, a download and the testbed."""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from vkdlib.benchmarks.clear import read_clear
from vkdlib.benchmarks.mllmu import read_mllmu
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.schema import OPTIONS, Benchmark
from vkdlib.system.checks import one_of

READERS = {"Full_Set": read_mllmu, "full": read_clear}  # by a configuration that only one of them has
EMBEDDED = ("testbed/mllmu", "testbed/clear")
# Of a dataset on the Hub, what the readers read: not CLEAR's `default` (again `full`) nor its +tofu of forget
# and retain sets (parts of `full+tofu`).
READ = ["Full_Set", "Test_Set", "Retain_Set", "ft_Data", "forget*[0-9]", "retain*[0-9]"]  # MLLMU-Bench's
READ += ["full", "full+tofu", "forget*[0-9]_perturbed", "retain_perturbed", "real_faces", "real_world"]
READ = [f"{config}/*.parquet" for config in READ]


def load_benchmark(source: str | Path = "testbed/mllmu", revision: str | None = None) -> Benchmark:
    """Read MLLMU-Bench or CLEAR.

    Args:
        source: "testbed/mllmu" or "testbed/clear" (made on first use, cached), a folder laid out as
            `<configuration>/*.parquet`, or a dataset id of the Hugging Face Hub.
        revision: commit of the Hub's dataset; None takes the newest.
    Raises:
        DataError: naming file, column and row, if the data are not as published; there is no such folder or
            dataset; a revision of what is not on the Hub.
        ValueError: "testbed/..." names no embedded benchmark.
    """
    source = str(source)
    benchmark = _read(_folder(source, revision), source)
    for oddity in _oddities(benchmark):
        warnings.warn(f"{source}: {oddity}", stacklevel=2)
    return benchmark


def _folder(source: str, revision: str | None) -> Path:
    """Where a benchmark's files are; they are made or downloaded if need be."""
    if source.startswith("testbed/") and not Path(source).is_dir():
        one_of("benchmark", source, EMBEDDED)
    if revision and (source in EMBEDDED or Path(source).is_dir()):
        raise DataError(
            f"data_revision is {revision!r}, a commit on the Hub; {source} is not from there: leave it out"
        )
    if source in EMBEDDED:
        from vkdlib.benchmarks.made_up.cache import benchmark_folder

        return benchmark_folder(source.removeprefix("testbed/"))
    if Path(source).is_dir():
        return Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise DataError(f"{source}: no such folder, and neither a Hub id nor one of {', '.join(EMBEDDED)}")
    return _download(source, revision)


def _download(source: str, revision: str | None) -> Path:
    """The Hub's dataset of this name. A missing folder looks the same, so an error names both."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns=READ))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{source}: no such folder here ({Path.cwd()}), and the Hugging Face Hub does not give a dataset "
            f"of this name: {reason}"
        ) from error


def _read(folder: Path, source: str) -> Benchmark:
    for config, reader in READERS.items():
        if (folder / config).is_dir():
            return reader(folder, source if source in EMBEDDED else Path(source).name)
    raise DataError(
        f"{folder}: neither MLLMU-Bench (no configuration Full_Set) nor CLEAR (no configuration full)"
    )


def _oddities(benchmark: Benchmark) -> Iterator[str]:
    """What can be read, but makes numbers mean something else."""
    people = benchmark.people.values()
    questions = [p.questions for p in (*people, *benchmark.real, *benchmark.world)]
    questions += [own for by_id in benchmark.forget_questions.values() for own in by_id.values()]
    counts = {len(q.options) for part in questions for q in part if q.kind == "classification"}
    if odd := sorted(counts - {OPTIONS}):
        yield (
            f"there are questions with {odd} options to choose from; the chance of 25 % in tables, figures "
            f"and balances is that of {OPTIONS}"
        )
    names, faces = defaultdict(list), defaultdict(list)
    for person in people:
        names[person.name.casefold()].append(person.id)
        faces[person.image].append(person.id)
    for ids in (ids for ids in names.values() if len(ids) > 1):
        yield f"{' and '.join(ids)} have one name, so a question by name may mean either"
    for ids in (ids for ids in faces.values() if len(ids) > 1):
        yield f"{' and '.join(ids)} have one picture, so a question about it has several right answers"
