"""NPO, negative preference optimisation: forget people's answers count as dispreferred ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.losses import npo_loss
from vkdlib.methods.base import TRAINED, Cost, Method, Pass, Prepared, TaskSize, Terms, forget_set
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import answer_logprobs_by_pack, segment_logprobs
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks


@dataclass(frozen=True)
class NPO(Method):
    """L = -(2/beta) log sigmoid(-beta log(model / reference)), mean over forget questions.

    Zhang et al. 2024; Eq. 10 of the VGID paper has no factor 2/beta. A question counts by the log-probability
    of its whole answer. The peers' codes take the mean loss of a batch instead, one number for all its
    questions.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
        beta: how soon forgetting fades out as answers become less likely than under the reference
            (MMUnlearner's code: 0.4). Towards 0 this is gradient ascent on whole answers.
        reference: "never-saw" or "retain-only" (the VKD paper's text: "an oracle model fine-tuned on D_r"),
            or "vanilla" (as NPO was published), or the name of any model.
    """

    origin = "paper"
    trained: str = setting("all", known=TRAINED)
    beta: float = setting(0.4, above=0)
    reference: str = "never-saw"

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Ask the reference about the forget people, once."""
        from vkdlib.models.loading import load

        if self.reference in ("retain-only", "never-saw"):
            raise ValueError(
                f"NPO's reference is {self.reference!r}, which is a kind of model, not a name: give the name "
                'or folder of one, or "vanilla"'
            )
        oracle = steps.teacher or loaded
        if self.reference != "vanilla":  # in the same precision, so that rounding is the same
            oracle = load(self.reference, device=str(loaded.device), **loaded.precision)
        return Prepared(teacher=answer_logprobs_by_pack(oracle, tasks.forget_vqa, steps.at_once))

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict[str, Tensor]) -> Terms:
        """NPO's loss on the forget people's pictures."""
        model = torch.cat(segment_logprobs(loaded, part.forget_vqa))  # (questions,)
        reference = torch.cat([teacher[p.key] for p in part.forget_vqa]).to(model.device)
        share = len(model) / sum(len(p.segments) for p in batch.forget_vqa)
        loss = npo_loss(model, reference, self.beta) * share
        return loss, {"npo": loss}

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        passes = {"the reference's answers": Pass(size.forget_pictures, size.pack_tokens)}
        return Cost(passes, forget_set(size))
