"""leak@k: what a secret is, the estimate against counting, and samples that depend on no batch."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from vkdlib.benchmarks.schema import Person, Question, Split
from vkdlib.evaluation.evaluate import generate
from vkdlib.evaluation.leaks import leak_rates, leak_scores, secret
from vkdlib.evaluation.sampling import SAMPLES, Gumbel, sample_answers


def test_secrets():
    """Of a sentence the first fact in it that other questions ask for; a caption has none."""
    choice = Question("1", "classification", "vqa", "Where?", "B", {"A": "Rome", "B": "Oslo"})
    cloze = Question("2", "cloze", "vqa", "Works as a __.", "Nurse")
    told = Question("3", "generation", "vqa", "Who?", "Ann: a  nurse,\nin Oslo, not in Rome.")
    caption = Question("4", "generation", "vqa", "What?", "A woman in the sun.")
    person = Person("1", "Ann", questions=(choice, cloze, told, caption))
    assert [secret(person, q) for q in person.questions] == ["Oslo", "Nurse", "Nurse", None]


def samples(leaks):
    """Of each question its answers' leaks; two questions a person."""
    rows = [
        {"set": "test", "modality": "vqa", "kind": "cloze", "person": f"p{i // 2}", "question": f"q{i}",
         "sample": j, "leak": bool(leak)}
        for i, answers in enumerate(leaks) for j, leak in enumerate(answers)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_estimate_is_the_mean_over_all_choices_of_k_samples():
    leaks = [[0, 1, 0, 0, 1, 0], [0] * 6, [1] * 6, [0, 0, 0, 1, 0, 0]]
    for k in range(1, 7):
        expected = [np.mean([max(c) for c in itertools.combinations(answers, k)]) for answers in leaks]
        assert leak_scores(samples(leaks), k).score.tolist() == pytest.approx(expected)
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"k is {k}; it must be from 1 to the number of samples, 6"):
            leak_scores(samples(leaks), k)


def test_rates_have_people_as_units_and_grow_with_k():
    rng = np.random.default_rng(0)
    rates = leak_rates(samples(rng.random((400, 16)) < 0.1)).set_index("metric")
    assert rates.index.tolist() == ["leak@1", "leak@4", "leak@16"]
    assert rates.value.is_monotonic_increasing and (rates.n == 400).all() and (rates.people == 200).all()
    for k in (1, 4, 16):
        assert rates.loc[f"leak@{k}", "value"] == pytest.approx(100 * (1 - 0.9**k), abs=6)
    assert (rates.low < rates.value).all() and (rates.value < rates.high).all()
    nothing = leak_rates(samples(np.zeros((40, 16)))).high
    assert (nothing > 5).all()  # nothing seen of twenty people is not nothing


def test_noise_makes_the_arg_max_a_sample_of_the_softmax():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    names = [str(i) for i in range(20_000)]
    for temperature in (1.0, 2.0):
        drawn = Gumbel(names, temperature)(None, logits.expand(20_000, 4)).argmax(-1)
        shares = torch.bincount(drawn, minlength=4) / 20_000
        assert torch.allclose(shares, (logits[0] / temperature).softmax(-1), atol=0.02)
    noise = Gumbel(["a", "b"], 1.0)
    first, second = (noise(None, torch.zeros(2, 4)) for _ in range(2))
    again = Gumbel(["b"], 1.0)
    assert torch.equal(again(None, torch.zeros(1, 4))[0], first[1])
    assert torch.equal(again(None, torch.zeros(1, 4))[0], second[1]) and not torch.equal(first, second)


@pytest.fixture(scope="module")
def few(benchmark):
    split = benchmark.split(5)
    return replace(split, forget=split.forget[:1], retain=split.retain[:1], real=())


def test_samples_depend_on_seed_and_question_and_on_no_batch(untrained, few):
    how = {"kinds": ["cloze", "generation"], "count": 3, "max_new_tokens": 3}
    table = sample_answers(untrained, few, batch_size=18, **how)
    assert list(table) == SAMPLES and set(table["set"]) == {"test"}
    assert table.groupby("question").size().eq(3).all() and table.question.nunique() == 3 * 4
    pd.testing.assert_frame_equal(sample_answers(untrained, few, batch_size=5, **how), table)
    other = sample_answers(untrained, few, batch_size=18, seed=1, **how)
    assert (other.answer != table.answer).any()
    assert table.groupby("question").answer.nunique().max() > 1  # the samples of a question differ


def test_without_temperature_all_samples_are_the_greedy_answer(untrained, few):
    """Multiple choice is asked without its options."""
    table = sample_answers(untrained, few, set="forget", kinds=["classification"], count=2,
                           temperature=1e-9, max_new_tokens=3)  # fmt: skip
    person = few.forget[0]
    questions = [q for q in person.questions if q.kind == "classification" and q.modality == "vqa"]
    texts = generate(untrained, [q.question for q in questions], [person.image] * len(questions), 3)
    found = table[table.person == person.id]
    assert found.answer.tolist() == [text for text in texts for _ in range(2)]
    assert found.gold.tolist() == [q.options[q.answer] for q in questions for _ in range(2)]


WRONG = [
    ({"set": "tests"}, "set is 'tests'; it must be one of forget, .*did you mean 'test'"),
    ({"count": 0}, "count is 0; it must be a whole number 1 or more"),
    ({"temperature": 0}, "temperature is 0; it must be a number above 0"),
    ({"way": "hidden"}, "way is 'hidden'"),
    ({"kinds": ["clozes"]}, "kinds is 'clozes'"),
    ({"batch_size": 0}, "batch_size is 0"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_wrong_arguments_are_refused_before_the_model_is_asked(few, wrong, message):
    with pytest.raises(ValueError, match=message):
        sample_answers(None, few, **wrong)


def test_nothing_to_tell_is_refused(few):
    with pytest.raises(
        ValueError, match="no question of kinds .* about pictures of the set test has a secret"
    ):
        sample_answers(None, Split((), few.retain, (), frozenset()))
