"""Fluency: how likely an answer in words is to a language model that was not touched.

Gibberish is not forgetting. Perplexity alone does not tell it: an answer that says one word again and again
is very likely, and a true sentence full of names is not. So empty and repeating answers are counted, and
likelihood is compared with that of a model that speaks as it should.
"""

import math
import statistics
from collections.abc import Sequence

import torch

from vkdlib.evaluation.distances import distribution_distances
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import segment_logprobs
from vkdlib.packs.pack import Pack, batches, make_pack
from vkdlib.system.progress import bar

SHORTEST = 4  # pairs of words of an answer that can repeat itself


@torch.inference_mode()
def perplexities(
    judge: Loaded, questions: Sequence[str], answers: Sequence[str], batch_size: int = 16
) -> list[float]:
    """Perplexity of each answer to its question, in text: the exponential of the mean -log p of a token.

    The judge sees no picture: it reads how an answer is written and cannot tell whether it is right. An empty
    answer has no perplexity: NaN.

    Args:
        judge: a model whose language model nobody taught or unlearned.
        batch_size: answers in a pass.
    Raises:
        ValueError: there are not as many answers as questions.
    """
    if len(questions) != len(answers):
        raise ValueError(f"there are {len(questions)} questions and {len(answers)} answers: give one each")
    packs = {
        i: make_pack(judge.processor, [(question, answer)], person=str(i))
        for i, (question, answer) in enumerate(zip(questions, answers))
        if answer
    }
    values = [math.nan] * len(answers)
    for numbers in bar(list(batches(list(packs), batch_size)), "fluency"):
        few = [packs[i] for i in numbers]
        for i, pack, sums in zip(numbers, few, segment_logprobs(judge, few)):
            values[i] = math.exp(-sums.item() / _tokens(pack))
    return values


def is_repeating(answer: str) -> bool:
    """Whether an answer says the same again and again: of its pairs of neighbouring words, at least SHORTEST,
    fewer than half differ."""
    words = answer.split()
    pairs = list(zip(words, words[1:]))
    return len(pairs) >= SHORTEST and 2 * len(set(pairs)) < len(pairs)


def compare_fluency(
    answers: Sequence[str], ours: Sequence[float], theirs: Sequence[float], people: Sequence[str]
) -> dict[str, float]:
    """How a model writes, beside another one that speaks as it should (never-saw), on the same questions.

    Args:
        answers: of the model.
        ours, theirs: `perplexities` of either's answers; NaN for an empty one.
        people: the person of each question.
    Returns:
        empty, repeating: shares of its answers, per cent. perplexity: median of those with words. ks, ks_p:
        the distance of 1 / perplexity (0: an empty answer) from the other's, see `distribution_distances`.
    """
    likely = [[0.0 if math.isnan(v) else 1 / v for v in values] for values in (ours, theirs)]
    far = distribution_distances(*likely, people)
    there = [v for v in ours if not math.isnan(v)]
    return {
        "empty": 100 * sum(not a for a in answers) / len(answers),
        "repeating": 100 * sum(map(is_repeating, answers)) / len(answers),
        "perplexity": statistics.median(there) if there else math.nan,
        "ks": far["ks"],
        "ks_p": far["ks_p"],
    }


def _tokens(pack: Pack) -> int:
    """Tokens of the one answer in a pack, with its end."""
    segment = pack.segments[0]
    return len(segment.ids) - segment.answer
