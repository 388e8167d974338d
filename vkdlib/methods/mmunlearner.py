"""MMUnlearner: gradient difference in which only salient weights take part in forgetting."""

import math
from dataclasses import dataclass

from vkdlib import masking
from vkdlib.methods.base import Prepared, ascend, descend, maskable
from vkdlib.methods.ga import GA
from vkdlib.models.loaded import Loaded
from vkdlib.tasks import Tasks


@dataclass(frozen=True)
class MMUnlearner(GA):
    """L = -alpha m ⊙ L_vqa^f + L_vqa^r (Huo et al. 2025).

    A weight is salient if its Fisher information on the forget people's pictures is at least `threshold`
    times that on what is to be kept: for a weight of the visual module the pictures of the retain people,
    for one of the language model these and everything in text, as one set. The mask multiplies the gradient
    of the forget term, for every weight trained. (In its code the mask of LLaVA never applies, and
    parameters without an entry in it are ascended freely.)

    Attributes:
        alpha: strength of forgetting.
        threshold: of the saliency ratio.
    """

    alpha: float = 1.0
    threshold: float = 1.0

    def prepare(
        self, loaded: Loaded, tasks: Tasks, batch_size: int = 4, micro_batch: int | None = None, *_
    ) -> Prepared:
        """Compute the mask: squared gradients of batches, averaged (so `batch_size` matters, and batches are
        whole whatever `micro_batch` is)."""
        weights = maskable(self.scope(loaded))
        parts = (loaded.family.tower(loaded.model), loaded.family.projector(loaded.model))
        visual = {p for part in parts for p in part.parameters()}
        text = () if self.trained == "visual" else (*tasks.forget_qa, *tasks.retain_qa)
        above, pictures, told = (
            masking.fisher(loaded, [packs], weights, "batch", batch_size)
            for packs in (tasks.forget_vqa, tasks.retain_vqa, text)
        )
        counts = [math.ceil(len(packs) / batch_size) for packs in (tasks.retain_vqa, text)]
        share = counts[0] / sum(counts)
        below = {
            n: pictures[n] if p in visual else share * pictures[n] + (1 - share) * told[n]
            for n, p in weights.items()
        }
        mask = masking.weight_mask(masking.saliency_ratio(above, below), self.threshold)
        return Prepared(mask, report={"mask_density": masking.density(mask)})

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict):
        """(-alpha L_vqa^f, its named loss)."""
        loss, named = ascend(loaded, part, batch)
        return self.alpha * loss, named

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict):
        """(L_vqa^r, its named loss)."""
        return descend(loaded, part, batch)
