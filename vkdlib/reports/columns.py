"""The columns of the papers' tables: what each counts."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from vkdlib.benchmarks.schema import OPTIONS

CHANCE = 100 / OPTIONS  # per cent
LOWER = "Forget VQA"  # the one column of Table 1 in which less is better
FACES = ["Retain VQA", "Real-world VQA", "Real world"]  # faces to keep, where a benchmark has them
BALANCE = "Faces kept - forgotten"  # not a column: the mean of FACES minus LOWER
# The six columns of the VKD paper's Table 1: title -> (set, modality, kind, metric). Under CLEAR the paper's
# "Real-world QA" has the size of real_faces, where faces are named: no question in text.
_MLLMU = {
    f"{title} {modality.upper()}": (group, modality, "classification", "accuracy")
    for title, group in (("Forget", "forget"), ("Retain", "retain"), ("Real-world", "real"))
    for modality in ("vqa", "qa")
}
_CLEAR = {
    "Forget VQA": ("forget", "vqa", "classification", "accuracy"),
    "Forget QA": ("forget", "qa", "generation", "rouge_l"),
    "Retain VQA": ("retain", "vqa", "classification", "accuracy"),
    "Retain QA": ("retain", "qa", "generation", "rouge_l"),
    "Real world": ("world", "vqa", "classification", "accuracy"),
    "Real faces": ("real", "vqa", "classification", "accuracy"),
}


def table_1(sets: pd.Series) -> dict[str, tuple[str, str, str, str]]:
    """The columns of Table 1 of the benchmark with these sets: title -> (set, modality, kind, metric)."""
    return _CLEAR if (sets == "world").any() else _MLLMU  # no other asks about the world


def six_columns(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The columns of Table 1 from records of one benchmark: title -> its rows, where there are any."""
    clear = (records.set == "world").groupby(records.benchmark).any()
    if clear.nunique() > 1:
        raise ValueError("records of several benchmarks; Table 1 has other columns for each")
    found = {}
    for title, wanted in table_1(records.set).items():
        rows = records
        for column, value in zip(("set", "modality", "kind", "metric"), wanted):
            rows = rows[rows[column] == value]
        found[title] = rows
    return {title: rows for title, rows in found.items() if len(rows)}


def balance(records: pd.DataFrame, by: list[str], kept: Collection[str] | None = None) -> pd.Series:
    """What is kept minus what is not forgotten, in points: the mean of the columns of Table 1 but forget VQA,
    minus forget VQA. ROUGE-L counts times 100, and forget VQA below chance as chance: to answer wrongly on
    purpose is not to have forgotten.

    Args:
        records: in the layout of figures/data, of one benchmark.
        by: columns of the records that tell rows of the table apart.
        kept: only these columns count as kept, for example FACES; None: all.
    Returns:
        indexed by `by`; NaN where a row lacks one of the six columns.
    Raises:
        ValueError: one of the six columns is missing in all rows, or there are several for one row.
    """
    points, found = {}, six_columns(records)
    if len(found) < 6:
        raise ValueError(f"a balance needs all columns of Table 1; there are {', '.join(found) or 'none'}")
    for title, rows in found.items():
        if rows.duplicated(by).any():
            raise ValueError(f"{title}: several records of one row; tell them apart by more than {by}")
        scale = np.where(rows.metric == "accuracy", 1, 100)
        points[title] = (rows.value * scale).set_axis(pd.MultiIndex.from_frame(rows[by]))
    forget = points.pop(LOWER).clip(lower=CHANCE)
    points = {title: of for title, of in points.items() if kept is None or title in kept}
    return sum(points.values()) / len(points) - forget
