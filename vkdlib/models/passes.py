"""Passes through a model: losses of packs, features of images and text, and what a pass trains and keeps."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vkdlib.losses import IGNORE, answer_logprobs, answer_nll
from vkdlib.models.loaded import Loaded
from vkdlib.models.memo import memo
from vkdlib.packs.batch import collate, length, to_device
from vkdlib.packs.pack import Pack, answer_tokens, batches


def make_batch(loaded: Loaded, packs: Sequence[Pack]) -> dict:
    """Packs as a batch in the model's precision, on its device; see `packs.batch.collate`."""
    return to_device(collate(packs, loaded.pad, loaded.dtype), loaded.device)


def batch_nll(loaded: Loaded, packs: Sequence[Pack], step: Sequence[Pack] | None = None) -> Tensor:
    """`losses.answer_nll` of some packs.

    Args:
        step: all packs of a step, of which they are a part. Then the result is what they contribute to its
            loss, so that the parts add up to it.
    """
    batch = make_batch(loaded, packs)
    share = answer_tokens(packs) / answer_tokens(step or packs)
    targets = batch["targets"][batch["targets"] != IGNORE]  # (answer tokens,)
    return answer_nll(_batch_logits(loaded, batch)[None], targets[None]) * share


@torch.no_grad()
def packs_nll(loaded: Loaded, packs: Sequence[Pack], batch_size: int) -> float:
    """`losses.answer_nll` of all packs together, so many at a time."""
    return sum(batch_nll(loaded, group, packs).item() for group in batches(packs, batch_size))


def segment_logprobs(loaded: Loaded, packs: Sequence[Pack]) -> list[Tensor]:
    """For each pack, (questions,): the summed log-probability of each question's answer."""
    batch = make_batch(loaded, packs)
    answer = batch["targets"] != IGNORE  # (B, K)
    targets, counts = batch["targets"][answer], answer.sum(1).tolist()  # (answer tokens,); of each pack
    tokens = answer_logprobs(_batch_logits(loaded, batch)[None], targets[None])[0]  # (answer tokens,)
    sums = []
    parts = zip(packs, tokens.split(counts), batch["segments"][answer].split(counts))
    for pack, logprobs, segments in parts:
        numbers = range(1, len(pack.segments) + 1)
        sums.append(torch.stack([logprobs[segments == n].sum() for n in numbers]))  # (questions,)
    return sums


@torch.no_grad()
def answer_logprobs_by_pack(loaded: Loaded, packs: Sequence[Pack], batch_size: int) -> dict[str, Tensor]:
    """Log-probability of every answer: key of the pack -> (questions,)."""
    logprobs = {}
    for group in batches(packs, batch_size):
        logprobs |= {p.key: sums.cpu() for p, sums in zip(group, segment_logprobs(loaded, group))}
    return logprobs


def answer_logits(loaded: Loaded, packs: Sequence[Pack]) -> Tensor:
    """Logits by which each answer token of some packs is predicted: (answer tokens of all packs, V)."""
    return _batch_logits(loaded, make_batch(loaded, packs))


def _batch_logits(loaded: Loaded, batch: dict) -> Tensor:
    """`answer_logits` of a batch.

    Only what predicts an answer token reaches the output layer, which costs as much as several blocks where
    the vocabulary is large.
    """
    answer = batch["targets"] != IGNORE  # (B, K)

    def gather(head, args):
        return (args[0][answer][None],)  # (1, answer tokens, H)

    with loaded.model.get_output_embeddings().register_forward_pre_hook(gather):
        return loaded.model(**batch["inputs"]).logits[0]  # (answer tokens, V)


@memo
@torch.no_grad()
def answer_states(loaded: Loaded, packs: dict[str, Pack], batch_size: int) -> dict[str, Tensor]:
    """What the output layer makes `answer_logits` of: name of a pack -> (answer tokens, H), off the GPU.

    They are fewer numbers than logits by V / H: a teacher is kept so.
    """
    states, seen = {}, []
    head = loaded.model.get_output_embeddings()
    with head.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        for names in batches(list(packs), batch_size):
            group = [packs[name] for name in names]
            batch = make_batch(loaded, group)
            loaded.model(**batch["inputs"])
            rows = seen.pop()[batch["targets"] != IGNORE].cpu()  # (answer tokens of the group, H)
            parts = rows.split([answer_tokens([p]) for p in group])
            states |= {name: part.clone() for name, part in zip(names, parts)}
    return states


