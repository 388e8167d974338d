"""What a paper says of its tables, tested on ours: holds, does not hold, or inside the noise."""

from collections.abc import Iterator, Sequence

import pandas as pd
import yaml
from filelock import FileLock

from vkdlib.evaluation.compare import adjusted, differences, forget_quality, in_balance
from vkdlib.experiments.presets import preset
from vkdlib.experiments.start import AS_THEY_ARE
from vkdlib.reports import published
from vkdlib.reports.columns import BALANCE, FACES, LOWER, six_columns
from vkdlib.runs import records
from vkdlib.system import files, paths

MARGIN = 5.0  # points: what "as good" allows
WITHIN = ["as good", "as low"]  # an interval decides
COLUMNS = [
    "claim", "source", "model", "benchmark", "forget_ratio", "ours", "other", "column", "expected",
    "test", "difference", "low", "high", "n", "differ", "seeds", "p_holm", "verdict", "over_forgotten",
    "runs_ours", "runs_other",
]  # fmt: skip


def statements(record: str) -> list[dict]:
    """The claims about a table: claim, source, rows, columns, expected (see paper/claims.yaml)."""
    known = yaml.safe_load((published.FOLDER / "claims.yaml").read_text())
    if record not in known:
        raise ValueError(f"no claims are known of {record!r}: say whose are meant, of {', '.join(known)}")
    return known[record]


def rows_of_table(record: pd.DataFrame) -> pd.Series:
    """Name of the table's row that each record belongs to: the method, the ablation's name (Table 3), or
    what is not as usual ("mask=False"; selective forgetting).

    Args:
        record: with columns "trained", "mask" and "beta" for an ablation; with "order" for the last.
    """
    if "order" in record:
        usual = {"order": "prune, mask", "target": "projector", "qa_image": None}
        usual |= preset("testbed", "method")
        given = record[[c for c in record if c in usual]]
        changed = [
            ", ".join(f"{k}={v}" for k, v in row.items() if not pd.isna(v) and v != usual[k])
            for row in given.to_dict("records")
        ]
        return (
            pd.Series(changed, record.index).replace("", "VKD").where(record.method == "VKD", record.method)
        )
    if "trained" not in record:
        return record.method
    name = record.trained.map({"all": "B", "lora": "B", "visual": "F"})
    name += record["mask"].map({True: "+Mask", False: ""})
    name += (record.beta > 0).map({True: "+VKD", False: ""})
    return record.method.where(record.method != "VKD", name)


def judge(record: str, of: str | None = None) -> pd.DataFrame:
    """Test every claim about a table on the predictions of the runs that its record names.

    Args:
        of: record whose claims are meant, if not its own: "table1_main" for one at paper scale.
    Returns:
        one row a claim, model, benchmark and column: COLUMNS; difference is ours minus the other, in points,
        with its 95 % interval; differ: how many questions are not answered the same; p_holm is over the rows
        of a claim, NaN where the interval alone decides ("as good", "as low"); over_forgotten: which of the
        two rows has forget VQA below retain-only's by more than noise, so that to be lower is no success.
    Raises:
        FileNotFoundError: the record, or its predictions, are not there: run its sweep.
    """
    found = []
    for known, where, predictions in _tables(record):
        for one in statements(of or record):
            ours, other = one["rows"]
            tested = _tested(predictions(ours), predictions(other), one["columns"], where)
            text = {k: one[k] for k in ("claim", "source", "expected")}
            hashes = {"runs_ours": predictions.hashes(ours), "runs_other": predictions.hashes(other)}
            tested = tested.assign(ours=ours, other=other, seeds=len(predictions(ours)), **hashes)
            less = tested.column.isin([LOWER, BALANCE])
            tested["over_forgotten"] = _too_far(predictions, one["rows"]) if less.any() else ""
            tested["over_forgotten"] = tested.over_forgotten.where(less, "")
            found.append(tested.assign(**text, **known))
    claims = pd.concat(found, ignore_index=True)
    within = claims.expected.isin(WITHIN)
    claims["p_holm"] = adjusted(claims[~within].assign(p_holm=1.0), ["claim"]).p_holm
    claims["test"] = within.map({True: f"interval within {MARGIN:g} points", False: "sign flips by person"})
    claims["verdict"] = [verdict(row, row.expected) for row in claims.itertuples()]
    return claims[COLUMNS]


def _tested(ours: list, other: list, titles: Sequence[str], where: dict[str, tuple]) -> pd.DataFrame:
    """`compare.differences` in columns of Table 1, or `in_balance`; their titles are in "column"."""
    if BALANCE in titles:
        kept = [where[t] for t in FACES if t in where]
        return pd.DataFrame([in_balance(ours, other, kept, where[LOWER])]).assign(column=BALANCE)
    columns = {t: where[t] for t in titles if t in where}
    tested = differences(ours, {"": other}, list(columns.values())).set_index(["set", "modality", "kind"])
    return tested.loc[list(columns.values())].assign(column=list(columns))


def _too_far(predictions: "_Predictions", rows: Sequence[str]) -> str:
    """Which of two rows have forgotten more than retain-only; "" where it is one of them: the row says it."""
    if "retain-only" in rows:
        return ""
    return ", ".join(row for row in rows if below(predictions(row), predictions("retain-only")))


