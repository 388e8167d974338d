"""Held-out views: pictures that no model was trained on, as they are and in other styles."""

from collections.abc import Sequence

import pandas as pd

from vkdlib.benchmarks.schema import Split
from vkdlib.benchmarks.views.styles import STYLES, restyle_split
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.evaluation.ways import UNSEEN
from vkdlib.models.loaded import Loaded
from vkdlib.system.checks import number, some_of

AS_IT_IS = "as it is"
LEAST = 50.0  # per cent that vanilla must know in a style; else it is no style of a face


def ask_in_styles(
    loaded: Loaded,
    split: Split,
    styles: Sequence[str] = tuple(STYLES),
    *,
    kinds: Sequence[str] = ("classification",),
    batch_size: int = 64,
) -> pd.DataFrame:
    """Ask about the unseen pictures of forget and retain people as they are and in each style.

    Returns:
        predictions as of `evaluate`, of the sets "test" and "retain_unseen", with a column style.
    Raises:
        ValueError: a style is not known.
    """
    some_of("styles", styles, STYLES)
    asked = {"kinds": kinds, "modalities": ["vqa"], "sets": tuple(UNSEEN), "batch_size": batch_size}
    tables = []
    for style in (AS_IT_IS, *styles):
        shown = split if style == AS_IT_IS else restyle_split(split, style)
        tables.append(evaluate(loaded, shown, **asked).assign(style=style))
    return pd.concat(tables, ignore_index=True)


def recognised_styles(vanilla: pd.DataFrame, least: float = LEAST) -> tuple[list[str], list[str]]:
    """Styles in which vanilla still knows the forget people, and those to leave out and name.

    Args:
        vanilla: what `ask_in_styles` returns of the vanilla model.
        least: accuracy in per cent that it must have.
    """
    number("least", least, 0, 100)
    accuracy = 100 * vanilla[vanilla.set == "test"].groupby("style", sort=False).score.mean()
    return [*accuracy.index[accuracy >= least]], [*accuracy.index[accuracy < least]]
