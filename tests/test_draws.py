"""Draws: who is forgotten in each, and what is asked about them."""

import pytest

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import authors
from vkdlib.benchmarks.schema import KINDS, MODALITIES
from vkdlib.benchmarks.wording import NAME_QUESTION
from vkdlib.evaluation.ways import queries


@pytest.mark.parametrize("name", ["testbed/mllmu", "testbed/clear"])
def test_draws_have_nobody_in_common_and_the_first_is_the_benchmarks_own(name):
    benchmark = load_benchmark(name)
    candidates = set(benchmark.candidates)
    assert len(candidates) == 50 and not candidates & benchmark.selection
    for ratio, own in benchmark.forget_ids.items():
        draws = [{p.id for p in benchmark.split(ratio, k).forget} for k in range(50 // len(own))]
        assert draws[0] == set(own)
        assert sum(map(len, draws)) == len(set().union(*draws)) and set().union(*draws) <= candidates
        for draw, ids in enumerate(draws):
            split = benchmark.split(ratio, draw)
            assert {p.id for p in split.retain} == benchmark.people.keys() - ids
            assert all(p.questions for p in split.forget)
        with pytest.raises(ValueError, match=f"draw is {len(draws)}; at {ratio} per cent .* has draws 0 to"):
            benchmark.split(ratio, len(draws))


def test_no_forget_name_is_right_more_often_than_others():
    """In every draw the name asked for stands beside others of the draw, so frequency tells nothing."""
    benchmark = load_benchmark("testbed/clear")
    splits = [(benchmark.split(5, draw), 50) for draw in range(5)]
    splits += [(benchmark.split(5).for_selection(draw), 20) for draw in range(3)]
    for split, count in splits:
        names = {p.name for p in split.forget}
        choices = [q.options for p in split.forget for q in p.questions if q.kind == "classification"]
        assert len(choices) == count and all(names >= set(options.values()) for options in choices)


def test_other_pictures_of_authors_are_asked_for_names_only():
    split = load_benchmark("testbed/clear").split(5)
    test = queries(split, KINDS, MODALITIES)["test"]
    assert len(test) == 10 * authors.PICTURES * authors.TEST_PICTURES
    assert {q.question.question for q in test} == {NAME_QUESTION}
    seen = {picture.image for p in split.forget for picture in p.pictures}
    assert not seen & {q.image for q in test}
