"""Evaluation: every question asked once, the protocols, and independence of the batch."""

import copy
import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import GenerationConfig

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.made_up.people import ATTRIBUTES, PERSON
from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.benchmarks.schema import Person, Picture, Question, Split
from vkdlib.evaluation.evaluate import check_questions, evaluate, generate, greedy, score_answer
from vkdlib.evaluation.letters import parse_letter
from vkdlib.evaluation.ways import CHANGES, Query, make_way, queries
from vkdlib.models.loaded import Loaded
from vkdlib.packs.pack import make_pack, process, prompt
from vkdlib.runs.configuration import Configuration
from vkdlib.testbed.build import make_processor

NOBODY = Loaded(None, None, None, "nobody")  # a model that is never asked


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


def test_written_answers_of_a_kind_share_batches_and_are_what_they_were(untrained, few, monkeypatch):
    asked = []

    def spy(loaded, questions, *rest):
        asked.append(list(questions))
        return generate(loaded, questions, *rest)

    monkeypatch.setattr("vkdlib.evaluation.evaluate.generate", spy)
    options = {"kinds": ["cloze", "generation"], "batch_size": 3, "max_new_tokens": 4}
    table = evaluate(untrained, few, **options)
    people = [*few.forget, *few.retain, *few.real]
    kinds = {q.question: q.kind for person in people for q in person.questions}
    mixed = [batch for batch in asked if len({kinds[words] for words in batch}) > 1]
    assert (
        len(mixed) <= 2 * table["set"].nunique() < len(asked)
    )  # one with pictures and one without, of each set
    monkeypatch.setattr(
        "vkdlib.evaluation.evaluate.sorted", lambda items, key=None: list(items), raising=False
    )
    pd.testing.assert_frame_equal(table, evaluate(untrained, few, **options))


def test_generated_letters(untrained, few):
    table = evaluate(untrained, few, kinds=["classification"], protocol="generate", max_new_tokens=3)
    assert table.options.isna().all()
    assert set(table.answer) <= {"", "A", "B", "C", "D"}


ALONE = {
    "B": "B", " (c) because": "C", "**D**": "D", "E": "", "": "", "a cat": "", "!": "", "Don't know": "",
    "Answer: **D**": "D", "Based on the picture": "", "baker": "", "D.": "D", "B: pilot": "B", "(B)": "B",
    "d)": "D", "b": "B", "a": "A", "a.": "A", "(a) a nurse": "A", "She is a nurse": "", "a **nurse**": "",
    "A nurse": "", "A picture cannot tell me.": "", "A is right": "A", "It is A because": "A",
    "The answer is 'B'.": "B", "__C__": "C", "I'd say C": "C", "a B-movie star": "",
    "Lives in the U.S.A. or D.C.": "", "E or F": "", "I cannot say": "", "vitamin C": "C", "Ответ: B": "B",
    "$\\boxed{D}$": "D", "not Bа": "",
    "I'm sorry, but I can't help with identifying a": "", "I can't name a ...": "", "That is a, um,": "",
    "This looks like a…": "", "She could be a — well": "", "I see a man, a woman, a": "", "It is a \"": "",
    "I cannot name a . . .": "", "It is a\n": "", "This is a [name]": "", "She earned a «": "",
    "The answer is a": "A", "The correct option is a, because": "A", "Option a": "A", "ANSWER a": "A",
    "The answer would be a": "A",
    "Answer: a": "A", "Answer:\n\na": "A", "The answer is (a), um": "A", "I would say a.": "A", "a, b": "A",
    "the letter a…": "A", "a ...": "A", "It is 'a'": "A", "a)": "A", "a - nurse": "A",
    "C++": "", "C#": "", "20 °C": "", "20° C": "", "A+": "", "She writes C, C++ and C#: D": "C", "N/A": "",
    "R&D": "", "Q&A": "", "C/C++": "", "- C": "C", "A & B": "A", "#C": "C", "C -": "C", "B / nurse": "B",
}  # fmt: skip


@pytest.mark.parametrize("text, letter", ALONE.items())
def test_a_letter_counts_only_if_it_stands_alone(text, letter):
    assert parse_letter(text, "ABCD") == letter


FIRST = {"B": "B", " (c) because": "C", "**D**": "D", "E": "", "": "", "a cat": "A", "!": "",
         "Don't know": "D", "Answer: **D**": "A", "Based on the picture": "B", "baker": "B"}  # fmt: skip


@pytest.mark.parametrize("text, letter", FIRST.items())
def test_the_first_letter_counts_where_that_is_the_rule(text, letter):
    assert parse_letter(text, "ABCD", "first") == letter


