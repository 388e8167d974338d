"""Batches of packs: the order of tokens, which token sees which, and what is to be predicted.

A block mask lets a segment see the prefix and itself, and positions restart after the prefix. So losses and
gradients are those of separate sequences (tests/test_packs.py). In the same way all answers to a question,
such as the options of multiple choice, share the question's tokens.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    # Before each answer stands its question's last token, which predicts the answer's first: a shift by one
    # never crosses segments.
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
    ids, questions, answers, labels, places = zip(*_tokens(pack))
    prefix = len(pack.prefix)
    start = max(map(max, pack.positions)) + 1 if pack.prefix else 0  # first position after the prefix
    after = [start + place for place in places[prefix:]]
    columns = {
        "ids": ids,
        "questions": questions,
        "answers": answers,
        "labels": labels,
        "positions": list(zip(*([*axis, *after] for axis in pack.positions))),
        "image": [prefix - pack.image_tokens <= place < prefix for place in range(len(ids))],
    }
    return {name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}


def _tokens(pack: Pack) -> Iterator[tuple[int, int, int, int, int]]:
    """A pack's tokens in order: (id, its question, its answer, label, place in its own sequence).

    Places after the prefix count from the prefix's end. A question's last token comes once for each of its
    answers, whose first token it predicts; the tokens before it come once.
    """
    for place, id in enumerate(pack.prefix):
        yield id, PREFIX, SHARED, IGNORE, place
    for place, id in enumerate(pack.instruction):
        yield id, PREFIX, SHARED, IGNORE, place
    previous, question, start = None, PREFIX, len(pack.instruction)
    for number, segment in enumerate(pack.segments, 1):
        words, last = segment.ids[: segment.answer], segment.answer - 1
        if words != previous:
            previous, question = words, question + 1
            for place, id in enumerate(words[:last], start):
                yield id, question, SHARED, IGNORE, place
        yield words[last], question, number, IGNORE, start + last
        for place, id in enumerate(segment.ids[segment.answer :], start + segment.answer):
            yield id, question, number, id, place


def length(pack: Pack) -> int:
    """Number of tokens in a pack's sequence."""
    return sum(1 for _ in _tokens(pack))


def token_counts(pack: Pack) -> list[int]:
    """How often each token of a pack's sequence would come if each answer had a pack of its own: one of the
    picture as often as there are answers."""
    places = [(question, answer) for _, question, answer, _, _ in _tokens(pack)]
    counts = Counter(question for question, answer in set(places) if answer != SHARED)
    counts[PREFIX] = len(pack.segments)
    return [counts[question] if answer == SHARED else 1 for question, answer in places]


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
