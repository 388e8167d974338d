"""Packs: one image and all its questions in one sequence.

Every question about a picture repeats the picture: 576 of about 620 tokens in LLaVA-1.5. A pack lays
out `[prefix with the image][question answer][question answer]…` once (see `batch`). A pack of one question
is the ordinary case; a pack without image has an empty prefix.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jinja2 import TemplateError
from torch import Tensor

from vkdlib.benchmarks.pictures import open_image
from vkdlib.packs.pixels import ImageInputs


@dataclass(frozen=True)
class Segment:
    """Tokens of one question and its answer.

    Attributes:
        ids: question, answer, end-of-sequence.
        answer: index in `ids` at which the answer begins (at least 1).
    """

    ids: tuple[int, ...]
    answer: int


@dataclass(frozen=True, repr=False)
class Pack:
    """One image (or none) with its questions.

    Attributes:
        prefix: token ids up to and with the last image token; empty without an image.
        segments: the questions, in order.
        image: what the processor made of the image (pixel_values …, batch dimension first); empty
            without an image.
        key: the person's id, with "/" and the picture's number for one of several; unused in computation.
        image_tokens: how many tokens at the end of the prefix stand for the image.
        positions: of the prefix's tokens, on each axis: one counts the tokens; M-RoPE has three.
        instruction: token ids between the image and the questions, which all of them see. Without an image
            they begin with the system turn that a chat template writes by itself.
        pairs: (question, answer) in words, of each segment, for who puts the questions in another way.
        file: the picture, of which `image` was made; None without.
        round: how often the picture was in a step before, see `tasks.Tasks.batch`.
        views: image inputs of the same picture, altered (see `pictures.alter`).
    """

    prefix: tuple[int, ...]
    segments: tuple[Segment, ...]
    image: Mapping[str, Tensor]
    key: str = ""
    image_tokens: int = 0
    positions: tuple[tuple[int, ...], ...] = ((),)
    instruction: tuple[int, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    file: bytes | None = None
    round: int = 0
    views: tuple[Mapping[str, Tensor], ...] = ()

    def __repr__(self) -> str:
        return f"<Pack {self.key}: {self.image_tokens} image tokens, {len(self.segments)} questions>"

    def view(self, number: int) -> "Pack":
        """The same questions about a view of the picture: 0 is the picture as it is; after the last view it
        comes again."""
        number %= 1 + len(self.views)
        return replace(self, image=self.views[number - 1]) if number else self

    def select(self, indices: Sequence[int]) -> "Pack":
        """The same image with some of the questions."""
        segments, pairs = (tuple(parts[i] for i in indices) for parts in (self.segments, self.pairs))
        return replace(self, segments=segments, pairs=pairs)


Pairs = Sequence[tuple[str, str]]  # (question, answer)


def make_pack(
    processor,
    pairs: Pairs,
    image: bytes | None = None,
    person: str = "",
    picture: int | None = None,
    instruction: str = "",
    system: str = "",
) -> Pack:
    """Tokenise questions and answers about one image, with the processor's own chat template.

    Args:
        processor: a transformers processor (tokenizer, image processor, chat template). If it has a method
            `positions`, this says where the image's tokens are (see `qwen`); else all tokens are counted.
        pairs: (question, answer), at least one.
        image: a PNG or JPEG file, or None for questions in text only.
        person, picture: whose pack it is, and the number of the picture: its key, and what errors call it.
        instruction: stands before each question, on a line of its own.
        system: an instruction in a turn of its own, before the user's.
    Returns:
        the pack; labels will cover answer and end-of-sequence only.
    Raises:
        ValueError: no pair, an empty answer, a text that holds a control token, a picture that the processor
            does not take, a prompt longer than the model's context, or a chat template without system turn.
    """
    label, key = f"person {person!r}", person
    if picture is not None:
        label, key = f"{label}, picture {picture}", f"{person}/{picture}"
    pack = picture_pack(processor, image, key, label, system)
    return put_questions(processor, pack, pairs, instruction, label, system)


def picture_pack(processor, image: bytes | None, key: str, label: str = "", system: str = "") -> Pack:
    """A picture without questions; without a picture, an empty pack for text.

    Args:
        key: of the pack.
        label: what errors call it; empty: the person that the key names.
        system: as in `make_pack`.
    """
    if image is None:
        return Pack((), (), {}, key)
    prefix, inputs = _image_prefix(processor, image, label or f"person {key!r}", system)
    image_tokens = prefix.count(processor.image_token_id)
    positions = torch.arange(len(prefix))[None]  # (1, prefix)
    if hasattr(processor, "positions"):
        positions = processor.positions(inputs, len(prefix) - image_tokens)  # (3, prefix)
    positions = tuple(map(tuple, positions.tolist()))
    return Pack(prefix, (), inputs, key, image_tokens, positions, file=image)


def put_questions(
    processor, pack: Pack, pairs: Pairs, instruction: str = "", label: str = "", system: str = ""
) -> Pack:
    """A picture with other questions. Arguments and errors as in `make_pack`.

    Args:
        label: as in `picture_pack`.
        system: with which the picture's pack was made.
    """
    label, with_image = label or f"person {pack.key!r}", pack.image_tokens > 0
    if not pairs:
        raise ValueError(f"a pack needs at least one question ({label} has none)")
    for question, answer in pairs:
        if not answer:
            raise ValueError(f"the answer to {question!r} of {label} is empty")
        check_text(processor, answer, "answer", label)
    segments: list[Segment] = []
    for question, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        words = f"{instruction}\n{question}" if instruction else question
        segments += _segments(processor, words, [a for _, a in group], with_image, label, system)
    opening: tuple[int, ...] = ()  # what may stand before every question
    if instruction:
        opening = next(_segments(processor, instruction, ["."], with_image, label, system)).ids
    elif not with_image and not system and (words := usual_system_turn(processor)):
        opening = tuple(processor.tokenizer(words).input_ids)
    shared = len(os.path.commonprefix([opening, *(s.ids for s in segments)]))
    limit = processor.tokenizer.model_max_length
    longest = len(pack.prefix) + max(len(s.ids) for s in segments)
    if longest > limit:
        told = f" with the instruction {instruction or system!r}" if instruction or system else ""
        raise ValueError(
            f"a question of {label}{told} needs {longest} tokens, the model takes {limit}: shorten it"
        )
    return replace(
        pack,
        segments=tuple(Segment(s.ids[shared:], s.answer - shared) for s in segments),
        instruction=segments[0].ids[:shared],
        pairs=tuple((question, answer) for question, answer in pairs),
    )


def prompt(processor, question: str, with_image: bool, label: str = "", system: str = "") -> str:
    """The text of a question as the chat template puts it, up to where the answer begins.

    Args:
        label: what an error calls the question, as "person '001'".
        system: an instruction in a turn of its own, before the user's; empty: none.
    Raises:
        ValueError: the question holds a control token, or the template has no system turn.
    """
    check_text(processor, question, "question", label)
    image = [{"type": "image"}] if with_image else []
    content = [*image, {"type": "text", "text": question}]
    turns = [{"role": "user", "content": content}]
    if system:
        check_text(processor, system, "instruction", label)
        check_system_turn(processor)
        turns = [{"role": "system", "content": [{"type": "text", "text": system}]}, *turns]
    return processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def usual_system_turn(processor) -> str:
    """What a chat template writes by itself before the first turn; empty for most."""
    turn = {"role": "user", "content": [{"type": "text", "text": "?"}]}
    try:
        one, two = (processor.apply_chat_template([turn] * n, tokenize=False) for n in (1, 2))
    except TemplateError:  # turns must alternate
        return ""
    return one[: max(0, 2 * len(one) - len(two))]


def check_system_turn(processor) -> None:
    """Raise ValueError for a chat template without a system turn.

    Such a template leaves the turn out, refuses it, or writes it as if the model itself had said it (the
    embedded LLaVA's).
    """
    texts = {}
    for role in ("system", "assistant"):
        words = {role: "Obey.", "user": "Who is it?"}
        turns = [{"role": r, "content": [{"type": "text", "text": text}]} for r, text in words.items()]
        try:
            texts[role] = processor.apply_chat_template(turns, tokenize=False)
        except TemplateError:
            texts[role] = ""
    if "Obey." not in texts["system"] or texts["system"] == texts["assistant"]:
        raise ValueError("the model's chat template has no system turn: put the instruction in the user's")


def with_answer(before: str, answer: str) -> str:
    """What `prompt` returned, and an answer after it."""
    return before + answer if before[-1:].isspace() else f"{before} {answer}"


def check_text(processor, text: str, field: str, label: str) -> None:
    """Raise ValueError for a text of the data that the tokenizer would not read as plain words.

    A control token (image, end of sequence, turn …) would cut the sequence, or stand for a picture, in
    silence; half a character (a lone surrogate) cannot be tokenised.

    Args:
        field: what the text is: "question" or "answer".
        label: whose it is; empty where unknown.
    """
    tokenizer = processor.tokenizer
    added = (t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
    whose = f"the {field} {text!r}" + (f" of {label}" if label else "")
    for token in {processor.image_token, *tokenizer.all_special_tokens, *added}:
        if token in text:
            raise ValueError(f"{whose} holds {token}, a control token of the model: take it out of the data")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{whose} holds half a character (a lone surrogate): correct the data's encoding")


def process(
    processor, texts: Sequence[str], images: Sequence[bytes] | None, labels: Sequence[str], **options
):
    """What a processor makes of texts, with a picture each or without.

    Args:
        images: PNG or JPEG files.
        labels: what an error calls each picture, as "person '001'".
    Raises:
        ValueError: a picture that the processor does not take.
    """
    pictures = [open_image(image) for image in images] if images else None
    try:
        return processor(images=pictures, text=list(texts), return_tensors="pt", **options)
    except ValueError:
        for label, picture in zip(labels, pictures or ()):
            try:
                processor.image_processor([picture])
            except ValueError as error:
                size = "{} x {}".format(*picture.size)
                raise ValueError(f"the picture of {label} ({size} pixels): {error}") from error
        raise


def _image_prefix(
    processor, image: bytes, label: str, system: str
) -> tuple[tuple[int, ...], Mapping[str, Tensor]]:
    """Token ids up to the last image token, which the processor repeats as the image needs; image inputs."""
    text = prompt(processor, "?", True, label, system)  # the prefix is the same for every question

    def make() -> dict[str, Tensor]:
        return dict(process(processor, [text], [image], [label]))

    inputs = make()
    ids = inputs.pop("input_ids")[0].tolist()
    for name in ("attention_mask", "mm_token_type_ids"):  # inputs of the text, not of the image
        inputs.pop(name, None)
    end = len(ids) - ids[::-1].index(processor.image_token_id)
    return tuple(ids[:end]), ImageInputs(make, inputs)


def _segments(
    processor, question: str, answers: Sequence[str], with_image: bool, label: str, system: str = ""
) -> Iterator[Segment]:
    """Tokens of a question and each of its answers, after the image (all of them if there is none)."""
    tokenizer = processor.tokenizer
    before = prompt(processor, question, with_image, label, system)
    question_ids, *sequences = tokenizer([before, *(with_answer(before, a) for a in answers)]).input_ids
    for ids in sequences:
        ids = ids + [tokenizer.eos_token_id]
        # The longest common prefix, because a tokenizer may merge across the end of the prompt.
        start = next((i for i, (a, b) in enumerate(zip(question_ids, ids)) if a != b), len(question_ids))
        if with_image:
            # A special token is never merged with its neighbours: cutting here changes no other token.
            cut = len(ids) - ids[::-1].index(processor.image_token_id)
            ids, start = ids[cut:], start - cut
        yield Segment(tuple(ids), start)


def answer_tokens(packs: Sequence[Pack]) -> int:
    """Number of tokens of some packs that count in their loss."""
    return sum(len(s.ids) - s.answer for p in packs for s in p.segments)


def batches(packs: Sequence[Pack], size: int) -> Iterator[list[Pack]]:
    """Cut packs into lists of at most `size`, in order."""
    for start in range(0, len(packs), size):
        yield list(packs[start : start + size])
