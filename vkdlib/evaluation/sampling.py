"""Sampled answers: several of a model to each question, the same whatever the batch."""

import hashlib
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import LogitsProcessor

from vkdlib.benchmarks.schema import KINDS, MAX_NEW_TOKENS, Split
from vkdlib.benchmarks.wording import holds
from vkdlib.evaluation.evaluate import generate
from vkdlib.evaluation.leaks import COUNTS, secret
from vkdlib.evaluation.ways import Query, queries
from vkdlib.models.loaded import Loaded
from vkdlib.packs.pack import batches
from vkdlib.system import processes
from vkdlib.system.checks import number, one_of, some_of, whole_number
from vkdlib.system.progress import bar

SAMPLES = "set kind modality person question sample answer gold leak".split()


def sample_answers(
    loaded: Loaded,
    split: Split,
    *,
    set: str = "test",
    kinds: Sequence[str] = KINDS,
    count: int = max(COUNTS),
    temperature: float = 1.0,
    seed: int = 0,
    way: str = "shown",
    batch_size: int = 64,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> pd.DataFrame:
    """Sample answers in words to questions about people's pictures, and see which hold the secret.

    Multiple choice is asked without its options, or they would tell what is to be found out. Questions
    without a secret (`leaks.secret`) are left out.

    Args:
        set: "test": the forget people on pictures that no model was trained on; or another reported set.
        count: answers to each question.
        temperature: of the softmax that is sampled from.
        seed: what is drawn follows from it, the question's id and the number of the sample alone.
        way: how questions are put, see `evaluate`.
        batch_size: prompts at a time; it does not change answers.
    Returns:
        columns SAMPLES, one row a sample: `gold` is the secret, `leak` whether the answer holds it.
    Raises:
        ValueError: an argument is not allowed, or there is no question with a secret.
    """
    some_of("kinds", kinds, KINDS)
    one_of("set", set, tuple(split.reported()))
    count, seed = whole_number("count", count, 1), whole_number("seed", seed, 0)
    number("temperature", temperature, above=0)
    asked = [(q, secret(q.person, q.question)) for q in queries(split, kinds, ["vqa"], way)[set]]
    draws = [(query, gold, i) for query, gold in asked if gold for i in range(count)]
    if not draws:
        raise ValueError(f"no question of kinds {list(kinds)} about pictures of the set {set} has a secret")
    parts = processes.own_share(batches(draws, whole_number("batch_size", batch_size, 1)))
    rows = []
    for part in bar(parts, f"{set}: sampled answers"):
        noise = Gumbel([f"{seed} {query.id} {i}" for query, _, i in part], temperature)
        questions = [query.whole(query.question.question) for query, *_ in part]
        images = [query.image for query, *_ in part] if part[0][0].image else None
        labels = [query.label for query, *_ in part]
        answers = generate(loaded, questions, images, max_new_tokens, labels, noise)
        rows += [_row(set, *draw, answer) for draw, answer in zip(part, answers)]
    by_draw = {(row["question"], row["sample"]): row for row in processes.gather(rows)}
    return pd.DataFrame([by_draw[query.id, i] for query, _, i in draws], columns=SAMPLES)


def _row(set: str, query: Query, gold: str, sample: int, answer: str) -> dict:
    row = {"set": set, "kind": query.question.kind, "modality": query.question.modality}
    row |= {"person": query.person.id, "question": query.id, "sample": sample, "answer": answer}
    return row | {"gold": gold, "leak": holds(answer, gold)}


class Gumbel(LogitsProcessor):
    """Noise with which the arg max of logits is a sample of softmax(logits / temperature), each row's own.

    Args:
        names: of the rows, from which their noise follows.
    """

    def __init__(self, names: Sequence[str], temperature: float):
        seeds = [int(hashlib.sha256(name.encode()).hexdigest()[:15], 16) for name in names]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        width = scores.shape[-1]
        noise = torch.stack([torch.empty(width).exponential_(generator=g) for g in self.generators])
        noise = -noise.clamp_min(torch.finfo(noise.dtype).tiny).log()  # (rows, vocabulary)
        return scores.float() / self.temperature + noise.to(scores.device)
