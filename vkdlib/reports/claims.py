"""What a paper says of its tables and figures, tested on ours, with one of VERDICTS.

A claim compares two rows of a table, or speaks of a curve (`curves`). Each is tested for every model,
benchmark and column: these are its cases. People are the units, as in `compare`; seeds are averaged over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from filelock import FileLock

from vkdlib.evaluation import compare
from vkdlib.evaluation.metrics import share_interval
from vkdlib.experiments.model_names import CONTROLS, IDEALS
from vkdlib.experiments.presets import preset
from vkdlib.reports import curves
from vkdlib.reports.columns import BALANCE, LABELS, Column, record_columns
from vkdlib.reports.paper.published import FOLDER
from vkdlib.runs import records
from vkdlib.system import checks, files, paths

MARGIN = 5.0  # points: what "as good" and "as low" allow, and within which two rows are equivalent
BY_INTERVAL = ("as good", "as low")  # expectations on which an interval decides
VERDICTS = ("holds", "does not hold", "over-forgotten", "equivalent", "cannot tell", "in some draws")
CHANCE = 0.25  # share of right answers when one of four options is guessed
COMPARISONS = ("lower", "higher", *BY_INTERVAL)  # of two rows of a table
CURVE_BALANCE = "Balance"  # of a curve, see `curves.draw_balances`
TASK = ["model", "benchmark", "forget_ratio"]
REPETITIONS = ["draw", "replicate", "seed"]
TEST_AGAIN = "run the record's notebook with -p write True"


@dataclass(frozen=True)
class Topic:
    """What a paper says of a table or figure: an entry of paper/claims.yaml. Its head explains the fields."""

    table: str
    claims: list[dict]
    rows: str = "method"
    ours: str | None = None
    order: list[str] | None = None
    setting: str | None = None


def read_topic(name: str) -> Topic:
    """A topic of paper/claims.yaml.

    Raises:
        ValueError: there is no such topic.
    """
    topics = files.read_yaml(FOLDER / "claims.yaml")
    if name not in topics:
        names = ", ".join(topics)
        raise ValueError(f"no claims are known of {name!r}: name the topic that is meant, one of {names}")
    return checks.make(Topic, f"topic {name} of claims.yaml", topics[name])


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
        topic: what the paper says of it.
        records: its part of the record, with the name of the table's row in `row`.
        columns: title -> column of the paper's table.
        answers: hash of a run -> its predictions.
    """

    task: dict
    topic: Topic
    records: pd.DataFrame
    columns: dict[str, Column]
    answers: dict[str, pd.DataFrame]

    def runs(self, row: str) -> list[str]:
        """Hashes of a row's runs, one a draw, replicate and seed, in this order.

        Raises:
            ValueError: there is no such row, or it has several runs of one draw and seed.
        """
        checks.check_names("the record", [row], self.records.row.unique())
        runs = self.records[self.records.row == row].drop_duplicates("run")
        if runs.duplicated(REPETITIONS).any():
            raise ValueError(f"row {row!r} has several runs of one draw and seed; keep those of one setting")
        return list(runs.sort_values(REPETITIONS).run)

    def predictions(self, runs: Sequence[str], columns: Sequence[Column]) -> list[pd.DataFrame]:
        """The predictions of runs, in some columns."""
        tables = [self.answers[run] for run in runs]
        return [pd.concat(column.about(table) for column in columns).sort_index() for table in tables]

    def over_forgets(self, runs: Sequence[str]) -> bool:
        """Whether runs, together, forget more than a model that never saw the faces (`over_forgets`), if the
        table has one."""
        ideals = [row for row in reversed(IDEALS) if row in set(self.records.row)]
        if not ideals:
            return False
        forget = [column for column in self.columns.values() if column.less]
        return over_forgets(self.predictions(runs, forget), self.predictions(self.runs(ideals[0]), forget))


def answered_tables(record: str, topic: str | None = None) -> list[AnsweredTable]:
    """The tables of a record: one for each model, benchmark and forget ratio.

    Args:
        topic: what it is about, if not its own name: "table1_main" for one at paper scale.
    Raises:
        FileNotFoundError: the record, or its predictions, are not there: run its sweep.
        ValueError: there is no such topic.
    """
    meaning = read_topic(topic or record)
    table, answers = records.read_records(record), records.read_predictions(record)
    tables = []
    for values, part in table.assign(row=row_names(table, meaning.rows)).groupby(TASK, sort=False):
        columns = {column.title: column for column in record_columns(part, meaning.table)}
        tables.append(AnsweredTable(dict(zip(TASK, values)), meaning, part, columns, answers))
    return tables


