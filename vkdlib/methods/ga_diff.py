"""GA_Diff, gradient difference: ascent on the forget people, descent on the retain people."""

from dataclasses import dataclass

from vkdlib.methods.base import TRAINED, Method, ascend, descend
from vkdlib.system.checks import setting


@dataclass(frozen=True)
class GADiff(Method):
    """L = -L_vqa^f + L_vqa^r, one joint loss.

    Liu et al. 2022; VKD paper §4.2; VGID paper, Eq. 7 with lambda = 1. MLLMU-Bench's code ascends for a whole
    epoch, then descends for one. MMUnlearner's takes separate steps, many more of them down than up. These
    are other algorithms.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
    """

    origin = "paper"
    forget_terms = ascend
    keep_terms = descend
    trained: str = setting("all", known=TRAINED)
