"""The gate before unlearning: a model that never memorised the faces has nothing to unlearn."""

from collections.abc import Callable

import pandas as pd

from vkdlib.evaluation.compare import sign_flip
from vkdlib.experiments.start import checkpoint
from vkdlib.runs.run import Run

SIGNIFICANT = 0.05
BLANK = "vanilla, blank picture"


def look(run: Callable[..., Run], config: dict, retain_only: str | None) -> dict[str, float]:
    """Ask vanilla and retain-only about the people that a run is to forget, and compare (`memorised`).

    Selection people are hidden from no model: there vanilla must beat itself with blank pictures.

    Args:
        run: `experiments.run` of some experiment; what was asked before is found there.
        config: the run's arguments, those of method and training included.
        retain_only: name of the retain-only model.
    Raises:
        ValueError: no retain-only model is named, or vanilla does not know the faces.
    """
    checkpoint(*(config[k] for k in ("model", "benchmark", "method", "forget_ratio")))  # refuses a base model
    if not retain_only and not config["select"]:
        raise ValueError(
            f"has {config['model']} memorised the faces it is to forget? That shows beside a model that "
            "never saw them: name one (retain_only, a folder; notebooks/02_vanilla_models.ipynb makes one "
            "with hide_ratio), or go on without (gate=False)"
        )
    asked = config | {"settings": {}, "training": {}, "qa_image": None, "seed": 0}
    asked |= {"kinds": ["classification"], "retain_only": retain_only}
    vanilla, other = (
        run(**asked | {"method": method})
        for method in ("vanilla", BLANK if config["select"] else "retain-only")
    )
    return memorised(vanilla.predictions, other.predictions, other.config["method"])


def memorised(vanilla: pd.DataFrame, other: pd.DataFrame, name: str = "retain-only") -> dict[str, float]:
    """Does vanilla know the forget people's faces better than a model that never saw them?

    Args:
        vanilla, other: predictions of both models on the same questions; multiple choice about the forget
            people's pictures is what counts.
        name: of the other model.
    Returns:
        accuracies in per cent, "vanilla" and `name`; "n", how many questions; "p" of no
        difference (`compare.sign_flip`: questions about one person go together).
    Raises:
        ValueError: vanilla is not significantly better; there would be nothing to unlearn.
    """
    wanted = "set == 'forget' and modality == 'vqa' and kind == 'classification'"
    asked = vanilla.query(wanted).set_index("question")
    known, unknown = asked.score, other.query(wanted).set_index("question").score
    unknown = unknown.reindex(known.index)
    if unknown.isna().any() or not len(known):
        raise ValueError("the predictions are not of the same forget questions")
    p = sign_flip(known - unknown, asked.person)
    if p >= SIGNIFICANT or known.mean() <= unknown.mean():
        raise ValueError(
            f"of {len(known)} questions about the forget people's pictures vanilla answers {known.sum():.0f} "
            f"right, {name} {unknown.sum():.0f} (p = {p:.2g}): it has not memorised the faces, and there is "
            "nothing to unlearn. Teach it longer (notebooks/02_vanilla_models.ipynb: epochs, lr), or go on "
            "all the same (gate=False)"
        )
    return {"vanilla": 100 * known.mean(), name: 100 * unknown.mean(), "n": len(known), "p": p}