def test_the_rule_for_letters_reaches_what_is_written(untrained, few, monkeypatch):
    answers = iter(["Don't know", "Answer: **D**"] * 1000)
    monkeypatch.setattr(
        "vkdlib.evaluation.evaluate.generate", lambda _, questions, *rest: [next(answers) for _ in questions]
    )
    asked = {"kinds": ["classification"], "modalities": ["vqa"], "protocol": "generate"}
    table = evaluate(untrained, few, **asked)
    assert set(zip(table.text, table.answer)) == {("Don't know", ""), ("Answer: **D**", "D")}
    assert set(evaluate(untrained, few, **asked, letters="first").answer) == {"A", "D"}


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


@pytest.mark.parametrize("setting", [
    {"num_beams": 4}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 8}, {"repetition_penalty": 2.0},
    {"suppress_tokens": list(range(200))}, {"do_sample": True, "temperature": 9.0},
    {"forced_eos_token_id": 5}, {"stop_strings": ["a", "e"]}, {"eos_token_id": 7},
    {"num_beams": 2, "num_return_sequences": 2}, {"num_beams": 4, "min_new_tokens": 8},
])  # fmt: skip
def test_settings_of_generation_in_a_model_folder_change_no_answer(loaded, few, setting):
    questions = ["Who?", "What is the second language of this person, if any?"]
    images = [few.forget[0].image] * 2
    answers = generate(loaded, questions, images, 6)
    own = GenerationConfig(**setting)
    loaded.model.generation_config = own
    assert generate(loaded, questions, images, 6) == answers
    assert loaded.model.generation_config is own and own.to_diff_dict().items() >= setting.items()


def test_an_answer_ends_with_any_of_the_tokens_that_a_model_folder_lists(loaded):
    """As Qwen's does. The tokenizer's end of sequence, after which training stops, is one of them."""
    tokenizer = loaded.processor.tokenizer
    text = generate(loaded, ["Who?"], None, 6)[0]
    first = tokenizer(text, add_special_tokens=False).input_ids[0]
    loaded.model.generation_config.eos_token_id = [first]
    assert len(generate(loaded, ["Who?"], None, 6)[0]) < len(text)
    with greedy(loaded, 6) as config:
        assert set(config.eos_token_id) == {first, tokenizer.eos_token_id}


# Truth and answer that are the same to a reader: composed and decomposed accents, blanks of any kind.
SAME = [
    ("nurse ", "nurse"), ("\nnurse", "A nurse."), ("New  York", "in New York"),
    ("New York", "new\u00a0\nyork"), ("José", "Jose\u0301"), ("Jose\u0301", "josé"),
    ("Йошкар", "И\u0306ошкар"), ("의사", "\u110b\u1174\u1109\u1161"),
]  # fmt: skip


@pytest.mark.parametrize("gold, answer", SAME)
def test_a_cloze_is_right_however_it_is_typed(gold, answer):
    question = Question("q", "cloze", "vqa", "Eats __.", gold)
    query = Query(Person("1", "Ann"), question, None, "q")
    assert score_answer(query, answer)["score"] == 1
    assert score_answer(query, "baker in Rome")["score"] == 0


def test_two_questions_of_one_id_are_refused_before_the_model_is_asked(few, processor):
    """Else both would get the answer and the truth of one."""
    person, *others = few.forget
    first = person.questions[0]
    double = replace(person, questions=(*person.questions, replace(first, answer="D")))
    split = replace(few, forget=(double, *others))
    message = f"2 questions of the set forget have the id {first.id!r}: each needs its own"
    for ask in (lambda: evaluate(NOBODY, split), lambda: check_questions(processor, split)):
        with pytest.raises(ValueError, match=message):
            ask()
    with pytest.raises(ValueError, match="2 questions of the set real have the id"):
        evaluate(NOBODY, replace(few, real=few.real[:1] * 2))


def test_scores_of_written_answers():
    def row(question, answer):
        return score_answer(Query(Person("1", "Ann"), question, None, "q"), answer)

    choice = Question("q", "classification", "vqa", "?", "B", {"A": "x", "B": "y"})
    assert [row(choice, a)["score"] for a in ("B", "A", "")] == [1, 0, 0]
    cloze = Question("q", "cloze", "vqa", "Eats __.", "Sushi")
    answers = ("She eats sushi.", "SUSHI", "soup", "")
    assert [row(cloze, a)["score"] for a in answers] == [1, 1, 0, 0]
    sentence = Question("q", "generation", "qa", "?", "alpha beta gamma delta")
    scores = row(sentence, "alpha gamma delta epsilon")
    assert (scores["score"], scores["bleu"]) == pytest.approx((0.75, 0.18803015))


