"""Packs: one image and all its questions in one sequence.

Every question about a picture repeats the picture: 576 of about 620 tokens in LLaVA-1.5. A pack lays
out `[prefix with the image][question answer][question answer]…` once. A block mask lets a segment see
the prefix and itself, and positions restart after the prefix, so losses and gradients are those of the
separate sequences (tests/test_packs.py). A pack of one question is the ordinary case; a pack without
image has an empty prefix. In the same way answers to one question, the options of multiple choice, share
its tokens.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vkdlib.images import ImageInputs, open_image

IGNORE = -100  # label of a token that is not part of an answer
PREFIX, PADDING = 0, -1  # numbers of questions; those of a pack count from 1
SHARED = 0  # number of an answer: token of a prefix or a question, which all its answers see


@dataclass(frozen=True)
class Segment:
    """Tokens of one question and its answer.

    Attributes:
        ids: question, answer, end-of-sequence.
        answer: index in `ids` at which the answer begins (at least 1).
    """

    ids: tuple[int, ...]
    answer: int


@dataclass(frozen=True)
class Pack:
    """One image (or none) with its questions.

    Attributes:
        prefix: token ids up to and with the last image token; empty without an image.
        segments: the questions, in order.
        image: what the processor made of the image (pixel_values …, batch dimension first); empty
            without an image.
        key: whose pack it is; unused in computation.
        image_tokens: how many tokens at the end of the prefix stand for the image.
        positions: of the prefix's tokens, on each axis: one counts the tokens; M-RoPE has three.
    """

    prefix: tuple[int, ...]
    segments: tuple[Segment, ...]
    image: Mapping[str, Tensor]
    key: str = ""
    image_tokens: int = 0
    positions: tuple[tuple[int, ...], ...] = ((),)

    def select(self, indices: Sequence[int]) -> "Pack":
        """The same image with some of the questions."""
        return replace(self, segments=tuple(self.segments[i] for i in indices))


def make_pack(processor, pairs: Sequence[tuple[str, str]], image: bytes | None = None, key: str = "") -> Pack:
    """Tokenise questions and answers about one image, with the processor's own chat template.

    Args:
        processor: a transformers processor (tokenizer, image processor, chat template). If it has a method
            `positions`, this says where the image's tokens are (see `qwen`); else all tokens are counted.
        pairs: (question, answer), at least one; an empty answer is an error.
        image: a PNG or JPEG file, or None for questions in text only.
    Returns:
        the pack; labels will cover answer and end-of-sequence only.
    Raises:
        ValueError: no pair, an empty answer, or a prompt longer than the model's context.
    """
    if not pairs:
        raise ValueError(f"a pack needs at least one question (person {key!r} has none)")
    prefix, features = (), {}
    if image is not None:
        prefix, features = _image_prefix(processor, pairs[0][0], image)
    segments = []
    for question, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        segments += _segments(processor, question, [a for _, a in group], image is not None, key)
    limit = processor.tokenizer.model_max_length
    longest = len(prefix) + max(len(s.ids) for s in segments)
    if longest > limit:
        raise ValueError(
            f"a question of person {key!r} needs {longest} tokens, the model takes {limit}: "
            "shorten the question or its answer"
        )
    count = sum(i == processor.image_token_id for i in prefix)
    positions = torch.arange(len(prefix))[None]
    if image is not None and hasattr(processor, "positions"):
        positions = processor.positions(features, len(prefix) - count)
    return Pack(prefix, tuple(segments), features, key, count, tuple(map(tuple, positions.tolist())))


def prompt(processor, question: str, with_image: bool) -> str:
    """The text of a question as the chat template puts it, up to where the answer begins."""
    content = [{"type": "image"}] * with_image + [{"type": "text", "text": question}]
    turns = [{"role": "user", "content": content}]
    return processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def _image_prefix(processor, question: str, image: bytes) -> tuple[tuple[int, ...], ImageInputs]:
    """Token ids up to the last image token, which the processor repeats as the image needs."""
    text = prompt(processor, question, True)

    def make() -> dict[str, Tensor]:
        return dict(processor(images=[open_image(image)], text=[text], return_tensors="pt"))

    inputs = make()
    ids = inputs.pop("input_ids")[0].tolist()
    for of_tokens in ("attention_mask", "mm_token_type_ids"):
        inputs.pop(of_tokens, None)
    end = len(ids) - ids[::-1].index(processor.image_token_id)
    return tuple(ids[:end]), ImageInputs(make, inputs)


def _segments(
    processor, question: str, answers: Sequence[str], with_image: bool, key: str
) -> Iterator[Segment]:
    """Tokens of a question and each of its answers, after the image (all of them if there is none)."""
    if not all(answers):
        raise ValueError(f"the answer to {question!r} of person {key!r} is empty")
    tokenizer = processor.tokenizer
    before = prompt(processor, question, with_image)
    gap = "" if before[-1:].isspace() else " "
    asked, *answered = tokenizer([before, *(before + gap + answer for answer in answers)]).input_ids
    for ids in answered:
        ids = ids + [tokenizer.eos_token_id]
        # The longest common prefix, because a tokenizer may merge across the end of the prompt.
        start = next((i for i, (a, b) in enumerate(zip(asked, ids)) if a != b), len(asked))
        if with_image:
            # A special token is never merged with its neighbours: cutting here changes no other token.
            cut = len(ids) - ids[::-1].index(processor.image_token_id)
            ids, start = ids[cut:], start - cut
        yield Segment(tuple(ids), start)


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


def to_device(batch: dict, device: torch.device) -> dict:
    """Move a collated batch."""
    inputs = {name: t.to(device) for name, t in batch["inputs"].items()}
    of_answers = {name: batch[name].to(device) for name in ("targets", "segments")}
    return {"inputs": inputs, **of_answers}


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


def answer_tokens(packs: Sequence[Pack]) -> int:
    """Number of tokens of some packs that count in their loss."""
    return sum(len(s.ids) - s.answer for p in packs for s in p.segments)


def batches(packs: Sequence[Pack], size: int) -> Iterator[list[Pack]]:
    """Cut packs into lists of at most `size`, in order."""
    for start in range(0, len(packs), size):
        yield list(packs[start : start + size])


def _stack_images(packs: Sequence[Pack]) -> dict[str, Tensor]:
    """Join the image inputs of the packs along the batch dimension."""
    names = {name for p in packs for name in p.image}
    if any(names - set(p.image) for p in packs):
        raise ValueError("packs with and without an image cannot share a batch")
    return {name: torch.cat([p.image[name] for p in packs]) for name in sorted(names)}
