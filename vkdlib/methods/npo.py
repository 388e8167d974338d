"""NPO, negative preference optimisation: forget people's answers count as dispreferred ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.losses import npo_loss
from vkdlib.methods.base import Prepared
from vkdlib.methods.ga import GA
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import segment_logprobs
from vkdlib.packs.pack import Pack, batches
from vkdlib.tasks import Tasks


@dataclass(frozen=True)
class NPO(GA):
    """L = -(2/beta) log sigmoid(-beta log(model / reference)), mean over forget questions.

    From Zhang et al. 2024. A question counts by the log-probability of its whole answer. The peers' codes
    take the mean loss of a batch instead, one number for all its questions.

    Attributes:
        beta: how soon forgetting fades out as answers become less likely than the reference has them
            (MMUnlearner's code: 0.4). Towards 0 this is gradient ascent on whole answers.
        reference: "retain-only" (the VKD paper's text: "an oracle model fine-tuned on D_r"), or "vanilla"
            (as NPO was published), or the name of any model.
    """

    beta: float = 0.4
    reference: str = "retain-only"

    def __post_init__(self):
        if self.beta <= 0:
            raise ValueError(f"NPO's beta is {self.beta}; it must be above 0")

    def prepare(self, loaded: Loaded, tasks: Tasks, batch_size: int = 4, micro_batch: int | None = None, *_):
        """Ask the reference about the forget people, once."""
        from vkdlib.models.loading import load

        if self.reference == "retain-only":
            raise ValueError(
                'NPO\'s reference is "retain-only", which is a kind of model, not a name: give the name or '
                'folder of one, or "vanilla"'
            )
        oracle = loaded
        if self.reference != "vanilla":  # in the same precision: what rounding does is no difference
            oracle = load(self.reference, device=str(loaded.device), **loaded.precision)
        return Prepared(teacher=answers(oracle, tasks.forget_vqa, micro_batch or batch_size))

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict[str, Tensor]):
        """(the loss on the forget people, named)."""
        now = torch.cat(segment_logprobs(loaded, part.forget_vqa))
        then = torch.cat([teacher[p.key] for p in part.forget_vqa]).to(now.device)
        share = len(now) / sum(len(p.segments) for p in batch.forget_vqa)
        loss = npo_loss(now, then, self.beta) * share
        return loss, {"npo": loss}


@torch.no_grad()
def answers(loaded: Loaded, packs: Sequence[Pack], batch_size: int) -> dict[str, Tensor]:
    """Log-probability of every answer: key of the pack -> (questions,)."""
    groups = batches(packs, batch_size)
    return {p.key: sums.cpu() for group in groups for p, sums in zip(group, segment_logprobs(loaded, group))}
