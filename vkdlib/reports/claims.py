"""What a paper says of its tables and figures, tested on ours, with one of VERDICTS.

A claim compares two rows of a table, or speaks of a curve (`curves`). Each is tested for every model,
benchmark and column: these are its cases. People are the units, as in `answers`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from filelock import FileLock

from vkdlib.attacks.attack import OF_VANILLA
from vkdlib.evaluation import compare
from vkdlib.evaluation.compare import MARGIN
from vkdlib.evaluation.metrics import t_interval
from vkdlib.reports import answers, curves
from vkdlib.reports.answers import REPETITIONS, TASK, AnsweredTable, answered_tables, seed_pairs
from vkdlib.reports.columns import (
    BALANCE,
    LABELS,
    MINUS,
    UNSEEN,
    Column,
    balance_columns,
    is_control,
    is_ideal,
)
from vkdlib.system import checks, files, paths

BY_INTERVAL = ("as good", "as low", "no higher")  # expectations on which an interval decides
VERDICTS = (
    "holds",
    "does not hold",
    "over-forgotten",
    "not forgotten",
    "already forgotten",
    "equivalent",
    "cannot tell",
    "in some draws",
)
COMPARISONS = ("lower", "higher", *BY_INTERVAL)  # of two rows of a table
VANILLA = "vanilla"
CURVE_BALANCE = "Balance"  # of a curve, see `curves.draw_balances`
RUNS = ["runs_ours", "runs_other", "hashes"]  # columns with hashes of runs
TEST_AGAIN = "run the record's notebook with -p write True"


def judge(tables: Sequence[AnsweredTable]) -> pd.DataFrame:
    """Test every claim about a record's tables on the predictions of their runs.

    Returns:
        one row a claim, model, benchmark and column, with the columns `claims` of labels.yaml. Of two rows:
        difference is ours minus the other, in points, with its 95 % interval, that over other runs
        (`compare.run_facts`), and the smallest difference that its own p would have found with 80 % power;
        differ: how many people's answers are not the same; over_forgotten: which row over-forgets
        (`compare.over_forgets`). Of a curve: statistic and change, see
        `curves`; differ: how many people's answers depend on the setting; over_forgotten: at which values.
        people: of a balance, in the column that has fewest, for they limit its interval. p is the claim's
        own, p_holm over all claims about a table, both NaN where an interval decides.
    """
    cases = pd.DataFrame(
        [case for table in tables for claim in table.topic.claims for case in _cases(table, claim)]
    )
    cases["p_holm"] = compare.add_holm(cases.dropna(subset="p"), TASK).p_holm
    cases["verdict"] = [verdict(case) for case in cases.itertuples()]
    return cases.reindex(columns=LABELS["claims"])


def _cases(table: AnsweredTable, claim: dict) -> list[dict]:
    """A row of `judge` for each of a claim's columns that the table has; p_holm and verdict are missing."""
    known = {*table.columns, BALANCE, CURVE_BALANCE}
    known -= _unknown_columns(table)
    titles = [title for title in claim["columns"] if known.issuperset(title.split(MINUS))]
    words = {field: claim[field] for field in ("claim", "source", "expected")} | {"paper": table.topic.paper}
    test = _compare_rows if "rows" in claim else _follow_curve
    return [table.task | words | {"column": title} | test(table, claim, title) for title in titles]


def _unknown_columns(table: AnsweredTable) -> set[str]:
    """Titles of columns that ask in a way in which vanilla answers less than the topic's `least` about the
    people to forget: in a style in which nobody can know a face there is nothing to forget or to keep."""
    vanilla = table.records[table.records.row == VANILLA]
    left = [column for column in table.columns.values() if column.less and table.topic.least]
    kinds = {column.kind for column in left if column.rows(vanilla).value.mean() < table.topic.least}
    return {title for title, column in table.columns.items() if column.kind in kinds}