def below(ours: Sequence[pd.DataFrame], retain_only: Sequence[pd.DataFrame]) -> bool:
    """Whether forget VQA is below retain-only's by more than noise: the 95 % interval says so, and p too."""
    gap = differences(ours, {"retain-only": retain_only}, [("forget", "vqa", "classification")])
    return bool(((gap.high < 0) & (gap.p < 0.05)).any())


def against(record: str, ours: str) -> pd.DataFrame:
    """A row of a table minus each other method's, in the columns of Table 1, on the runs of its record.

    Returns:
        `compare.differences` with model, benchmark, forget ratio, runs_ours and runs_other.
    """
    found = []
    for known, where, predictions in _tables(record):
        others = {row: predictions(row) for row in predictions.rows if row not in {ours, *AS_THEY_ARE}}
        tested = differences(predictions(ours), others, list(where.values()))
        hashes = tested.other.map(predictions.hashes)
        found.append(tested.assign(runs_ours=predictions.hashes(ours), runs_other=hashes, **known))
    return pd.concat(found, ignore_index=True)


def quality(record: str) -> pd.DataFrame:
    """Each run's forget VQA beside retain-only's (`compare.forget_quality`), and its mean truth ratio.

    Returns:
        one row a run: model, benchmark, forget ratio, row, over_forgotten (whether the row is `below`
        retain-only, all its seeds together), run (its hash), accuracy (points), low, high, ks, ks_p, n,
        truth_ratio; the last three measures are NaN where answers were generated.
    """
    found = []
    for known, _, predictions in _tables(record):
        reference = predictions("retain-only")
        for row in predictions.rows:
            of_row = known | {"row": row, "over_forgotten": below(predictions(row), reference)}
            for run, table in zip(predictions.hashes(row).split(), predictions(row)):
                found.append(of_row | {"run": run, **forget_quality(table, reference[0])})
    return pd.DataFrame(found)


def write(record: str, ours: str, of: str | None = None) -> None:
    """Write figures/data/<record>_tests.csv (`against`), <record>_quality.csv, and claims.csv (`keep`); `of`
    as in `judge`."""
    judged = judge(record, of)
    for name, table in (("tests", against(record, ours)), ("quality", quality(record))):
        with files.whole(paths.figures() / "data" / f"{record}_{name}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    keep(record, judged)


def keep(record: str, judged: pd.DataFrame) -> None:
    """Put judged claims into figures/data/claims.csv, in place of those about the same record."""
    file = paths.figures() / "data" / "claims.csv"
    table = judged.assign(record=record)[["record", *judged.columns]]
    # Those of another record may be written now, too. A lock has no place among figures, which are in git.
    with FileLock(paths.runs() / "claims.lock"):
        if file.exists():
            before = pd.read_csv(file)
            table = pd.concat([before[before.record != record], table]).sort_values("record", kind="stable")
        with files.whole(file) as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")


def _tables(record: str) -> Iterator[tuple[dict, dict, "_Predictions"]]:
    """Of each model, benchmark and forget ratio of a record: which, its columns (title -> set, modality,
    kind), and its predictions by row."""
    table, answers = records.read_records(record), records.read_predictions(record)
    table = table.assign(row=rows_of_table(table))
    keys = ["model", "benchmark", "forget_ratio"]
    for values, part in table.groupby(keys, sort=False):
        where = {t: tuple(r.iloc[0][["set", "modality", "kind"]]) for t, r in six_columns(part).items()}
        yield dict(zip(keys, values)), where, _Predictions(part, answers)


class _Predictions:
    """Row of a table -> predictions of its runs, one for each seed."""

    def __init__(self, part: pd.DataFrame, answers: dict[str, pd.DataFrame]):
        self.runs = part.drop_duplicates("run")
        self.rows = list(self.runs.row.unique())
        self.answers = answers

    def hashes(self, row: str) -> str:
        """The hashes of a row's runs."""
        return " ".join(self.runs.run[self.runs.row == row])

    def __call__(self, row: str) -> list[pd.DataFrame]:
        if row not in self.rows:
            raise ValueError(f"the record has no row {row!r}; it has {', '.join(self.rows)}")
        return [self.answers[run] for run in self.hashes(row).split()]


def verdict(row, expected: str) -> str:
    """What a difference says of a claim.

    Args:
        row: with difference, low, high, differ and p_holm.
        expected: "lower", "higher"; "as good": not more than MARGIN lower; "as low": not more than MARGIN
            higher.
    """
    if expected in WITHIN:
        low, high = (row.low, row.high) if expected == "as good" else (-row.high, -row.low)
        if low >= -MARGIN:
            return "holds"
        return "does not hold" if high < -MARGIN else "inside the noise"
    if expected not in ("lower", "higher"):
        raise ValueError(f"expected is {expected!r}; it must be lower, higher, as good or as low")
    if not row.differ:
        return "no answer differs"
    if row.p_holm >= 0.05:
        return "inside the noise"
    return "holds" if (row.difference < 0) == (expected == "lower") else "does not hold"


def print_verdict(claim: str, holds: bool) -> None:
    """Print a claim that a notebook has checked itself, after "holds" or "does not hold"."""
    print(f"{'holds' if holds else 'does not hold':15}{claim}")
