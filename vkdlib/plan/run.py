"""What a run will take, from published facts, before anything is downloaded. Its memory is an estimate."""

import math
from collections.abc import Sequence

import pandas as pd

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import MODALITIES, Split
from vkdlib.evaluation.ways import queries
from vkdlib.experiments.model_names import CONTROLS, starting_model
from vkdlib.experiments.pipeline import pose_task
from vkdlib.models.dimensions import dimensions
from vkdlib.plan.downloads import BENCHMARKS, downloads, to_download
from vkdlib.plan.unlearning import unlearning_rows
from vkdlib.runs.configuration import Configuration, Machine
from vkdlib.system.checks import number


def plan_run(c: Configuration, machine: Machine | None = None, processes: int = 1) -> pd.DataFrame:
    """Trained parameters, preparation, steps, tokens, memory by part, questions and downloads of a run.

    Args:
        c: the run. Its model may also be one of the papers' checkpoints before a vanilla model is made of it.
        processes: GPUs that share each step.
    Returns:
        columns part, item, value, unit. Memory is that of one device. A model that is evaluated as it is has
        rows for questions and downloads alone.
    Raises:
        ValueError: `experiments.run` would refuse it.
    """
    number("processes", processes, 1, whole=True)
    model = c.model if c.model in dimensions() else starting_model(c)
    split, rows = find_split(c), []
    if c.method not in CONTROLS:
        rows += unlearning_rows(c, machine or Machine(), model, split, processes)
    if split is None:
        rows.append(("evaluation", "all sets", math.nan, "questions, known once the data are here"))
    else:
        counts = count_questions(split, c.kinds)
        rows += [("evaluation", name, count, "questions") for name, count in counts.items()]
    rows += downloads(model, c.benchmark, c.revision, c.data_revision)
    return pd.DataFrame(rows, columns=["part", "item", "value", "unit"])


def find_split(c: Configuration) -> Split | None:
    """The task; None for a published benchmark that would have to be downloaded."""
    if not to_download(BENCHMARKS, c.benchmark):
        return pose_task(load_benchmark(c.benchmark, c.data_revision), c)
    known = BENCHMARKS[c.benchmark]["forget"]
    if c.forget_ratio not in known:
        ratios = ", ".join(map(str, known))
        raise ValueError(f"forget_ratio is {c.forget_ratio}; {c.benchmark} has {ratios} (per cent)")
    return None


def count_questions(split: Split, kinds: Sequence[str]) -> dict[str, int]:
    """How many questions `evaluate` asks, by set."""
    return {name: len(items) for name, items in queries(split, kinds, MODALITIES).items()}