def judge(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """Test every claim about a record's tables on the predictions of their runs.

    Returns:
        one row a claim, model, benchmark and column, with the columns `claims` of labels.yaml. Of two rows:
        difference is ours minus the other, in points, with its 95 % interval and the smallest difference
        that would have been found with 80 % power; differ: how many people's answers are not the same;
        over_forgotten: which row has forgotten more than a model that never saw the faces, so that to be
        lower is no success. Of a curve: statistic and change, see `curves`; differ: how many people's
        answers depend on the setting; over_forgotten: at which values. people: of a balance, in the column
        that has fewest, for they limit its interval. p is the claim's own, p_holm over all claims about a
        table, both NaN where an interval decides.
    """
    cases = pd.DataFrame(
        [case for table in tables for claim in table.topic.claims for case in _cases(table, claim)]
    )
    cases["p_holm"] = compare.add_holm(cases.dropna(subset="p"), TASK).p_holm
    cases["verdict"] = [verdict(case) for case in cases.itertuples()]
    return cases.reindex(columns=LABELS["claims"])


def _cases(table: AnsweredTable, claim: dict) -> list[dict]:
    """A row of `judge` for each of a claim's columns that the table has; p_holm and verdict are missing."""
    titles = [title for title in claim["columns"] if title in [*table.columns, BALANCE, CURVE_BALANCE]]
    words = {field: claim[field] for field in ("claim", "source", "expected")}
    test = _compare_rows if "rows" in claim else _follow_curve
    return [table.task | words | {"column": title} | test(table, claim, title) for title in titles]


def _columns(table: AnsweredTable, title: str) -> list[Column]:
    """The column of a title; of a balance, those of faces."""
    if title in table.columns:
        return [table.columns[title]]
    return [column for column in table.columns.values() if column.less or column.other_faces]


def _compare_rows(table: AnsweredTable, claim: dict, title: str) -> dict:
    """What the comparison of two rows says of a claim in one column, or in the balance."""
    ours, other = claim["rows"]
    columns = _columns(table, title)
    a, b = (table.predictions(table.runs(row), columns) for row in (ours, other))
    if title == BALANCE:
        (forget,) = [column.questions for column in columns if column.less]
        faces = [column.questions for column in columns if column.other_faces]
        gap = compare.balance_difference(a, b, faces, forget)
    else:
        gap = compare.differences(a, {other: b}).iloc[0].to_dict()
    forgetting = any(column.less for column in columns) and not set(IDEALS) & {ours}
    over = [row for row in claim["rows"] if forgetting and table.over_forgets(table.runs(row))]
    return {
        **gap,
        **compare_with_expected(gap, claim["expected"]),
        "ours": ours,
        "other": other,
        "runs": len(a),
        "runs_ours": " ".join(table.runs(ours)),
        "runs_other": " ".join(table.runs(other)),
        "over_forgotten": ", ".join(over),
    }


def compare_with_expected(gap: dict, expected: str) -> dict:
    """Whether a difference of two rows is as a claim expects: `test`, `p`, and `holds`, None for neither.

    Args:
        gap: with difference, low, high and p.
        expected: "lower", "higher"; "as good": not more than MARGIN lower; "as low": not more than MARGIN
            higher or lower, for to forget more is no success.
    """
    checks.one_of("expected", expected, COMPARISONS)
    low, high = gap["low_90"], gap["high_90"]
    equivalent = -MARGIN <= low and high <= MARGIN
    if expected not in BY_INTERVAL:
        holds = (gap["difference"] < 0) == (expected == "lower")
        return {"test": "sign flips by person", "p": gap["p"], "holds": holds, "equivalent": equivalent}
    reached = equivalent if expected == "as low" else low >= -MARGIN
    missed = high < -MARGIN or (expected == "as low" and low > MARGIN)
    holds = True if reached else False if missed else None
    return {
        "test": f"90 % interval within {MARGIN:g} points",
        "p": np.nan,
        "holds": holds,
        "equivalent": False,
    }


def _follow_curve(table: AnsweredTable, claim: dict, title: str) -> dict:
    """What the curve of one column, or of the balance, says of a claim."""
    x, expected, columns = table.topic.setting, claim["expected"], _columns(table, title)
    checks.one_of("the setting of the topic", x, table.records.columns)
    part = table.records[~(table.records[x] > claim.get("up_to", np.inf))]
    rows = pd.concat(column.rows(part) for column in columns).sort_index()
    scores, people = curves.column_answers(rows, x, table.answers)
    known = curves.BALANCE_TESTS if title == CURVE_BALANCE else curves.ANSWER_TESTS
    checks.one_of(f"what {claim['claim']!r} expects of this column", expected, known)
    if title == CURVE_BALANCE:
        facts = curves.counts(scores, people)
        balances = curves.draw_balances(part, x)
        facts |= curves.shortfall(balances, claim["at"]) if "at" in claim else curves.optimum(balances)
    else:
        facts = curves.answer_facts(scores, people, expected)
    swept = rows.dropna(subset=[x])
    settings = swept.groupby(x).run.unique() if any(column.less for column in columns) else {}
    over = [f"{value:g}" for value, runs in settings.items() if table.over_forgets(runs)]
    return {
        "equivalent": False,
        **facts,
        "runs": len(swept[REPETITIONS].drop_duplicates()),
        "runs_ours": " ".join(swept.run.unique()),
        "over_forgotten": f"{x} = {', '.join(over)}" if over else "",
    }


def over_forgets(ours: Sequence[pd.DataFrame], never_saw: Sequence[pd.DataFrame]) -> bool:
    """Whether answers about what is to be forgotten are right less often than those of a model that never saw
    the faces, or than by guessing, by more than noise: wrong answers are no ignorance.

    Below the other: the 95 % interval of the difference says so, and p too. Below chance: the 95 % interval.
    """
    gap = compare.differences(ours, {"never-saw": never_saw})
    answers = pd.concat(ours)
    _, high = share_interval(answers.score, answers.person)
    return bool(((gap.high < 0) & (gap.p < 0.05)).any() or high < CHANCE)


def verdict(case) -> str:
    """What a test says of a claim: one of VERDICTS. Where there is no p, `holds` decides alone, and None is
    neither.

    Args:
        case: with column, differ, p_holm, holds, equivalent, over_forgotten and ours.
    """
    if case.holds is None or case.p_holm >= 0.05:
        if case.column == CURVE_BALANCE:
            return "in some draws"
        return "equivalent" if case.equivalent else "cannot tell"
    if case.holds and case.ours in str(case.over_forgotten).split(", "):
        return "over-forgotten"
    return "holds" if case.holds else "does not hold"


def rival_tests(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """Our row of each table minus each other method's, in the table's columns.

    Returns:
        `compare.differences` with model, benchmark, forget ratio, runs_ours and runs_other.
    """
    tests = []
    for table in tables:
        ours = table.topic.ours
        rivals = [row for row in table.records.row.unique() if row not in CONTROLS]
        runs = {row: table.runs(row) for row in [ours, *rivals]}
        answers = {row: table.predictions(runs[row], table.columns.values()) for row in runs}
        gaps = compare.differences(answers.pop(ours), answers)
        hashes = {row: " ".join(runs[row]) for row in runs}
        tests.append(gaps.assign(runs_ours=hashes[ours], runs_other=gaps.other.map(hashes), **table.task))
    return pd.concat(tests, ignore_index=True)


def run_quality(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """Each run's forget VQA beside retain-only's (`compare.forget_quality`), and its mean truth ratio.

    Returns:
        one row a run: model, benchmark, forget ratio, row, over_forgotten (whether the row `over_forgets`,
        all its seeds together), run (its hash), accuracy (points), low, high, ks, ks_p, n, truth_ratio; the
        last three measures are NaN where answers were generated.
    """
    qualities = []
    for table in tables:
        never = table.answers[table.runs("retain-only")[0]]
        for row in table.records.row.unique():
            facts = table.task | {"row": row, "over_forgotten": table.over_forgets(table.runs(row))}
            for run in table.runs(row):
                qualities.append(facts | {"run": run} | compare.forget_quality(table.answers[run], never))
    return pd.DataFrame(qualities)


def write_tests(record: str, topic: str | None = None) -> None:
    """Test a record: put its cases into figures/data/claims.csv, in place of those about the same record; of
    a table, write also <record>_tests.csv (`rival_tests`) and <record>_quality.csv (`run_quality`).

    Args:
        topic: as in `answered_tables`.
    """
    tables = answered_tables(record, topic)
    cases = judge(tables)
    if tables[0].topic.ours:
        quality, tests = run_quality(tables), rival_tests(tables)
        _write(f"{record}_quality", quality)
        _write(f"{record}_tests", tests)
    cases.insert(0, "record", record)
    # Those of another record may be written now, too. A lock has no place among figures, which are in git.
    with FileLock(paths.runs() / "claims.lock"):
        if (paths.figures() / "data" / "claims.csv").exists():
            others = read_tests("claims").query("record != @record")
            cases = pd.concat([others, cases]).sort_values("record", kind="stable")
        _write("claims", cases)


def _write(name: str, table: pd.DataFrame) -> None:
    """Write figures/data/<name>.csv."""
    with files.whole_file(paths.figures() / "data" / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")


def read_tests(name: str) -> pd.DataFrame:
    """What `write_tests` wrote to figures/data/<name>.csv.

    Raises:
        FileNotFoundError: it is not there.
    """
    file = paths.figures() / "data" / f"{name}.csv"
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file; {TEST_AGAIN}")
    return pd.read_csv(file)


def read_claims() -> pd.DataFrame:
    """Every case of every claim that was judged: figures/data/claims.csv."""
    return read_tests("claims").fillna({"over_forgotten": ""})


def print_verdict(claim: str, holds: bool) -> None:
    """Print a claim that a notebook has checked itself, after "holds" or "does not hold"."""
    print(f"{'holds' if holds else 'does not hold':15}{claim}")
