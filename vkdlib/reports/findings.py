"""What the records say of the papers' claims, in plain sentences.

Sentences are made from figures/data/claims.csv: they say what was judged, and nothing else.
"""

import pandas as pd

from vkdlib.reports.columns import BALANCE, LABELS, record_columns
from vkdlib.reports.paper.published import published_cells
from vkdlib.reports.tables import in_order, number_texts
from vkdlib.runs.records import read_predictions, read_records
from vkdlib.system import paths

NAMES, VERDICTS = LABELS["names"], LABELS["verdicts"]


def read_claims() -> pd.DataFrame:
    """Every judged claim, one row a case: figures/data/claims.csv.

    Where the file does not say how many people a case is about (`people`), they are counted.
    """
    judged = pd.read_csv(paths.figures() / "data" / "claims.csv")
    judged["over_forgotten"] = judged.over_forgotten.fillna("")
    for record, rows in judged[judged.people.isna() & judged.n.notna()].groupby("record"):
        known = people_asked(record)
        cases = zip(rows.model, rows.benchmark, rows.column)
        judged.loc[rows.index, "people"] = [known[case] for case in cases]
    return judged


def people_asked(record: str) -> dict[tuple[str, str, str], int]:
    """(model, benchmark, column) -> number of people that the column's questions are about; of
    a balance, in the column that has fewest: they limit its interval."""
    answers, people = read_predictions(record), {}
    for (model, benchmark), part in read_records(record).groupby(["model", "benchmark"]):
        columns = record_columns(part)
        answered = {c.title: c.about(answers[c.rows(part).run.iloc[0]]) for c in columns}
        numbers = {title: table.person.nunique() for title, table in answered.items()}
        numbers[BALANCE] = min(numbers[c.title] for c in columns if c.less or c.other_faces)
        people |= {(model, benchmark, title): number for title, number in numbers.items()}
    return people


def sentences(judged: pd.DataFrame) -> str:
    """A Markdown list with one sentence a claim."""
    claims = judged.groupby("claim", sort=False)
    return "\n".join(f"- {claim_sentence(cases)}" for _, cases in claims)


def claim_sentence(cases: pd.DataFrame) -> str:
    """What became of one claim, for example "**VKD forgets faces**: holds in all 4 cases."

    Args:
        cases: the rows of `read_claims` of one claim.
    """
    claim, total, parts = cases.claim.iloc[0], len(cases), []
    with_column = cases.column.nunique() > 1
    for verdict in VERDICTS:
        rows = cases[cases.verdict == verdict]
        if len(rows):
            often = how_often(len(rows), total, verdict in ("holds", "in some seeds"))
            often = often.removesuffix(f" of {total} cases") if parts else often
            parts.append(VERDICTS[verdict] + often + _notes(rows, total, with_column))
    text = f"**{claim[0].upper()}{claim[1:]}**: {'; '.join(parts)}. *{cases.source.iloc[0]}*"
    too_far = (cases.over_forgotten != "").sum()
    return text + f" Over-forgotten{how_often(too_far, total, True)}." if too_far else text


def how_often(count: int, total: int, positive: bool) -> str:
    """ " in 3 of 4 cases", " in all 4 cases"; after a negation " in any of the 4 cases"; "" of one case."""
    if total == 1:
        return ""
    if count < total:
        return f" in {count} of {total} cases"
    if total == 2:
        return " in both cases" if positive else " in either case"
    return f" in all {total} cases" if positive else f" in any of the {total} cases"


def _notes(rows: pd.DataFrame, total: int, with_column: bool) -> str:
    """ " (Qwen2-VL on CLEAR; 10 people)": which cases, if they are one or two of several; how many people, if
    they are too few to tell."""
    notes = []
    if len(rows) <= 2 and len(rows) < total:
        for row in rows.itertuples():
            notes.append(f"{row.column}, {_where(row)}" if with_column else _where(row))
    if "inside the noise" in set(rows.verdict):
        few, many = int(rows.people.min()), int(rows.people.max())
        notes.append(f"{few} people" if few == many else f"{few} to {many} people")
    return f" ({'; '.join(notes)})" if notes else ""


def _where(row) -> str:
    return f"{NAMES.get(row.model, row.model)} on {NAMES.get(row.benchmark, row.benchmark)}"


def evidence(judged: pd.DataFrame) -> pd.DataFrame:
    """What stands behind each verdict, one row a case, the cases of a claim together: what was measured (in
    points; of "best at" the setting's value) with its 95 % interval; Holm's p; questions, people and runs."""
    judged = in_order(judged, "claim", judged.claim.unique())
    compared = judged.difference.notna()
    shown = judged[["claim", "model", "benchmark", "column"]].replace(NAMES)
    shown["claim"] = shown.claim.mask(shown.claim.duplicated(), "")
    test = judged.test.str.split(",").str[0].replace({"slope": "last − first"})
    shown["what"] = (judged.ours + " − " + judged.other).where(compared, test)
    measured = judged.difference.fillna(judged.change).fillna(judged.statistic)
    shown["measured"] = measured.round(9).map("{:.3g}".format)
    low, high = (number_texts(judged[end], "{:.1f}") for end in ("low", "high"))
    shown["95 % interval"] = ("[" + low + ", " + high + "]").where(compared, "")
    shown["p"] = number_texts(judged.p_holm.where(judged.differ > 0), "{:.2g}")
    shown["N"] = number_texts(judged.n, "{:.0f}")
    shown["people"] = number_texts(judged.people, "{:.0f}")
    shown["runs"] = [len(set(case_runs(row))) for _, row in judged.iterrows()]
    shown["verdict"] = judged.verdict
    shown["over-forgotten"] = judged.over_forgotten
    return shown.set_index("claim")


def case_runs(case: pd.Series) -> list[str]:
    """Hashes of the runs behind one row of claims.csv."""
    return " ".join(case[["runs_ours", "runs_other"]].dropna()).split()


def not_judged(judged: pd.DataFrame) -> dict[str, list[str]]:
    """Paper -> its tables that no claim in claims.csv is about."""
    tables = [LABELS["judged"][record] for record in judged.record.unique() if record in LABELS["judged"]]
    return {
        paper: [f"Table {number}" for number in numbers.unique() if [paper, number] not in tables]
        for paper, numbers in published_cells().groupby("paper", sort=False).table
    }
