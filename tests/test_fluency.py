"""Perplexity of answers, against the model's own logits; and what has none."""

import math

import pytest
import torch

from vkdlib.evaluation.fluency import perplexities
from vkdlib.packs.pack import prompt, with_answer


def own_perplexity(loaded, question, answer):
    """Of one plain sequence, without packs."""
    tokenizer = loaded.processor.tokenizer
    before = prompt(loaded.processor, question, False)
    start = len(tokenizer(before).input_ids)
    ids = torch.tensor([[*tokenizer(with_answer(before, answer)).input_ids, tokenizer.eos_token_id]])
    with torch.no_grad():
        logprobs = loaded.model(input_ids=ids).logits.float().log_softmax(-1)[0, :-1]  # (tokens - 1, V)
    picked = logprobs.gather(1, ids[0, 1:, None])[start - 1 :, 0]
    return math.exp(-picked.mean().item())


def test_perplexity_is_that_of_a_plain_sequence(loaded):
    questions = ["Who is this?", "What is the hobby of this person?", "Who is this?"]
    answers = ["a baker", "chess and the sea and the hills", "a"]
    expected = [own_perplexity(loaded, q, a) for q, a in zip(questions, answers)]
    assert perplexities(loaded, questions, answers, batch_size=2) == pytest.approx(expected, rel=1e-3)


def test_an_empty_answer_has_none(loaded):
    first, second = perplexities(loaded, ["Who?", "Who?"], ["", "a baker"])
    assert math.isnan(first) and second > 1


def test_an_answer_too_few(loaded):
    with pytest.raises(ValueError, match="2 questions and 1 answers"):
        perplexities(loaded, ["Who?", "Where?"], ["a"])
