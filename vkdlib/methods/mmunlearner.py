"""MMUnlearner: gradient difference in which only salient weights take part in forgetting."""

import math
from dataclasses import dataclass

from vkdlib import masking
from vkdlib.methods.base import (
    TRAINED,
    Cost,
    Method,
    Pass,
    Prepared,
    TaskSize,
    Terms,
    ascend,
    both_sets,
    descend,
    maskable,
)
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import visual_weights
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks


@dataclass(frozen=True)
class MMUnlearner(Method):
    """L = -alpha m ⊙ L_vqa^f + L_vqa^r.

    Huo et al. 2025. A weight is salient if its Fisher information on the forget people's pictures is at least
    `threshold` times that on what is to be kept: for a weight of the visual module the pictures of the retain
    people, for one of the language model these and everything in text, as one set. The mask multiplies the
    gradient of the forget term, for every weight trained. (In its authors' code the mask is never applied to
    LLaVA, and parameters without an entry in the mask are ascended freely.)

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
        alpha: strength of forgetting.
        threshold: of the saliency ratio.
    """

    origin = "our reading"
    ascends = True
    keep_terms = descend
    whole_batches = True  # their gradients are squared
    trained: str = setting("all", known=TRAINED)
    alpha: float = setting(1.0, low=0)
    threshold: float = setting(1.0, low=0)

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """The mask, by the mean of the squared gradients of batches: it depends on the batch size."""
        weights, size = maskable(self.scope(loaded)), steps.batch_size
        visual = visual_weights(loaded)
        text = () if self.trained == "visual" else (*tasks.forget_qa, *tasks.retain_qa)
        forget, pictures, words = (
            masking.fisher(loaded, [packs], weights, "batch", size)
            for packs in (tasks.forget_vqa, tasks.retain_vqa, text)
        )
        groups = [math.ceil(len(packs) / size) for packs in (tasks.retain_vqa, text)]
        share = groups[0] / sum(groups)
        retain = {
            n: pictures[n] if p in visual else share * pictures[n] + (1 - share) * words[n]
            for n, p in weights.items()
        }
        mask = masking.weight_mask(masking.saliency_ratio(forget, retain), self.threshold)
        return Prepared(mask, report={"mask_density": masking.density(mask)})

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """-alpha L_vqa^f."""
        loss, named = ascend(self, loaded, part, batch, teacher)
        return self.alpha * loss, named

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        passes = {"Fisher information": Pass(size.pictures, size.pack_tokens, backward=True)}
        return Cost(passes, both_sets(size), masked=list(maskable(self.scope(loaded)).values()))
