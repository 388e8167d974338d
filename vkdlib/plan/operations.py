"""Floating-point operations of a method, counted by torch on the meta device: no weights, no clock.

The whole does not run there, because a model looks at its input to find the image. So the vision tower with
the projector, and the language model, are passed one after the other, for one picture with its questions.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from vkdlib.methods.base import Method, Pass, TaskSize
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import trainable

Image = tuple[tuple[int, int], int | None]  # width and height, and the most pixels that are taken


def count_operations(
    loaded: Loaded, method: Method, size: TaskSize, image: Image, training: TaskSize | None = None
) -> dict[str, int]:
    """Operations before the first step, of an epoch, and of all steps: "preparation", "epoch" and "training"
    -> how many.

    A multiplication and an addition are two operations, as in all published counts. All packs count as of
    mean length, and logits as computed of all tokens after the picture.

    Args:
        loaded: from `dimensions.meta_model`.
        size: how much there is to train on; its image tokens are those of `image`.
        training: how much all steps take, as if it were an epoch (`efficiency.training_size`); None: an
            epoch.
    """
    cost = method.cost(loaded, size)
    stages = {"preparation": cost.passes.values(), "epoch": cost.epoch.values()}
    stages["training"] = method.cost(loaded, training or size).epoch.values()
    with explicit_attention(loaded), trainable(loaded, method.scope(loaded)):
        different = {p._replace(pictures=1) for passes in stages.values() for p in passes}
        counts = {p: pass_operations(loaded, p, size.image_tokens, image) for p in different}
    return {
        stage: sum(p.pictures * counts[p._replace(pictures=1)] for p in passes)
        for stage, passes in stages.items()
    }


def pass_operations(
    loaded: Loaded, one: Pass, image_tokens: int, image: Image, answers: int | None = None
) -> int:
    """Operations of one picture's way through the model and, if a backward pass follows, back.

    Args:
        answers: tokens whose logits are computed; None: all after the picture.
    """
    family, model = loaded.family, loaded.model
    words = round(one.tokens) - image_tokens
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(one.backward):
        pictures = model.get_image_features(**family.meta_image(model.config, *image))
        output = torch.cat(list(pictures.pooler_output))  # (image tokens, C)
        if words:
            tokens = torch.cat([output, output.new_empty(words, output.shape[-1])])  # (T, C)
            hidden = family.language(model)(
                inputs_embeds=tokens[None],  # (1, T, C)
                attention_mask=output.new_empty(1, 1, len(tokens), len(tokens)),
                position_ids=torch.empty(1, len(tokens), dtype=torch.long, device=output.device),
            ).last_hidden_state  # (1, T, C)
            output = model.get_output_embeddings()(hidden[:, -(answers or words) :])  # (1, answers, V)
        if one.backward:
            output.sum().backward()
    model.zero_grad()
    return counter.get_total_flops()


@contextlib.contextmanager
def explicit_attention(loaded: Loaded) -> Iterator[None]:
    """Within: attention is written out as products of matrices, which are all counted; of fused kernels only
    some are."""
    config = loaded.model.config
    before = {part: getattr(config, part)._attn_implementation for part in ("vision_config", "text_config")}
    loaded.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        loaded.model.set_attn_implementation(before)
