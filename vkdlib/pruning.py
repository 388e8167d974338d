"""Neuron pruning: activations -> importance (Eq. 6, 7) -> which neurons (Eq. 8) -> prune, restore.

A neuron is one coordinate of the input of a vision MLP's output projection. Pruning it sets its column
of that projection to zero, which is the same as setting its activation to zero.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from vkdlib.losses import check_finite
from vkdlib.models.loaded import Loaded
from vkdlib.models.memo import memo
from vkdlib.models.parts import deepest_blocks, live_blocks, mlp_output
from vkdlib.models.passes import rows_by_image
from vkdlib.packs.pack import Pack, batches
from vkdlib.system import checks, processes

Neurons = dict[int, Tensor]  # block number -> one entry per neuron of its MLP


@memo
@torch.no_grad()
def importance(
    loaded: Loaded, packs: Sequence[Pack], layers: int | None = None, batch_size: int = 8
) -> Neurons:
    """Eq. 6: I_abs(D, n) = 1/|D| sum_{i in D} |z(i)|, mean absolute activation of each neuron.

    A sample i is one question about one image, and |z(i)| is the mean over the tower's tokens (CLIP's
    class token included): an image counts as often as there are questions about it. The vision tower
    does not see the question.

    Args:
        packs: D. Text-only packs leave vision neurons without any activation: their I_abs is 0.
        layers: how many of the deepest live blocks; None takes the deeper half.
    Returns:
        block number -> (neurons,) fp32.
    """
    outputs = {i: mlp_output(block) for i, block in deepest_blocks(loaded, layers).items()}
    totals = {i: torch.zeros(m.in_features, device=loaded.device) for i, m in outputs.items()}
    pictured = [p for p in packs if p.image]
    for group in processes.own_share(batches(pictured, batch_size)):
        weights = torch.tensor([float(len(p.segments)) for p in group], device=loaded.device)  # (images,)
        for i, z in activations(loaded, group, outputs).items():
            z = z.flatten(0, -2)  # (tokens of all images, neurons)
            by_image = z.split(rows_by_image(group, len(z)))  # (tokens, neurons) each
            means = torch.stack([a.abs().float().mean(0) for a in by_image])  # (images, neurons)
            totals[i] += weights @ means  # (neurons,)
    processes.add_up(totals.values())
    check_finite("the activation", totals)
    count = sum(len(p.segments) for p in pictured)
    return {i: t.cpu() / max(count, 1) for i, t in totals.items()}


def activations(loaded: Loaded, packs: Sequence[Pack], outputs: dict[int, nn.Linear]) -> dict[int, Tensor]:
    """Neurons' activations z: the inputs of the given MLP output projections for the packs' images."""
    z: dict[int, Tensor] = {}  # block number -> (images, tokens, neurons), or (tokens of all images, neurons)
    with watch_inputs(outputs, z.__setitem__):
        loaded.model.get_image_features(**image_inputs(loaded, packs))
    return z


@contextlib.contextmanager
def watch_inputs(modules: dict, watch: Callable[..., None]) -> Iterator[None]:
    """Within: `watch(name, z)` sees the input z of each of the named modules in each forward pass."""

    def hook(name, module, args):
        watch(name, args[0])

    with contextlib.ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(functools.partial(hook, name)))
        yield


def image_inputs(loaded: Loaded, packs: Sequence[Pack]) -> dict[str, Tensor]:
    """The image inputs of a batch of packs, without the text, on the model's device."""
    return {n: torch.cat([p.image[n] for p in packs]).to(loaded.device) for n in sorted(packs[0].image)}


def importance_ratio(
    forget_vqa: Neurons,
    retain_vqa: Neurons,
    forget_qa: Neurons | None = None,
    retain_qa: Neurons | None = None,
) -> Neurons:
    """Eq. 7: I_u = I_abs(D_vqa^f) / (I_abs(D_qa^f) + I_abs(D_vqa^r) + I_abs(D_qa^r)).

    The QA terms are 0 by default: text passes through no vision neuron. 0/0 gives 0: a neuron that never
    fires is not important.
    """
    ratio = {}
    for i, forget in forget_vqa.items():
        retain = retain_vqa[i] + sum(qa[i] for qa in (forget_qa, retain_qa) if qa is not None)
        ratio[i] = torch.where(forget > 0, forget / retain, torch.zeros_like(forget))  # (neurons,)
    return ratio


def neurons_to_prune(ratio: Neurons, d_I: float) -> Neurons:
    """Eq. 8: n_P = 1[I_u >= d_I]. Returns block number -> (neurons,) bool, True = prune."""
    checks.number("d_I", d_I, 0)
    return {i: r >= d_I for i, r in ratio.items()}


@torch.no_grad()
def prune(loaded: Loaded, neurons: Neurons) -> dict[int, Tensor]:
    """Set the columns of pruned neurons to zero, in place.

    Returns:
        what `unprune` needs: block number -> the projection's weight as it was.
    """
    weights = {}
    for i, mask in neurons.items():
        weight = mlp_output(live_blocks(loaded)[i]).weight  # (C, neurons)
        if mask.shape != (weight.shape[1],):
            raise ValueError(
                f"block {i} has {weight.shape[1]} neurons, the mask has shape {tuple(mask.shape)}"
            )
        weights[i] = weight.clone()
        weight[:, mask.to(weight.device)] = 0
    return weights


@torch.no_grad()
def unprune(loaded: Loaded, weights: dict[int, Tensor]) -> None:
    """Put back what `prune` returned: weights are bit-identical to what they were."""
    for i, weight in weights.items():
        mlp_output(live_blocks(loaded)[i]).weight.copy_(weight)


@torch.no_grad()
def pruned_entries(loaded: Loaded, layers: int | None, parameters: dict) -> dict[str, Tensor]:
    """Where pruned neurons are in the trained parameters, those of earlier requests among them: the columns
    that are zero throughout.

    Returns:
        name -> bool of the parameter's shape.
    """
    names, entries = {p: name for name, p in parameters.items()}, {}
    for block in deepest_blocks(loaded, layers).values():
        weight = mlp_output(block).weight  # (C, neurons)
        pruned = (weight == 0).all(0)  # (neurons,)
        entries[names[weight]] = pruned.expand_as(weight).clone()  # (C, neurons)
    return entries
