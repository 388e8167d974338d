"""KL_Min: ascent on the forget people; on the retain people answer as the vanilla model does."""

from dataclasses import dataclass

import torch

from vkdlib.losses import answer_kl
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
    no_terms,
)
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import make_batch
from vkdlib.packs.pack import answer_tokens
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks


@dataclass(frozen=True)
class KLMin(Method):
    """L = -L_vqa^f + weight KL(vanilla || model) on the retain people's pictures.

    Maini et al. 2024 (TOFU); VGID paper, Eq. 8. The VKD paper describes it as "maximizing KL
    divergence with D_f"; TOFU and this method maximise the answers' loss there. The KL is the mean over
    answer tokens. The peers' codes sum it over all positions, padding and image included, so that it weighs
    hundreds of times as much; and they add L_vqa^r.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
        weight: strength of keeping, beta of Eq. 8. Neither paper has a value.
    """

    origin = "our reading"
    ascends = True
    forget_terms = ascend
    trained: str = setting("all", known=TRAINED)
    weight: float = setting(1.0, above=0)

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Keep the vanilla values of the trained weights; they stand in for a second model."""
        trained = set(self.scope(loaded).values())
        names = [n for n, p in loaded.model.named_parameters() if p in trained]
        teacher = (steps.teacher or loaded).model
        return Prepared(teacher={n: teacher.get_parameter(n).detach().clone() for n in names})

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """The KL on the retain people's pictures."""
        if not part.retain_vqa:
            return no_terms(loaded)
        questions = make_batch(loaded, part.retain_vqa)
        with torch.no_grad():
            vanilla = torch.func.functional_call(loaded.model, teacher, kwargs=questions["inputs"]).logits
        logits = loaded.model(**questions["inputs"]).logits  # (B, K, V)
        share = answer_tokens(part.retain_vqa) / answer_tokens(batch.retain_vqa)
        loss = answer_kl(logits, vanilla, questions["targets"]) * share
        return self.weight * loss, {"retain_kl": loss}

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        vanilla = {"retain, by vanilla": Pass(size.retain_pictures, size.pack_tokens)}
        return Cost(epoch=both_sets(size) | vanilla, copied=list(self.scope(loaded).values()))
