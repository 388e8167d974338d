"""Unlearning methods by name; `base.Method` says what a method is."""

from vkdlib.methods.base import Method
from vkdlib.methods.ga import GA
from vkdlib.methods.ga_diff import GADiff
from vkdlib.methods.kl_min import KLMin
from vkdlib.methods.manu import MANU
from vkdlib.methods.mmunlearner import MMUnlearner
from vkdlib.methods.npo import NPO
from vkdlib.methods.po import PO
from vkdlib.methods.rmu import RMU
from vkdlib.methods.vgid import VGID
from vkdlib.methods.vkd import VKD
from vkdlib.system.checks import make, one_of

METHODS: dict[str, type[Method]] = {
    "GA": GA,
    "GA_Diff": GADiff,
    "KL_Min": KLMin,
    "PO": PO,
    "NPO": NPO,
    "RMU": RMU,
    "MANU": MANU,
    "MMUnlearner": MMUnlearner,
    "VKD": VKD,
    "VGID": VGID,
}


def make_method(name: str, **settings) -> Method:
    """A method with given settings, for example make_method("VKD", beta=0).

    Raises:
        ValueError: the method or a setting is not known, or a value is not allowed.
    """
    one_of("method", name, METHODS)
    return make(METHODS[name], name, settings)