def hidden_states(loaded: Loaded, packs: Sequence[Pack], block: nn.Module) -> list[Tensor]:
    """What a block of the language model makes of each pack's sequence: (tokens, H) each."""
    with record_features(loaded, [block]) as states:
        loaded.model(**make_batch(loaded, packs)["inputs"])
    rows = states[0].unflatten(0, (len(packs), -1))  # (B, T, H)
    return [row[: length(p)] for row, p in zip(rows, packs)]


def check_training_dtype(dtype: torch.dtype | str) -> None:
    """Raise ValueError for float16, in which small gradients become 0: nothing here scales the loss."""
    if str(dtype).removeprefix("torch.") == "float16":
        raise ValueError(
            "dtype is float16, which is for evaluation alone (small gradients would become 0): choose "
            "bfloat16 or float32"
        )


@contextlib.contextmanager
def trainable(loaded: Loaded, parameters: dict[str, nn.Parameter]) -> Iterator[None]:
    """Within: `parameters` alone require grad, everything else is frozen. Restores what was before.

    Raises:
        ValueError: the model is in a type that nothing can be trained in, see `check_training_dtype`.
    """
    check_training_dtype(loaded.dtype)
    flags = {p: p.requires_grad for p in loaded.model.parameters() if p.is_floating_point()}
    chosen = set(parameters.values())
    for p in flags:
        p.requires_grad_(p in chosen)
    try:
        yield
    finally:
        for p, flag in flags.items():
            p.requires_grad_(flag)
            p.grad = None


@contextlib.contextmanager
def evaluation_mode(loaded: Loaded) -> Iterator[None]:
    """Within: no module is in training mode. Layers in it that checkpoint activations would write without
    what they have read before."""
    modes = {m: m.training for m in loaded.model.modules()}
    loaded.model.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


@contextlib.contextmanager
def activation_checkpoints(loaded: Loaded, on: bool = True) -> Iterator[None]:
    """Within: activations are computed again for the backward pass instead of kept. Gradients stay the
    same.

    The layers that do so ask whether they are in training mode; what is in them (dropout) stays in
    evaluation mode.
    """
    if not on:
        yield
        return
    modes = {m: m.training for m in loaded.model.modules() if hasattr(m, "gradient_checkpointing")}
    loaded.model.activation_checkpointing_enable({"use_reentrant": False})
    for m in modes:
        m.training = True
    try:
        yield
    finally:
        loaded.model.activation_checkpointing_disable()
        for m, mode in modes.items():
            m.training = mode


def visual_features(loaded: Loaded, images: dict[str, Tensor], module: nn.Module | None = None) -> Tensor:
    """Projector outputs of a batch of images: f and t of Eq. 4.

    Args:
        images: image inputs of the model, as `batch.collate` makes them.
        module: whose outputs instead of the projector's; a vision block has more rows.
    Returns:
        (N, C): all N image tokens, image after image, C channels of the LLM; within an image in the order
        in which the projector makes them (Qwen2.5-VL: window by window), for teacher and student alike.
    """
    with record_features(loaded, [module] if module else ()) as features:
        loaded.model.get_image_features(**images)
    return features[0]


def rows_by_image(packs: Sequence[Pack], rows: int) -> list[int]:
    """How many of the rows that a module makes of all images belong to each pack's image.

    A vision block has more rows than the projector, in the same proportion for every image.
    """
    tokens = [p.image_tokens for p in packs]
    return [count * rows // sum(tokens) for count in tokens]


@contextlib.contextmanager
def record_features(loaded: Loaded, modules: Sequence[nn.Module] = ()) -> Iterator[list[Tensor]]:
    """Within: the projector's output of each forward pass is appended to the list, (N, C) each.

    It is how VKD sees the student's features without a second pass through the vision tower.

    Args:
        modules: to watch instead of the projector, in the order in which they run.
    """
    features: list[Tensor] = []

    def keep(module, args, output):
        features.append((output[0] if isinstance(output, tuple) else output).flatten(0, -2))  # (N, C)

    with contextlib.ExitStack() as hooks:
        for module in modules or [loaded.family.projector(loaded.model)]:
            hooks.enter_context(module.register_forward_hook(keep))
        yield features
