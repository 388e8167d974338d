"""What a paper says of its tables, tested on ours: holds, does not hold, or inside the noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from filelock import FileLock

from vkdlib.evaluation.compare import add_holm, balance_difference, differences, forget_quality
from vkdlib.experiments.model_names import CONTROLS
from vkdlib.experiments.presets import preset
from vkdlib.reports.columns import BALANCE, LABELS, QUESTIONS, Column, record_columns
from vkdlib.reports.paper.published import FOLDER
from vkdlib.runs import records
from vkdlib.system import checks, files, paths

MARGIN = 5.0  # points: what "as good" and "as low" allow
INTERVAL = ("as good", "as low")  # expectations on which an interval decides
COMPARISONS = ("lower", "higher", *INTERVAL)  # of two rows of a table
CURVE_BALANCE = "Balance"  # of a curve, see `curves.seed_balances`
TASK = ["model", "benchmark", "forget_ratio"]
COLUMNS = LABELS["claims"]


def read_topic(name: str) -> dict:
    """A topic of paper/claims.yaml: table, rows and claims, as the head of that file explains them.

    Raises:
        ValueError: there is no such topic.
    """
    topics = files.read_yaml(FOLDER / "claims.yaml")
    if name not in topics:
        topics = ", ".join(topics)
        raise ValueError(f"no claims are known of {name!r}: name the topic that is meant, one of {topics}")
    return {"rows": "method"} | topics[name]


def row_names(record: pd.DataFrame, naming: str) -> pd.Series:
    """Name of the table's row that each row of a record belongs to.

    Args:
        naming: "method": the method; "parts": the name in Table 3 of the VKD paper, as "F+Mask", by columns
            "trained", "mask" and "beta"; "settings": what is not as usual, as "mask=False".
    """
    checks.one_of("how rows are named", naming, ROW_NAMES)
    names = record.method.where(record.method != "VKD", ROW_NAMES[naming](record))
    if names.isna().any():
        row = record[names.isna()].iloc[0].dropna().to_dict()
        raise ValueError(f"the {naming} of a row of the record do not make a name: {row}")
    return names


def _parts(record: pd.DataFrame) -> pd.Series:
    """B (the whole model is trained) or F (the language model is frozen), +Mask, +VKD."""
    checks.check_names("the record", ("trained", "mask", "beta"), record.columns)
    trained = record.trained.map({"all": "B", "lora": "B", "visual": "F"})
    mask = record["mask"].map({True: "+Mask", False: ""})
    return trained + mask + (record.beta > 0).map({True: "+VKD", False: ""})


def usual_settings() -> dict:
    """The settings of VKD in selective forgetting that stand in no name: those of the preset."""
    return {"order": "prune, mask", "target": "projector", "qa_image": None, **preset("testbed", "method")}


def _settings(record: pd.DataFrame) -> pd.Series:
    """What is not as usual, "VKD" where all is."""
    usual = usual_settings()
    settings = record[[column for column in record if column in usual]]
    names = [
        ", ".join(f"{k}={v}" for k, v in row.items() if not pd.isna(v) and v != usual[k])
        for row in settings.to_dict("records")
    ]
    return pd.Series(names, record.index).replace("", "VKD")


ROW_NAMES = {"method": lambda record: record.method, "parts": _parts, "settings": _settings}


@dataclass(frozen=True)
class AnsweredTable:
    """A table of a record, of one model, benchmark and forget ratio, with every answer behind it.

    Attributes:
        task: model, benchmark, forget_ratio.
        records: its part of the record, with the name of the table's row in `row`.
        columns: title -> column of the paper's table.
        answers: hash of a run -> its predictions.
    """

    task: dict
    records: pd.DataFrame
    columns: dict[str, Column]
    answers: dict[str, pd.DataFrame]

    def runs(self, row: str) -> list[str]:
        """Hashes of a row's runs, one a seed.

        Raises:
            ValueError: there is no such row, or it has several runs of one seed.
        """
        checks.check_names("the record", [row], self.records.row.unique())
        runs = self.records[self.records.row == row].drop_duplicates("run")
        if runs.duplicated("seed").any():
            raise ValueError(f"row {row!r} has several runs of one seed; keep those of one setting")
        return list(runs.run)

    def hashes(self, row: str) -> str:
        """The hashes of a row's runs as text."""
        return " ".join(self.runs(row))

    def predictions(self, row: str) -> list[pd.DataFrame]:
        """The predictions of a row's runs."""
        return [self.answers[run] for run in self.runs(row)]


