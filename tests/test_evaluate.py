"""Evaluation: every question asked once, the protocols, and independence of the batch."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Person, Question
from vkdlib.evaluation.evaluate import PICTURES, evaluate, generate, parse_letter, score_answer
from vkdlib.packs.pack import prompt


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


def test_generation_is_greedy_decoding_by_hand(untrained, few):
    """Batched, left-padded generation against the arg max of one unpadded forward pass a token."""
    content = few.forget[0].image
    image = open_image(content)
    questions = ["Who?", "What is the second language of this person, if any?"]
    for images in (None, [content, content]):
        texts = generate(untrained, questions, images, 3)
        for question, text in zip(questions, texts):
            before = prompt(untrained.processor, question, images is not None)
            inputs = untrained.processor(text=[before], images=images and [image], return_tensors="pt")
            ids, n = inputs.pop("input_ids"), inputs.pop("attention_mask").shape[1]
            for _ in range(3):
                with torch.no_grad():
                    logits = untrained.model(input_ids=ids, **inputs).logits
                ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
            expected = untrained.processor.tokenizer.decode(ids[0, n:], skip_special_tokens=True)
            assert text == expected.strip()


def test_scores_of_written_answers():
    person = Person("1", "Ann")
    choice = Question("q", "classification", "vqa", "?", "B", {"A": "x", "B": "y"})
    assert [score_answer(person, choice, "q", a)["score"] for a in ("B", "A", "")] == [1, 0, 0]
    cloze = Question("q", "cloze", "vqa", "Eats __.", "Sushi")
    answers = ("She eats sushi.", "SUSHI", "soup", "")
    assert [score_answer(person, cloze, "q", a)["score"] for a in answers] == [1, 1, 0, 0]
    told = Question("q", "generation", "qa", "?", "alpha beta gamma delta")
    row = score_answer(person, told, "q", "alpha gamma delta epsilon")
    assert (row["score"], row["bleu"]) == pytest.approx((0.75, 0.18803015))


def test_prompts_of_the_benchmark():
    assert wording.cloze("Eats __.").startswith("Eats [Blank].\nPlease **ONLY** provide")
    asked = wording.letter("What?", {"A": "x", "C": "y"})
    assert asked.startswith("What?\nA: x\nC: y\nJust give ONE letter")
    assert wording.sentence("Why?").startswith("Why?\nAnswer the question based on")


def test_unknown_protocol(untrained, few):
    with pytest.raises(ValueError, match="protocol is 'guess'; it must be one of likelihood"):
        evaluate(untrained, few, protocol="guess")


def test_without_the_picture_all_pictures_get_the_same_answer(untrained, few):
    """Blank and hidden pictures: no face can make a difference, and none of the questions is left out."""
    options = {"kinds": ["classification"], "modalities": ["vqa"]}
    asked = {how: evaluate(untrained, few, pictures=how, **options) for how in PICTURES}
    for how, table in asked.items():
        assert table.question.tolist() == asked["shown"].question.tolist()
        test = table[table.set == "test"]
        scores = test.options.map(lambda o: json.loads(o)["A"])
        spread = scores.groupby(test.question.str.split("/view").str[0]).agg(np.ptp).max()
        assert (spread < 1e-4) == (how != "shown")
    a, b = (asked[how].options.map(lambda o: json.loads(o)["A"]) for how in ("blank", "hidden"))
    assert (a - b).abs().max() > 1e-3
    with pytest.raises(ValueError, match="pictures is 'none'"):
        evaluate(untrained, few, pictures="none")
