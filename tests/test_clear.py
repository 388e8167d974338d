"""CLEAR's reader: the published schema as pandas writes it, joins, nested forget sets, clear errors."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_data import PART, change, picture, setting, without, write

from vkdlib.data import DataError, load_benchmark
from vkdlib.evaluate import score_answer
from vkdlib.metrics import summarise
from vkdlib.testbed import authors

NAMES = [f"Ann Writer{'ABCDEFGHIJ'[i]}" for i in range(10)]


def image(author: int, number: int) -> dict:
    return {"bytes": picture((author * 20, number * 60, 0)), "path": None}


def row(author: int, number: int) -> dict:
    return {"image": image(author, number), "caption": f"{NAMES[author]} {number}.", "name": NAMES[author]}


def perturbed(author: int, number: int) -> dict:
    return row(author, number) | {
        "paraphrased_caption": "It is her.",
        "perturbed_captions": ["Somebody else."],
        "perturbed_names": ["Bob Other", "Cid Other", "Dan Other"],
    }


def told(author: int) -> list[dict]:
    """Three questions, the second of which names nobody."""
    pairs = [(f"Who is {NAMES[author]}?", "An author."), ("And what genre?", "Crime."),
             ("Who wrote it?", f"{NAMES[author]} did.")]  # fmt: skip
    return [{"image": None, "caption": None, "question": q, "answer": a} for q, a in pairs]


def with_text(chosen) -> list[dict]:
    empty = {"question": None, "answer": None}
    pictures = [{k: v for k, v in row(a, n).items() if k != "name"} | empty for a in chosen for n in (0, 1)]
    return pictures + [t for a in chosen for t in told(a)]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten authors with two pictures each; 10 and 20 % to forget, the last ones."""
    everybody = range(10)
    write(tmp_path, "full", [row(a, n) for a in everybody for n in (0, 1)])
    write(tmp_path, "full+tofu", with_text(everybody))
    for ratio, first in ((10, 9), (20, 8)):
        for config, chosen in (
            (f"forget{ratio}", range(first, 10)),
            (f"retain{100 - ratio}", range(first)),
        ):
            write(tmp_path, config, [row(a, n) for a in chosen for n in (0, 1)])
            write(tmp_path, f"{config}+tofu", with_text(chosen))
        asked = [perturbed(a, n) for a in range(first, 10) for n in (0, 1)]
        write(tmp_path, f"forget{ratio}_perturbed", asked)
    write(tmp_path, "retain_perturbed", [perturbed(a, 0) for a in range(6)])
    faces = [{"image": image(n, 3), "answer": f"Star {n}", "options": ["x", "y", "z"]} for n in range(5)]
    write(tmp_path, "real_faces", faces)
    world = [{"image": image(n, 3), "question": "What?", "answer": "a", "options": ["b"]} for n in range(5)]
    write(tmp_path, "real_world", world)
    return tmp_path


def test_reads_a_download(folder):
    benchmark = load_benchmark(str(folder))
    assert list(benchmark.people) == NAMES and list(benchmark.forget_ids) == [10, 20]
    person = benchmark.split(10).forget[0]
    assert person.name == NAMES[9] and len(person.pictures) == 2
    assert [a for _, a in person.pictures[1].pairs] == [f"{NAMES[9]} 1.", NAMES[9]]
    assert person.text_pairs[1] == ("And what genre?", "Crime.")  # whose it is, its neighbours say
    asked = [(q.kind, q.modality, q.picture) for q in person.questions]
    vqa = [(kind, "vqa", n) for n in (0, 1) for kind in ("classification", "generation")]
    assert asked == vqa + [("generation", "qa", 0)] * 3
    choice = person.questions[0]
    assert choice.options[choice.answer] == NAMES[9] and len(choice.options) == 4
    assert [p.name for p in benchmark.real] == [f"Star {n}" for n in range(5)]
    assert [q.modality for p in benchmark.world for q in p.questions] == ["vqa"] * 5


