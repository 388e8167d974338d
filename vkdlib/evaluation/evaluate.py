"""Ask a model every question; return a table with one row a question, from which all numbers follow."""

import json
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
import torch

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.pictures import blank, open_image
from vkdlib.benchmarks.schema import KINDS, MODALITIES, Person, Question, Split
from vkdlib.evaluation.metrics import bleu, rouge_l
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import segment_logprobs
from vkdlib.packs.pack import batches, make_pack, prompt
from vkdlib.system import processes
from vkdlib.system.progress import bar

MAX_NEW_TOKENS = 50  # as in MLLMU-Bench's and MMUnlearner's code
PROTOCOLS = ("likelihood", "generate")
PICTURES = {"shown": lambda image: image, "blank": blank, "hidden": lambda image: None}
COLUMNS = [
    "set", "kind", "modality", "person", "question", "answer", "gold", "score", "bleu", "options",
]  # fmt: skip


def evaluate(
    loaded: Loaded,
    split: Split,
    *,
    kinds: Sequence[str] = KINDS,
    modalities: Sequence[str] = MODALITIES,
    protocol: str = "likelihood",
    pictures: str = "shown",
    batch_size: int = 16,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> pd.DataFrame:
    """Answer the questions of the reported sets: forget, retain, test (other pictures), real,
    world.

    Args:
        protocol: how multiple choice is answered. "likelihood": the option whose answer tokens have the
            largest summed log-probability. "generate": the letter that the model writes, zero-shot; an
            answer without a letter is wrong, and its `answer` is empty.
        pictures: "shown"; "blank": a grey one of the same size instead; "hidden": the same questions
            without any. What is answered then is known without the face.
        batch_size: packs or prompts at a time; it does not change answers.
        max_new_tokens: limit of what is generated (cloze, generation, "generate").
    Returns:
        columns COLUMNS. `score` is 0 or 1 (classification, cloze) or ROUGE-L F (generation); `bleu` is
        for generation; `options` holds each option's log-probability as JSON.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; it must be one of {', '.join(PROTOCOLS)}")
    if pictures not in PICTURES:
        raise ValueError(f"pictures is {pictures!r}; it must be one of {', '.join(PICTURES)}")
    rows: list[dict] = []
    for name, people in split.reported().items():
        asked = list(_asked(name, people, kinds, modalities, PICTURES[pictures]))
        place = {id: number for number, (*_, id) in enumerate(asked)}
        by_likelihood = [protocol == "likelihood" and a[1].kind == "classification" for a in asked]
        chosen = [a for a, likely in zip(asked, by_likelihood) if likely]
        written = [a for a, likely in zip(asked, by_likelihood) if not likely]
        for answers in (
            _choose(loaded, chosen, batch_size, name),
            _write(loaded, written, batch_size, max_new_tokens, name),
        ):
            found = processes.gather([{"set": name, **row} for row in answers])
            rows += sorted(found, key=lambda row: place[row["question"]])
    return pd.DataFrame(rows, columns=COLUMNS)


Asked = tuple[Person, Question, bytes | None, str]  # whom, what, with which picture, row's id


def _asked(name: str, people: Iterable[Person], kinds, modalities, show: Callable) -> Iterable[Asked]:
    """Every question with the picture it is asked about. The test set has other pictures, no text."""
    for person in people:
        for q in person.questions:
            if q.kind not in kinds or q.modality not in modalities:
                continue
            if name == "test":
                views = enumerate(person.test_images) if q.modality == "vqa" else ()
                yield from ((person, q, show(image), f"{q.id}/view{v}") for v, image in views)
            else:
                image = show(person.pictures[q.picture].image) if q.modality == "vqa" else None
                yield person, q, image, q.id


@torch.inference_mode()
def _choose(loaded: Loaded, asked: list[Asked], batch_size: int, name: str) -> Iterable[dict]:
    """Multiple choice by likelihood: the options of all questions about a picture share one pack."""
    groups: dict[tuple, list[Asked]] = {}
    for a in asked:
        groups.setdefault((a[0].id, a[2]), []).append(a)
    for with_image in (True, False):
        chosen = [group for (_, image), group in groups.items() if bool(image) == with_image]
        for part in bar(processes.mine(batches(chosen, batch_size)), f"{name}: multiple choice"):
            packs = [
                make_pack(
                    loaded.processor,
                    [(q.question, text) for _, q, _, _ in group for text in q.options.values()],
                    group[0][2],
                    group[0][0].id,
                )
                for group in part
            ]
            for group, sums in zip(part, segment_logprobs(loaded, packs)):
                scores = iter(sums.tolist())
                for person, q, _, id in group:
                    options = {key: next(scores) for key in q.options}
                    yield score_answer(person, q, id, max(options, key=options.get), options)


def _write(
    loaded: Loaded, asked: list[Asked], batch_size: int, max_new_tokens: int, name: str
) -> Iterable[dict]:
    """Questions answered in words."""
    for with_image in (True, False):
        chosen = [a for a in asked if bool(a[2]) == with_image]
        for part in bar(processes.mine(batches(chosen, batch_size)), f"{name}: written answers"):
            questions = [_instruction(q) for _, q, _, _ in part]
            images = [image for _, _, image, _ in part] if with_image else None
            for (person, q, _, id), text in zip(part, generate(loaded, questions, images, max_new_tokens)):
                answer = parse_letter(text, q.options) if q.kind == "classification" else text
                yield score_answer(person, q, id, answer)


def _instruction(q: Question) -> str:
    return wording.letter(q.question, q.options) if q.kind == "classification" else q.question


@torch.inference_mode()
def generate(
    loaded: Loaded,
    questions: Sequence[str],
    images: Sequence[bytes] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[str]:
    """Greedy answers to a batch of questions, each with its picture (a PNG or JPEG file), or all without."""
    processor = loaded.processor
    shown = [open_image(image) for image in images or []] or None
    texts = [prompt(processor, q, images is not None) for q in questions]
    inputs = processor(text=texts, images=shown, padding=True, padding_side="left", return_tensors="pt").to(
        loaded.device
    )
    if loaded.family.token_types:  # without them Qwen2.5-VL silently counts an image's tokens like words
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == processor.image_token_id).long()
    output = loaded.model.generate(
        **inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=max_new_tokens
    )
    answers = output[:, inputs["input_ids"].shape[1] :]
    return [t.strip() for t in processor.batch_decode(answers, skip_special_tokens=True)]


def parse_letter(text: str, options: Iterable[str]) -> str:
    """The letter an answer begins with, leaving punctuation out; empty if it is none of the options."""
    first = next((c for c in text if c.isalnum()), "").upper()
    return first if first in options else ""


def score_answer(person: Person, q: Question, id: str, answer: str, options: dict | None = None) -> dict:
    """One row of predictions: the answer, and how right it is.

    A cloze is right if the answer contains the gold words, whatever the case; a generated sentence gets
    ROUGE-L F and BLEU.
    """
    if q.kind == "generation":
        score = rouge_l(q.answer, answer)
    elif q.kind == "cloze":
        score = float(q.answer.lower() in answer.lower())
    else:
        score = float(answer == q.answer)
    return {
        "kind": q.kind,
        "modality": q.modality,
        "person": person.id,
        "question": id,
        "answer": answer,
        "gold": q.answer,
        "score": score,
        "bleu": bleu(q.answer, answer) if q.kind == "generation" else None,
        "options": json.dumps(options) if options else None,
    }
