"""The neurons that Eq. 7 picks, and the faces that excite them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.benchmarks.schema import Split
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import live_blocks, mlp_output
from vkdlib.models.passes import rows_by_image
from vkdlib.packs.pack import Pack, batches
from vkdlib.pruning import activations, importance, importance_ratio
from vkdlib.system.checks import whole_number
from vkdlib.system.progress import bar
from vkdlib.tasks import person_of, picture_packs

AT_ONCE = 8  # pictures in a batch


@dataclass(frozen=True)
class Neuron:
    """A neuron of a vision block's MLP.

    Attributes:
        ratio: I_u of Eq. 7.
        faces: (id, group, mean absolute activation) of all people's pictures, the largest first.
    """

    block: int
    number: int
    ratio: float
    faces: list[tuple[str, str, float]]


def forget_neurons(loaded: Loaded, split: Split, count: int = 6) -> list[Neuron]:
    """The neurons that fire most for the people to forget, as against those to retain (Eq. 7).

    Args:
        count: how many, those with the largest ratio first.
    """
    count = whole_number("count", count, 1)
    forget, retain = (picture_packs(loaded, people) for people in (split.forget, split.retain))
    ratio = importance_ratio(importance(loaded, forget), importance(loaded, retain))
    places = [(value.item(), block, n) for block, r in ratio.items() for n, value in enumerate(r)]
    places = sorted(places, key=lambda place: -place[0])[:count]
    packs = [*forget, *retain]
    excitement = excite(loaded, packs, sorted({block for _, block, _ in places}))
    groups = ["forget"] * len(forget) + ["retain"] * len(retain)
    neurons = []
    for value, block, n in places:
        column = excitement[block][:, n].tolist()  # one a picture
        faces = [(person_of(pack), group, z) for pack, group, z in zip(packs, groups, column)]
        neurons.append(Neuron(block, n, value, sorted(faces, key=lambda face: -face[2])))
    return neurons


@torch.no_grad()
def excite(loaded: Loaded, packs: list[Pack], blocks: list[int]) -> dict[int, Tensor]:
    """|z| of Eq. 6 for each picture: block -> (pictures, neurons), mean over the tower's tokens."""
    outputs = {block: mlp_output(live_blocks(loaded)[block]) for block in blocks}
    means: dict[int, list[Tensor]] = {block: [] for block in blocks}
    for group in bar(list(batches(packs, AT_ONCE)), f"{loaded.name}: faces"):
        for block, z in activations(loaded, group, outputs).items():
            z = z.flatten(0, -2)  # (tokens of all pictures, neurons)
            parts = z.split(rows_by_image(group, len(z)))  # (tokens, neurons) each
            means[block] += [part.abs().float().mean(0).cpu() for part in parts]
    return {block: torch.stack(rows) for block, rows in means.items()}