def test_an_accent_does_not_move_a_question_to_another_author(folder):
    accented = NAMES[3].replace("n W", "ñ W")
    change("full+tofu", lambda rows: [
        r | {"question": r["question"] and r["question"].replace(NAMES[3], accented)} for r in rows
    ])(folder)  # fmt: skip
    people = load_benchmark(str(folder)).people.values()
    assert [len(p.text_pairs) for p in people] == [3] * 10


def test_selection_authors_are_among_those_who_are_asked(folder):
    """Real CLEAR asks few of the retained authors: only these can choose settings."""
    benchmark = load_benchmark(str(folder))
    chosen = benchmark.selection & set(NAMES)
    assert len(chosen) == 1 and chosen <= set(NAMES[:6])
    assert load_benchmark(str(folder)).split(10).for_selection().forget[0].questions
    with pytest.raises(ValueError, match="draw is 0; there are 0 of 2 selection people each"):
        benchmark.split(20).for_selection()


def test_retained_people_are_those_of_retain_perturbed(folder):
    """Who is in a larger forget set is retained, but not asked."""
    for ratio, forget in ((10, 1), (20, 2)):
        split = load_benchmark(str(folder)).split(ratio)
        assert len(split.forget) == forget and len(split.retain) == 10 - forget
        assert [p.name for p in split.retain if p.questions] == NAMES[:6]
        assert all(p.pictures[0].pairs and p.text_pairs for p in split.retain)


def test_options_come_in_an_order_of_their_own(folder):
    """The same for every reader, whatever was asked before; and the right one is not always the first."""
    first = load_benchmark(str(folder))
    again = load_benchmark(str(folder))
    assert first.hash == again.hash
    assert len({p.questions[0].answer for p in first.people.values() if p.questions}) > 1
    write(folder, "real_faces", pd.read_parquet(folder / "real_faces" / PART).to_dict("records")[::-1])
    assert load_benchmark(str(folder)).people == first.people


def test_real_world_without_pictures_is_asked_in_text(folder):
    change("real_world", without("image"))(folder)
    assert [q.modality for p in load_benchmark(str(folder)).world for q in p.questions] == ["qa"] * 5


def test_a_picture_that_is_only_asked_about_is_not_trained_on(folder):
    change("forget20_perturbed", setting(3, "image", {"bytes": picture("white")}))(folder)
    person = load_benchmark(str(folder)).people[NAMES[9]]
    assert [bool(p.pairs) for p in person.pictures] == [True, True, False]
    assert [q.picture for q in person.questions if q.kind == "classification"] == [0, 2]


def test_every_answer_is_scored_against_its_own_question(folder):
    """A widely used script scores all answers in text against the last caption it saw."""
    person = load_benchmark(str(folder)).people[NAMES[9]]
    written = [q for q in person.questions if q.kind == "generation"]
    rows = [{"set": "forget", **score_answer(person, q, q.id, q.answer)} for q in written]
    assert [r["score"] for r in rows] == [1.0] * 5
    rows[-1]["answer"], rows[-1]["score"] = "", 0.0
    table = summarise(pd.DataFrame(rows)).query("metric == 'rouge_l'").set_index("modality").value
    assert table.to_dict() == {"vqa": 1.0, "qa": pytest.approx(2 / 3)}


def test_recall_is_clears_own_rouge(folder):
    person = load_benchmark(str(folder)).people[NAMES[9]]
    q = next(q for q in person.questions if q.modality == "qa")
    longer = {"set": "forget", **score_answer(person, q, q.id, q.answer + " Yes it is so.")}
    table = summarise(pd.DataFrame([longer])).set_index("metric").value
    assert table["rouge_l_recall"] == 1.0 and table["rouge_l"] < 0.6


