"""Load a benchmark: one reader for the Hub's files, a download and the testbed."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vkdlib.benchmarks.clear import read_clear
from vkdlib.benchmarks.mllmu import read_mllmu
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.schema import OPTIONS, Benchmark, Person, Question
from vkdlib.benchmarks.wording import comparison_key
from vkdlib.system.checks import one_of

READERS = {"Full_Set": read_mllmu, "full": read_clear}  # by a configuration that only its data have
EMBEDDED = ("testbed/mllmu", "testbed/clear", "testbed/mllmu-100")
# What the readers read of a dataset on the Hub. They need neither CLEAR's `default` (the same as `full`) nor
# its +tofu of forget and retain sets (parts of `full+tofu`).
CONFIGURATIONS = ["Full_Set", "Test_Set", "Retain_Set", "ft_Data", "forget*[0-9]", "retain*[0-9]", "full"]
CONFIGURATIONS += ["full+tofu", "forget*[0-9]_perturbed", "retain_perturbed", "real_faces", "real_world"]


def load_benchmark(source: str | Path = "testbed/mllmu", revision: str | None = None) -> Benchmark:
    """Read MLLMU-Bench or CLEAR.

    Args:
        source: one of EMBEDDED (made on first use, cached; mllmu-100: the first hundred people), a folder
            laid out as `<configuration>/*.parquet`, or a dataset id of the Hugging Face Hub.
        revision: commit of the Hub's dataset; None takes the newest.
    Raises:
        DataError: naming file, column and row, if the data are not as published; there is no such folder or
            dataset; a revision of what is not on the Hub.
        ValueError: "testbed/..." names no embedded benchmark.
    """
    source = str(source)
    benchmark = _read(_folder(source, revision), source)
    for check in (_option_counts, _namesakes, _lookalikes, _repetitions, _contradictions, _seen_pictures):
        if oddities := list(check(benchmark)):
            more = f" (and {len(oddities) - 1} more of this kind)" if len(oddities) > 1 else ""
            warnings.warn(f"{source}: {oddities[0]}{more}", stacklevel=2)
    return benchmark


def _folder(source: str, revision: str | None) -> Path:
    """The folder of a benchmark's files, which are made or downloaded if need be."""
    here = Path(source).is_dir()
    if source.startswith("testbed/") and not here:
        one_of("benchmark", source, EMBEDDED)
    if revision and (source in EMBEDDED or here):
        raise DataError(f"data_revision is {revision!r}, but {source} is not from the Hub: leave it out")
    if source in EMBEDDED:
        from vkdlib.benchmarks.made_up.cache import benchmark_folder

        return benchmark_folder(source.removeprefix("testbed/"))
    if here:
        return Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise DataError(f"{source}: no such folder, and neither a Hub id nor one of {', '.join(EMBEDDED)}")
    return _download(source, revision)


def _download(source: str, revision: str | None) -> Path:
    """The Hub's dataset of this name. A misspelt folder looks the same, so the error names both."""
    from huggingface_hub import snapshot_download

    files = [f"{config}/*.parquet" for config in CONFIGURATIONS]
    try:
        return Path(snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns=files))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        here = f"no such folder in {Path.cwd()}"
        raise DataError(f"{source}: {here}, and the Hub has no such dataset: {reason}") from error


def _read(folder: Path, source: str) -> Benchmark:
    for config, reader in READERS.items():
        if (folder / config).is_dir():
            return reader(folder, source if source in EMBEDDED else Path(source).name)
    raise DataError(f"{folder}: neither MLLMU-Bench (no folder Full_Set) nor CLEAR (no folder full)")


def _questions(benchmark: Benchmark) -> list[tuple[str, tuple[Question, ...]]]:
    """(person, questions); a person to forget comes again for each ratio that has questions of its own."""
    people = (*benchmark.people.values(), *benchmark.real, *benchmark.world)
    by_ratio = benchmark.forget_questions.values()
    return [(p.id, p.questions) for p in people] + [pair for own in by_ratio for pair in own.items()]


# What is read nevertheless, but changes what the numbers mean:


def _option_counts(benchmark: Benchmark) -> Iterator[str]:
    questions = [q for _, questions in _questions(benchmark) for q in questions]
    counts = {len(q.options) for q in questions if q.kind == "classification"}
    if odd := sorted(counts - {OPTIONS}):
        yield f"there are questions with {odd} options; the chance of 25 % in tables is that of {OPTIONS}"


def _namesakes(benchmark: Benchmark) -> Iterator[str]:
    for ids in _groups([*benchmark.people.values(), *benchmark.real], lambda p: comparison_key(p.name)):
        yield f"{' and '.join(ids)} have one name, so a question by name may mean either"


def _lookalikes(benchmark: Benchmark) -> Iterator[str]:
    for ids in _groups(benchmark.people.values(), lambda p: p.image):
        yield f"{' and '.join(ids)} have one picture, so a question about it has several right answers"


def _groups(people: Iterable[Person], key: Callable[[Person], object]) -> Iterator[list[str]]:
    """Ids of people who have the same key, where there are several."""
    groups = defaultdict(list)
    for person in people:
        groups[key(person)].append(person.id)
    return (ids for ids in groups.values() if len(ids) > 1)


def _repetitions(benchmark: Benchmark) -> Iterator[str]:
    for person, questions in _questions(benchmark):
        ids: dict[tuple, str] = {}
        for q in questions:
            first = ids.setdefault((q.kind, q.modality, q.picture, comparison_key(q.question)), q.id)
            if first != q.id:
                yield f"person {person}: {first} and {q.id} are one question, {q.question!r}, and count twice"
            if len({comparison_key(option) for option in q.options.values()}) < len(q.options):
                yield f"person {person}: two options of {q.id} are as good as the same, {dict(q.options)}"


def _contradictions(benchmark: Benchmark) -> Iterator[str]:
    for person in benchmark.people.values():
        for pairs in (*(picture.pairs for picture in person.pictures), person.text_pairs):
            answers: dict[str, str] = {}
            for question, answer in pairs:
                first = answers.setdefault(comparison_key(question), answer)
                if comparison_key(first) != comparison_key(answer):
                    yield f"person {person.id}: {question!r} is taught as {first!r} and as {answer!r}"


def _seen_pictures(benchmark: Benchmark) -> Iterator[str]:
    for person in benchmark.people.values():
        for number, image in enumerate(person.test_images):
            if image == person.image:
                yield f"person {person.id}: picture {number} of Test_Set is the portrait, which is trained on"
