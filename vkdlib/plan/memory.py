"""How much memory a run takes on a device, by part, in bytes.

Weights, gradients, AdamW's moments and what a method keeps are exact. Activations are an estimate of what
autograd must keep.
"""

from collections.abc import Iterable

import torch
from torch import nn

from vkdlib.methods.base import Cost, TaskSize
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import mlp_output, visual_weights

BITS = {"nf4": 4.13, "int8": 8.0}  # of a weight with its share of scales


def count_parameters(loaded: Loaded) -> dict[str, int]:
    """Parameters of the vision tower, the projector, the language model's linear layers, and the rest."""
    family, model = loaded.family, loaded.model
    projector = total(family.projector(model).parameters())
    linear = [m for m in family.language(model).modules() if isinstance(m, nn.Linear)]
    count = {
        "tower": total(visual_weights(loaded)) - projector,  # Qwen's projector is a part of its tower
        "projector": projector,
        "language linear": sum(total(m.parameters()) for m in linear),
    }
    return count | {"embeddings, norms, head": total(model.parameters()) - sum(count.values())}


def total(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers there are in some parameters."""
    return sum(p.numel() for p in parameters)


def bytes_of(dtype: str) -> int:
    """Bytes of a number."""
    return getattr(torch, dtype).itemsize


def weight_memory(count: dict[str, int], dtype: str, quantise: str | None) -> dict[str, float]:
    """The model as it is loaded: the visual module always in fp32, the language model perhaps quantised.

    Args:
        count: from `count_parameters`.
    """
    bits = BITS.get(quantise, 8.0 * bytes_of(dtype))
    return {
        "visual weights, fp32": 4 * (count["tower"] + count["projector"]),
        "language model": count["language linear"] * bits / 8,
        "embeddings, norms, head": count["embeddings, norms, head"] * bytes_of(dtype),
    }


def training_memory(trained: int, cost: Cost) -> dict[str, float]:
    """What AdamW needs for so many trained numbers, and the masks and copies that a method keeps."""
    return {
        "gradients, fp32": 4 * trained,
        "AdamW's moments, fp32": 8 * trained,
        "masks": total(cost.masked) + total(cost.held),
        "copies of weights, fp32": 4 * (total(cost.held) + total(cost.copied)),
    }


def activation_memory(
    loaded: Loaded, packs: int, task: TaskSize, dtype: str, checkpointing: bool, language_trained: bool
) -> dict[str, float]:
    """What is kept for the backward pass of so many packs at a time.

    Args:
        checkpointing: each block keeps its inputs alone, and one block at a time is computed again.
        language_trained: linear layers of the language model, or adapters on them, are trained.
    """
    config, width = loaded.model.config, bytes_of(dtype)
    text, tower = config.get_text_config(), loaded.family.blocks(loaded.family.tower(loaded.model))
    tokens = packs * task.pack_tokens
    rows = packs * task.image_tokens * loaded.family.patches_per_token(config)  # in the tower
    block = tokens * language_block_bytes(text, width, language_trained)
    channels, neurons = mlp_output(tower[-1]).weight.shape
    vision_block = rows * (8 * channels + width * (6 * channels + 3 * neurons))
    size = text.num_hidden_layers * block + len(tower) * vision_block
    if checkpointing:  # the inputs of all blocks, and one block of either kind
        inputs = text.num_hidden_layers * tokens * text.hidden_size * width
        vision_inputs = len(tower) * rows * channels * 4
        size = inputs + block + vision_inputs + vision_block
    answers = packs * (task.pack_tokens - task.image_tokens)
    return {"activations": size, "logits": answers * text.vocab_size * (width + 8)}


def language_block_bytes(text, width: int, trained: bool) -> float:
    """What a block of the language model keeps for each token.

    These are the inputs of two norms (fp32); queries, keys, values and the attention's result; gate, up and
    the gate's activation. Linear layers keep their inputs only if they are trained.

    Args:
        text: configuration of the language model.
        width: bytes of a number.
    """
    numbers = 4 * text.hidden_size + 3 * text.intermediate_size
    if trained:
        numbers += 2 * text.hidden_size + text.intermediate_size
    return 8 * text.hidden_size + width * numbers