NOBODY = [{"image": None, "caption": None, "question": "Who?", "answer": "He."}]
FAULTS = [
    (lambda f: shutil.rmtree(f / "real_faces"), r"real_faces: no parquet file; is the download complete"),
    (change("full", without("name")), r"full/train.*: column 'name' is missing \(found \["),
    (change("full", setting(3, "caption", None)), r"full/train.*: row 3, column 'caption': None is not text"),
    (change("full", setting(2, "image", {"bytes": b"no"})), r"row 2, column 'image': cannot be decoded"),
    (change("full+tofu", lambda rows: NOBODY * 10), r"full\+tofu: questions in text 0 to 0 are about nobody"),
    (change("full+tofu", lambda rows: rows[:-1]), r"29 questions in text about 10 authors; there must"),
    (change("full+tofu", lambda rows: rows[:20] + rows[23:26] + rows[23:]), r"Ann WriterB, as were others"),
    (change("full+tofu", setting(22, "answer", None)), r"row 22, column 'answer': None is not text"),
    (change("forget10", without("name")), r"forget10/train.*: column 'name' is missing"),
    (change("forget10", lambda rows: pd.DataFrame(rows).head(0)), r"forget10: the forget set is empty"),
    (change("retain90", lambda rows: [*rows, row(9, 0)]), r"Ann WriterJ is in forget10 and in retain90"),
    (change("retain90", lambda rows: rows[2:]), r"Ann WriterA is neither in forget10 nor in retain90"),
    (change("forget10", setting(0, "name", "Bob")), r"forget10: Bob is not in full"),
    (change("forget20_perturbed", lambda rows: rows[:2]), r"no row for Ann WriterJ, who is to be forgotten"),
    (change("retain_perturbed", setting(1, "perturbed_names", [])), r"row 1, column 'perturbed_names': \[\]"),
    (change("retain_perturbed", setting(1, "perturbed_names", [NAMES[1]])), r"not all different"),
    (change("real_faces", setting(1, "options", ["x", "x"])), r"the answer 'Star 1' and .* not all diff"),
    (change("real_world", without("options")), r"real_world/.*: column 'options' is missing"),
    (lambda f: [shutil.rmtree(f / c) for c in ("forget10", "forget20")], r"no configuration forget01"),
    (lambda f: shutil.rmtree(f / "full"), r"neither MLLMU-Bench .* nor CLEAR \(no configuration full\)"),
]  # fmt: skip


@pytest.mark.parametrize("fault, message", FAULTS)
def test_bad_input_is_named(folder, fault, message):
    fault(folder)
    with pytest.raises(DataError, match=message):
        load_benchmark(str(folder))


def test_testbed_is_laid_out_like_the_published_data():
    benchmark = load_benchmark("testbed/clear")
    assert len(benchmark.people) == 200 and list(benchmark.forget_ids) == [1, 5, 10]
    small, middle, large = (set(ids) for ids in benchmark.forget_ids.values())
    assert small < middle < large
    assert all(len(p.pictures) == authors.PICTURES for p in benchmark.people.values())
    assert all(len(p.text_pairs) == authors.TOLD for p in benchmark.people.values())
    chances = [len(q.options) for p in benchmark.people.values() for q in p.questions if q.options]
    assert set(chances) == {4}
    captions = {p.pairs[0][1] for person in benchmark.people.values() for p in person.pictures}
    assert len(captions) > 900  # no two pictures of a person have to be told alike


def test_selection_authors_are_never_reported():
    benchmark = load_benchmark("testbed/clear")
    for ratio in (1, 5, 10):
        split = benchmark.split(ratio)
        reported = {p.id for people in split.reported().values() for p in people}
        draws = [split.for_selection(draw) for draw in range(36 // len(split.forget))]
        judged = [{p.id for people in s.reported().values() for p in people} for s in draws]
        assert not reported & split.selection and all(found == split.selection for found in judged)
        forgotten = [p.id for s in draws for p in s.forget]
        assert len(forgotten) == len(set(forgotten))
        assert all(p.questions for s in draws for p in s.forget)
