"""Batches of packs: what stands where in the sequence, who sees whom, what is to be predicted.

A block mask lets a segment see the prefix and itself, and positions restart after the prefix, so losses and
gradients are those of the separate sequences (tests/test_packs.py). In the same way the answers to one
question, the options of multiple choice, share the question's tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vkdlib.losses import IGNORE
from vkdlib.packs.pack import Pack

PREFIX, PADDING = 0, -1  # numbers of questions; those of a pack count from 1
SHARED = 0  # number of an answer: token of a prefix or a question, which all its answers see


def collate(packs: Sequence[Pack], pad: int = 0, dtype: torch.dtype = torch.float32) -> dict:
    """Lay packs out as a batch of B rows of T tokens, padded on the right.

    Returns:
        "inputs": what the model takes: input_ids (B, T), position_ids (B, T) or, for M-RoPE, (3, B, T),
            attention_mask (B, 1, T, T) additive in `dtype`, the image inputs, and logits_to_keep (K,):
            the columns that predict an answer token in any row. Logits of all columns would not fit
            beside a real model: (B, K, V) come out instead of (B, T, V). Under M-RoPE also mm_token_type_ids
            (B, T), 1 for an image's tokens: without them Qwen2.5-VL silently takes other positions, should it
            ever have to find them by itself.
        "targets": (B, K) the answer token that each of these columns is to predict, IGNORE elsewhere;
        "segments": (B, K) number of the segment (from 1) that the target is in, SHARED or PADDING.
    """
    images = _stack_images(packs)
    shape = (len(packs), max(map(length, packs)))
    ids = torch.full(shape, pad)
    positions = torch.zeros(len(packs[0].positions), *shape, dtype=torch.long)
    of_image = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE)
    questions, answers = torch.full(shape, PADDING), torch.full(shape, PADDING)
    for row, pack in enumerate(packs):
        end = len(pack.prefix)
        after = max(map(max, pack.positions)) + 1 if end else 0
        positions[:, row, :end] = torch.tensor(pack.positions)
        of_image[row, end - pack.image_tokens : end] = 1
        at = 0
        for tokens, first, question, answer in _spans(pack):
            end = at + len(tokens)
            ids[row, at:end] = torch.tensor(tokens, dtype=torch.long)
            questions[row, at:end], answers[row, at:end] = question, answer
            if question != PREFIX:
                positions[:, row, at:end] = torch.arange(len(tokens)) + first + after
            if answer != SHARED:
                labels[row, at + 1 : end] = ids[row, at + 1 : end]
            at = end
    inputs = {
        "input_ids": ids,
        "position_ids": positions if len(positions) > 1 else positions[0],
        "attention_mask": block_mask(questions, answers, dtype),
        **images,
    }
    # An answer's span begins with a question's last token, from which its first token is predicted: a
    # shift by one never crosses spans.
    ahead = (labels[:, 1:] != IGNORE).any(0).nonzero()[:, 0]
    inputs["logits_to_keep"] = ahead
    if len(positions) > 1:
        inputs["mm_token_type_ids"] = of_image
    return {"inputs": inputs, "targets": labels[:, ahead + 1], "segments": answers[:, ahead + 1]}


def _spans(pack: Pack) -> Iterator[tuple[Sequence[int], int, int, int]]:
    """What a pack's sequence is made of, in order: tokens, position of the first after the prefix, numbers
    of question and answer.

    A question's last token comes once for each of its answers, whose first token it predicts; the tokens
    before it come once.
    """
    yield pack.prefix, 0, PREFIX, SHARED
    last, question = None, PREFIX
    for number, s in enumerate(pack.segments, 1):
        cut = s.answer - 1
        if s.ids[: s.answer] != last:
            last, question = s.ids[: s.answer], question + 1
            yield s.ids[:cut], 0, question, SHARED
        yield s.ids[cut:], cut, question, number


def length(pack: Pack) -> int:
    """Number of tokens in a pack's sequence."""
    return sum(len(tokens) for tokens, *_ in _spans(pack))


def block_mask(questions: Tensor, answers: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Additive attention mask: a token sees the prefix, its own question and its own answer, causally.

    Args:
        questions: (B, T) numbers of questions, PREFIX or PADDING, as made by `collate`.
        answers: (B, T) numbers of answers, SHARED or PADDING.
    Returns:
        (B, 1, T, T): 0 where row may look at column, the lowest number of `dtype` elsewhere. A padding
        token sees padding only, so that no row is empty.
    """
    question, asked = questions[:, :, None], questions[:, None, :]
    answer, answered = answers[:, :, None], answers[:, None, :]
    seen = (asked == PREFIX) & (question >= PREFIX)
    seen |= (asked == question) & ((answered == SHARED) | (answered == answer))
    seen &= torch.ones_like(seen[0]).tril()
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return mask[:, None]


def _stack_images(packs: Sequence[Pack]) -> dict[str, Tensor]:
    """Join the image inputs of the packs along the batch dimension."""
    names = {name for p in packs for name in p.image}
    if any(names - set(p.image) for p in packs):
        raise ValueError("packs with and without an image cannot share a batch")
    return {name: torch.cat([p.image[name] for p in packs]) for name in sorted(names)}


def to_device(batch: dict, device: torch.device) -> dict:
    """Move a collated batch."""
    inputs = {name: t.to(device) for name, t in batch["inputs"].items()}
    of_answers = {name: batch[name].to(device) for name in ("targets", "segments")}
    return {"inputs": inputs, **of_answers}
