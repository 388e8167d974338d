"""The records of Figures 2 and 3 of the VKD paper: what β and α do."""

from dataclasses import dataclass

import pandas as pd

from vkdlib.reports.answers import read_topic
from vkdlib.reports.claims import read_tests
from vkdlib.reports.columns import MEASURED, record_columns
from vkdlib.runs.records import read_records

RECORDS = {"β": "fig2_beta", "α": "fig3_alpha"}


@dataclass(frozen=True)
class Curve:
    """A table over the values of a setting.

    Attributes:
        numbers: from `answers.table_numbers`, of one model, benchmark and forget ratio.
        setting: its column with the setting's values; empty for models that are not unlearned.
    """

    numbers: pd.DataFrame
    setting: str

    @property
    def values(self) -> list[float]:
        """The setting's values, ascending."""
        return sorted(self.numbers[self.setting].dropna().unique().tolist())

    def points(self, value: float) -> pd.DataFrame:
        """What was measured at a value, in points, by the title of the table's column: value, low, high, n,
        people, over_forgotten."""
        rows = self.numbers[self.numbers[self.setting] == value]
        parts = {c.title: c.points(rows).iloc[0] for c in record_columns(rows)}
        return pd.DataFrame(parts).T[[*MEASURED, "n", "people", "over_forgotten"]]


def read_curve(sign: str, model: str, benchmark: str) -> Curve:
    """The curve over β (Figure 2) or α (Figure 3).

    Raises:
        FileNotFoundError: its record is not there.
        ValueError: the record is of the first edition, or has no such model and benchmark. Both say how it is
            made.
    """
    name = RECORDS[sign]
    read_records(name)  # of today's edition
    numbers, setting = read_tests(f"{name}_table"), read_topic(name).setting
    numbers = numbers[(numbers.model == model) & (numbers.benchmark == benchmark)]
    if numbers.empty:
        raise ValueError(f"figures/data/{name}.csv has no {model} on {benchmark}: add them to its sweep")
    return Curve(numbers, setting)
