"""What the records say of the papers' claims, in plain sentences.

Sentences are made from figures/data/claims.csv: they say what was judged, and nothing else.
"""

import pandas as pd

from vkdlib.reports.columns import LABELS, NAMES, UNSEEN, benchmark_names
from vkdlib.reports.paper.published import paper_cells
from vkdlib.system.checks import one_of

VERDICTS = LABELS["verdicts"]
ON_UNSEEN = "on pictures that were never trained on: "


def sentences(cases: pd.DataFrame) -> str:
    """A Markdown list with one sentence a claim.

    Args:
        cases: rows of `claims.read_claims`.
    """
    groups = cases.groupby("claim", sort=False)
    return "\n".join(f"- {claim_sentence(group)}" for _, group in groups)


def claim_sentence(cases: pd.DataFrame) -> str:
    """What became of one claim, for example "**VKD forgets faces**: holds in all 4 cases; on pictures that
    were never trained on: holds in 3 of 4 cases (...)."

    Args:
        cases: the rows of `claims.read_claims` of one claim.
    """
    cases = cases.assign(benchmark=benchmark_names(cases))
    claim, unseen = cases.claim.iloc[0], cases.column.str.endswith(UNSEEN)
    parts = [_verdicts(cases[~unseen])] if (~unseen).any() else []
    parts += [ON_UNSEEN + _verdicts(cases[unseen])] if unseen.any() else []
    text = f"**{claim[0].upper()}{claim[1:]}**: {'; '.join(parts)}. *{cases.source.iloc[0]}*"
    too_far, total = (cases.over_forgotten != "").sum(), len(cases)
    return text + f" There is over-forgetting{count_phrase(too_far, total, True)}." if too_far else text


def _verdicts(cases: pd.DataFrame) -> str:
    """How often each verdict was reached, as "holds in 3 of 4 cases; we cannot tell in 1 (...)"."""
    total, parts, with_column = len(cases), [], cases.column.nunique() > 1
    for verdict in VERDICTS:
        rows = cases[cases.verdict == verdict]
        if len(rows):
            often = count_phrase(len(rows), total, verdict not in ("does not hold", "equivalent"))
            often = often.removesuffix(f" of {total} cases") if parts else often
            parts.append(VERDICTS[verdict] + often + _notes(rows, total, with_column))
    return "; ".join(parts)


def cases_of_claim(judged: pd.DataFrame, claim: str) -> pd.DataFrame:
    """The cases of one claim.

    Args:
        judged: from `claims.read_claims`.
    Raises:
        ValueError: no case is of this claim.
    """
    one_of("the claim", claim, judged.claim.unique())
    return judged[judged.claim == claim]


def count_phrase(count: int, total: int, positive: bool) -> str:
    """ " in 3 of 4 cases", " in all 4 cases"; after a negation " in any of the 4 cases"; "" of one case."""
    if total == 1:
        return ""
    if count < total:
        return f" in {count} of {total} cases"
    if total == 2:
        return " in both cases" if positive else " in either case"
    return f" in all {total} cases" if positive else f" in any of the {total} cases"


def _notes(rows: pd.DataFrame, total: int, with_column: bool) -> str:
    """ " (Qwen2-VL on CLEAR; 3 of 10 people differ)": which cases, if they are one or two of several; of how
    many people the answers differ, if they are too few to tell."""
    notes = []
    if len(rows) <= 2 and len(rows) < total:
        for row in rows.itertuples():
            where = f"{NAMES.get(row.model, row.model)} on {row.benchmark}"
            notes.append(f"{row.column}, {where}" if with_column else where)
    if "cannot tell" in set(rows.verdict):
        differ, people = (_span(rows[field].astype(int)) for field in ("differ", "people"))
        notes.append(f"{differ} of {people} people differ")
    return f" ({'; '.join(notes)})" if notes else ""


def _span(numbers: pd.Series) -> str:
    """The smallest and the largest of some numbers, as "10 to 50"."""
    few, many = numbers.min(), numbers.max()
    return f"{few}" if few == many else f"{few} to {many}"


def case_runs(case: pd.Series) -> list[str]:
    """Hashes of the runs behind one row of claims.csv."""
    return " ".join(case[["runs_ours", "runs_other"]].dropna()).split()


def tables_without_claims(cases: pd.DataFrame) -> dict[str, list[str]]:
    """Paper -> its tables that no claim in claims.csv is about."""
    tables = {table for record in cases.record.unique() for table in LABELS["judged"].get(record, ())}
    return {
        paper: [f"Table {number}" for number in numbers.unique() if f"{paper} {number}" not in tables]
        for paper, numbers in paper_cells().groupby("paper", sort=False).table
    }
