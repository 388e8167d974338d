"""RMU, adaptive: forget people's hidden states go to a random point, retain people's stay where they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vkdlib.losses import check_pair
from vkdlib.methods.base import (
    TRAINED,
    Cost,
    Method,
    Pass,
    Prepared,
    TaskSize,
    Terms,
    both_sets,
    forget_set,
    no_terms,
)
from vkdlib.models.loaded import Loaded
from vkdlib.models.memo import memo
from vkdlib.models.parts import language_blocks
from vkdlib.models.passes import hidden_states
from vkdlib.packs.batch import token_counts
from vkdlib.packs.pack import Pack, batches
from vkdlib.system.checks import setting
from vkdlib.tasks import Steps, Tasks


@dataclass(frozen=True)
class RMU(Method):
    """L = L_forget + gamma L_retain, squared distances of hidden states to a random point and to vanilla's.

    Dang et al. 2025; VGID paper, Eq. 11 to 15. Each token has a state of its own, and so a target of its own
    length (Eq. 12), in one direction that is drawn for the run, uniformly on the sphere. (Widely used codes
    draw each coordinate from 0 to 1, so that all directions are in one corner.) A picture's token counts as
    often as there are questions about it, as it would if each came with the picture by itself.

    The paper says neither which layer, nor lambda, gamma, or what is trained. These are adaptive RMU's public
    code; it trains MLPs of three blocks alone.

    Attributes:
        trained: "all" (as the other baselines), "lora" or "visual", see `trained_parameters`. What comes
            after the block has no gradient.
        scale: lambda of Eq. 12: how many times longer the target is than vanilla's state.
        gamma: strength of keeping, Eq. 15.
        block: of the language model, counted from 1, whose output is the hidden state; None: the last of the
            first quarter (RMU: the 8th of 32).
    """

    origin = "paper"
    trained: str = setting("all", known=TRAINED)
    scale: float = setting(5.0, above=0)
    gamma: float = setting(1200.0, low=0)
    block: int | None = setting(None, low=1)

    def layer(self, loaded: Loaded) -> nn.Module:
        """The block whose output is the hidden state."""
        blocks = language_blocks(loaded)
        number = self.block or max(1, len(blocks) // 4)
        if number > len(blocks):
            raise ValueError(f"block is {number}; {loaded.name} has {len(blocks)} language blocks")
        return blocks[number - 1]

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """Draw the direction, and ask vanilla for its hidden states."""
        vanilla, keys = steps.teacher or loaded, steps.retain_keys
        layer = self.layer(vanilla)
        forget = block_states(vanilla, tasks.forget_vqa, layer, steps.at_once)
        retain = [p for p in tasks.retain_vqa if keys is None or p.key in keys] if self.gamma else []
        teacher = {
            "direction": random_direction(next(iter(forget.values())).shape[-1], steps.seed),
            "norms": {key: states.float().norm(dim=-1) for key, states in forget.items()},
            "retain": block_states(vanilla, retain, layer, steps.at_once),
        }
        return Prepared(teacher=teacher)

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """L_forget (Eq. 13)."""
        norms = torch.cat([teacher["norms"][p.key] for p in part.forget_vqa])  # (tokens,)
        target = steering_target(norms, teacher["direction"], self.scale)  # (tokens, H)
        loss = self.distance(loaded, part.forget_vqa, batch.forget_vqa, target)
        return rmu_loss(loss, 0.0, self.gamma), {"forget_states": loss}

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """gamma L_retain (Eq. 14)."""
        if not self.gamma or not part.retain_vqa:
            return no_terms(loaded)
        target = torch.cat([teacher["retain"][p.key] for p in part.retain_vqa])  # (tokens, H)
        loss = self.distance(loaded, part.retain_vqa, batch.retain_vqa, target)
        return rmu_loss(0.0, loss, self.gamma), {"retain_states": loss}

    def distance(self, loaded: Loaded, packs: Sequence[Pack], step: Sequence[Pack], target: Tensor) -> Tensor:
        """What some packs of a step contribute to its mean distance from the targets (tokens, H)."""
        states = torch.cat(hidden_states(loaded, packs, self.layer(loaded)))  # (tokens, H)
        counts, whole = (torch.tensor([n for p in group for n in token_counts(p)]) for group in (packs, step))
        loss = states_loss(states, target.to(states.device), counts.to(states.device))
        return loss * (counts.sum() / whole.sum()).item()

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        """Whole passes, although the backward ones begin at the block."""
        retain, width = size.drawn if self.gamma else 0, loaded.model.config.get_text_config().hidden_size
        self.layer(loaded)  # there is one
        passes = {"vanilla's hidden states": Pass(size.forget_pictures + retain, size.pack_tokens)}
        states = round(size.pack_tokens * width) if self.gamma else 0
        epoch = both_sets(size) if self.gamma else forget_set(size)
        norms = round(size.forget_pictures * size.pack_tokens)
        return Cost(passes, epoch, features=states, forget_features=norms)


def random_direction(size: int, seed: int) -> Tensor:
    """Eq. 11: u, uniform on the unit sphere in `size` dimensions: (size,)."""
    u = torch.randn(size, generator=torch.Generator().manual_seed(seed))  # (size,): no direction is special
    return u / u.norm()


def steering_target(norms: Tensor, direction: Tensor, scale: float) -> Tensor:
    """Eq. 12: v_f = lambda ||h_ref|| u: (N, H).

    Args:
        norms: (N,), of the reference's hidden states.
        direction: (H,), u.
        scale: lambda.
    """
    return scale * norms[:, None] * direction


def states_loss(states: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Eq. 13 and 14: squared distance of hidden states from their targets, mean over tokens.

    Args:
        states, target: (N, H) of N tokens.
        counts: (N,), how often each counts.
    """
    check_pair(states=states, target=target)
    squares = (states.float() - target.float()).square().sum(-1)  # (N,)
    return (counts * squares).sum() / counts.sum()


def rmu_loss(forget: Tensor | float, retain: Tensor | float, gamma: float) -> Tensor:
    """Eq. 15: L_forget + gamma L_retain."""
    return forget + gamma * retain


@memo
@torch.no_grad()
def block_states(
    loaded: Loaded, packs: Sequence[Pack], block: nn.Module, batch_size: int
) -> dict[str, Tensor]:
    """`hidden_states` of some packs: key -> (tokens, H), off the GPU."""
    states = {}
    for group in batches(packs, batch_size):
        states |= {p.key: s.cpu().clone() for p, s in zip(group, hidden_states(loaded, group, block))}
    return states
