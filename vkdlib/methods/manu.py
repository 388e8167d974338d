"""MANU: prune the neurons that fire more for the forget people than for the others, and train nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vkdlib.losses import check_finite
from vkdlib.masking import density
from vkdlib.methods.base import Cost, Method, Pass, Prepared, TaskSize
from vkdlib.models.loaded import Loaded
from vkdlib.models.memo import memo
from vkdlib.models.parts import deepest_blocks, mlp_output
from vkdlib.models.passes import make_batch, rows_by_image
from vkdlib.packs.batch import token_counts
from vkdlib.packs.pack import Pack, batches
from vkdlib.pruning import watch_inputs
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks

EPSILON = 1e-5
FIRES = 0.1  # a neuron fires where |z| is larger (MANU's code)

Scores = dict[str, Tensor]  # projection -> one score a neuron


@dataclass(frozen=True)
class MANU(Method):
    """Zero the share of MLP neurons with the largest I(forget) / I(retain), and train nothing.

    Liu et al. 2025. I is taken over tokens in four ways (`four_statistics`), and their ratios are added by
    `statistic_weights`. A vision neuron is measured on pictures; a neuron of the language model on pictures
    and on text, each modality counting the same. A neuron is an input of an MLP's last linear layer, as in
    Eq. 6 of the VKD paper; MANU's code prunes outputs of each of its layers.

    Attributes:
        share: of all neurons measured, 0 to 1 (MANU: 0.02).
        statistic_weights: of mean |z|, frequency, standard deviation and root mean square (those of MANU's
            code).
        layers: how many of the deepest live blocks of the vision tower, and as many of the language model;
            None: the deeper half of each (MANU: 3).
    """

    origin = "our reading"
    trains = False
    share: float = setting(0.02, low=0, high=1)
    statistic_weights: tuple[float, ...] = setting((2.0, 0.0, 2.0, 2.0), low=0)
    layers: int | None = setting(None, low=1)

    def __post_init__(self):
        super().__post_init__()
        if len(self.statistic_weights) != 4:
            raise ValueError(
                f"statistic_weights is {self.statistic_weights}; there must be four, one for each statistic"
            )

    def scope(self, loaded: Loaded) -> dict[str, nn.Parameter]:
        """The weights of which columns are set to zero."""
        weights = {name: layer.weight for name, layer in projections(loaded, self.layers).items()}
        if any(not weight.is_floating_point() for weight in weights.values()):
            raise ValueError(
                "MANU sets weights to zero and cannot do so in quantised ones: load without quantise"
            )
        return weights

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Measure, and prune in place."""
        layers = projections(loaded, self.layers)
        forget, retain = (
            [neuron_statistics(loaded, packs, layers, steps.at_once) for packs in sets]
            for sets in ((tasks.forget_vqa, tasks.forget_qa), (tasks.retain_vqa, tasks.retain_qa))
        )
        masks = top_share(modality_scores(forget, retain, self.statistic_weights), self.share)
        with torch.no_grad():
            for name, layer in layers.items():
                layer.weight[:, masks[name].to(layer.weight.device)] = 0
        report = {}
        for part in ("vision", "language"):
            neurons = {name: mask for name, mask in masks.items() if name.startswith(part)}
            report[f"pruned_{part}"] = density(neurons)
        return Prepared(report=report)

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        return Cost({"neurons' statistics": Pass(size.pictures, size.pack_tokens)})


def projections(loaded: Loaded, layers: int | None) -> dict[str, nn.Linear]:
    """Last linear layers of the deepest MLPs: "vision.<block>" and "language.<block>" -> module."""
    return {
        f"{part}.{i}": mlp_output(block)
        for part in ("vision", "language")
        for i, block in deepest_blocks(loaded, layers, part).items()
    }


@memo
@torch.no_grad()
def neuron_statistics(
    loaded: Loaded, packs: Sequence[Pack], layers: dict[str, nn.Linear], batch_size: int
) -> dict[str, Tensor]:
    """`four_statistics` (4, neurons) over all tokens but padding, of each projection that the packs reach.

    A picture's tokens count as often as there are questions about it, as they would if each question came
    with the picture by itself.
    """
    sums: dict[str, Tensor] = {}  # projection -> (5, neurons)
    counts = {}  # part -> of the batch at hand: how often a token counts, (B * T,); a picture, (B,)

    def add(name: str, z: Tensor) -> None:
        z, part = z.flatten(0, -2).float(), name.split(".")[0]  # (tokens, neurons)
        weights = counts[part]
        if part == "vision":
            weights = weights.repeat_interleave(torch.tensor(rows_by_image(group, len(z))))  # (tokens,)
        sums[name] = sums.get(name, 0) + moments(z, weights.to(z.device)).cpu()

    with watch_inputs(layers, add):
        for group in batches(packs, batch_size):
            tokens = [torch.tensor(token_counts(p)) for p in group]
            counts["language"] = pad_sequence(tokens, batch_first=True).flatten()  # 0 for padding
            counts["vision"] = torch.tensor([len(p.segments) for p in group])
            loaded.model(**make_batch(loaded, group)["inputs"])
    return {name: four_statistics(m) for name, m in sums.items()}


def moments(z: Tensor, counts: Tensor) -> Tensor:
    """Sums over tokens of 1, z, |z|, z² and 1[|z| > FIRES], in fp64.

    Args:
        z: (tokens, neurons).
        counts: (tokens,) how often each counts.
    Returns:
        (5, neurons).
    """
    parts = (torch.ones_like(z), z, z.abs(), z.square(), z.abs() > FIRES)
    return torch.stack([counts.double() @ part.double() for part in parts])  # (5, neurons)


def four_statistics(sums: Tensor) -> Tensor:
    """Mean |z|, frequency of |z| > FIRES, standard deviation and root mean square.

    Args:
        sums: (5, neurons) of `moments`.
    Returns:
        (4, neurons).
    """
    count, total, absolute, squares, fired = sums
    mean, square = total / count, squares / count
    deviation = (square - mean**2).clamp(min=0).sqrt()
    return torch.stack([absolute / count, fired / count, deviation, square.sqrt()])  # (4, neurons)


def modality_scores(
    forget: Sequence[dict[str, Tensor]], retain: Sequence[dict[str, Tensor]], weights: Sequence[float]
) -> Scores:
    """Weighted sum of the four ratios, mean over the modalities that reach a projection: (neurons,) each.

    Args:
        forget, retain: of each modality, projection -> (4, neurons).
    """
    scores: dict[str, list[Tensor]] = {}
    for forget_statistics, retain_statistics in zip(forget, retain):
        for name, statistics in forget_statistics.items():
            ratios = statistics / (retain_statistics[name] + EPSILON)  # (4, neurons)
            scores.setdefault(name, []).append(ratios.new_tensor(weights) @ ratios)  # (neurons,)
    mean = {name: torch.stack(by_modality).mean(0) for name, by_modality in scores.items()}
    check_finite("the score", mean)
    return mean


def top_share(scores: Scores, share: float) -> dict[str, Tensor]:
    """The `share` of all neurons with the largest scores: projection -> bool."""
    every = torch.cat(list(scores.values()))  # (neurons of all projections,)
    best = every.argsort(descending=True, stable=True)[: round(share * len(every))]
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[best] = True
    return dict(zip(scores, mask.split([len(s) for s in scores.values()])))
