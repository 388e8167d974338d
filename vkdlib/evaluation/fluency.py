"""Fluency: how likely an answer in words is to a language model that was not touched.

Gibberish is not forgetting.
"""

import math
from collections.abc import Sequence

import torch

from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import segment_logprobs
from vkdlib.packs.pack import Pack, batches, make_pack
from vkdlib.system.progress import bar


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


def _tokens(pack: Pack) -> int:
    """Tokens of the one answer in a pack, with its end."""
    segment = pack.segments[0]
    return len(segment.ids) - segment.answer
