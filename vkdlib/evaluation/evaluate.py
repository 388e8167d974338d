"""Ask a model every question; return a table with one row a question, from which all numbers follow."""

import contextlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.pictures import grey, picture_size
from vkdlib.benchmarks.schema import KINDS, MAX_NEW_TOKENS, MODALITIES, PROTOCOLS, Question, Split
from vkdlib.evaluation.letters import LETTER_RULES, parse_letter
from vkdlib.evaluation.metrics import bleu, rouge_l
from vkdlib.evaluation.ways import Query, make_way, queries
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import evaluation_mode, segment_logprobs
from vkdlib.packs.pack import Pack, batches, check_text, make_pack, process, prompt, with_answer
from vkdlib.system import processes
from vkdlib.system.checks import one_of, some_of, whole_number
from vkdlib.system.progress import bar

NOT_FINITE = "Its weights hold NaN, or overflow in the precision it was loaded in: try float32"
PREDICTIONS = "set kind modality person question answer gold score bleu options text".split()


def evaluate(
    loaded: Loaded,
    split: Split,
    *,
    kinds: Sequence[str] = KINDS,
    modalities: Sequence[str] = MODALITIES,
    sets: Sequence[str] | None = None,
    protocol: str = "likelihood",
    letters: str = "alone",
    way: str = "shown",
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> pd.DataFrame:
    """Answer the questions of the reported sets: forget, retain, test and retain_unseen (the same people
    on other pictures), real, world.

    Args:
        sets: those that are asked; None: all that are reported.
        protocol: how multiple choice is answered. "likelihood": the option whose answer tokens have the
            largest summed log-probability. "generate": the letter that the model writes, zero-shot; an
            answer without a letter is wrong, and its `answer` is empty.
        letters: how a letter is read from what the model writes. "alone": the first that stands alone;
            "first": the first letter or digit of the text, as widely used code has it (see `letters`).
        way: how questions are put: "shown"; or changes, as "noise, strict" (see `ways`). "blank": with a grey
            picture of the same size; "none": the same questions without any. Whoever answers right then did
            not need the face. "noise", "white", "gaussian 0.4": with a perturbed picture. "rephrased": in
            other words. "declarative", "polite" and "strict": with an instruction to refuse (VGID paper,
            A.1). "reversed": it is taken back, before the question; "reversed at the end": after it (A.3.7).
            "neutral" and "look-alike": with an instruction to answer (ours).
        batch_size: packs or prompts at a time; it does not change answers.
        max_new_tokens: limit of what is generated (cloze, generation, "generate").
    Returns:
        columns PREDICTIONS. `score` is 0 or 1 (classification, cloze) or ROUGE-L F (generation); `bleu` is
        for generation; `options` holds each option's log-probability as JSON; `text` is what the model wrote
        where `answer` is only the letter in it.
    Raises:
        ValueError: an argument is not allowed, no question is left to ask, two have one id, or the model
            computes NaN.
    """
    if not isinstance(loaded, Loaded):
        raise ValueError(f"loaded is {loaded!r}; it must be a loaded model: vkdlib.load(name) loads one")
    if not isinstance(split, Split):
        raise ValueError(f"split is {split!r}; it must be people of a task: benchmark.split(5) makes one")
    some_of("kinds", kinds, KINDS)
    some_of("modalities", modalities, MODALITIES)
    one_of("protocol", protocol, PROTOCOLS)
    one_of("letters", letters, tuple(LETTER_RULES))
    make_way(way)
    batch_size = whole_number("batch_size", batch_size, 1)
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, 1)
    known = queries(split, kinds, modalities, way)
    some_of("sets", known if sets is None else sets, known)
    asked = {name: items for name, items in known.items() if sets is None or name in sets}
    if not any(asked.values()):
        raise ValueError(f"there is no question of kinds {list(kinds)} and modalities {list(modalities)}")
    rows: list[dict] = []
    for name, items in asked.items():
        choices = [query for query in items if _by_likelihood(query.question, protocol)]
        others = [query for query in items if not _by_likelihood(query.question, protocol)]
        others.sort(key=lambda query: query.question.kind)  # a batch takes as long as its longest answer
        rows += _rows(name, choices, _choose(loaded, choices, batch_size, name))
        rows += _rows(name, others, _write(loaded, others, batch_size, max_new_tokens, letters, name))
    return pd.DataFrame(rows, columns=PREDICTIONS)


