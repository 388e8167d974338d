"""A loaded model, and how to reach into its visual module."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vkdlib.losses import answer_logprobs, answer_nll
from vkdlib.models.families import Family
from vkdlib.packs.batch import collate, to_device
from vkdlib.packs.pack import Pack, answer_tokens


@dataclass(frozen=True)
class Loaded:
    """A model with its processor and family.

    Attributes:
        name: what it was loaded as.
        precision: how: arguments "dtype" and "quantise" of `loading.load`.
    """

    model: nn.Module
    processor: object
    family: Family
    name: str
    precision: dict = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_input_embeddings().weight.dtype

    @property
    def pad(self) -> int:
        return self.processor.tokenizer.pad_token_id or 0


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
    found = {}
    for number, mlp in vision_mlps(loaded, layers).items():
        found |= {f"mlp.{number}.{n}": p for n, p in mlp.named_parameters()}
    projector = loaded.family.projector(loaded.model)
    return found | {f"projector.{n}": p for n, p in projector.named_parameters()}


def batch_nll(loaded: Loaded, packs: Sequence[Pack], whole: Sequence[Pack] | None = None) -> Tensor:
    """`losses.answer_nll` of some packs.

    Args:
        whole: the batch that they are a part of: then what they contribute to its loss, so that the
            parts' losses add up to it.
    """
    batch = to_device(collate(packs, loaded.pad, loaded.dtype), loaded.device)
    share = answer_tokens(packs) / answer_tokens(whole or packs)
    return answer_nll(loaded.model(**batch["inputs"]).logits, batch["targets"]) * share


def segment_logprobs(loaded: Loaded, packs: Sequence[Pack]) -> list[Tensor]:
    """For each pack, (questions,): the summed log-probability of each question's answer."""
    batch = to_device(collate(packs, loaded.pad, loaded.dtype), loaded.device)
    tokens = answer_logprobs(loaded.model(**batch["inputs"]).logits, batch["targets"])
    sums = []
    for row, pack in enumerate(packs):
        of = batch["segments"][row]
        numbers = range(1, len(pack.segments) + 1)
        sums.append(torch.stack([tokens[row, of == n].sum() for n in numbers]))
    return sums


def must_train_in(dtype: torch.dtype | str) -> None:
    """Raise ValueError for float16, in which small gradients become 0: nothing here scales the loss."""
    if str(dtype).removeprefix("torch.") == "float16":
        raise ValueError(
            "dtype is float16, which is for evaluation alone (small gradients would become 0): choose "
            "bfloat16 or float32"
        )


@contextlib.contextmanager
def trainable(loaded: Loaded, parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Within: only `parameters` require grad, everything else is frozen. Restores what was before.

    Raises:
        ValueError: the model is in a type that nothing can be trained in, see `must_train_in`.
    """
    must_train_in(loaded.dtype)
    before = {p: p.requires_grad for p in loaded.model.parameters()}
    chosen = set(parameters.values())
    for p in before:
        if p.is_floating_point():
            p.requires_grad_(p in chosen)
    try:
        yield
    finally:
        for p, value in before.items():
            if p.is_floating_point():
                p.requires_grad_(value)
            p.grad = None


@contextlib.contextmanager
def checkpointed(loaded: Loaded, on: bool = True) -> Iterator[None]:
    """Within: activations are computed again for the backward pass instead of kept. Gradients stay the
    same.

    The layers that do so ask whether they are in training mode; what is in them (dropout) stays in
    evaluation mode.
    """
    layers = [m for m in loaded.model.modules() if hasattr(m, "gradient_checkpointing")]
    if not on:
        layers = []
    modes = [m.training for m in layers]
    if layers:
        loaded.model.activation_checkpointing_enable({"use_reentrant": False})
    for m in layers:
        m.training = True
    try:
        yield
    finally:
        if layers:
            loaded.model.activation_checkpointing_disable()
        for m, mode in zip(layers, modes):
            m.training = mode


def visual_features(loaded: Loaded, images: dict[str, Tensor], module: nn.Module | None = None) -> Tensor:
    """Projector outputs of a batch of images: f and t of Eq. 4.

    Args:
        images: image inputs of the model, as `layout.collate` makes them.
        module: whose outputs instead of the projector's; a vision block has more rows.
    Returns:
        (N, C): all N image tokens, image after image, C channels of the LLM; within an image in the order
        in which the projector makes them (Qwen2.5-VL: window by window), for teacher and student alike.
    """
    with caught_features(loaded, [module] if module else ()) as caught:
        loaded.model.get_image_features(**images)
    return caught[0]


@contextlib.contextmanager
def caught_features(loaded: Loaded, modules: Sequence[nn.Module] = ()) -> Iterator[list[Tensor]]:
    """Within: the projector's output of each forward pass is appended to the list, (N, C) each.

    It is how VKD sees the student's features without a second pass through the vision tower.

    Args:
        modules: to watch instead of the projector, in the order in which they run.
    """
    caught: list[Tensor] = []

    def keep(module, args, output):
        caught.append((output[0] if isinstance(output, tuple) else output).flatten(0, -2))

    watched = modules or [loaded.family.projector(loaded.model)]
    hooks = [module.register_forward_hook(keep) for module in watched]
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()


def weights_hash(tensors: dict[str, Tensor]) -> str:
    """sha256 of named tensors: names, types, shapes and bits, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)}".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
