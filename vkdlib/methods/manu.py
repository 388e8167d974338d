"""MANU: prune the neurons that fire more for the forget people than for the others, and train nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vkdlib.methods.base import Prepared
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import language_blocks, live_blocks, mlp_output
from vkdlib.packs.batch import collate, length, to_device
from vkdlib.packs.pack import Pack, batches
from vkdlib.tasks import Tasks

EPSILON = 1e-5
FIRES = 0.1  # a neuron fires where |z| is larger (MANU's code)


@dataclass(frozen=True)
class MANU:
    """Zero the share of MLP neurons with the largest I(forget) / I(retain) (Liu et al. 2025).

    I is taken over tokens in four ways (`four_statistics`), and their ratios are added by `weights`. A
    vision neuron is measured on pictures; a neuron of the language model on pictures and on text, each
    modality counting the same. A neuron is an input of an MLP's last linear layer, as in Eq. 6 of the VKD
    paper; MANU's code prunes outputs of each of its layers.

    Attributes:
        share: of all neurons looked at, 0 to 1 (MANU: 0.02).
        weights: of mean |z|, frequency, standard deviation and root mean square (those of MANU's code).
        layers: how many of the deepest live blocks of the vision tower, and as many of the language model;
            None: the deeper half of each (MANU: 3).
    """

    share: float = 0.02
    weights: tuple[float, ...] = (2.0, 0.0, 2.0, 2.0)
    layers: int | None = None
    trains = False  # not a setting: all is done in `prepare`, and there are no loss terms

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it is a part of all neurons, from 0 to 1")
        if len(self.weights) != 4:
            raise ValueError(f"weights are {self.weights}; there must be four, one for each statistic")

    def scope(self, loaded: Loaded) -> dict[str, nn.Parameter]:
        """The weights of which columns are set to zero."""
        found = {name: projection.weight for name, projection in projections(loaded, self.layers).items()}
        if any(not weight.is_floating_point() for weight in found.values()):
            raise ValueError(
                "MANU sets weights to zero and cannot do so in quantised ones: load without quantise"
            )
        return found

    def prepare(
        self, loaded: Loaded, tasks: Tasks, batch_size: int = 4, micro_batch: int | None = None, *_
    ) -> Prepared:
        """Measure, and prune in place."""
        size, outputs = micro_batch or batch_size, projections(loaded, self.layers)
        forget, retain = (tasks.forget_vqa, tasks.forget_qa), (tasks.retain_vqa, tasks.retain_qa)
        scores = modality_scores(
            [statistics(loaded, packs, outputs, size) for packs in forget],
            [statistics(loaded, packs, outputs, size) for packs in retain],
            self.weights,
        )
        chosen = top_share(scores, self.share)
        with torch.no_grad():
            for name, projection in outputs.items():
                projection.weight[:, chosen[name].to(projection.weight.device)] = 0
        return Prepared(report={f"pruned_{part}": pruned(chosen, part) for part in ("vision", "language")})


Neurons = dict[str, Tensor]  # projection -> one value a neuron


def projections(loaded: Loaded, layers: int | None) -> dict[str, nn.Linear]:
    """Last linear layers of the MLPs looked at: "vision.<block>" and "language.<block>" -> module."""
    found = {}
    for part, blocks in (("vision", live_blocks(loaded)), ("language", language_blocks(loaded))):
        deepest = (len(blocks) + 1) // 2 if layers is None else layers
        if not 1 <= deepest <= len(blocks):
            raise ValueError(f"layers is {layers}; {loaded.name} has {len(blocks)} live {part} blocks")
        found |= {f"{part}.{i}": mlp_output(blocks[i]) for i in range(len(blocks) - deepest, len(blocks))}
    return found


@torch.no_grad()
def statistics(
    loaded: Loaded, packs: Sequence[Pack], outputs: dict[str, nn.Linear], batch_size: int
) -> dict[str, Tensor]:
    """`four_statistics` (4, neurons) over all tokens, for each projection that the packs reach. Padding is no
    token."""
    sums: dict[str, Tensor] = {}
    tokens = torch.empty(0)  # (B, T), False for padding, of the batch at hand

    def add(name: str):
        def hook(module, args):
            z = args[0].float()
            z = z[tokens] if name.startswith("language") else z.flatten(0, -2)
            sums[name] = sums.get(name, 0) + moments(z).cpu()

        return hook

    hooks = [m.register_forward_pre_hook(add(name)) for name, m in outputs.items()]
    try:
        for group in batches(packs, batch_size):
            batch = to_device(collate(group, loaded.pad, loaded.dtype), loaded.device)
            lengths = torch.tensor([length(p) for p in group])
            columns = torch.arange(batch["inputs"]["input_ids"].shape[1])
            tokens = (columns < lengths[:, None]).to(loaded.device)
            loaded.model(**batch["inputs"])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: four_statistics(m) for name, m in sums.items()}


def moments(z: Tensor) -> Tensor:
    """Sums over tokens of 1, z, |z|, z² and 1[|z| > FIRES]: (tokens, neurons) -> (5, neurons), in fp64."""
    parts = (torch.ones_like(z), z, z.abs(), z.square(), z.abs() > FIRES)
    return torch.stack([part.double().sum(0) for part in parts])


def four_statistics(sums: Tensor) -> Tensor:
    """Mean |z|, frequency of |z| > FIRES, standard deviation and root mean square: (5, neurons) of `moments`
    -> (4, neurons)."""
    count, total, absolute, squares, fired = sums
    mean, square = total / count, squares / count
    deviation = (square - mean**2).clamp(min=0).sqrt()
    return torch.stack([absolute / count, fired / count, deviation, square.sqrt()])


def modality_scores(
    forget: Sequence[dict[str, Tensor]], retain: Sequence[dict[str, Tensor]], weights: Sequence[float]
) -> Neurons:
    """Weighted sum of the four ratios, mean over the modalities that reach a projection: (neurons,) each."""
    found: dict[str, list[Tensor]] = {}
    for above, below in zip(forget, retain):
        for name in above:
            ratios = above[name] / (below[name] + EPSILON)
            found.setdefault(name, []).append(ratios.new_tensor(weights) @ ratios)
    return {name: torch.stack(scores).mean(0) for name, scores in found.items()}


def top_share(scores: Neurons, share: float) -> Neurons:
    """The `share` of all neurons with the largest scores: projection -> bool."""
    everything = torch.cat(list(scores.values()))
    chosen = torch.zeros(len(everything), dtype=torch.bool)
    chosen[everything.argsort(descending=True, stable=True)[: round(share * len(everything))]] = True
    return dict(zip(scores, chosen.split([len(s) for s in scores.values()])))


def pruned(chosen: Neurons, part: str) -> float:
    """Share of the neurons of "vision" or "language" that were pruned."""
    of = [c for name, c in chosen.items() if name.startswith(part)]
    return sum(int(c.sum()) for c in of) / sum(len(c) for c in of)