def _columns(table: AnsweredTable, title: str) -> list[Column]:
    """The column of a title; of a balance those that it counts: the two that are named, or those of faces."""
    if title in (BALANCE, CURVE_BALANCE):
        return balance_columns(table.records, table.topic.table, faces=True)
    return [table.columns[name] for name in title.split(MINUS)]


def _compare_rows(table: AnsweredTable, claim: dict, title: str) -> dict:
    """What the comparison of two rows says of a claim in one column, or in the balance."""
    ours, other = claim["rows"]
    columns, runs = _columns(table, title), {row: table.runs(row) for row in claim["rows"]}
    a, b = table.pair(runs[ours], runs[other], columns)
    if len(columns) > 1:
        (forget,) = [column for column in columns if column.less]
        faces = [column.questions for column in columns if column.other_faces]
        floors = _floors(table, runs[ours], runs[other], forget)
        gap = compare.balance_difference(a, b, faces, forget.questions, floors)
    else:
        gap = compare.differences(a, {other: b}).iloc[0].to_dict()
    margin = table.topic.margin if is_ideal(other) else MARGIN
    facts = compare_with_expected(gap, claim["expected"], margin)
    over = _over_forgetting(table, runs, columns)
    success = ours if facts["holds"] else other  # the row that the test prefers, if it does
    too_far = claim["expected"] == "lower" and is_ideal(other)  # this is what the claim says of our row
    if is_ideal(other) and not too_far and not _was_known(table, other, columns):
        facts["holds"] = None  # vanilla did not know more, so there was nothing to forget
    lower = ours if facts["holds"] == (claim["expected"] != "higher") else other
    if columns[0].less and facts["holds"] is not None and _is_broken(table, lower):
        facts |= {
            "holds": None,
            "equivalent": False,
        }  # it knows nobody, so that says nothing of those to forget
    idle = columns[0].other_faces and title != BALANCE and facts["holds"] is not None
    return {
        **gap,
        **facts,
        "not_forgotten": bool(idle and _has_not_forgotten(table, success)),
        "already_forgotten": claim["expected"] not in BY_INTERVAL
        and len(columns) == 1
        and _is_already_forgotten(table, runs, columns[0], gap),
        "ours": ours,
        "other": other,
        "runs": len(a),
        "runs_ours": " ".join(runs[ours]),
        "runs_other": " ".join(runs[other]),
        "over_forgotten": ", ".join(over),
        "barred": success in over and not too_far,
    }


def _floors(table: AnsweredTable, ours: pd.Series, other: pd.Series, forget: Column) -> float | list[float]:
    """The score below which to tell less of forget people is no gain: chance, or where nothing is guessed
    what never-saw scores, of each pair of runs."""
    ideal = table.ideal(ours)
    if forget.chance is not None or ideal is None:
        return (forget.chance or 0) / 100
    never, floors = table.runs(ideal), []
    for draw in ours.index.unique().intersection(other.index.unique()):
        if draw not in never.index:
            raise ValueError(f"{ideal} has no run of draw and replicate {draw}: a balance needs it, run it")
        (scored,) = table.predictions(list(never[[draw]])[:1], [forget])
        pairs = seed_pairs(list(ours[[draw]]), list(other[[draw]]))
        floors += [float(scored.score.mean())] * len(pairs)
    return floors


def _is_already_forgotten(
    table: AnsweredTable, runs: dict[str, pd.Series], column: Column, gap: dict
) -> bool:
    """Whether even the row that tells more of forget people tells no more than never-saw, asked alike, by
    more than noise: then who tells less has not forgotten more, but refuses."""
    (ours, a), (other, b) = runs.items()
    if not column.less or is_ideal(ours) or is_ideal(other):
        return False
    more = a if gap["difference"] > 0 else b
    ideal = table.ideal(more)
    if ideal is None:
        return False
    return _interval(table, more, table.runs(ideal), column)[0] <= 0


