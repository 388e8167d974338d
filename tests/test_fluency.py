"""Perplexity of answers, against the model's own logits; and what has none."""

import math

import pytest
import torch

from vkdlib.evaluation import fluency
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


@pytest.mark.parametrize(
    "answer, repeating",
    [
        ("a baker, a baker, a baker, a baker", True),
        ("person person person person person person", True),
        ("Anna Berg: is a baker, lives in Rome, likes chess, and was born in Oslo.", False),
        ("a baker a baker", False),  # too short to tell
        ("", False),
    ],
)
def test_an_answer_that_says_the_same_again_and_again(answer, repeating):
    assert fluency.is_repeating(answer) == repeating


def test_fluency_beside_a_model_that_speaks_as_it_should():
    people, good = list("aabbcc"), [110.0, 120.0, 240.0, 260.0, 150.0, 130.0]
    same = fluency.compare_fluency(["It is so."] * 6, good, good, people)
    assert (same["ks"], same["ks_p"], same["empty"], same["repeating"]) == (0, 1, 0, 0)
    loops = fluency.compare_fluency(["a baker, " * 6] * 6, [2.6] * 6, good, people)
    assert loops["repeating"] == 100 and loops["perplexity"] == 2.6 and loops["ks"] == 1
    silent = fluency.compare_fluency(["", *["It is so."] * 5], [math.nan, *good[1:]], good, people)
    assert silent["empty"] == pytest.approx(100 / 6) and silent["ks"] == pytest.approx(1 / 6)
    nothing = fluency.compare_fluency([""] * 6, [math.nan] * 6, good, people)
    assert nothing["empty"] == 100 and math.isnan(nothing["perplexity"]) and nothing["ks"] == 1
