"""GA_Diff, gradient difference: ascent on the forget people, descent on the retain people."""

from dataclasses import dataclass

from vkdlib.methods.base import descend
from vkdlib.methods.ga import GA
from vkdlib.models.loaded import Loaded
from vkdlib.tasks import Tasks


@dataclass(frozen=True)
class GADiff(GA):
    """L = -L_vqa^f + L_vqa^r, one joint loss (Liu et al. 2022; VKD paper §4.2).

    MLLMU-Bench's code ascends for a whole epoch, then descends for one; MMUnlearner's takes separate
    steps, many more of them down than up. These are other algorithms.
    """

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict):
        """(L_vqa^r, its named loss)."""
        return descend(loaded, part, batch)
