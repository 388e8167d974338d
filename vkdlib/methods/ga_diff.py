"""GA_Diff, gradient difference: ascent on the forget people, descent on the retain people."""

from dataclasses import dataclass

from vkdlib.methods.base import TRAINED, Method, Terms, ascend, descend
from vkdlib.models.loaded import Loaded
from vkdlib.system.checks import setting
from vkdlib.tasks import Tasks


@dataclass(frozen=True)
class GADiff(Method):
    """L = -L_vqa^f + weight L_vqa^r, one joint loss.

    Liu et al. 2022; VKD paper §4.2; VGID paper, Eq. 7. MLLMU-Bench's code ascends for a whole epoch, then
    descends for one. MMUnlearner's takes separate steps, many more of them down than up. These are other
    algorithms.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
        weight: strength of keeping, lambda of Eq. 7. Neither paper has a value.
    """

    origin = "paper"
    ascends = True
    forget_terms = ascend
    trained: str = setting("all", known=TRAINED)
    weight: float = setting(1.0, above=0)

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """weight L_vqa^r."""
        loss, named = descend(self, loaded, part, batch, teacher)
        return self.weight * loss, named
