"""What an evaluation will ask, and what has to be downloaded for it."""

import math
from collections.abc import Sequence

import pandas as pd

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import KINDS, Split
from vkdlib.plan.downloads import BENCHMARKS, Row, downloads, to_download
from vkdlib.system.checks import one_of

COLUMNS = ["part", "item", "value", "unit"]


def plan_evaluation(
    model: str,
    benchmark: str,
    forget_ratio: int,
    *,
    kinds: Sequence[str] = KINDS,
    select: bool = False,
    revision: str | None = None,
    data_revision: str | None = None,
) -> pd.DataFrame:
    """Questions asked and downloads: all that there is to say of a model that is evaluated as it is.

    Returns:
        columns COLUMNS.
    """
    split = find_split(benchmark, forget_ratio, data_revision, select)
    rows = evaluation_rows(split, kinds) + downloads(model, benchmark, revision, data_revision)
    return pd.DataFrame(rows, columns=COLUMNS)


def find_split(benchmark: str, forget_ratio: int, revision: str | None, select: bool) -> Split | None:
    """The task; None if the benchmark is a published one that would have to be downloaded."""
    if not to_download(BENCHMARKS, benchmark):
        split = load_benchmark(benchmark, revision).split(forget_ratio)
        return split.for_selection() if select else split
    known = BENCHMARKS[benchmark]["forget"]
    if forget_ratio not in known:
        ratios = ", ".join(map(str, known))
        raise ValueError(f"forget_ratio is {forget_ratio}; {benchmark} has {ratios} (per cent)")
    return None


def evaluation_rows(split: Split | None, kinds: Sequence[str]) -> list[Row]:
    """How many questions each set has."""
    for kind in kinds:
        one_of("kinds", kind, KINDS)
    if split is None:
        return [("evaluation", "all sets", math.nan, "questions, known once the data are here")]
    return [("evaluation", name, n, "questions") for name, n in count_questions(split, kinds).items()]


def count_questions(split: Split, kinds: Sequence[str] = KINDS) -> dict[str, int]:
    """How many questions `evaluate` asks, by set: in the test set, those with a picture, about each of a
    person's other pictures."""
    counts = {}
    for name, people in split.reported().items():
        questions = [(p, q) for p in people for q in p.questions if q.kind in kinds]
        views = [len(p.test_images) if q.modality == "vqa" else 0 for p, q in questions]
        counts[name] = sum(views) if name == "test" else len(questions)
    return counts