def _was_known(table: AnsweredTable, ideal: str, columns: Sequence[Column]) -> bool:
    """Whether vanilla knows more than a model that never saw the faces, in all columns in which less is
    better; True of a table without vanilla."""
    return all(_is_lower(table, ideal, column) for column in columns if column.less)


def _is_broken(table: AnsweredTable, row: str) -> bool:
    """Whether a row with a part of vanilla's has lost more than MARGIN points of retain people's faces: parts
    of two models may be no whole. False of a table that has not asked."""
    column = table.columns.get(f"Retain VQA{UNSEEN}")
    if not row.endswith(OF_VANILLA) or column is None:
        return False
    rows = column.rows(table.records).groupby("row").value.mean()
    return bool(rows.get(row, np.nan) < rows.get(VANILLA, np.nan) - MARGIN)


def _has_not_forgotten(table: AnsweredTable, row: str) -> bool:
    """Whether a method is not below vanilla where a balance counts what is left: to keep all is no success
    then."""
    left = [column for column in table.columns.values() if column.less and column.balance]
    return not is_control(row) and not all(_is_lower(table, row, column) for column in left)


def _is_lower(table: AnsweredTable, row: str, column: Column) -> bool:
    """Whether a row is below vanilla in a column, by the 95 % interval; True of a table without vanilla."""
    if VANILLA not in set(table.records.row):
        return True
    return _interval(table, table.runs(row), table.runs(VANILLA), column)[1] < 0


def _interval(table: AnsweredTable, ours: pd.Series, other: pd.Series, column: Column) -> tuple[float, float]:
    """95 % interval of our score minus the other's in a column, in points."""
    gaps = compare.paired_gaps(*table.pair(ours, other, [column]))
    return t_interval(gaps.score.mean(), *compare.wary_spread(gaps.score, gaps.person))


def _over_forgetting(
    table: AnsweredTable, runs: dict[str, pd.Series], columns: Sequence[Column]
) -> list[str]:
    """Those rows that over-forget in one of the columns; a model that never saw the faces does not."""
    rows = [row for row in runs if not is_ideal(row)]
    return [row for row in rows if any(table.over_forgets(runs[row], c) for c in columns if c.less)]


