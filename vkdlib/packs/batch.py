"""Batches of packs: the order of a sequence, who sees whom, what is to be predicted.

A block mask lets a segment see the prefix and itself, and positions restart after the prefix, so losses and
gradients are those of the separate sequences (tests/test_packs.py). In the same way the answers to one
question, the options of multiple choice, share the question's tokens.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vkdlib.losses import IGNORE
from vkdlib.packs.pack import Pack

PREFIX, PADDING = 0, -1  # numbers of questions; those of a pack count from 1
SHARED = 0  # number of an answer: token of a prefix or a question, which all its answers see


class Span(NamedTuple):
    """Consecutive tokens of a pack's sequence.

    Attributes:
        position: of the first token, counted from the end of the prefix.
        question, answer: numbers, see above.
    """

    ids: tuple[int, ...]
    position: int
    question: int
    answer: int


def collate(packs: Sequence[Pack], pad: int = 0, dtype: torch.dtype = torch.float32) -> dict:
    """Lay packs out as a batch of B rows of T tokens, padded on the right.

    Returns:
        "inputs": what the model takes: input_ids (B, T), position_ids (B, T) or, for M-RoPE, (3, B, T),
            attention_mask (B, 1, T, T) additive in `dtype`, the image inputs, and logits_to_keep (K,):
            the columns that predict an answer token in any row. Logits of all columns would not fit
            beside a real model: (B, K, V) come out instead of (B, T, V). Under M-RoPE also mm_token_type_ids
            (B, T), 1 for an image's tokens: without them Qwen2.5-VL silently computes other positions when it
            has to find them itself.
        "targets": (B, K) the answer token that each of these columns is to predict, IGNORE elsewhere;
        "segments": (B, K) number of the segment (from 1) that the target is in, SHARED or PADDING.
    """
    images = _stack_images(packs)
    rows = [_row(pack) for pack in packs]

    def column(name: str, padding: int) -> Tensor:
        return pad_sequence([row[name] for row in rows], batch_first=True, padding_value=padding)

    questions, answers = column("questions", PADDING), column("answers", PADDING)  # (B, T)
    labels = column("labels", IGNORE)  # (B, T)
    # An answer's span begins with a question's last token, from which its first token is predicted: a
    # shift by one never crosses spans.
    columns = (labels[:, 1:] != IGNORE).any(0).nonzero()[:, 0]  # (K,)
    positions = column("positions", 0).permute(2, 0, 1)  # (1 or 3, B, T)
    inputs = {
        "input_ids": column("ids", pad),  # (B, T)
        "position_ids": positions if len(positions) > 1 else positions[0],
        "attention_mask": block_mask(questions, answers, dtype),  # (B, 1, T, T)
        **images,
        "logits_to_keep": columns,
    }
    if len(positions) > 1:
        inputs["mm_token_type_ids"] = column("image", 0)  # (B, T)
    return {"inputs": inputs, "targets": labels[:, columns + 1], "segments": answers[:, columns + 1]}


def _row(pack: Pack) -> dict[str, Tensor]:
    """A pack's sequence of T tokens: (T,) each, but positions (T, 1 or 3); "image" is 1 for its tokens."""
    spans = list(_spans(pack))
    tokens = [(span, place) for span in spans for place in range(len(span.ids))]
    start = max(map(max, pack.positions)) + 1 if pack.prefix else 0  # first position after the prefix
    after = [start + span.position + place for span, place in tokens if span.question != PREFIX]
    answered = [span.answer != SHARED and place > 0 for span, place in tokens]
    image = [len(pack.prefix) - pack.image_tokens <= i < len(pack.prefix) for i in range(len(tokens))]
    columns = {
        "ids": [span.ids[place] for span, place in tokens],
        "questions": [span.question for span, _ in tokens],
        "answers": [span.answer for span, _ in tokens],
        "labels": [span.ids[place] if yes else IGNORE for (span, place), yes in zip(tokens, answered)],
        "positions": list(zip(*([*axis, *after] for axis in pack.positions))),
        "image": image,
    }
    return {name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}


def _spans(pack: Pack) -> Iterator[Span]:
    """What a pack's sequence is made of, in order.

    A question's last token comes once for each of its answers, whose first token it predicts; the tokens
    before it come once.
    """
    yield Span(pack.prefix, 0, PREFIX, SHARED)
    previous, question = None, PREFIX
    for number, segment in enumerate(pack.segments, 1):
        tokens, cut = segment.ids[: segment.answer], segment.answer - 1
        if tokens != previous:
            previous, question = tokens, question + 1
            yield Span(segment.ids[:cut], 0, question, SHARED)
        yield Span(segment.ids[cut:], cut, question, number)


def length(pack: Pack) -> int:
    """Number of tokens in a pack's sequence."""
    return sum(len(span.ids) for span in _spans(pack))


def block_mask(questions: Tensor, answers: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Additive attention mask: a token sees the prefix, its own question and its own answer, causally.

    Args:
        questions: (B, T) numbers of questions, PREFIX or PADDING, as made by `collate`.
        answers: (B, T) numbers of answers, SHARED or PADDING.
    Returns:
        (B, 1, T, T): 0 where row may look at column, the lowest number of `dtype` elsewhere. A padding
        token sees padding only, so that no row is empty.
    """
    rows, columns = questions[:, :, None], questions[:, None, :]  # (B, T, 1), (B, 1, T)
    prefix = (columns == PREFIX) & (rows >= PREFIX)  # (B, T, T)
    same_question = columns == rows  # (B, T, T)
    rows, columns = answers[:, :, None], answers[:, None, :]  # (B, T, 1), (B, 1, T)
    same_answer = (columns == SHARED) | (columns == rows)  # (B, T, T)
    visible = (prefix | same_question & same_answer).tril()  # (B, T, T): causal
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    return mask[:, None]  # (B, 1, T, T)


def _stack_images(packs: Sequence[Pack]) -> dict[str, Tensor]:
    """Join the image inputs of the packs along the batch dimension."""
    names = {name for p in packs for name in p.image}
    if any(names - set(p.image) for p in packs):
        raise ValueError("packs with and without an image cannot share a batch")
    return {name: torch.cat([p.image[name] for p in packs]) for name in sorted(names)}


def to_device(batch: dict, device: torch.device) -> dict:
    """Move a collated batch."""
    inputs = {name: t.to(device) for name, t in batch["inputs"].items()}
    return {name: batch[name].to(device) for name in ("targets", "segments")} | {"inputs": inputs}
