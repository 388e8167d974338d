"""PO, preference optimisation: a refusal is preferred to the forget people's answers."""

import random
from dataclasses import dataclass

import torch

from vkdlib.benchmarks.wording import REFUSALS
from vkdlib.losses import po_loss
from vkdlib.methods.base import TRAINED, Cost, Method, Pass, Prepared, TaskSize, Terms
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import answer_logprobs_by_pack, segment_logprobs
from vkdlib.packs.pack import Pack, put_questions
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks, label_of


@dataclass(frozen=True)
class PO(Method):
    """L = -log sigmoid(beta (gain of the refusal - gain of the answer)), mean over forget questions (DPO).

    Maini et al. 2024; VGID paper, Eq. 9. A gain is how much the log-probability of a whole answer grew since
    vanilla. Other codes multiply by 2 / beta, which AdamW does not notice; or train on refusals alone.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
        beta: how soon a pair that is apart counts no more (0.1 is usual for DPO; the paper has none).
        refusals: of which each question gets one, drawn for the whole run. The paper shows none; these are
            what the embedded base was taught to say.
    """

    origin = "paper"
    trained: str = setting("all", known=TRAINED)
    beta: float = setting(0.1, above=0)
    refusals: tuple[str, ...] = setting(REFUSALS)

    def __post_init__(self):
        super().__post_init__()
        if not self.refusals:
            raise ValueError("refusals is empty: give at least one refusal to prefer")

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Draw refusals, and ask vanilla how likely both answers are."""
        packs = {p.key: self.preference_pack(loaded, p, steps.seed) for p in tasks.forget_vqa}
        reference = answer_logprobs_by_pack(steps.teacher or loaded, list(packs.values()), steps.at_once)
        return Prepared(teacher={"packs": packs, "reference": reference})

    def preference_pack(self, loaded: Loaded, pack: Pack, seed: int) -> Pack:
        """A picture whose questions have two answers each: a refusal, then the true one."""
        rng, pairs = random.Random(f"{seed} {pack.key} refusals"), []
        for question, answer in pack.pairs:
            pairs += [(question, rng.choice(self.refusals)), (question, answer)]
        return put_questions(loaded.processor, pack, pairs, label=label_of(pack))

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """PO's loss on the forget people's pictures."""
        packs = [teacher["packs"][p.key] for p in part.forget_vqa]
        model = torch.cat(segment_logprobs(loaded, packs))  # (2 a question,): refusal, answer
        reference = torch.cat([teacher["reference"][p.key] for p in packs]).to(model.device)
        share = len(model) / (2 * sum(len(p.segments) for p in batch.forget_vqa))
        (refused, answered), (refusal, answer) = (t.view(-1, 2).T for t in (model, reference))
        loss = po_loss(refused, refusal, answered, answer, self.beta) * share
        return loss, {"po": loss}

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        """At the most: a question counts twice, once for each of its answers."""
        tokens = 2 * size.pack_tokens - size.image_tokens
        passes = {"the reference's answers": Pass(size.forget_pictures, tokens)}
        return Cost(passes, {"forget": Pass(size.forget_pictures, tokens, backward=True)})
