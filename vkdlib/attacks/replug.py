"""Re-plugging: put a part of vanilla back. If the knowledge is back, too, it lives on in the other parts."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import visual_weights
from vkdlib.system.checks import one_of

PARTS = ("vision tower", "projector", "LLM")


@contextlib.contextmanager
def replug(loaded: Loaded, vanilla: Loaded, part: str) -> Iterator[None]:
    """Within: an unlearned model has vanilla's vision tower, projector or LLM.

    Raises:
        ValueError: no such part, or the models have not the same weights there.
    """
    ours, theirs = part_weights(loaded, part), part_weights(vanilla, part)
    shapes = [{name: tuple(p.shape) for name, p in weights.items()} for weights in (ours, theirs)]
    if shapes[0] != shapes[1]:
        name = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise ValueError(
            f"{loaded.name} and {vanilla.name} differ in {name} of the {part}: they are not made from one "
            "model, or one of them has adapters, which must be merged first"
        )
    before = {name: p.detach().clone() for name, p in ours.items()}
    try:
        with torch.no_grad():
            for name, p in ours.items():
                p.copy_(theirs[name])
        yield
    finally:
        with torch.no_grad():
            for name, p in ours.items():
                p.copy_(before[name])


def part_weights(loaded: Loaded, part: str) -> dict[str, nn.Parameter]:
    """Weights of one of PARTS: name in the model -> parameter. The LLM is all that is not visual, so its
    embeddings and head, too."""
    one_of("part", part, PARTS)
    visual = visual_weights(loaded)
    projector = set(loaded.family.projector(loaded.model).parameters())  # Qwen's is a part of its tower
    return {
        name: p
        for name, p in loaded.model.named_parameters()
        if part == ("LLM" if p not in visual else "projector" if p in projector else "vision tower")
    }
