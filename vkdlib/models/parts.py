"""Parts of a model: blocks, their neurons, the weights of the visual module."""

from collections.abc import Iterator

from torch import nn

from vkdlib.models.loaded import Loaded


def live_blocks(loaded: Loaded) -> list[nn.Module]:
    """Blocks of the vision tower whose output is used, first to last."""
    blocks = loaded.family.blocks(loaded.family.tower(loaded.model))
    return list(blocks[: loaded.family.live(loaded.model, len(blocks))])


def dead_parameters(loaded: Loaded) -> set[nn.Parameter]:
    """Weights of the vision blocks whose output nobody reads."""
    blocks = loaded.family.blocks(loaded.family.tower(loaded.model))
    return {p for block in list(blocks)[len(live_blocks(loaded)) :] for p in block.parameters()}


def visual_weights(loaded: Loaded) -> set[nn.Parameter]:
    """All weights of the vision tower and the projector."""
    parts = (loaded.family.tower(loaded.model), loaded.family.projector(loaded.model))
    return {p for part in parts for p in part.parameters()}


def language_blocks(loaded: Loaded) -> list[nn.Module]:
    """Blocks of the language model, first to last; every decoder of transformers calls them so."""
    return list(loaded.family.language(loaded.model).layers)


def mlp_output(block: nn.Module) -> nn.Linear:
    """The output projection of a block's MLP: the last Linear in the block, because the MLP follows the
    attention. Its inputs are the neurons."""
    return list(linear_layers(block))[-1]


def linear_layers(module: nn.Module) -> Iterator[nn.Linear]:
    """Linear layers in a module, in order; of one with an adapter, only the layer that the adapter is on."""
    for child in module.children():
        layer = getattr(child, "base_layer", child)
        if isinstance(layer, nn.Linear):
            yield layer
        else:
            yield from linear_layers(layer)


def deepest_blocks(loaded: Loaded, layers: int | None = None, part: str = "vision") -> dict[int, nn.Module]:
    """The deepest `layers` live blocks of a part, "vision" or "language": block number -> block.

    None takes the deeper half: the paper puts "emphasis on the deeper layers" (§3.2).
    """
    blocks = live_blocks(loaded) if part == "vision" else language_blocks(loaded)
    layers = (len(blocks) + 1) // 2 if layers is None else layers
    if not 1 <= layers <= len(blocks):
        raise ValueError(f"layers is {layers}; {loaded.name} has {len(blocks)} live {part} blocks")
    return {i: blocks[i] for i in range(len(blocks) - layers, len(blocks))}


def visual_parameters(loaded: Loaded, layers: int | None = None) -> dict[str, nn.Parameter]:
    """What VKD trains: weights and biases of the vision MLPs (§3.2) and of the projector.

    Returns:
        "mlp.<block>.<name>" and "projector.<name>" -> parameter.
    """
    parts = {f"mlp.{i}": loaded.family.mlp(block) for i, block in deepest_blocks(loaded, layers).items()}
    parts["projector"] = loaded.family.projector(loaded.model)
    return {f"{part}.{n}": p for part, module in parts.items() for n, p in module.named_parameters()}
