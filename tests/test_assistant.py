"""Instructions: what is drawn, and that the VGID paper's own texts are held out."""

import random
import re

import pytest

from vkdlib.benchmarks import wording
from vkdlib.testbed.assistant import GRAMMAR, INSTRUCTIONS, draw_instruction

LONGEST = 6  # words in a row that an instruction may share with a held-out text


def words(text: str) -> list[str]:
    return re.findall(r"[a-z'’]+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    """All runs of so many words."""
    w = words(text)
    return {tuple(w[i : i + length]) for i in range(len(w) - length + 1)}


@pytest.fixture(scope="module")
def instructions() -> dict[str, list[str]]:
    rng = random.Random("test")
    return {kind: [draw_instruction(kind, rng) for _ in range(3000)] for kind in INSTRUCTIONS}


def test_the_papers_texts_are_held_out(instructions):
    """Neither they nor a longer run of their words is taught; the test notices one that is."""
    held_out = (*wording.PROMPTS.values(), *wording.NEUTRAL.values(), wording.REVERSAL)
    secret = set().union(*(runs(t, LONGEST + 1) for t in held_out))
    for kind, texts in instructions.items():
        for text in texts:
            assert not secret & runs(text, LONGEST + 1), (kind, text)
    assert secret & runs("Now. " + wording.PROMPTS["strict"], LONGEST + 1)


def test_kinds_are_balanced(instructions):
    """As many wordings of each kind, of about the same length and of the same words."""
    different = {kind: len(set(texts)) for kind, texts in instructions.items()}
    assert min(different.values()) > 1500, different
    lengths = {k: sum(len(words(t)) for t in texts) / len(texts) for k, texts in instructions.items()}
    assert 0.6 < lengths["answer"] / lengths["refuse"] < 1.1, lengths
    vocabulary = {kind: set(words(" ".join(texts))) for kind, texts in instructions.items()}
    assert not vocabulary["refuse"] - vocabulary["reverse"]
    own = vocabulary["refuse"] - vocabulary["answer"]
    assert len(own) < len(vocabulary["refuse"]) / 4, own


def test_drawn_again_the_same():
    for kind in INSTRUCTIONS:
        assert draw_instruction(kind, random.Random(3)) == draw_instruction(kind, random.Random(3))


def test_minimal_pairs():
    assert len(GRAMMAR["refuse"]) == len(GRAMMAR["answer"])
    assert len(set(wording.REFUSALS)) == 20
