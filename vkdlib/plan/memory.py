"""How much memory a run takes on a device, by part.

Weights, gradients, AdamW's moments and what a method keeps are exact; activations are an estimate: those
that autograd must keep for a frozen language model.
"""

from collections.abc import Iterable

import torch
from torch import nn

from vkdlib.methods import VKD, KLMin, MMUnlearner
from vkdlib.methods.base import maskable
from vkdlib.models.families import Family
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import live_blocks, mlp_output, vision_mlps

BITS = {"nf4": 4.13, "int8": 8.0}  # a weight with its share of scales


def parts(loaded: Loaded) -> dict[str, int]:
    """Parameters of the vision tower, the projector, the language model's linear layers, and the rest."""
    family, model = loaded.family, loaded.model
    count = {"tower": _count(family.tower(model)), "projector": _count(family.projector(model))}
    if _inside(family, model):  # Qwen's merger is a part of its tower
        count["tower"] -= count["projector"]
    linear = [m for m in family.language(model).modules() if isinstance(m, nn.Linear)]
    count["language linear"] = sum(_count(m) for m in linear)
    count["embeddings, norms, head"] = _count(model) - sum(count.values())
    return count


def memory(
    loaded: Loaded, count: dict, trained: int, packs: int, length: float, image: int, checkpointing: bool,
    dtype: str, quantise: str | None, how: str = "visual",
) -> dict[str, float]:  # fmt: skip
    """Bytes on the device by part, for `packs` packs of `length` tokens at a time.

    A frozen linear layer keeps no input. What an LLM block keeps for the backward pass is, per token: two
    norms' inputs (fp32), queries, keys, values and their result, gate, up and the gate's activation; of a
    vision block likewise, and with trained MLPs their inputs too. Where the language model is trained (`how`
    is "all" or "lora"), its linear layers keep their inputs as well.
    """
    config, width = loaded.model.config, torch.finfo(getattr(torch, dtype)).bits // 8
    text, tower = config.get_text_config(), loaded.family.blocks(loaded.family.tower(loaded.model))
    side, inner = mlp_output(tower[-1]).weight.shape
    rows = packs * image * loaded.family.merge(config)
    wide = 4 * text.hidden_size + 3 * text.intermediate_size
    if how != "visual":
        wide += 2 * text.hidden_size + text.intermediate_size
    block = packs * length * (8 * text.hidden_size + width * wide)
    hidden = packs * length * text.hidden_size * width
    seen = rows * (8 * side + width * (6 * side + 3 * inner))
    kept = text.num_hidden_layers * hidden + block + len(tower) * rows * side * 4 + seen
    answers = packs * (length - image)
    bits = BITS.get(quantise, 8.0 * width)
    return {
        "visual weights, fp32": 4 * (count["tower"] + count["projector"]),
        "gradients, fp32": 4 * trained,
        "AdamW's moments, fp32": 8 * trained,
        "language model": count["language linear"] * bits / 8,
        "embeddings, norms, head": count["embeddings, norms, head"] * width,
        "activations": kept if checkpointing else text.num_hidden_layers * block + len(tower) * seen,
        "logits": answers * text.vocab_size * (width + 8),
    }


def copies(loaded: Loaded, method) -> dict[str, int]:
    """Bytes on the device of what a method keeps of the weights it trains, beside them.

    Masks are bool: that of the forget term, and one of each parameter in which `masking.Hold` holds entries.
    Hold has the values of the whole parameter too; KL_Min those of everything it trains.
    """
    masked, held, copied = [], [], []
    if isinstance(method, MMUnlearner) or isinstance(method, VKD) and method.mask:
        masked = list(maskable(method.scope(loaded)).values())
    if isinstance(method, VKD) and method.mask and method.mask_scope == "update":
        held = masked  # the pruned columns are among them
    elif isinstance(method, VKD) and method.prune:
        held = [mlp_output(live_blocks(loaded)[i]).weight for i in vision_mlps(loaded, method.layers)]
    if isinstance(method, KLMin):
        copied = list(method.scope(loaded).values())
    return {"masks": _sum(masked) + _sum(held), "copies of weights, fp32": 4 * (_sum(held) + _sum(copied))}


def _sum(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def _count(module: nn.Module) -> int:
    return _sum(module.parameters())


def _inside(family: Family, model: nn.Module) -> bool:
    """Whether the projector is a part of the vision tower."""
    return any(m is family.projector(model) for m in family.tower(model).modules())
