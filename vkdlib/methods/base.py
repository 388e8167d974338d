"""What the methods have in common: what is trained, what is prepared, the two losses they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vkdlib.masking import Weights
from vkdlib.models.adapters import lora_parameters
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import dead_parameters, visual_parameters
from vkdlib.models.passes import batch_nll
from vkdlib.packs.pack import Pack
from vkdlib.tasks import Tasks

TRAINED = ("visual", "all", "lora")


@dataclass(frozen=True)
class Prepared:
    """What a method makes ready before its first step.

    Attributes:
        mask: m of Eq. 5, name -> bool; None lets every weight forget.
        held: entries that must not move at all, name -> bool.
        teacher: what the method compares with, by whom or what it is of.
        report: what to tell the user (neurons pruned, density of the mask).
        last: what is left to do after the last step; it returns more to report.
    """

    mask: Weights | None = None
    held: Weights = field(default_factory=dict)
    teacher: dict = field(default_factory=dict)
    report: dict[str, float] = field(default_factory=dict)
    last: Callable[[], dict[str, float]] | None = None


def trained_parameters(loaded: Loaded, trained: str, layers: int | None = None) -> dict[str, nn.Parameter]:
    """The weights that a method may change: name -> parameter.

    Args:
        trained: "visual": the MLPs of the `layers` deepest live vision blocks and the projector (VKD's way).
            "all": the whole model (the VKD paper's way for its baselines), but for vision blocks whose output
            nobody reads. "lora": its linear layers by adapters, which are put into the model: what a 7B model
            allows.
        layers: for "visual"; None: the deeper half.
    """
    if trained not in TRAINED:
        raise ValueError(f"trained is {trained!r}; it must be one of {', '.join(TRAINED)}")
    if trained == "visual":
        return visual_parameters(loaded, layers)
    if trained == "lora":
        return lora_parameters(loaded)
    dead = dead_parameters(loaded)
    found = {n: p for n, p in loaded.model.named_parameters() if p not in dead}
    fixed = [n for n, p in found.items() if p.dtype != torch.float32]
    if fixed:
        raise ValueError(
            f'trained="all" needs the whole model in fp32, and {fixed[0]} is {found[fixed[0]].dtype}: load '
            'it with dtype float32 and without quantise, or use trained="lora"'
        )
    return found


def maskable(parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The trained weights that a saliency mask is about. Of an adapter, B alone: A acts through B, which is 0
    at the start, so A has no gradient there by which to judge it, and is let through."""
    return {name: p for name, p in parameters.items() if "lora_A" not in name}


def reaching(packs: Sequence[Pack], trained: str) -> Sequence[Pack]:
    """The packs whose loss has a gradient: without an image, none reaches the visual module."""
    return [p for p in packs if p.image] if trained == "visual" else packs


def ascend(loaded: Loaded, part: Tasks, batch: Tasks) -> tuple[Tensor, dict[str, Tensor]]:
    """(-L_vqa^f, its named loss): gradient ascent on the forget people's pictures."""
    loss = batch_nll(loaded, part.forget_vqa, batch.forget_vqa)
    return -loss, {"forget_vqa": loss}


def descend(loaded: Loaded, part: Tasks, batch: Tasks) -> tuple[Tensor, dict[str, Tensor]]:
    """(L_vqa^r, its named loss): ordinary training on the retain people's pictures."""
    if not part.retain_vqa:
        return torch.zeros((), device=loaded.device), {}
    loss = batch_nll(loaded, part.retain_vqa, batch.retain_vqa)
    return loss, {"retain_vqa": loss}