def _by_likelihood(question: Question, protocol: str) -> bool:
    """Whether the likeliest option is the answer; else the model writes one."""
    return question.kind == "classification" and protocol == "likelihood"


def check_questions(
    processor, split: Split, kinds: Sequence[str] = KINDS, protocol: str = "likelihood", way: str = "shown"
) -> None:
    """Raise ValueError for a question or picture that a model cannot be asked, naming person and question.

    Whether a processor takes a picture, and how many tokens it makes of it, depends on the picture's size
    alone. So one picture of each size is tried. No text has more tokens than bytes, so few are counted.
    """
    tokenizer, image_tokens = processor.tokenizer, {}
    for query in itertools.chain(*queries(split, kinds, MODALITIES, way).values()):
        question, options = query.question, query.question.options.values()
        check_text(processor, question.question, "question", query.label)
        check_text(processor, question.answer, "answer", query.label)
        for option in options:
            check_text(processor, option, "option", query.label)
        choice = _by_likelihood(question, protocol)
        words = query.whole(question.question) if choice else _words(query)
        text = prompt(processor, words, bool(query.image))
        texts = [with_answer(text, option + tokenizer.eos_token) for option in options] if choice else [text]
        more = 0  # tokens of the picture beside the one that is in the text
        if query.image:
            size = picture_size(query.image)
            if size not in image_tokens:
                ids = process(processor, [text], [grey(query.image)], [query.label])["input_ids"]
                image_tokens[size] = (ids == processor.image_token_id).sum().item()
            more = image_tokens[size] - 1
        if max(len(text.encode()) for text in texts) + more > tokenizer.model_max_length:
            _check_length(tokenizer, more + max(map(len, tokenizer(texts).input_ids)), query.label)


def _check_length(tokenizer, length: int, label: str) -> None:
    limit = tokenizer.model_max_length
    if length > limit:
        raise ValueError(f"{label} has {length} tokens, the model takes {limit}: shorten it")


def _rows(name: str, items: Sequence[Query], answers: Iterable[dict]) -> list[dict]:
    """The answers of all processes to the questions of a set, in the order of the questions."""
    by_id = {row["question"]: row for row in processes.gather(list(answers))}
    return [{"set": name, **by_id[query.id]} for query in items]


@torch.inference_mode()
def _choose(loaded: Loaded, items: Sequence[Query], batch_size: int, name: str) -> Iterator[dict]:
    """Multiple choice by likelihood: the options of all questions about a picture share one pack."""
    groups: dict[tuple, list[Query]] = {}
    for query in items:
        groups.setdefault((query.person.id, query.image), []).append(query)
    for part in _batches(list(groups.values()), batch_size, f"{name}: multiple choice"):
        packs = [_options_pack(loaded.processor, group) for group in part]
        for group, sums in zip(part, segment_logprobs(loaded, packs)):
            logprobs = iter(sums.tolist())  # (options of all questions of the group,)
            for query in group:
                options = {letter: next(logprobs) for letter in query.question.options}
                if not all(map(math.isfinite, options.values())):
                    raise ValueError(f"{query.label}: the log-probabilities are {options}. {NOT_FINITE}")
                yield score_answer(query, max(options, key=options.get), options)


def _options_pack(processor, group: Sequence[Query]) -> Pack:
    """All options of some questions about one picture, each as an answer."""
    pairs = [
        (query.ended(query.question.question), option)
        for query in group
        for option in query.question.options.values()
    ]
    first = group[0]
    return make_pack(processor, pairs, first.image, first.person.id, instruction=first.instruction)


def _write(
    loaded: Loaded, items: Sequence[Query], batch_size: int, max_new_tokens: int, letters: str, name: str
) -> Iterator[dict]:
    """Questions answered in words, those of a kind together: a batch runs until its longest answer ends."""
    items = sorted(items, key=lambda query: KINDS.index(query.question.kind))
    for part in _batches([[query] for query in items], batch_size, f"{name}: written answers"):
        part = [query for (query,) in part]
        images = [query.image for query in part] if part[0].image else None
        questions, labels = [_words(query) for query in part], [query.label for query in part]
        for query, text in zip(part, generate(loaded, questions, images, max_new_tokens, labels)):
            if query.question.kind == "classification":
                letter = parse_letter(text, query.question.options, letters)
                yield score_answer(query, letter) | {"text": text}
            else:
                yield score_answer(query, text)