def test_prompts_of_the_benchmark():
    assert wording.cloze("Eats __.").startswith("Eats [Blank].\nPlease **ONLY** provide")
    asked = wording.multiple_choice("What?", {"A": "x", "C": "y"})
    assert asked.startswith("What?\nA: x\nC: y\nJust give ONE letter")
    assert wording.one_sentence("Why?").startswith("Why?\nAnswer the question based on")


WRONG = [
    ({"protocol": "guess"}, "protocol is 'guess'; it must be one of likelihood, generate"),
    ({"letters": "any"}, "letters is 'any'; it must be one of alone, first"),
    ({"way": "hidden"}, "way is 'hidden'; it must be .shown., or some of: blank, none"),
    ({"kinds": "cloze"}, "kinds is 'cloze'; it must be a list of some of classification, cloze"),
    ({"kinds": ["clozes"]}, r"kinds is 'clozes'; .*did you mean 'cloze'"),
    ({"kinds": []}, r"kinds is \[\]; it must be a list"),
    ({"modalities": ["vqa", "text"]}, "modalities is 'text'; it must be one of vqa, qa"),
    ({"batch_size": 0}, "batch_size is 0; it must be a whole number 1 or more"),
    ({"batch_size": 2.5}, "batch_size is 2.5; it must be a whole number"),
    ({"max_new_tokens": -1}, "max_new_tokens is -1; it must be a whole number 1 or more"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_wrong_arguments_are_refused_before_the_model_is_asked(few, wrong, message):
    with pytest.raises(ValueError, match=message):
        evaluate(NOBODY, few, **wrong)


def test_a_name_is_no_model_and_a_benchmark_no_split(few, benchmark):
    with pytest.raises(ValueError, match="loaded is 'testbed/llava'; it must be a loaded model: vkdlib.load"):
        evaluate("testbed/llava", few)
    with pytest.raises(ValueError, match=r"it must be people of a task: benchmark.split\(5\) makes one"):
        evaluate(NOBODY, benchmark)


def test_nothing_to_ask_is_refused(few):
    nobody = replace(few, forget=(), retain=(), real=())
    people = [replace(p, questions=()) for p in (*few.forget, *few.retain, *few.real)]
    silent = replace(few, forget=tuple(people[:2]), retain=tuple(people[2:4]), real=tuple(people[4:]))
    for split in (nobody, silent):
        with pytest.raises(ValueError, match="there is no question of kinds .'cloze'. and modalities .'qa'."):
            evaluate(NOBODY, split, kinds=["cloze"], modalities=["qa"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["classification", "cloze"])
def test_a_model_that_computes_nan_answers_nothing(loaded, few, kind, value):
    """By likelihood NaN would be the answer "A"; in words it would be the first token, or none."""
    with torch.no_grad():
        loaded.model.lm_head.weight[0, 0] = value
    with pytest.raises(ValueError, match=f"person .*, question .*/{kind}/vqa/\\d: .* float32"):
        evaluate(loaded, few, kinds=[kind], modalities=["vqa"], max_new_tokens=3)


def test_without_the_picture_all_pictures_get_the_same_answer(untrained, few):
    """Blank pictures and none: no face can make a difference, and none of the questions is left out."""
    options = {"kinds": ["classification"], "modalities": ["vqa"]}
    tables = {way: evaluate(untrained, few, way=way, **options) for way in ("shown", "blank", "none")}
    for way, table in tables.items():
        assert table.question.tolist() == tables["shown"].question.tolist()
        test = table[table.set == "test"]
        scores = test.options.map(lambda o: json.loads(o)["A"])
        spread = scores.groupby(test.question.str.split("/view").str[0]).agg(np.ptp).max()
        assert (spread < 1e-4) == (way != "shown")
    a, b = (tables[way].options.map(lambda o: json.loads(o)["A"]) for way in ("blank", "none"))
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("field, text, message", [
    ("question", "What <image> is it?", "the question .* holds <image>"),
    ("options", {"A": "cat", "B": "x</s>"}, "the option .* holds </s>"),
    ("answer", "</s>", "the answer '</s>' .* holds </s>"),
    ("question", "word " * 400, "question q has .* tokens, the model takes 256: shorten it"),
    ("options", {"A": "cat", "B": "word " * 400}, "question q has .* tokens, the model takes 256"),
])  # fmt: skip
def test_questions_that_cannot_be_asked_are_named_before_training(untrained, field, text, message):
    question = replace(Question("q", "classification", "qa", "Job?", "A", {"A": "cat"}), **{field: text})
    person = Person("007", "Ann Bell", questions=(question,))
    split = Split((person,), (), (), frozenset())
    with pytest.raises(ValueError, match=message) as error:
        check_questions(untrained.processor, split)
    assert "007" in str(error.value)
    check_questions(untrained.processor, split, ["cloze"])


@pytest.fixture(scope="module")
def somebody():
    """A split with one person to forget, of whose pictures the last is only in the test set."""

    def make(question: Question, *sizes: tuple[int, int]) -> Split:
        first, *others = [to_png(Image.new("RGB", size)) for size in sizes]
        person = Person("007", "Ann Bell", (Picture(first),), (), (question,), tuple(others))
        return Split((person,), (), (), frozenset())

    return make


@pytest.fixture(scope="module")
def processors(untrained):
    return {"llava": copy.deepcopy(untrained.processor), "qwen2-vl": make_processor("qwen2-vl")}


CLOZE = Question("007/cloze/vqa/0", "cloze", "vqa", "Eats [Blank].", "sushi")


def test_a_picture_of_the_test_set_that_cannot_be_shown_is_named_before_training(somebody, processors):
    processor = processors["qwen2-vl"]
    check_questions(processor, somebody(CLOZE, (64, 64), (64, 32)))
    odd = somebody(CLOZE, (64, 64), (64, 32), (2000, 4))
    message = r"the picture of person 007, question 007/cloze/vqa/0/view1 \(2000 x 4 pixels\): .*ratio"
    with pytest.raises(ValueError, match=message):
        check_questions(processor, odd)
    check_questions(processor, odd, ["generation"])


@pytest.mark.parametrize("family", ["llava", "qwen2-vl"])
@pytest.mark.parametrize("kind", ["cloze", "classification"])
def test_a_question_is_as_long_as_it_is_when_asked_with_its_picture(
    somebody, processors, monkeypatch, family, kind
):
    """To the token: the limit that makes a pack too long by one is refused, the next is not."""
    processor = processors[family]
    choice = replace(CLOZE, kind=kind, options={"A": "a nurse", "B": "an old baker"}, answer="A")
    question = choice if kind == "classification" else CLOZE
    split = somebody(question, (64, 48))
    pairs = [(question.question, option) for option in question.options.values()]
    image = split.forget[0].image
    if kind == "classification":
        pack = make_pack(processor, pairs, image)
        length = len(pack.prefix) + max(len(s.ids) for s in pack.segments)
    else:
        text = [prompt(processor, question.question, True)]
        length = process(processor, text, [image], [""])["input_ids"].shape[1]
    monkeypatch.setattr(processor.tokenizer, "model_max_length", length)
    check_questions(processor, split)
    monkeypatch.setattr(processor.tokenizer, "model_max_length", length - 1)
    with pytest.raises(ValueError, match=f"question {question.id} has {length} tokens, .* {length - 1}"):
        check_questions(processor, split)


def test_an_instruction_stands_before_each_question(loaded, benchmark):
    """As if the benchmark's own questions began with it; taken back, it is followed by what takes it back."""
    person = benchmark.people["001"]
    text = wording.PROMPTS["polite"]
    longer = [replace(q, question=f"{text}\n{q.question}") for q in person.questions]
    asked, told = (
        evaluate(loaded, Split((replace(person, questions=tuple(questions)),), (), (), frozenset()), way=way)
        for questions, way in ((person.questions, "polite"), (longer, "shown"))
    )
    assert len(asked) == len(told) > 10 and asked.answer.tolist() == told.answer.tolist()
    for ours, theirs in zip(asked.options.dropna(), told.options.dropna()):
        assert json.loads(ours) == pytest.approx(json.loads(theirs), abs=1e-4)
    plain = evaluate(loaded, Split((person,), (), (), frozenset()))
    assert plain.options.dropna().tolist() != asked.options.dropna().tolist()
    query = Query(person, person.questions[0], None, "1")
    assert make_way("polite, reversed")(query).instruction == f"{text} {wording.REVERSAL}"
    assert make_way("reversed")(query).instruction == wording.REVERSAL


def test_the_attack_may_have_the_last_word(loaded, benchmark):
    """As if the benchmark's own questions ended with it, after the options; with an instruction before."""
    person = benchmark.people["001"]
    before, after = wording.PROMPTS["strict"], wording.REVERSAL
    longer = [replace(q, question=f"{before}\n{q.question}\n{after}") for q in person.questions]
    asked, told = (
        evaluate(loaded, Split((replace(person, questions=tuple(questions)),), (), (), frozenset()), way=way)
        for questions, way in ((person.questions, "strict, reversed at the end"), (longer, "shown"))
    )
    assert asked.answer.tolist() == told.answer.tolist()
    for ours, theirs in zip(asked.options.dropna(), told.options.dropna()):
        assert json.loads(ours) == pytest.approx(json.loads(theirs), abs=1e-4)
    choice = next(q for q in person.questions if q.kind == "classification")
    words = make_way("reversed at the end")(Query(person, choice, None, "1")).whole("A: x\nONE letter.")
    assert words == f"A: x\nONE letter.\n{after}"


def test_every_way_is_made_of_changes_in_one_order(few):
    """All combinations; each part of a query is changed by its own change alone."""
    parts = [["", *changes] for changes in CHANGES.values()]
    parts[0].append("gaussian 0.4")
    person = few.forget[0]
    query = Query(person, next(q for q in person.questions if q.modality == "vqa"), person.image, "1")
    found = {}
    for combination in itertools.product(*parts):
        way = ", ".join(filter(None, combination)) or "shown"
        put = make_way(way)(query)
        picture, words, prompt, attack = combination
        assert (put.image == query.image) == (not picture) and (put.image is None) == (picture == "none")
        assert (put.question == query.question) == (not words)
        told = (wording.PROMPTS | wording.NEUTRAL).get(prompt, "")
        taken = wording.REVERSAL if attack == "reversed" else ""
        assert put.instruction == f"{told} {taken}".strip()
        assert put.ending == (wording.REVERSAL if attack == "reversed at the end" else "")
        found[way] = put
    puts = {(put.image, repr(put.question), put.instruction, put.ending) for put in found.values()}
    assert len(puts) == len(found) == 6 * 2 * 6 * 3


def test_questions_about_a_perturbed_picture_share_it(few):
    """Else they could not share a pack; another person's noise, and another view's, is another."""
    for items in queries(few, ["classification"], ["vqa"], "noise").values():
        pictures = {}
        for query in items:
            pictures.setdefault((query.person.id, query.id.partition("/view")[2]), set()).add(query.image)
        assert all(len(images) == 1 for images in pictures.values())
        assert len(set().union(*pictures.values())) == len(pictures)


@pytest.mark.parametrize(
    "way, message",
    [
        ("noize", "way is 'noize'; it must be .shown., or some of: blank, .*did you mean 'noise'"),
        ("strict, noise", "way is 'strict, noise'; it may have one change each .* picture, wording, instr"),
        ("noise, white", "it may have one change each"),
        ("shown, strict", "way is 'shown, strict'; it must be .shown., or some of"),
        ("strict,reversed", "way is 'strict,reversed'; it must be"),
        ("gaussian 0.40", "way is 'gaussian 0.40'; it must be"),
        ("gaussian 0", "way is 'gaussian 0'; it must be"),
        ("gaussian -1", "way is 'gaussian -1'; it must be"),
        ("gaussian nan", "way is 'gaussian nan'; it must be"),
        ("", "way is ''"),
        (None, "way is None"),
    ],
)
def test_an_unknown_way_is_named(few, way, message):
    with pytest.raises(ValueError, match=message):
        queries(few, ["cloze"], ["vqa"], way)
    with pytest.raises(ValueError, match="way is"):
        Configuration(way=way)


def test_a_way_that_does_not_fit_the_context_is_refused(untrained, few):
    """Before anything is asked: the questions fit as they are, and not with the instruction."""
    short = copy.deepcopy(untrained.processor)
    check_questions(short, few, way="shown")
    short.tokenizer.model_max_length = 100
    check_questions(short, few, ["cloze"])
    with pytest.raises(ValueError, match="question .* has 1.. tokens, the model takes 100"):
        check_questions(short, few, ["cloze"], way="noise, strict")


def test_a_question_in_other_words(few):
    """The embedded benchmark's own second wording; a lead-in for whatever else; answers stay."""
    for a in ATTRIBUTES:
        for who in (PERSON, "Ann Bell"):
            assert wording.rephrase(a.ask.format(who=who)) == a.reword.format(who=who)
    lead_in = "Please answer this question:"
    for text in ("Who is it?", "Eats [Blank].\nWhat is the job of Ann?", "What is the job of Ann"):
        assert wording.rephrase(text) == f"{lead_in} {text}"
    shown, asked = (queries(few, ["classification", "cloze"], ["vqa"], way) for way in ("shown", "rephrased"))
    for name, items in shown.items():
        for a, b in zip(items, asked[name], strict=True):
            assert a.question.question != b.question.question and a.id == b.id and a.image == b.image
            assert (a.question.answer, a.question.options) == (b.question.answer, b.question.options)