def answered_tables(record: str, topic: dict) -> list[AnsweredTable]:
    """The tables of a record: one for each model, benchmark and forget ratio.

    Raises:
        FileNotFoundError: the record, or its predictions, are not there: run its sweep.
    """
    table, answers = records.read_records(record), records.read_predictions(record)
    tables = []
    for values, part in table.assign(row=row_names(table, topic["rows"])).groupby(TASK, sort=False):
        columns = {column.title: column for column in record_columns(part, topic["table"])}
        tables.append(AnsweredTable(dict(zip(TASK, values)), part, columns, answers))
    return tables


def judge_table(record: str, topic: str | None = None) -> pd.DataFrame:
    """Test every claim about a table on the predictions of the runs that its record names.

    Args:
        topic: whose claims are meant, if not the record's own: "table1_main" for one at paper scale.
    Returns:
        one row a claim, model, benchmark and column: COLUMNS; difference is ours minus the other, in points,
        with its 95 % interval; differ: how many questions are not answered the same; p_holm is over the rows
        of a claim, NaN where the interval alone decides ("as good", "as low"); over_forgotten: which of the
        two rows has forget VQA below retain-only's by more than noise, so that to be lower is no success.
    Raises:
        FileNotFoundError: the record, or its predictions, are not there: run its sweep.
    """
    meaning = read_topic(topic or record)
    tables = answered_tables(record, meaning)
    judged = pd.concat(
        [_judge_claim(table, claim) for table in tables for claim in meaning["claims"]], ignore_index=True
    )
    interval = judged.expected.isin(INTERVAL)
    judged["p_holm"] = add_holm(judged[~interval], ["claim"]).p_holm
    judged["test"] = np.where(interval, f"interval within {MARGIN:g} points", "sign flips by person")
    judged["verdict"] = [verdict(row, row.expected) for row in judged.itertuples()]
    return judged[COLUMNS]


def _judge_claim(table: AnsweredTable, claim: dict) -> pd.DataFrame:
    """One row for each of a claim's columns that the table has, without p over the claim and verdict."""
    ours, other = claim["rows"]
    tested = _tests(table, ours, other, claim["columns"])
    less = [title for title, column in table.columns.items() if column.less] + [BALANCE]
    success = tested.column.isin(less)  # where to forget counts
    over = _over_forgotten(table, claim["rows"]) if success.any() else ""
    return tested.assign(
        **table.task,
        **{field: claim[field] for field in ("claim", "source", "expected")},
        ours=ours,
        other=other,
        seeds=len(table.predictions(ours)),
        runs_ours=table.hashes(ours),
        runs_other=table.hashes(other),
        over_forgotten=np.where(success, over, ""),
    )


def _tests(table: AnsweredTable, ours: str, other: str, titles: Sequence[str]) -> pd.DataFrame:
    """`compare.differences` in columns of a table, or `balance_difference`; their titles are in "column"."""
    a, b = table.predictions(ours), table.predictions(other)
    if BALANCE in titles:
        columns = table.columns.values()
        faces = [column.questions for column in columns if column.other_faces]
        (forget,) = [column.questions for column in columns if column.less]
        return pd.DataFrame([balance_difference(a, b, faces, forget)]).assign(column=BALANCE)
    questions = {title: table.columns[title].questions for title in titles if title in table.columns}
    tested = differences(a, {"": b}, list(questions.values())).set_index(QUESTIONS)
    return tested.loc[list(questions.values())].assign(column=list(questions))


def _over_forgotten(table: AnsweredTable, rows: Sequence[str]) -> str:
    """Which of two rows have forgotten more than retain-only; "" where it is one of them: the row says it."""
    if "retain-only" in rows:
        return ""
    never = table.predictions("retain-only")
    return ", ".join(row for row in rows if over_forgets(table.predictions(row), never))


def over_forgets(ours: Sequence[pd.DataFrame], retain_only: Sequence[pd.DataFrame]) -> bool:
    """Whether forget VQA is below retain-only's by more than noise: the 95 % interval says so, and p too."""
    gap = differences(ours, {"retain-only": retain_only}, [("forget", "vqa", "classification")])
    return bool(((gap.high < 0) & (gap.p < 0.05)).any())


