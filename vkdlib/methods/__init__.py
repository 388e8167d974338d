"""Unlearning methods by name. Each is a frozen record of its settings which says what it trains (`scope`),
what it makes ready (`prepare`), and its named loss terms: those that the mask applies to (`forget_terms`)
and the others (`keep_terms`). One that does not train (`trains`) has no terms."""

from dataclasses import fields

from vkdlib.methods.ga import GA
from vkdlib.methods.ga_diff import GADiff
from vkdlib.methods.kl_min import KLMin
from vkdlib.methods.manu import MANU
from vkdlib.methods.mmunlearner import MMUnlearner
from vkdlib.methods.npo import NPO
from vkdlib.methods.vkd import VKD

METHODS = {
    "GA": GA,
    "GA_Diff": GADiff,
    "KL_Min": KLMin,
    "NPO": NPO,
    "MANU": MANU,
    "MMUnlearner": MMUnlearner,
    "VKD": VKD,
}


def make_method(name: str, **settings):
    """A method with given settings, for example make_method("VKD", beta=0).

    Raises:
        ValueError: the method or one of its settings is not known.
    """
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; there are: {', '.join(METHODS)}")
    known = [f.name for f in fields(METHODS[name])]
    for setting in settings:
        if setting not in known:
            raise ValueError(f"{name} has no setting {setting!r}; it has: {', '.join(known)}")
    return METHODS[name](**settings)
