"""KL_Min: ascent on the forget people; on the retain people answer as the vanilla model does."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.losses import answer_kl
from vkdlib.methods.base import Prepared
from vkdlib.methods.ga import GA
from vkdlib.models.loaded import Loaded
from vkdlib.packs.batch import collate, to_device
from vkdlib.packs.pack import answer_tokens
from vkdlib.tasks import Tasks


@dataclass(frozen=True)
class KLMin(GA):
    """L = -L_vqa^f + KL(vanilla || model) on the retain people's pictures (Maini et al. 2024, TOFU).

    The VKD paper has it "maximizing KL divergence with D_f"; TOFU's, this one, maximises the answers' loss
    there. The KL is the mean over answer tokens. The peers' codes sum it over all positions, padding and
    image included, so that it weighs hundreds of times as much; and they add L_vqa^r.
    """

    def prepare(self, loaded: Loaded, tasks: Tasks, *_) -> Prepared:
        """Keep the vanilla values of what is trained: a second model costs no more than that."""
        trained = set(self.scope(loaded).values())
        names = {n: p for n, p in loaded.model.named_parameters() if p in trained}
        return Prepared(teacher={n: p.detach().clone() for n, p in names.items()})

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict[str, Tensor]):
        """(KL on the retain people, named)."""
        if not part.retain_vqa:
            return torch.zeros((), device=loaded.device), {}
        asked = to_device(collate(part.retain_vqa, loaded.pad, loaded.dtype), loaded.device)
        with torch.no_grad():
            wanted = torch.func.functional_call(loaded.model, teacher, kwargs=asked["inputs"]).logits
        logits = loaded.model(**asked["inputs"]).logits
        share = answer_tokens(part.retain_vqa) / answer_tokens(batch.retain_vqa)
        loss = answer_kl(logits, wanted, asked["targets"]) * share
        return loss, {"retain_kl": loss}
