"""The gate before unlearning: a model that never memorised the faces has nothing to unlearn."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from vkdlib.evaluation.compare import sign_flip
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run

SIGNIFICANT = 0.05
FEWEST = 6  # people who must differ for p to be below SIGNIFICANT: it is never below 2 / 2^people
BLANK = "vanilla, blank picture"
TEACH_LONGER = (
    "it has not memorised the faces, and there is nothing to unlearn. Teach it longer (epochs and lr in "
    "notebooks/02_vanilla_models.ipynb, faces and answers in 06_own_people.ipynb)"
)


def require_memorisation(evaluate: Callable[[Configuration], Run], c: Configuration) -> dict[str, float]:
    """Ask vanilla and retain-only about the people that a run is to forget, and compare (`memorisation`).

    Selection people are hidden from no model. There vanilla must beat itself with blank pictures.

    Args:
        evaluate: makes the run of a model as it is, or finds it if it was made before.
        c: the run that is to come.
    Raises:
        ValueError: no retain-only model is named, or vanilla does not know the faces.
    """
    if not c.retain_only and not c.select:
        raise ValueError(
            f"has {c.model} memorised the faces it is to forget? That shows beside a model that "
            "never saw them: name one (retain_only, a folder; notebooks/02_vanilla_models.ipynb makes one "
            "with hide_ratio), or go on without (gate=False)"
        )
    c = replace(
        c.usual,
        settings={},
        training={},
        qa_image=None,
        seed=0,
        requests=0,
        teacher="vanilla",
        kinds=("classification",),
    )
    vanilla = replace(c, method="vanilla")
    other = replace(vanilla, way="blank") if c.select else replace(c, method="retain-only")
    runs = [evaluate(each) for each in (vanilla, other)]
    return memorisation(*(run.predictions for run in runs), BLANK if c.select else "retain-only")


def memorisation(vanilla: pd.DataFrame, other: pd.DataFrame, name: str = "retain-only") -> dict[str, float]:
    """Does vanilla know the forget people's faces better than a model that never saw them?

    Args:
        vanilla, other: predictions of both models on the same questions; multiple choice about the forget
            people's pictures is what counts.
        name: of the other model.
    Returns:
        accuracies in per cent, "vanilla" and `name`; "n", how many questions; "p" of no
        difference (`compare.sign_flip`: questions about one person go together).
    Raises:
        ValueError: vanilla is not significantly better; there would be nothing to unlearn. With fewer than
            FEWEST people it never could be: a warning shows the numbers instead.
    """
    faces = "set == 'forget' and modality == 'vqa' and kind == 'classification'"
    first, second = (table.query(faces).set_index("question") for table in (vanilla, other))
    scores, others = first.score, second.score.reindex(first.index)
    if others.isna().any() or not len(scores):
        raise ValueError("the predictions are not of the same forget questions")
    p, people = sign_flip(scores - others, first.person), first.person.nunique()
    counts = (
        f"of {len(scores)} questions about the forget people's pictures vanilla answers "
        f"{scores.sum():.0f} right, {name} {others.sum():.0f} (p = {p:.2g})"
    )
    facts = {"vanilla": 100 * scores.mean(), name: 100 * others.mean(), "n": len(scores), "p": p}
    better = scores.mean() > others.mean()
    if people < FEWEST:
        warnings.warn(
            f"{counts}: {'' if better else 'vanilla is not better, and '}with {people} people no difference "
            f"can be significant, for p is never below {2 / 2**people:.2g}; it takes {FEWEST} or more. "
            "Judge by the numbers",
            stacklevel=2,
        )
    elif not better or p >= SIGNIFICANT:
        mend = _no_room(others, first.person, name) if better else ""
        raise ValueError(f"{counts}: {mend or TEACH_LONGER}, or go on all the same (gate=False)")
    return facts


def _no_room(others: pd.Series, people: pd.Series, name: str) -> str:
    """What to do where no model could be significantly better, because the other one answers everything right
    about too many people, by luck or because it saw them; "" where one could be."""
    known, count = int((others.groupby(people).mean() == 1).sum()), people.nunique()
    if count - known >= FEWEST:
        return ""
    return (
        f"{name} answers everything right about {known} of the {count} people, and with fewer than {FEWEST} "
        "others no difference is significant. Forget more people, ask more about them, or name a model that "
        "never saw them"
    )
