"""VKD, the paper's method: prune neurons, mask weights, fine-tune the visual module under Eq. 3."""

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vkdlib import masking, pruning
from vkdlib.losses import REDUCTIONS, output_loss, total_loss, vkd_loss
from vkdlib.masking import Weights
from vkdlib.methods.base import Prepared, maskable, reaching, trained_parameters
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import live_blocks, vision_mlps
from vkdlib.models.passes import batch_nll, record_features, visual_features
from vkdlib.packs.pack import Pack, batches
from vkdlib.tasks import Tasks

CHOICES = {
    "fisher": masking.FISHERS,
    "mask_scope": ("forget", "update"),
    "reduction": REDUCTIONS,
    "order": ("prune, mask", "parallel", "mask, prune"),
    "target": ("projector", "layers", "both"),
}


@dataclass(frozen=True)
class VKD:
    """Settings of VKD.

    Attributes:
        alpha: strength of forgetting, Eq. 5 (paper: 1.25).
        beta: strength of the distillation, Eq. 3 (paper: 0.3).
        prune, mask: whether neurons are pruned and weights masked (for ablations).
        d_I: threshold of Eq. 8 on the importance ratio. Not published.
        d_F: threshold of Eq. 11 on the saliency ratio. Not published.
        layers: how many of the deepest live vision blocks are trained; None: the deeper half.
        fisher: reading of Eq. 9, see `masking.fisher`.
        mask_scope: "forget": m multiplies the gradient of the forget term, as Eq. 5 is written.
            "update": masked weights do not move at all.
        reduction: of Eq. 4, see `losses.vkd_loss`.
        trained: "visual", as the method is ("F" in the paper's ablation), or "all" ("B"), or "lora".
        order: "prune, mask": prune, then fine-tune under the mask of the pruned model (the paper's best).
            "parallel": likewise, but the mask is the vanilla model's, as Eq. 9 has it (its θ0 "denotes the
            vanilla model"). "mask, prune": fine-tune under the mask, then prune the model that this gives.
        target: whose outputs are distilled: "projector" (f of Eq. 4), "layers" (those of the `layers` trained
            vision blocks, all weighing the same), or "both".
    """

    alpha: float = 1.25
    beta: float = 0.3
    prune: bool = True
    mask: bool = True
    d_I: float = 2.0
    d_F: float = 1.0
    layers: int | None = None
    fisher: str = "summed"
    mask_scope: str = "forget"
    reduction: str = "mean"
    trained: str = "visual"
    order: str = "prune, mask"
    target: str = "projector"
    trains = True  # not a setting: steps are taken

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {known}")
        if min(self.alpha, self.beta) < 0:
            raise ValueError(f"alpha is {self.alpha}, beta {self.beta}; both must be 0 or above")
        if self.prune and self.trained == "lora":
            raise ValueError('adapters would bring pruned neurons back: set prune=False with trained="lora"')

    def scope(self, loaded: Loaded) -> dict[str, torch.nn.Parameter]:
        """What is trained: vision MLPs and projector, unless `trained` says otherwise."""
        return trained_parameters(loaded, self.trained, self.layers)

    def prepare(
        self,
        loaded: Loaded,
        tasks: Tasks,
        batch_size: int = 4,
        micro_batch: int | None = None,
        kept: Collection[str] | None = None,
    ) -> Prepared:
        """Ask the teacher, prune (Eq. 6-8), compute the mask (Eq. 9-11), see `order`.

        Pruned columns are held at zero: a neuron that fine-tuning could revive was not pruned.

        Args:
            micro_batch: packs at a time; None: `batch_size`. It changes no result but by rounding.
            kept: keys of the retain packs that will be seen here; None: all. The others' features would
                only take memory.
        """
        size = micro_batch or batch_size
        asked = [p for p in tasks.retain_vqa if kept is None or p.key in kept]
        teacher = {}
        if self.beta:
            for name, module in self.compared(loaded).items():
                teacher[name] = teacher_features(loaded, asked, size, module)
        parameters = self.scope(loaded)
        report, held, mask, last = {}, {}, None, None
        # The reading "batch" depends on the batch, so it has to be whole.
        whole = batch_size if self.fisher == "batch" else size
        if self.mask and self.order == "parallel":
            mask = self.choose_weights(loaded, tasks, whole)
        if self.prune and self.order == "mask, prune":
            last = functools.partial(self.prune_last, loaded, tasks, size)
        elif self.prune:
            neurons, report["pruned"] = self.prune_neurons(loaded, tasks, size)
            held = pruning.pruned_entries(loaded, neurons, parameters)
        if self.mask:
            mask = mask or self.choose_weights(loaded, tasks, whole)
            report["mask_density"] = masking.density(mask)
            if self.mask_scope == "update":
                held = {n: ~m | held.get(n, torch.zeros_like(m)) for n, m in mask.items()}
        return Prepared(mask, held, teacher, report, last)

    def compared(self, loaded: Loaded) -> dict[str, nn.Module]:
        """Modules whose outputs Eq. 4 compares, in the order in which they run."""
        blocks = {f"block {i}": live_blocks(loaded)[i] for i in vision_mlps(loaded, self.layers)}
        projector = {"projector": loaded.family.projector(loaded.model)}
        return {"projector": projector, "layers": blocks, "both": blocks | projector}[self.target]

    def prune_neurons(self, loaded: Loaded, tasks: Tasks, batch_size: int) -> tuple[pruning.Neurons, float]:
        """Prune in place: which neurons (Eq. 6 to 8), and their share."""
        neurons = self.choose_neurons(loaded, tasks, batch_size)
        pruning.prune(loaded, neurons)
        chosen = torch.cat(list(neurons.values()))
        return neurons, int(chosen.sum()) / len(chosen)

    def prune_last(self, loaded: Loaded, tasks: Tasks, batch_size: int) -> dict[str, float]:
        """Prune the model that fine-tuning gave."""
        return {"pruned": self.prune_neurons(loaded, tasks, batch_size)[1]}

    def choose_neurons(self, loaded: Loaded, tasks: Tasks, batch_size: int = 4) -> pruning.Neurons:
        """Eq. 6 to 8 on the four data sets."""
        measured = [
            pruning.importance(loaded, packs, self.layers, batch_size)
            for packs in (tasks.forget_vqa, tasks.retain_vqa, tasks.forget_qa, tasks.retain_qa)
        ]
        return pruning.neurons_to_prune(pruning.importance_ratio(*measured), self.d_I)

    def choose_weights(self, loaded: Loaded, tasks: Tasks, batch_size: int = 4) -> Weights:
        """Eq. 9 to 11."""
        kept = [
            tasks.retain_vqa,
            *(reaching(packs, self.trained) for packs in (tasks.forget_qa, tasks.retain_qa)),
        ]
        above, below = (
            masking.fisher(loaded, sets, maskable(self.scope(loaded)), self.fisher, batch_size)
            for sets in ([tasks.forget_vqa], kept)
        )
        return masking.weight_mask(masking.saliency_ratio(above, below), self.d_F)

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict[str, dict]):
        """The masked part of Eq. 5: (-alpha L_vqa^f, its named losses).

        Args:
            part: the packs to compute now.
            batch: all packs of the step, of which they are a part; the terms of all parts add up to its.
        """
        forget_vqa = batch_nll(loaded, part.forget_vqa, batch.forget_vqa)
        return output_loss(forget_vqa, 0.0, self.alpha), {"forget_vqa": forget_vqa}

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict[str, dict]):
        """The rest of Eq. 3 and 5: (L_vqa^r + L_qa^f + L_qa^r + beta L_VKD, its named losses)."""
        named = {"retain_vqa": torch.zeros((), device=loaded.device)}
        if part.retain_vqa:
            with record_features(loaded, list(self.compared(loaded).values())) as caught:
                named["retain_vqa"] = batch_nll(loaded, part.retain_vqa, batch.retain_vqa)
        for name in ("forget_qa", "retain_qa"):
            packs = reaching(getattr(part, name), self.trained)
            if packs:
                named[name] = batch_nll(loaded, packs, reaching(getattr(batch, name), self.trained))
        qa = (named.get("forget_qa", 0.0), named.get("retain_qa", 0.0))
        output = output_loss(0.0, named["retain_vqa"], self.alpha, *qa)
        if not self.beta or not part.retain_vqa:
            return output, named
        distances = []
        for student, features in zip(caught, teacher.values()):
            target = torch.cat([features[p.key] for p in part.retain_vqa]).to(student.device)
            distances.append(vkd_loss(student, target, self.reduction))
        share = image_tokens(part.retain_vqa) / image_tokens(batch.retain_vqa)
        named["vkd"] = torch.stack(distances).mean() * share
        return total_loss(output, named["vkd"], self.beta), named


def image_tokens(packs: Sequence[Pack]) -> int:
    """Number of image tokens of some packs."""
    return sum(p.image_tokens for p in packs)


@torch.no_grad()
def teacher_features(
    loaded: Loaded, packs: Sequence[Pack], batch_size: int = 8, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """t of Eq. 4, computed once: person -> (rows, C), kept off the GPU.

    Args:
        module: whose output; None: the projector's, one row an image token.
    """
    features = {}
    for group in batches(packs, batch_size):
        found = visual_features(loaded, pruning.image_inputs(loaded, group), module).cpu()
        # A vision block has more rows than the projector, in the same proportion for every image.
        counts = [p.image_tokens * len(found) // image_tokens(group) for p in group]
        features |= {p.key: f.clone() for p, f in zip(group, found.split(counts))}
    return features
