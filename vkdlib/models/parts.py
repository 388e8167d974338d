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


def vision_mlps(loaded: Loaded, layers: int | None = None) -> dict[int, nn.Module]:
    """MLPs of the deepest `layers` live blocks: block number -> module.

    None takes the deeper half: the paper puts "emphasis on the deeper layers" (§3.2).
    """
    blocks = live_blocks(loaded)
    layers = (len(blocks) + 1) // 2 if layers is None else layers
    if not 1 <= layers <= len(blocks):
        raise ValueError(f"layers is {layers}; {loaded.name} has {len(blocks)} live vision blocks")
    return {i: loaded.family.mlp(blocks[i]) for i in range(len(blocks) - layers, len(blocks))}


def visual_parameters(loaded: Loaded, layers: int | None = None) -> dict[str, nn.Parameter]:
    """What VKD trains: weights and biases of the vision MLPs (§3.2) and of the projector.

    Returns:
        "mlp.<block>.<name>" and "projector.<name>" -> parameter.
    """
    parameters = {}
    for number, mlp in vision_mlps(loaded, layers).items():
        parameters |= {f"mlp.{number}.{n}": p for n, p in mlp.named_parameters()}
    projector = loaded.family.projector(loaded.model)
    return parameters | {f"projector.{n}": p for n, p in projector.named_parameters()}
