"""Attention from an answer to the image's tokens. It does not show what an answer needs: hiding does."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.benchmarks.wording import CAPTION_QUESTION
from vkdlib.losses import IGNORE
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import language_blocks
from vkdlib.models.passes import make_batch
from vkdlib.packs.pack import make_pack


@dataclass(frozen=True)
class Attention:
    """Shares of the attention of an answer's tokens, layer by layer.

    Attributes:
        raw: (layers, image tokens), mean over heads and the answer's tokens. The rest goes to text.
        without_sinks: what of it each image token gets beyond its attention under a question about nothing in
            particular. A sink gets much whatever is asked.
    """

    raw: Tensor
    without_sinks: Tensor


def attention(loaded: Loaded, picture: bytes, words: str, answer: str) -> Attention:
    """Where an answer looks in a picture.

    Sinks are told as in arXiv 2502.17422, by a neutral question; there attention is divided by that under it,
    here that is subtracted, so that both are shares.

    Args:
        words: of the question.
        answer: the model's own or another; not empty.
    """
    raw = answer_attention(loaded, picture, words, answer)  # (layers, answer tokens, image tokens)
    usual = answer_attention(loaded, picture, CAPTION_QUESTION, answer)[:, 0]  # before the answer begins
    raw = raw.mean(1)  # (layers, image tokens)
    return Attention(raw, (raw - usual).clamp_min(0))


@torch.no_grad()
def answer_attention(loaded: Loaded, picture: bytes, words: str, answer: str) -> Tensor:
    """Attention from the tokens that predict an answer's tokens to the image's, mean over heads: (layers,
    answer tokens, image tokens). The end of the answer is left out."""
    pack = make_pack(loaded.processor, [(words, answer)], picture)
    batch = make_batch(loaded, [pack])
    rows = batch["inputs"]["logits_to_keep"][batch["targets"][0] != IGNORE][:-1]  # (answer tokens,)
    image = slice(len(pack.prefix) - pack.image_tokens, len(pack.prefix))
    with attention_weights(loaded) as weights:
        loaded.model(**batch["inputs"])
    return torch.stack([heads[0].float().mean(0)[rows, image].cpu() for heads in weights])


@contextlib.contextmanager
def attention_weights(loaded: Loaded) -> Iterator[list[Tensor]]:
    """Within: each block of the language model appends its attention to the list, (B, heads, T, T) each. It
    is computed in a way that keeps it, which gives the same but for rounding."""
    language, weights = loaded.family.language(loaded.model), []
    usual = language.config._attn_implementation
    language.set_attn_implementation("eager")
    try:
        with contextlib.ExitStack() as hooks:
            for block in language_blocks(loaded):
                hook = block.self_attn.register_forward_hook(lambda _, __, out: weights.append(out[1]))
                hooks.enter_context(hook)
            yield weights
    finally:
        language.set_attn_implementation(usual)
