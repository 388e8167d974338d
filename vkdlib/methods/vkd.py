"""VKD, the paper's method: prune neurons, mask weights, fine-tune the visual module under Eq. 3."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vkdlib import masking, pruning
from vkdlib.losses import REDUCTIONS, output_loss, total_loss, vkd_loss
from vkdlib.masking import Weights
from vkdlib.methods.base import (
    TRAINED,
    Cost,
    Method,
    Pass,
    Prepared,
    TaskSize,
    Terms,
    both_sets,
    forget_set,
    maskable,
)
from vkdlib.models.loaded import Loaded
from vkdlib.models.memo import memo
from vkdlib.models.parts import deepest_blocks, live_blocks, mlp_output
from vkdlib.models.passes import batch_nll, record_features, rows_by_image, visual_features
from vkdlib.packs.pack import Pack, batches
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks

MASK_SCOPES = ("forget", "update")
ORDERS = ("prune, mask", "parallel", "mask, prune")
TARGETS = ("projector", "layers", "both")
CHOICES = ("forget people", "other people", "random")
KEEPS = ("answers", "features")


@dataclass(frozen=True)
class VKD(Method):
    """L = -m ⊙ alpha L_vqa^f + L_qa^f + L_vqa^r + L_qa^r + beta L_VKD, after pruning (Eq. 3 to 11).

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
            vanilla model"). "mask, prune": fine-tune under the mask, then prune the fine-tuned model.
        target: whose outputs are distilled: "projector" (f of Eq. 4), "layers" (those of the `layers` trained
            vision blocks, all weighing the same), or "both".
        prune_by, mask_by: who chooses neurons and weights. "forget people": as in the paper. The others are
            controls of ours. "other people": as many retain people, drawn at random, take the place of those
            to forget in Eq. 7 or 10. "random": as many in each layer as the forget people choose, at random
            places.
        keep: "answers": as in the paper. "features" (ours, beyond the paper) drops L_vqa^r: retain pictures
            pass the visual module alone, and L_VKD is what keeps them.
        unlabelled: gamma, strength of Eq. 4 on pictures that need no label and show nobody of the benchmark
            (ours, beyond the paper); 0: none.
        views: of each forget picture; more than 1 shows the forget term another, altered one in each round
            (ours, beyond the paper), to forget the face and not the picture.
    """

    origin = "paper"
    ascends = True
    alpha: float = setting(1.25, low=0)
    beta: float = setting(0.3, low=0)
    prune: bool = True
    mask: bool = True
    d_I: float = setting(2.0, low=0)
    d_F: float = setting(1.0, low=0)
    layers: int | None = setting(None, low=1)
    fisher: str = setting("summed", known=masking.FISHERS)
    mask_scope: str = setting("forget", known=MASK_SCOPES)
    reduction: str = setting("mean", known=REDUCTIONS)
    trained: str = setting("visual", known=TRAINED)
    order: str = setting("prune, mask", known=ORDERS)
    target: str = setting("projector", known=TARGETS)
    prune_by: str = setting("forget people", known=CHOICES)
    mask_by: str = setting("forget people", known=CHOICES)
    keep: str = setting("answers", known=KEEPS)
    unlabelled: float = setting(0.0, low=0)
    views: int = setting(1, low=1)

    def __post_init__(self):
        super().__post_init__()
        if self.prune and self.trained == "lora":
            raise ValueError('adapters would bring pruned neurons back: set prune=False with trained="lora"')
        for part in ("prune", "mask"):
            choice = getattr(self, f"{part}_by")
            if choice != "forget people" and not getattr(self, part):
                raise ValueError(f"{part}_by is {choice!r}, and {part} is False: leave one of them out")
        if self.keep == "features" and self.trained != "visual":
            raise ValueError(
                f'keep="features" keeps the visual module alone, and trained is {self.trained!r}: '
                'set trained="visual", or keep="answers"'
            )
        if self.keep == "features" and not self.beta:
            raise ValueError('keep="features" and beta=0 leave no term that keeps retain people: set beta')

    @property
    def whole_batches(self) -> bool:
        """The reading "batch" of Eq. 9 squares the gradients of batches."""
        return self.mask and self.fisher == "batch"

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Ask the teacher, prune (Eq. 6-8), compute the mask (Eq. 9-11), see `order`.

        Pruned columns are held at zero, those of earlier requests as well: a neuron that fine-tuning could
        revive was not pruned.
        """
        teacher = self.ask_teacher(steps.teacher or loaded, tasks, steps)
        parameters = self.scope(loaded)
        report, held, mask, finish = {}, {}, None, None
        if self.mask and self.order == "parallel":
            mask = self.choose_weights(loaded, tasks, steps)
        if self.prune and self.order == "mask, prune":
            finish = functools.partial(self.prune_tuned, loaded, tasks, steps)
        elif self.prune:
            neurons = self.choose_neurons(loaded, tasks, steps)
            pruning.prune(loaded, neurons)
            report["pruned"] = masking.density(neurons)
        if self.prune:
            held = pruning.pruned_entries(loaded, self.layers, parameters)
        if self.mask:
            mask = mask or self.choose_weights(loaded, tasks, steps)
            report["mask_density"] = masking.density(mask)
            if self.mask_scope == "update":
                held = {n: ~m | held.get(n, torch.zeros_like(m)) for n, m in mask.items()}
        return Prepared(mask, held, teacher, report, finish)

    def ask_teacher(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> dict[str, dict[str, Tensor]]:
        """t of Eq. 4 for the pictures that will be seen: module -> key of the pack -> (rows, C)."""
        packs = [*(tasks.retain_vqa if self.beta else ()), *(tasks.unlabelled if self.unlabelled else ())]
        packs = [p for p in packs if steps.retain_keys is None or p.key in steps.retain_keys]
        if not packs:
            return {}
        modules = self.distilled(loaded).items()
        return {name: teacher_features(loaded, packs, steps.at_once, module) for name, module in modules}

    def distilled(self, loaded: Loaded) -> dict[str, nn.Module]:
        """Modules whose outputs Eq. 4 compares, in the order in which they run."""
        blocks = {f"block {i}": block for i, block in deepest_blocks(loaded, self.layers).items()}
        projector = {"projector": loaded.family.projector(loaded.model)}
        return {"projector": projector, "layers": blocks, "both": blocks | projector}[self.target]

    def prune_tuned(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> dict[str, float]:
        """Prune the fine-tuned model; returns numbers for the report."""
        neurons = self.choose_neurons(loaded, tasks, steps)
        pruning.prune(loaded, neurons)
        return {"pruned": masking.density(neurons)}

    def choose_neurons(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> pruning.Neurons:
        """n_P of Eq. 6 to 8, on the four data sets; or a control's, see `prune_by`."""
        tasks = tasks.other_people(steps.seed) if self.prune_by == "other people" else tasks
        importances = [
            pruning.importance(loaded, packs, self.layers, steps.at_once)
            for packs in (tasks.forget_vqa, tasks.retain_vqa, tasks.forget_qa, tasks.retain_qa)
        ]
        neurons = pruning.neurons_to_prune(pruning.importance_ratio(*importances), self.d_I)
        return masking.shuffle(neurons, steps.seed) if self.prune_by == "random" else neurons

    def choose_weights(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Weights:
        """m_F of Eq. 9 to 11; or a control's, see `mask_by`."""
        tasks = tasks.other_people(steps.seed) if self.mask_by == "other people" else tasks
        text = [packs_with_gradient(packs, self.trained) for packs in (tasks.forget_qa, tasks.retain_qa)]
        size = steps.batch_size if self.whole_batches else steps.at_once
        forget, retain = (
            masking.fisher(loaded, sets, maskable(self.scope(loaded)), self.fisher, size)
            for sets in ([tasks.forget_vqa], [tasks.retain_vqa, *text])
        )
        mask = masking.weight_mask(masking.saliency_ratio(forget, retain), self.d_F)
        return masking.shuffle(mask, steps.seed) if self.mask_by == "random" else mask

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """The masked part of Eq. 5: -alpha L_vqa^f."""
        forget_vqa = batch_nll(loaded, part.forget_vqa, batch.forget_vqa)
        return output_loss(forget_vqa, 0.0, self.alpha), {"forget_vqa": forget_vqa}

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """The rest of Eq. 3 and 5: L_vqa^r + L_qa^f + L_qa^r + beta L_VKD; and gamma L_VKD of strangers."""
        named = {"retain_vqa": torch.zeros((), device=loaded.device)}
        modules = list(self.distilled(loaded).values())
        if part.retain_vqa and self.keep == "answers":
            with record_features(loaded, modules) as features:
                named["retain_vqa"] = batch_nll(loaded, part.retain_vqa, batch.retain_vqa)
        elif part.retain_vqa:
            features = module_outputs(loaded, part.retain_vqa, modules)
        for name in ("forget_qa", "retain_qa"):
            packs, step = (packs_with_gradient(getattr(t, name), self.trained) for t in (part, batch))
            if packs:
                named[name] = batch_nll(loaded, packs, step)
        qa = (named.get("forget_qa", 0.0), named.get("retain_qa", 0.0))
        total = output_loss(0.0, named["retain_vqa"], self.alpha, *qa)
        if self.beta and part.retain_vqa:
            share = count_image_tokens(part.retain_vqa) / count_image_tokens(batch.retain_vqa)
            named["vkd"] = self.distance(features, teacher, part.retain_vqa) * share
            total = total_loss(total, named["vkd"], self.beta)
        if self.unlabelled and part.unlabelled:
            features = module_outputs(loaded, part.unlabelled, modules)
            share = count_image_tokens(part.unlabelled) / count_image_tokens(batch.unlabelled)
            named["unlabelled"] = self.distance(features, teacher, part.unlabelled) * share
            total = total_loss(total, named["unlabelled"], self.unlabelled)
        return total, named

    def distance(self, student: list[Tensor], teacher: dict[str, dict], packs: Sequence[Pack]) -> Tensor:
        """Eq. 4 of some packs, mean over the modules that are distilled.

        Args:
            student: the outputs of each module, (rows of all packs, C).
            teacher: module -> key of the pack -> (rows, C).
        """
        targets = [torch.cat([features[p.key] for p in packs]) for features in teacher.values()]
        pairs = zip(student, targets)  # (rows of all packs, C) each
        return torch.stack([vkd_loss(s, t.to(s.device), self.reduction) for s, t in pairs]).mean()

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        """Passes of Eq. 4, 6 and 9 before the first step; the masks; the teacher's features."""
        passes, masked, held, features = {}, [], [], 0
        if self.beta or self.unlabelled:
            drawn = (size.drawn if self.beta else 0) + (size.drawn_unlabelled if self.unlabelled else 0)
            modules = len(self.distilled(loaded))
            passes["the teacher's features, Eq. 4"] = Pass(drawn * modules, size.image_tokens)
            features = self.feature_numbers(loaded, size.image_tokens)
        if self.prune:
            passes["importance, Eq. 6"] = Pass(size.pictures, size.image_tokens)
            if self.order != "mask, prune":
                held = [mlp_output(block).weight for block in deepest_blocks(loaded, self.layers).values()]
        if self.mask:
            masked = list(maskable(self.scope(loaded)).values())
            held = masked if self.mask_scope == "update" else held  # the pruned columns are among them
            single = Pass(size.questions, size.image_tokens + size.question_tokens, True)  # with its picture
            pack = Pass(size.pictures, size.pack_tokens, True)
            passes["Fisher information, Eq. 9"] = single if self.fisher == "sample" else pack
        return Cost(passes, self.epoch_passes(size), masked, held, features=features)

    def epoch_passes(self, size: TaskSize) -> dict[str, Pass]:
        """`Cost.epoch`."""
        alone = Pass(size.retain_pictures, size.image_tokens, backward=True)
        passes = both_sets(size) if self.keep == "answers" else forget_set(size) | {"retain": alone}
        return passes | ({"unlabelled": alone} if self.unlabelled else {})

    def feature_numbers(self, loaded: Loaded, image_tokens: int) -> int:
        """How many numbers the teacher's features of one picture are."""
        config = loaded.model.config
        rows = image_tokens * loaded.family.patches_per_token(config)  # of the vision tower
        block = rows * mlp_output(live_blocks(loaded)[-1]).out_features
        projector = image_tokens * config.get_text_config().hidden_size
        return sum(projector if name == "projector" else block for name in self.distilled(loaded))


def module_outputs(loaded: Loaded, packs: Sequence[Pack], modules: list[nn.Module]) -> list[Tensor]:
    """f of Eq. 4 by a pass through the visual module alone: of each module (rows of all packs, C)."""
    with record_features(loaded, modules) as features:
        loaded.model.get_image_features(**pruning.image_inputs(loaded, packs))
    return features


def packs_with_gradient(packs: Sequence[Pack], trained: str) -> Sequence[Pack]:
    """The packs whose loss has a gradient: the loss of text has none in the visual module."""
    return [p for p in packs if p.image] if trained == "visual" else packs


def count_image_tokens(packs: Sequence[Pack]) -> int:
    """Number of image tokens of some packs."""
    return sum(p.image_tokens for p in packs)


@memo
@torch.no_grad()
def teacher_features(
    loaded: Loaded, packs: Sequence[Pack], batch_size: int = 8, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """t of Eq. 4, computed once: key of the pack -> (rows, C), kept off the GPU.

    Args:
        module: whose output; None: the projector's, one row an image token.
    """
    features = {}
    for group in batches(packs, batch_size):
        outputs = visual_features(loaded, pruning.image_inputs(loaded, group), module).cpu()  # (rows, C)
        by_image = outputs.split(rows_by_image(group, len(outputs)))
        features |= {p.key: f.clone() for p, f in zip(group, by_image)}
    return features
