"""What the VKD paper says of its efficiency, judged by our Table 2. Counts are exact, without chance."""

from collections.abc import Iterator

import pandas as pd

from vkdlib.plan.efficiency import UNFROZEN, WITHOUT
from vkdlib.reports.paper.published import published_costs

# Rows that train the whole model on both sets. GA and NPO do not stand here: their epoch is the forget
# pictures alone, a twentieth of the others', whatever is frozen.
WHOLE = (UNFROZEN, "GA_Diff", "MMUnlearner")
QUARTER = 0.75  # of an epoch is saved by what is four times as fast
MINOR = 0.1  # of an epoch: a smaller overhead is minor; the paper prints 16.7 and 15.4 minutes
ENDING = " with the whole model"
MEASURES = ("operations", "seconds")
CASES = "claim source model questions measure ours published verdict".split()


def judge_efficiency(table: pd.DataFrame) -> pd.DataFrame:
    """Each sentence of §4.3 about time, for every model and way to put questions, by each of MEASURES.

    Args:
        table: with the columns `efficiency.MEASURED`.
    Returns:
        columns CASES. `ours` and `published` are shares of an epoch: what is saved, or added.
    """
    printed = published_costs().minutes
    cases = []
    rows = table[table["keep"] == "answers"]
    for (model, questions), part in rows.groupby(["model", "questions"], sort=False):
        for measure in MEASURES:
            values = part.set_index("method")[measure].dropna()
            facts = {"model": model, "questions": questions, "measure": measure}
            cases += [facts | case for case in _cases(values, printed)] if len(values) else []
    return pd.DataFrame(cases, columns=CASES)


def _cases(ours: pd.Series, printed: pd.Series) -> Iterator[dict]:
    """The sentences, on the costs of an epoch by method."""
    for other in WHOLE:
        shares = [1 - costs["VKD"] / costs.get(other, float("nan")) for costs in (ours, printed)]
        claim = f"VKD takes less than half as long as {other.removesuffix(ENDING)}{ENDING}"
        source = "4.3: 'Freezing the LLM reduces the overall unlearning time by more than 50%'"
        yield _case(claim, source, shares, shares[0] > 0.5)
    shares = [1 - costs["VKD"] / costs["GA_Diff"] for costs in (ours, printed)]
    source = "as a summary of the paper has it; its Table 2 says 3.4 times"
    yield _case(f"VKD is four times as fast as GA_Diff{ENDING}", source, shares, shares[0] >= QUARTER)
    shares = [costs["VKD"] / costs[WITHOUT] - 1 for costs in (ours, printed)]
    source = f"4.3: 'The introduction of VKD adds only minor overhead' (ours: less than {100 * MINOR:g} %)"
    yield _case("distillation adds little", source, shares, shares[0] < MINOR)


def _case(claim: str, source: str, shares: list[float], holds: bool) -> dict:
    values = dict(zip(("ours", "published"), shares))
    return {"claim": claim, "source": source, **values, "verdict": "holds" if holds else "does not hold"}
