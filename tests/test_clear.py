"""CLEAR's reader: the published schema as pandas writes it, joins, nested forget sets, clear errors."""

import shutil
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data import IMAGE, PART, TEXT, change, only, picture, place, setting, without, write

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.load import DataError, load_benchmark
from vkdlib.benchmarks.made_up import authors
from vkdlib.evaluation.evaluate import evaluate, score_answer
from vkdlib.evaluation.metrics import rouge_l, summarise
from vkdlib.evaluation.ways import Query
from vkdlib.models.loaded import Loaded

TEXTS = pa.large_list(TEXT)
TYPES = {"image": IMAGE} | dict.fromkeys(("perturbed_captions", "perturbed_names", "options"), TEXTS)
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
    pairs = [(f"Who is {NAMES[author]}?", "An author."), (f"And book {author}'s genre?", "Crime."),
             (f"Who wrote book {author}?", f"{NAMES[author]} did.")]  # fmt: skip
    return [{"image": None, "caption": None, "question": q, "answer": a} for q, a in pairs]


def with_text(chosen) -> list[dict]:
    empty = {"question": None, "answer": None}
    pictures = [{k: v for k, v in row(a, n).items() if k != "name"} | empty for a in chosen for n in (0, 1)]
    return pictures + [t for a in chosen for t in told(a)]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten authors with two pictures each; 10 and 20 % to forget, the last ones. Large types."""

    def make(config: str, rows: list[dict]) -> None:
        write(tmp_path, config, rows, types=TYPES)

    everybody = range(10)
    make("full", [row(a, n) for a in everybody for n in (0, 1)])
    make("full+tofu", with_text(everybody))
    for ratio, first in ((10, 9), (20, 8)):
        for config, chosen in (
            (f"forget{ratio}", range(first, 10)),
            (f"retain{100 - ratio}", range(first)),
        ):
            make(config, [row(a, n) for a in chosen for n in (0, 1)])
            make(f"{config}+tofu", with_text(chosen))
        asked = [perturbed(a, n) for a in range(first, 10) for n in (0, 1)]
        make(f"forget{ratio}_perturbed", asked)
    make("retain_perturbed", [perturbed(a, 0) for a in range(6)])
    faces = [{"image": image(n, 3), "answer": f"Star {n}", "options": ["x", "y", "z"]} for n in range(5)]
    make("real_faces", faces)
    world = [{"image": image(n, 3), "question": "What?", "answer": "a", "options": ["b"]} for n in range(5)]
    make("real_world", world)
    return tmp_path


def test_the_download_has_what_pandas_can_write(folder):
    asked = pq.read_schema(folder / "retain_perturbed" / PART)
    assert asked.field("perturbed_names").type == TEXTS and asked.field("name").type == pa.large_string()
    assert asked.field("image").type == IMAGE


def test_reads_a_download(folder):
    benchmark = load_benchmark(str(folder))
    assert list(benchmark.people) == NAMES and list(benchmark.forget_ids) == [10, 20]
    person = benchmark.split(10).forget[0]
    assert person.name == NAMES[9] and len(person.pictures) == 2
    assert [a for _, a in person.pictures[1].pairs] == [f"{NAMES[9]} 1.", NAMES[9]]
    assert person.text_pairs[1] == ("And book 9's genre?", "Crime.")  # whose it is, its neighbours say
    asked = [(q.kind, q.modality, q.picture) for q in person.questions]
    vqa = [(kind, "vqa", n) for n in (0, 1) for kind in ("classification", "generation")]
    assert asked == vqa + [("generation", "qa", 0)] * 3
    choice = person.questions[0]
    assert choice.options[choice.answer] == NAMES[9] and len(choice.options) == 4
    assert [p.name for p in benchmark.real] == [f"Star {n}" for n in range(5)]
    assert [q.modality for p in benchmark.world for q in p.questions] == ["vqa"] * 5


UNUSED = {
    "full+tofu": without("caption"),
    "retain_perturbed": without("paraphrased_caption", "perturbed_captions"),
    "forget20_perturbed": without("paraphrased_caption", "perturbed_captions"),
    "forget10": only("name"),
    "retain90": only("name"),
}


@pytest.mark.parametrize("config", UNUSED)
def test_columns_that_are_not_used_may_be_missing(folder, config):
    first = load_benchmark(str(folder)).hash
    change(config, UNUSED[config])(folder)
    assert load_benchmark(str(folder)).hash == first


def test_questions_in_text_alone_need_no_image_column(folder):
    first = load_benchmark(str(folder)).hash
    change("full+tofu", lambda rows: only("question", "answer")(rows[20:]))(folder)
    assert load_benchmark(str(folder)).hash == first


def rename(folder: Path, config: str, old: str, new: str) -> None:
    """Other words in all texts of a configuration."""
    change(config, lambda rows: [
        {k: v.replace(old, new) if isinstance(v, str) else v for k, v in r.items()} for r in rows
    ])(folder)  # fmt: skip


def test_who_is_never_named_whole_is_known_by_the_last_word(folder):
    first = load_benchmark(str(folder)).people
    rename(folder, "full+tofu", NAMES[3], "Ms WriterD")
    people = load_benchmark(str(folder)).people
    assert people[NAMES[3]].text_pairs[0] == ("Who is Ms WriterD?", "An author.")
    assert all(people[n].text_pairs == first[n].text_pairs for n in NAMES if n != NAMES[3])


@pytest.mark.parametrize("called", ["Ann", "WriterDs", "she"])
def test_a_word_of_several_names_or_of_none_is_nobodys(folder, called):
    rename(folder, "full+tofu", NAMES[3], called)
    with pytest.raises(DataError, match=place(f"full+tofu/{PART}", 29, "question") + ".*no one author"):
        load_benchmark(str(folder))


def test_a_last_word_that_two_authors_have_is_nobodys(folder):
    for config in sorted(f.name for f in folder.iterdir()):
        rename(folder, config, NAMES[4], "Eve WriterD")
    assert len(load_benchmark(str(folder)).people["Eve WriterD"].text_pairs) == 3
    rename(folder, "full+tofu", NAMES[3], "Ms WriterD")
    with pytest.raises(DataError, match=place(f"full+tofu/{PART}", 29, "question") + ".*no one author"):
        load_benchmark(str(folder))


def test_an_accent_does_not_move_a_question_to_another_author(folder):
    rename(folder, "full+tofu", NAMES[3], NAMES[3].replace("n W", "ñ W"))
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
    benchmark = load_benchmark(str(folder))
    person = benchmark.people[NAMES[9]]
    assert [bool(p.pairs) for p in person.pictures] == [True, True, False]
    for ratio, asked in ((20, [0, 2]), (10, [0, 1])):
        person = benchmark.split(ratio).forget[-1]
        assert [q.picture for q in person.questions if q.kind == "classification"] == asked


def test_each_ratio_asks_the_rows_of_its_own_configuration(folder):
    """As published, forget10_perturbed lacks a row that a smaller one may have."""
    first = load_benchmark(str(folder))
    change("forget20_perturbed", lambda rows: rows[:3])(folder)
    change("forget10_perturbed", setting(0, "perturbed_names", ["Eve Other"]))(folder)
    benchmark = load_benchmark(str(folder))
    small, large = ({p.id: p for p in benchmark.split(ratio).forget} for ratio in (10, 20))
    asked = [len([q for q in p.questions if q.options]) for p in (*small.values(), *large.values())]
    assert asked == [2, 2, 1]
    assert set(small[NAMES[9]].questions[0].options.values()) == {NAMES[9], "Eve Other"}
    assert len(large[NAMES[9]].questions[0].options) == 4
    assert benchmark.split(20).forget[0] == first.split(20).forget[0]
    assert not first.forget_questions and benchmark.hash != first.hash
    change("forget10_perturbed", setting(0, "perturbed_names", ["Fay Other"]))(folder)
    assert load_benchmark(str(folder)).hash != benchmark.hash


def test_chance_that_is_not_a_quarter_is_told(folder):
    with pytest.warns(UserWarning, match=r"questions with \[2\] options; the chance of 25 % .* is that of 4"):
        load_benchmark(str(folder))  # of pictures of the world
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_benchmark("testbed/clear")
        load_benchmark("testbed/mllmu")


@pytest.fixture
def answers(folder, monkeypatch):
    """A split, and who answers it instead of a model: each question in words of its own. Takes what is said
    of a question without a picture; returns the table, and the sizes of the batches with and without."""
    split, words = load_benchmark(str(folder)).split(20), {}
    for person in (*split.forget, *split.retain, *split.real, *split.world):
        for q in person.questions:
            image = person.pictures[q.picture].image if q.modality == "vqa" else None
            asked = wording.multiple_choice(q.question, q.options) if q.options else q.question
            assert (asked, image) not in words  # no two questions may have the same answer
            words[asked, image] = q.answer if q.options else f"{q.answer} I say of {q.id}"

    def answered(in_text=str):
        sizes = {"vqa": [], "qa": []}

        def generate(loaded, questions, images, max_new_tokens, labels):
            sizes["vqa" if images else "qa"].append(len(questions))
            if not images:
                return [in_text(words[q, None]) for q in questions]
            return [words[pair] for pair in zip(questions, images, strict=True)]

        monkeypatch.setattr("vkdlib.evaluation.evaluate.generate", generate)
        table = evaluate(Loaded(None, None, None, "nobody"), split, protocol="generate", batch_size=3)
        return table, sizes

    return answered


def test_every_answer_is_scored_against_its_own_question(answers):
    """A widely used script scores all answers in text against the last caption it saw."""
    table, sizes = answers()
    assert all(len(found) > 3 and max(found) == 3 for found in sizes.values())
    assert (table.groupby(["set", "modality"]).size()[[("forget", "vqa"), ("forget", "qa")]] == [8, 6]).all()
    for row in table.itertuples():
        written = row.kind == "generation"
        assert row.answer == (f"{row.gold} I say of {row.question}" if written else row.gold)
        assert row.score == (rouge_l(row.gold, row.answer) if written else 1.0)


def test_wrong_answers_in_text_leave_those_about_pictures_alone(answers):
    right, wrong = (summarise(answers(said)[0]) for said in (str, lambda words: "?"))
    keys = ["set", "kind", "modality", "metric"]
    table = right.merge(wrong, on=keys, suffixes=("", "_then"))
    table = table[table.metric != "refusals"]  # there are none
    in_text = table.modality == "qa"
    assert len(table) == len(right[right.metric != "refusals"]) and set(table[in_text]["set"]) == {
        "forget",
        "retain",
    }
    assert (table[in_text].value > 0).all() and (table[in_text].value_then == 0).all()
    assert (table[~in_text].value == table[~in_text].value_then).all()


def test_recall_is_clears_own_rouge(folder):
    person = load_benchmark(str(folder)).people[NAMES[9]]
    q = next(q for q in person.questions if q.modality == "qa")
    longer = {"set": "forget", **score_answer(Query(person, q, None, q.id), q.answer + " Yes it is so.")}
    table = summarise(pd.DataFrame([longer])).set_index("metric").value
    assert table["rouge_l_recall"] == 1.0 and table["rouge_l"] < 0.6


NOBODY = [{"image": None, "caption": None, "question": "Who?", "answer": "He."}]
# About a configuration as a whole there is no row to name.
WHOLE = [
    (lambda f: shutil.rmtree(f / "real_faces"), r"/real_faces: no parquet file; is the download complete"),
    (lambda f: shutil.rmtree(f / "forget10_perturbed"), r"/forget10_perturbed: no parquet file"),
    (change("full", without("name")), r"/full/train.*: column 'name' is missing \(found \["),
    (change("full", lambda rows: pd.DataFrame(rows).head(0)), r"/full, column 'image': there is no row"),
    (change("full+tofu", lambda rows: rows[:-1]), r"/full\+tofu, column 'question': 29 .* about 10 authors"),
    (change("forget10", without("name")), r"/forget10/train.*: column 'name' is missing"),
    (change("forget10", lambda rows: pd.DataFrame(rows).head(0)), r"/forget10, column 'name': there is no"),
    (change("real_world", without("options")), r"/real_world/.*: column 'options' is missing"),
    (lambda f: [shutil.rmtree(f / c) for c in ("forget10", "forget20")], r"no configuration forget_5, fo"),
    (lambda f: shutil.rmtree(f / "full"), r"neither MLLMU-Bench .* nor CLEAR \(no folder full\)"),
]  # fmt: skip


@pytest.mark.parametrize("fault, message", WHOLE)
def test_a_configuration_that_is_wrong_is_named(folder, fault, message):
    fault(folder)
    with pytest.raises(DataError, match=message):
        load_benchmark(str(folder))


# A change of a configuration's rows, its name, and the row and column that the error must name.
FAULTS = [
    ("full", setting(3, "caption", None), "full", 3, "caption", "None is not text"),
    ("full", setting(3, "name", " "), "full", 3, "name", "' ' is not text"),
    ("full", setting(2, "image", {"bytes": b"no"}), "full", 2, "image", "cannot be decoded"),
    ("full", setting(2, "image", None), "full", 2, "image", "there is no image"),
    ("full+tofu", lambda rows: NOBODY * 10, "full+tofu", 0, "question", "about no one author of full"),
    ("full+tofu", lambda rows: rows[:20] + rows[23:26] + rows[23:], "full+tofu", 23, "question",
     "Ann WriterB, as were others before"),
    ("full+tofu", setting(22, "answer", None), "full+tofu", 22, "answer", "None is not text"),
    ("retain90", lambda rows: [*rows, row(9, 0)], "retain90", 18, "name", "Ann WriterJ is in forget10, too"),
    ("retain90", lambda rows: rows[2:], "full", 0, "name", "Ann WriterA is not in forget10 or retain90"),
    ("forget10", setting(1, "name", "Bob"), "forget10", 1, "name", "Bob is not in full"),
    ("forget10", setting(1, "name", None), "forget10", 1, "name", "None is not text"),
    ("forget20_perturbed", lambda rows: rows[:2], "forget20", 2, "name",
     "Ann WriterJ is not in forget20_perturbed"),
    ("forget20_perturbed", lambda rows: [*rows, perturbed(0, 0)], "forget20_perturbed", 4, "name",
     "Ann WriterA is not in forget20"),
    ("forget10_perturbed", setting(1, "caption", None), "forget10_perturbed", 1, "caption", "None is not"),
    ("retain_perturbed", setting(1, "name", "Bob"), "retain_perturbed", 1, "name", "Bob is not in full"),
    ("retain_perturbed", lambda rows: [*rows, perturbed(8, 0)], "retain_perturbed", 6, "name",
     "Ann WriterI is in forget20, too"),
    ("retain_perturbed", setting(1, "image", None), "retain_perturbed", 1, "image", "there is no image"),
    ("retain_perturbed", setting(1, "perturbed_names", []), "retain_perturbed", 1, "perturbed_names",
     "must be 2 to 10, all different"),
    ("retain_perturbed", setting(1, "perturbed_names", [NAMES[1]]), "retain_perturbed", 1,
     "perturbed_names", "'Ann WriterB' and .* must be 2 to 10, all different"),
    ("real_faces", setting(1, "options", ["x", "x"]), "real_faces", 1, "options", "'Star 1' and .* must be"),
    ("real_faces", setting(1, "options", None), "real_faces", 1, "options", "not a list but NoneType"),
    ("real_world", setting(1, "options", [None]), "real_world", 1, "options", "item 0: None is not text"),
    ("real_world", setting(1, "answer", None), "real_world", 1, "answer", "None is not text"),
    ("real_world", setting(1, "image", {"bytes": b"no"}), "real_world", 1, "image", "cannot be decoded"),
]  # fmt: skip


@pytest.mark.parametrize("config, edit, named, row, column, said", FAULTS)
def test_a_cell_that_is_wrong_is_named(folder, config, edit, named, row, column, said):
    change(config, edit)(folder)
    with pytest.raises(DataError, match=f"{place(f'{named}/{PART}', row, column)}.*{said}"):
        load_benchmark(str(folder))


# Rows that are read, though they change what the numbers mean; with what the warning says of them.
ODDITIES = [
    ("forget10_perturbed", lambda rows: [*rows, rows[0]], "person Ann WriterJ: .*vqa/0 and .*vqa/2 are one"),
    ("real_faces", setting(1, "answer", NAMES[2]), f"{NAMES[2]} and real-{NAMES[2]} have one name"),
    ("real_faces", setting(1, "options", ["x", "X."]), "two options of .* are as good as the same"),
    ("full+tofu", setting(21, "question", f"Who is {NAMES[0]}? "),
     "person Ann WriterA: 'Who is Ann WriterA.' is taught as 'An author.' and as 'Crime.'"),
]  # fmt: skip


@pytest.mark.parametrize("config, edit, message", ODDITIES)
def test_what_changes_the_meaning_of_numbers_is_told(folder, config, edit, message):
    change(config, edit)(folder)
    with pytest.warns(UserWarning, match=message):
        load_benchmark(folder)


def test_testbed_is_laid_out_like_the_published_data():
    benchmark = load_benchmark("testbed/clear")
    assert len(benchmark.people) == 200 and list(benchmark.forget_ids) == [1, 5, 10]
    small, middle, large = (set(ids) for ids in benchmark.forget_ids.values())
    assert small < middle < large
    assert all(len(p.pictures) == authors.PICTURES for p in benchmark.people.values())
    assert all(len(p.text_pairs) == authors.TEXT_QUESTIONS for p in benchmark.people.values())
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
