"""What a paper says of its tables, tested on ours: holds, does not hold, or inside the noise."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import yaml

from vkdlib import paper, paths, runs
from vkdlib.compare import differences, forget_quality, holm, truth_ratio
from vkdlib.metrics import six_columns

MARGIN = 5.0  # points: what "as good" allows
COLUMNS = [
    "claim", "source", "model", "benchmark", "forget_ratio", "ours", "other", "column", "expected",
    "test", "difference", "low", "high", "n", "seeds", "p_holm", "verdict",
]  # fmt: skip


def statements(record: str) -> list[dict]:
    """The claims about a table: claim, source, rows, columns, expected (see paper/claims.yaml)."""
    return yaml.safe_load((paper.FOLDER / "claims.yaml").read_text())[record]


def rows_of_table(record: pd.DataFrame) -> pd.Series:
    """Name of the table's row that each record belongs to: the method, or the ablation's name (Table 3).

    Args:
        record: with columns "trained", "mask" and "beta" for an ablation.
    """
    if "trained" not in record:
        return record.method
    name = record.trained.map({"all": "B", "visual": "F"})
    name += record["mask"].map({True: "+Mask", False: ""})
    name += (record.beta > 0).map({True: "+VKD", False: ""})
    return record.method.where(record.method != "VKD", name)


def judge(record: str) -> pd.DataFrame:
    """Test every claim about a table on the predictions of the runs that its record names.

    Returns:
        one row a claim, model, benchmark and column: COLUMNS; difference is ours minus the other, in points,
        with its 95 % interval; p_holm is over all rows.
    Raises:
        FileNotFoundError: a run of the record is not there: make the record again.
    """
    found = []
    for known, where, predictions in _tables(record):
        for one in statements(record):
            ours, other = one["rows"]
            columns = {t: where[t] for t in one["columns"] if t in where}
            tested = differences(predictions(ours), {other: predictions(other)}, list(columns.values()))
            tested = tested.set_index(["set", "modality", "kind"]).loc[list(columns.values())]
            text = {k: one[k] for k in ("claim", "source", "expected")}
            seeds = len(predictions(ours))
            found.append(tested.assign(column=list(columns), ours=ours, seeds=seeds, **text, **known))
    claims = pd.concat(found, ignore_index=True)
    claims["p_holm"] = holm(claims.p)
    claims["test"] = "sign flips by person"
    claims["verdict"] = [verdict(row, row.expected) for row in claims.itertuples()]
    return claims[COLUMNS]


def against(record: str, ours: str) -> pd.DataFrame:
    """A row of a table minus each other row, in the columns of Table 1, on the runs that its record names.

    Returns:
        `compare.differences` with model, benchmark and forget ratio; Holm's p is over each of these.
    """
    found = []
    for known, where, predictions in _tables(record):
        others = {row: predictions(row) for row in predictions.rows if row != ours}
        found.append(differences(predictions(ours), others, list(where.values())).assign(**known))
    return pd.concat(found, ignore_index=True)


def quality(record: str) -> pd.DataFrame:
    """Each run's forget VQA beside retain-only's (`compare.forget_quality`), and its mean truth ratio.

    Returns:
        one row a run: model, benchmark, forget ratio, row, accuracy (points), low, high, ks, ks_p, n,
        truth_ratio.
    """
    found = []
    for known, _, predictions in _tables(record):
        (reference,) = predictions("retain-only")
        for row in predictions.rows:
            for table in predictions(row):
                asked = table.query("set == 'forget' and modality == 'vqa' and kind == 'classification'")
                ratio = np.mean([truth_ratio(o, g) for o, g in zip(asked.options, asked.gold)])
                found.append(known | {"row": row, **forget_quality(table, reference), "truth_ratio": ratio})
    return pd.DataFrame(found)


def write(record: str, ours: str) -> None:
    """Write figures/data/<record>_tests.csv (`against`), <record>_quality.csv, and claims.csv (`keep`)."""
    for name, table in (("tests", against(record, ours)), ("quality", quality(record))):
        with paths.whole(paths.figures() / "data" / f"{record}_{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.4f")
    keep(record, judge(record))


def keep(record: str, judged: pd.DataFrame) -> None:
    """Put judged claims into figures/data/claims.csv, in place of those about the same record."""
    file = paths.figures() / "data" / "claims.csv"
    table = judged.assign(record=record)[["record", *judged.columns]]
    if file.exists():
        before = pd.read_csv(file)
        table = pd.concat([before[before.record != record], table]).sort_values("record", kind="stable")
    with paths.whole(file) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")


def _tables(record: str) -> Iterator[tuple[dict, dict, "_Predictions"]]:
    """Of each model, benchmark and forget ratio of a record: which, its columns (title -> set, modality,
    kind), and its predictions by row."""
    table = runs.read_records(record)
    table = table.assign(row=rows_of_table(table))
    keys = ["model", "benchmark", "forget_ratio"]
    for values, part in table.groupby(keys, sort=False):
        where = {t: tuple(r.iloc[0][["set", "modality", "kind"]]) for t, r in six_columns(part).items()}
        yield dict(zip(keys, values)), where, _Predictions(part)


class _Predictions:
    """Row of a table -> predictions of its runs, one for each seed; each is read once."""

    def __init__(self, part: pd.DataFrame):
        self.runs = part.drop_duplicates("run")
        self.rows = list(self.runs.row.unique())
        self.read = {}

    def __call__(self, row: str) -> list[pd.DataFrame]:
        if row not in self.rows:
            raise ValueError(f"the record has no row {row!r}; it has {', '.join(self.rows)}")
        if row not in self.read:
            of_row = self.runs[self.runs.row == row].itertuples()
            self.read[row] = [runs.find_run(r.experiment, r.run).predictions for r in of_row]
        return self.read[row]


def verdict(row, expected: str) -> str:
    """What a difference says of a claim.

    Args:
        row: with difference, low, high and p_holm.
        expected: "lower", "higher", or "as good": not more than MARGIN lower.
    """
    if expected == "as good":
        if row.low >= -MARGIN:
            return "holds"
        return "does not hold" if row.high < -MARGIN else "inside the noise"
    if expected not in ("lower", "higher"):
        raise ValueError(f"expected is {expected!r}; it must be lower, higher or as good")
    if row.p_holm >= 0.05:
        return "inside the noise"
    return "holds" if (row.difference < 0) == (expected == "lower") else "does not hold"