def verdict(row, expected: str) -> str:
    """What a difference says of a claim.

    Args:
        row: with difference, low, high, differ and p_holm.
        expected: "lower", "higher"; "as good": not more than MARGIN lower; "as low": not more than MARGIN
            higher.
    """
    checks.one_of("expected", expected, COMPARISONS)
    if expected in INTERVAL:
        low, high = (row.low, row.high) if expected == "as good" else (-row.high, -row.low)
        if low >= -MARGIN:
            return "holds"
        return "does not hold" if high < -MARGIN else "inside the noise"
    return tested_verdict(row, (row.difference < 0) == (expected == "lower"))


def tested_verdict(row, holds: bool) -> str:
    """What p says of a claim that holds in the mean, or does not; `row`: with differ and p_holm."""
    if not row.differ:
        return "no answer differs"
    if row.p_holm >= 0.05:
        return "inside the noise"
    return "holds" if holds else "does not hold"


def rival_tests(record: str, ours: str, topic: str | None = None) -> pd.DataFrame:
    """A row of a table minus each other method's, in the table's columns, on the runs of its record.

    Returns:
        `compare.differences` with model, benchmark, forget ratio, runs_ours and runs_other.
    """
    tests = []
    for table in answered_tables(record, read_topic(topic or record)):
        rows = [row for row in table.records.row.unique() if row not in {ours, *CONTROLS}]
        rivals = {row: table.predictions(row) for row in rows}
        questions = [column.questions for column in table.columns.values()]
        tested = differences(table.predictions(ours), rivals, questions)
        hashes = tested.other.map(table.hashes)
        tests.append(tested.assign(runs_ours=table.hashes(ours), runs_other=hashes, **table.task))
    return pd.concat(tests, ignore_index=True)


def run_quality(record: str, topic: str | None = None) -> pd.DataFrame:
    """Each run's forget VQA beside retain-only's (`compare.forget_quality`), and its mean truth ratio.

    Returns:
        one row a run: model, benchmark, forget ratio, row, over_forgotten (whether the row `over_forgets`,
        all its seeds together), run (its hash), accuracy (points), low, high, ks, ks_p, n, truth_ratio; the
        last three measures are NaN where answers were generated.
    """
    qualities = []
    for table in answered_tables(record, read_topic(topic or record)):
        never = table.predictions("retain-only")
        for row in table.records.row.unique():
            over = over_forgets(table.predictions(row), never)
            for run in table.runs(row):
                quality = forget_quality(table.answers[run], never[0])
                qualities.append(table.task | {"row": row, "over_forgotten": over, "run": run} | quality)
    return pd.DataFrame(qualities)


def write_tests(record: str, ours: str, topic: str | None = None) -> None:
    """Test a record: write figures/data/<record>_tests.csv (`rival_tests`), <record>_quality.csv
    (`run_quality`) and claims.csv (`write_claims`); `topic` as in `judge_table`."""
    judged, tests = judge_table(record, topic), rival_tests(record, ours, topic)
    _write(f"{record}_quality", run_quality(record, topic))
    _write(f"{record}_tests", tests)
    write_claims(record, judged)


def write_claims(record: str, judged: pd.DataFrame) -> None:
    """Put judged claims into figures/data/claims.csv, in place of those about the same record."""
    file = paths.figures() / "data" / "claims.csv"
    table = judged.assign(record=record)[["record", *judged.columns]]
    # Those of another record may be written now, too. A lock has no place among figures, which are in git.
    with FileLock(paths.runs() / "claims.lock"):
        if file.exists():
            others = pd.read_csv(file).query("record != @record")
            table = pd.concat([others, table]).sort_values("record", kind="stable")
        _write("claims", table)


def _write(name: str, table: pd.DataFrame) -> None:
    """Write figures/data/<name>.csv."""
    with files.whole_file(paths.figures() / "data" / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")


def print_verdict(claim: str, holds: bool) -> None:
    """Print a claim that a notebook has checked itself, after "holds" or "does not hold"."""
    print(f"{'holds' if holds else 'does not hold':15}{claim}")