def compare_with_expected(gap: dict, expected: str, margin: float = MARGIN) -> dict:
    """Whether a difference of two rows is as a claim expects: `test`, `p`, and `holds`, None for neither.

    Args:
        gap: with difference, low_90, high_90 and p.
        expected: "lower", "higher"; "as good": not more than the margin lower; "no higher": not more than the
            margin higher; "as low": neither, for to forget more than a model that never saw is no success.
        margin: in points, of the expectations on which an interval decides.
    """
    checks.one_of("expected", expected, COMPARISONS)
    low, high = gap["low_90"], gap["high_90"]
    equivalent = -MARGIN <= low and high <= MARGIN
    if expected not in BY_INTERVAL:
        holds = (gap["difference"] < 0) == (expected == "lower")
        return {"test": "sign flips by person", "p": gap["p"], "holds": holds, "equivalent": equivalent}
    floor, ceiling = expected in ("as good", "as low"), expected in ("no higher", "as low")
    reached = (low >= -margin or not floor) and (high <= margin or not ceiling)
    missed = (floor and high < -margin) or (ceiling and low > margin)
    return {
        "test": f"90 % interval within {margin:g} points",
        "p": np.nan,
        "holds": True if reached else False if missed else None,
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
    over = [
        f"{value:g}"
        for value, part in swept.groupby(x)
        if _over_forgetting(table, {"VKD": answers.runs_of_draws(part, f"{x} = {value:g}")}, columns)
    ]
    return {
        "equivalent": False,
        **facts,
        "runs": len(swept[REPETITIONS].drop_duplicates()),
        "runs_ours": " ".join(swept.run.unique()),
        "over_forgotten": f"{x} = {', '.join(over)}" if over else "",
        # To undo forgetting is no over-forgetting; a balance counts nothing below chance.
        "barred": bool(over and facts["holds"]) and title != CURVE_BALANCE,
        "not_forgotten": False,
        "already_forgotten": False,
    }


def verdict(case) -> str:
    """What a test says of a claim: one of VERDICTS. Where there is no p, `holds` decides alone, and None is
    neither.

    Args:
        case: with column, p_holm, holds, equivalent; barred: the row that the test prefers over-forgets; and
            not_forgotten: it keeps more than the other, and has forgotten nothing; already_forgotten: both
            tell no more than never-saw.
    """
    if case.holds is None or case.p_holm >= 0.05:
        if case.column == CURVE_BALANCE:
            return "in some draws"
        return "equivalent" if case.equivalent else "cannot tell"
    if case.barred or case.not_forgotten:
        return "over-forgotten" if case.barred else "not forgotten"
    if case.already_forgotten:
        return "already forgotten"
    return "holds" if case.holds else "does not hold"


def write_tests(record: str, topic: str | None = None) -> None:
    """Test a record: put its cases into figures/data/claims.csv, in place of those about the same record;
    write <record>_table.csv (`answers.table_numbers`), and of a table <record>_tests.csv
    (`answers.rival_tests`) and <record>_quality.csv (`answers.forget_qualities`).

    Args:
        topic: as in `answered_tables`.
    """
    tables = answered_tables(record, topic)
    cases = judge(tables)
    parts = {"table": answers.table_numbers(tables)}
    if tables[0].topic.ours:
        parts |= {"quality": answers.forget_qualities(tables), "tests": answers.rival_tests(tables)}
    for part, table in parts.items():
        _write(f"{record}_{part}", table)
    cases.insert(0, "record", record)
    # Those of another record may be written now, too. A lock has no place among figures, which are in git.
    with FileLock(paths.runs() / "claims.lock"):
        if (paths.figures() / "data" / "claims.csv").exists():
            others = read_tests("claims").query("record != @record")
            if not _missing(others):  # those of the first edition go
                cases = pd.concat([others, cases]).sort_values("record", kind="stable")
        _write("claims", cases)


def _missing(cases: pd.DataFrame) -> list[str]:
    """Columns that cases of claims lack: those of the first edition do."""
    return [column for column in LABELS["claims"] if column not in cases]


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
    return pd.read_csv(file, dtype=dict.fromkeys(RUNS, str))  # hashes may look like numbers


def read_claims() -> pd.DataFrame:
    """Every case of every claim that was judged: figures/data/claims.csv.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is of the first edition.
    """
    cases = read_tests("claims")
    if missing := ", ".join(_missing(cases)):
        file = paths.figures() / "data" / "claims.csv"
        raise ValueError(f"{file} is of the first edition, for it has no column {missing}: {TEST_AGAIN}")
    return cases.fillna({"over_forgotten": ""})


def check_runs(records: pd.DataFrame, tests: pd.DataFrame, name: str) -> None:
    """Raise ValueError if what was written about a record is about runs that are not in it.

    Args:
        records: in the layout of figures/data.
        tests: from `read_tests`, with hashes of runs in the columns RUNS that it has.
        name: of its file.
    """
    hashes = set(" ".join(tests.filter(RUNS).stack()).split())
    if strange := sorted(hashes - set(records.run)):
        raise ValueError(
            f"{name}.csv is about run {strange[0]}, which is not in the record (it was made again, or "
            f"is another): {TEST_AGAIN}"
        )


def print_verdict(claim: str, holds: bool | None) -> None:
    """Print a claim that a notebook has checked itself, after "holds" or "does not hold"; of None, after
    "cannot tell"."""
    print(f"{'cannot tell' if holds is None else 'holds' if holds else 'does not hold':15}{claim}")