def _batches(groups: Sequence[list[Query]], size: int, title: str) -> Iterator[list[list[Query]]]:
    """This process's share of some groups of questions, those with a picture first."""
    for with_image in (True, False):
        alike = [group for group in groups if bool(group[0].image) == with_image]
        yield from bar(processes.own_share(batches(alike, size)), title)


def _words(query: Query) -> str:
    """What is said to a model that is to answer in words."""
    words = query.question.question
    if query.question.kind == "classification":
        words = wording.multiple_choice(words, query.question.options)
    return query.whole(words)


@torch.inference_mode()
def generate(
    loaded: Loaded,
    questions: Sequence[str],
    images: Sequence[bytes] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    labels: Sequence[str] | None = None,
    noise: LogitsProcessor | None = None,
    system: str = "",
) -> list[str]:
    """Greedy answers to a batch of questions.

    Args:
        images: of each question a PNG or JPEG file; None: all are in text only.
        labels: what an error calls each question; None: the question itself.
        noise: added to the logits, with which an answer is a sample (`sampling.Gumbel`); None: none.
        system: an instruction in a turn of its own, see `pack.prompt`.
    Raises:
        ValueError: the model's logits are NaN or infinite.
    """
    processor = loaded.processor
    labels = labels or [f"question {question!r}" for question in questions]
    with_image = images is not None
    texts = [prompt(processor, q, with_image, label, system) for q, label in zip(questions, labels)]
    inputs = process(processor, texts, images, labels, padding=True, padding_side="left")
    inputs = inputs.to(loaded.device)  # input_ids: (questions, tokens)
    for label, length in zip(labels, inputs["attention_mask"].sum(1).tolist()):
        _check_length(processor.tokenizer, length, label)
    if loaded.family.token_types:  # without them Qwen2.5-VL silently counts an image's tokens like words
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == processor.image_token_id).long()
    logits = LogitsProcessorList([FiniteLogits(labels), *([noise] if noise else [])])
    with evaluation_mode(loaded), greedy(loaded, max_new_tokens) as config:
        output = loaded.model.generate(**inputs, generation_config=config, logits_processor=logits)
    answers = output[:, inputs["input_ids"].shape[1] :]  # (questions, new tokens)
    return [text.strip() for text in processor.batch_decode(answers, skip_special_tokens=True)]


@contextlib.contextmanager
def greedy(loaded: Loaded, max_new_tokens: int) -> Iterator[GenerationConfig]:
    """Within: the model decodes greedily, whatever its generation_config.json says of beams and lengths.

    transformers takes from the model's own settings whatever a call leaves open, so they are put aside. An
    answer ends with the tokenizer's end of sequence or, where the file has several ends (Qwen), with any.
    """
    model, own = loaded.model, loaded.model.generation_config
    several = own.eos_token_id if isinstance(own.eos_token_id, list) else []
    ends = sorted({loaded.processor.tokenizer.eos_token_id, *several})
    config = GenerationConfig(max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=loaded.pad)
    model.generation_config = config
    try:
        yield config
    finally:
        model.generation_config = own


class FiniteLogits(LogitsProcessor):
    """Stops generation at the first NaN or infinite logit, whose arg max would be an answer like any other.

    Args:
        labels: what an error calls each question.
    """

    def __init__(self, labels: Sequence[str]):
        self.labels = labels

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        finite = (scores < math.inf).all(-1)  # (questions, vocabulary) -> (questions,); false for NaN, too
        if not finite.all():
            label = self.labels[finite.int().argmin()]
            raise ValueError(f"{label}: the logits are NaN or infinite. {NOT_FINITE}")
        return scores


def score_answer(query: Query, answer: str, options: Mapping[str, float] | None = None) -> dict:
    """One row of predictions: the answer, and how right it is.

    A cloze is right if the answer contains the gold words, whatever the case, the blanks between words and
    the Unicode form of accents; a generated sentence gets ROUGE-L F and BLEU.

    Args:
        options: letter -> log-probability, where the answer is the likeliest option.
    """
    q = query.question
    row = {"kind": q.kind, "modality": q.modality, "person": query.person.id, "question": query.id}
    row |= {"answer": answer, "gold": q.answer, "bleu": None, "options": options and json.dumps(options)}
    if q.kind == "generation":
        return row | {"score": rouge_l(q.answer, answer), "bleu": bleu(q.answer, answer)}
    if q.kind == "cloze":
        return row | {"score": float(wording.holds(answer, q.answer))}
    return row | {"score": float(q.answer == answer)}
