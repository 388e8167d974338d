"""Weight masking: gradients -> Fisher information (Eq. 9) -> ratio (Eq. 10) -> mask (Eq. 11) -> hold."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vkdlib.losses import check_finite
from vkdlib.models.loaded import Loaded
from vkdlib.models.memo import memo
from vkdlib.models.passes import batch_nll, trainable
from vkdlib.packs.pack import Pack, answer_tokens, batches
from vkdlib.system import checks, processes

Weights = dict[str, Tensor]  # parameter name -> tensor of its shape
FISHERS = ("summed", "batch", "sample")


@memo
def fisher(
    loaded: Loaded,
    datasets: Sequence[Sequence[Pack]],
    parameters: dict[str, torch.nn.Parameter],
    kind: str = "summed",
    batch_size: int = 4,
) -> Weights:
    """Eq. 9: F_diag^D = [∇L^D(θ0)]², the diagonal of the Fisher information, in fp32.

    Args:
        datasets: packs of each dataset. Their losses are added, as in the denominator of Eq. 10 (under
            "batch" and "sample", their Fisher informations). Empty datasets count nothing.
        kind: "summed" squares the gradient of the whole dataset's loss (the paper's text, default);
            "batch" averages the squared gradients of batches (MMUnlearner's code; depends on the
            batch size); "sample" averages those of single questions (the empirical Fisher proper).
    Returns:
        name -> squared gradient, of the parameter's shape; 0 where no gradient arrives.
    """
    checks.one_of("fisher", kind, FISHERS)
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    for packs in datasets:
        if kind == "sample":
            packs, batch_size = [p.select([i]) for p in packs for i in range(len(p.segments))], 1
        groups = list(batches(packs, batch_size))
        answers = answer_tokens(packs)
        for group in processes.own_share(groups):
            gradient = loss_gradient(loaded, group, parameters)
            for name, g in gradient.items():  # g: of the parameter's shape
                if kind == "summed":  # the dataset's mean over answer tokens, batch by batch
                    total[name] += g * (answer_tokens(group) / answers)
                else:
                    total[name] += g.square() / len(groups)
    processes.add_up(total.values())
    check_finite("the gradient", total)
    return {name: t.square() for name, t in total.items()} if kind == "summed" else total


def loss_gradient(loaded: Loaded, packs: Sequence[Pack], parameters: dict) -> Weights:
    """Gradient of `answer_nll` on one batch of packs: name -> fp32 tensor of the parameter's shape."""
    with trainable(loaded, parameters):
        loss = batch_nll(loaded, packs)
        grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {n: g.float() for n, g in zip(parameters, grads) if g is not None}


def saliency_ratio(forget: Weights, retain: Weights) -> Weights:
    """Eq. 10: R = [∇L_vqa^f]² / [∇(L_qa^f + L_vqa^r + L_qa^r)]².

    0/0 gives 0: a weight without any gradient is not salient.
    """
    return {n: torch.where(f > 0, f / retain[n], torch.zeros_like(f)) for n, f in forget.items()}


def weight_mask(ratio: Weights, d_F: float) -> Weights:
    """Eq. 11: m_F = 1[R >= d_F]. Returns name -> bool tensor, True = salient for the forget set."""
    checks.number("d_F", d_F, 0)
    return {name: r >= d_F for name, r in ratio.items()}


def density(masks: dict) -> float:
    """Share of the entries of some masks that are True, 0 to 1: weights that may forget, neurons that go."""
    return sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


def shuffle(masks: dict, seed: int) -> dict:
    """As many True entries in each of some masks, at random places. A control of ours.

    Layers differ in density. So a control that also moved entries from one layer to another would not tell
    which of the two matters.
    """
    generator = torch.Generator().manual_seed(seed)
    order = {name: torch.randperm(m.numel(), generator=generator).to(m.device) for name, m in masks.items()}
    return {name: m.flatten()[order[name]].view_as(m) for name, m in masks.items()}


class Hold:
    """Keeps entries of parameters bit-identical, whatever momentum or weight decay would do to them."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], held: Weights):
        """Remember the present values.

        Args:
            held: name -> bool tensor of the parameter's shape, True where the entry must not move.
        """
        entries = ((parameters[name], mask) for name, mask in held.items())
        self.entries = [(p, mask.to(p.device), p.detach().clone()) for p, mask in entries]

    @torch.no_grad()
    def restore(self) -> None:
        """Put held entries back; call it after each optimiser step."""
        for p, mask, value in self.entries:
            p.copy_(torch.where(mask, value, p))
