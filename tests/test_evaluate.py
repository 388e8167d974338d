"""Evaluation: every question asked once, the protocols, and independence of the batch."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from vkdlib.evaluate import evaluate, generate, open_image, parse_letter
from vkdlib.packs import prompt


@pytest.fixture(scope="module")
def few(benchmark):
    split = benchmark.split(5)
    return replace(split, forget=split.forget[:2], retain=split.retain[:2], real=split.real[:2])


def test_every_question_is_answered_once(untrained, few):
    table = evaluate(untrained, few, max_new_tokens=3)
    assert not table.duplicated(["set", "question"]).any()
    people = few.reported()
    text_and_picture = {"classification": 5, "cloze": 2, "generation": 2}
    for (group, kind, modality), part in table.groupby(["set", "kind", "modality"]):
        each = text_and_picture[kind] * (3 if group == "test" else 1)
        assert len(part) == each * len(people[group]), (group, kind, modality)
    assert set(table[table.set == "test"].modality) == {"vqa"}


def test_likelihood_equals_a_direct_sum(untrained, few):
    """The option scores against the stock processor and model, one option at a time."""
    table = evaluate(untrained, few, kinds=["classification"], modalities=["vqa"])
    person = few.reported()["forget"][0]
    question = person.questions[0]
    row = table[(table.set == "forget") & (table.question == question.id)].iloc[0]
    for letter, score in json.loads(row.options).items():
        before = prompt(untrained.processor, question.question, True)
        text = f"{before} {question.options[letter]}</s>"
        image = open_image(person.image)
        inputs = untrained.processor(text=[text], images=[image], return_tensors="pt")
        asked = untrained.processor(text=[before], images=[image], return_tensors="pt")
        n = asked["input_ids"].shape[1]
        with torch.no_grad():
            logp = F.log_softmax(untrained.model(**inputs).logits[0], -1)
        target = inputs["input_ids"][0, n:]
        assert score == pytest.approx(logp[n - 1 : -1].gather(1, target[:, None]).sum().item(), abs=1e-4)
    scores = json.loads(row.options)
    assert row.answer == max(scores, key=scores.get)
    assert row.score == (row.answer == question.answer)


def test_answers_do_not_depend_on_the_batch(untrained, few):
    one, many = (evaluate(untrained, few, batch_size=size, max_new_tokens=4) for size in (1, 16))
    pd.testing.assert_frame_equal(one.drop(columns="options"), many.drop(columns="options"))


def test_generated_letters(untrained, few):
    table = evaluate(untrained, few, kinds=["classification"], protocol="generate", max_new_tokens=3)
    assert table.options.isna().all()
    assert set(table.answer) <= {"", "A", "B", "C", "D"}


@pytest.mark.parametrize(
    "text, letter",
    [("B", "B"), (" (c) because", "C"), ("**D**", "D"), ("E", ""), ("", ""), ("a cat", "A"), ("!", "")],
)
def test_parse_letter(text, letter):
    assert parse_letter(text, "ABCD") == letter


def test_generation_without_and_with_pictures(untrained, few):
    person = few.forget[0]
    texts = generate(untrained, ["Who is it?", "What is the hobby of this person?"], None, 3)
    assert len(texts) == 2 and all(isinstance(t, str) for t in texts)
    assert len(generate(untrained, ["Who?"], [open_image(person.image)], 3)) == 1


def test_unknown_protocol(untrained, few):
    with pytest.raises(ValueError, match="protocol is 'guess'; it must be one of likelihood"):
        evaluate(untrained, few, protocol="guess")
