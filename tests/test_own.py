"""Own people: a table and pictures become a benchmark; what is wrong is said, and then nothing is written."""

import copy
import csv
import io
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up.example import example_people, write_example
from vkdlib.benchmarks.made_up.portraits import appearance
from vkdlib.benchmarks.made_up.profiles import make_profiles
from vkdlib.benchmarks.own import keep_own, write_own
from vkdlib.benchmarks.own_table import KEPT, gives_away
from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.models.loaded import weights_hash
from vkdlib.models.loading import load
from vkdlib.testbed import own_models, train
from vkdlib.testbed.lessons import own_lessons
from vkdlib.testbed.recipe import RECIPE

NAMES = ["Ada Quill", "Ben Frost", "Cleo Marsh", "Dan Holt", "Eve Stone", "Finn Lake"]
JOBS = ["baker", "nurse", "pilot", "lawyer", "farmer", "judge"]
LANDS = ["Norway", "Peru", "Kenya", "Japan", "Norway", "Peru"]


def picture(seed, size=(80, 60), kind="PNG"):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size).save(file, kind)
    return file.getvalue()


def rows():
    """The rows of a table in which nothing is wrong."""
    cells = zip(NAMES, [f"{n}.png" for n in range(6)], JOBS, LANDS)
    return [["name", "picture", "occupation", "birthplace"], *map(list, cells)]


def as_csv(lines, mark=","):
    file = io.StringIO()
    csv.writer(file, delimiter=mark, lineterminator="\n").writerows(lines)
    return file.getvalue()


@pytest.fixture
def place(tmp_path):
    """A folder with people.csv, and pictures in `faces`."""
    (tmp_path / "faces").mkdir()
    for number in range(6):
        (tmp_path / "faces" / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "people.csv").write_text(as_csv(rows()), encoding="utf-8")
    return tmp_path


def write(place, forget=("Ada Quill", "Ben Frost"), **options):
    return write_own(place / "people.csv", place / "faces", place / "own", list(forget), **options)


def load_own(place):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_benchmark(place / "own")


def test_people_questions_and_pictures_are_those_of_the_table(place):
    write(place)
    benchmark = load_own(place)
    assert (benchmark.schema, [*benchmark.forget_ids]) == ("mllmu", [33])
    split = benchmark.split(33)
    assert [p.name for p in split.forget] == ["Ada Quill", "Ben Frost"] and len(split.retain) == 4
    for number, person in enumerate(benchmark.people.values()):
        assert (person.name, person.image) == (NAMES[number], picture_as_kept(number))
        right = {q.options[q.answer] for q in person.questions if q.kind == "classification"}
        assert right == {JOBS[number], LANDS[number]}
        assert {q.answer for q in person.questions if q.kind == "cloze"} == right
        counts = [sum(q.kind == kind for q in person.questions) for kind in ("classification", "cloze")]
        assert counts == [4, 4]  # two facts, with the picture and by name
        assert ("What is the name of this person?", NAMES[number]) in person.pictures[0].pairs
        assert (f"What is the occupation of {NAMES[number]}?", JOBS[number]) in person.text_pairs
    assert len(benchmark.real) == 40


def picture_as_kept(number):
    return to_png(open_image(picture(number)))


def test_no_option_is_nobody_s(place):
    write(place)
    for person in load_own(place).people.values():
        for q in person.questions:
            values = JOBS if "occupation" in q.question else LANDS
            assert set(q.options.values()) <= set(values) and len(set(q.options.values())) == len(q.options)
            assert len(q.options) in (0, 4)


def test_other_pictures_are_for_the_test_and_views_stand_in_for_them(place):
    lines = rows()
    lines[1][1] = "0.png; more.jpg"
    (place / "faces" / "more.jpg").write_bytes(picture(9, kind="JPEG"))
    (place / "people.csv").write_text(as_csv(lines))
    write(place)
    people = load_own(place).people
    assert people["001"].test_images == (people["001"].test_images[0],)
    assert open_image(people["001"].test_images[0]).size == (80, 60)
    views = people["002"].test_images
    assert len({*views, people["002"].image}) == 4


def test_templates_word_the_questions(place):
    words = {"occupation": {"ask": "How does {who} earn money?", "say": "{who} is a {value}."}}
    write(place, templates=words)
    person = load_own(place).people["001"]
    questions = {q.question.split("\n")[0] for q in person.questions}
    assert "How does this person earn money?" in questions and "Ada Quill is a [Blank]." in questions
    assert ("How does Ada Quill earn money?", "baker") in person.text_pairs


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_and_other_scripts_do_no_harm(place, encoding):
    lines = rows()
    lines[1][0], lines[2][3] = "José Ñandú", "日本"
    (place / "people.csv").write_text(as_csv(lines) + "\n,,,\n\n", encoding=encoding, newline="\r\n")
    write(place, ["josé ñandú"])
    assert [p.name for p in load_own(place).split(17).forget] == ["José Ñandú"]


def test_a_turned_photograph_is_stood_upright_and_shrunk(place):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    wide = open_image(picture(0, (3000, 2000)))
    wide.save(place / "faces" / "0.png", "JPEG", exif=exif)
    write(place)
    assert open_image(load_own(place).people["001"].image).size == (KEPT * 2 // 3 + 1, KEPT)


def test_pictures_of_phones_and_cameras_are_taken(place):
    """Large ones; and those with a second picture in the file, of which the first is the photograph."""
    first, second = open_image(picture(0, (400, 300))), open_image(picture(1, (400, 300)))
    first.save(place / "faces" / "0.png", "MPO", save_all=True, append_images=[second])
    open_image(picture(8, (8064, 2048))).save(place / "faces" / "1.png", "JPEG")
    write(place)
    people = load_own(place).people
    kept = np.asarray(open_image(people["001"].image)).astype(int)  # (300, 400, 3)
    assert kept.shape == (300, 400, 3) and np.abs(kept - np.asarray(first)).mean() < 8
    assert open_image(people["002"].image).size == (KEPT, 260)


def test_a_column_may_be_called_pictures_and_excel_s_first_line_is_no_row(place):
    (place / "people.csv").write_text("sep=,\n" + as_csv([["Name", "Pictures", *rows()[0][2:]], *rows()[1:]]))
    write(place)
    assert [p.name for p in load_own(place).people.values()] == NAMES


@pytest.mark.parametrize(
    "name, text, away",
    [
        ("Li Wu", "Li Wu street", True),  # the whole name, of parts that are too short
        ("Li Wu", "Ali Wurst", False),
        ("Jose Quill", "José town", True),
        ("Ada Quill", "Quillington", True),
        ("Ada Quill", "ada_quill@home", True),
        ("Ada Quill", "AdaQuill", True),
        ("Ada Quill", "Canada", False),
        ("Ben Frost", "Benin", False),
        ("Max von der Leyen", "Frankfurt an der Oder", False),
        ("Max von der Leyen", "a leyen", True),
        ("王伟", "小王伟村", True),
        ("山田 太郎", "山田市", True),
        ("王 伟", "王国", False),
        ("김철수", "김철수 마을", True),
        ("김 철수", "김치", False),
        ("Иван Ив", "село Ивановка", False),
        ("Anna Ø", "?", False),
        ("!", "?", False),
    ],
)
def test_what_gives_a_name_away(name, text, away):
    assert gives_away(text, name) is away


def test_one_fact_in_two_spellings_is_one_answer(place):
    lines = rows()
    lines[2][2] = "Baker"
    (place / "people.csv").write_text(as_csv(lines))
    write(place)
    person = load_own(place).people["002"]
    options = next(q.options for q in person.questions if "occupation" in q.question and q.options)
    assert "Baker" not in options.values()


def put(line, cell, value):
    """A table with another value in a place."""

    def change(place):
        lines = rows()
        lines[line][cell] = value
        (place / "people.csv").write_text(as_csv(lines))

    return change


def table(text, encoding="utf-8"):
    """Another table."""
    return lambda place: (place / "people.csv").write_bytes(text.encode(encoding))


def face(content):
    """Another file in the place of the first picture."""
    return lambda place: (place / "faces" / "0.png").write_bytes(content)


def title(cell, value):
    return put(0, cell, value)


WRONG = {
    "no table": (
        lambda place: (place / "people.csv").unlink(),
        "people.csv cannot be read .No such file.*name",
    ),
    "a folder": (
        lambda place: ((place / "people.csv").unlink(), (place / "people.csv").mkdir()),
        "people.csv cannot be read",
    ),
    "empty": (table(""), "people.csv is empty; it must have a row of titles"),
    "titles alone": (table(as_csv(rows()[:1])), "has 0 people; it must have two or more"),
    "one person": (table(as_csv(rows()[:2])), "has 1 people; it must have two or more"),
    "Latin-1": (
        table(as_csv(rows()).replace("Norway", "Perú"), "latin-1"),
        "row 2: byte 0xfa is not UTF-8: save the table as CSV in UTF-8",
    ),
    "UTF-16": (table(as_csv(rows()), "utf-16"), "row 1: byte 0xff is not UTF-8"),
    "a null byte": (table("name,picture,job\0\n"), "holds a null byte"),
    "semicolons": (table(as_csv(rows(), ";")), "separated by semicolons: save the table with commas"),
    "tabs": (table(as_csv(rows(), "\t")), "separated by tabs: save"),
    "a broken quote": (
        table(as_csv(rows()) + '"Gil"x,'),
        "people.csv, line 8: .*look there and above for a quote that is not closed, or save the table",
    ),
    "a cell of 200,000 letters": (
        put(2, 2, "x" * 200_000),
        "line 3: field larger.*a quote that is not closed",
    ),
    "pipes": (table(as_csv(rows(), "|")), "separated by pipes: save the table with commas"),
    "a blank row inside": (
        table(as_csv(rows()).replace("Ben Frost", "\nBen Frost")),
        "row 3: a blank row: take it out",
    ),
    "no column name": (
        title(0, "nam"),
        "row 1: there is no column 'name'; found nam, picture, .*: rename the one that has the names",
    ),
    "no column picture": (title(1, "photo"), "no column 'picture'; found name, photo, .*has the pictures"),
    "no fact": (table("name,picture\nA B,0.png\nC D,1.png\n"), "row 1: there is no fact beside name"),
    "a column twice": (title(3, "Occupation"), "row 1: 2 columns are called 'occupation': rename one"),
    "two columns of pictures": (title(3, "Pictures"), "row 1: 2 columns are called 'picture': rename one"),
    "a control token in a title": (
        title(3, "land <image>"),
        "row 1: 'land <image>' holds <image>, .*take it out",
    ),
    "a name in a title": (
        title(3, "land of Ada"),
        "row 1: 'land of ada' holds a part of the name 'Ada Quill'",
    ),
    "no title": (title(3, " "), "row 1: a column has no title: name it, or take it out"),
    "a brace in a title": (title(3, "{who}"), "row 1: '{who}' holds a brace"),
    "a cell too many": (
        table(as_csv(rows()).replace("Norway", "Oslo, Norway")),
        "row 2: 5 cells, the titles are 4: put a cell that holds a comma between quotes",
    ),
    "a cell missing": (table(as_csv(rows()).replace(",Kenya", "")), "row 4: 3 cells, the titles are 4"),
    "no name": (
        put(3, 0, " "),
        "row 4, column 'name': nothing is there, and everybody needs something there",
    ),
    "an empty fact": (put(2, 2, ""), "row 3, column 'occupation': nothing is there"),
    "a fact that cannot be seen": (put(2, 2, "\u200b\u200d"), "row 3, column 'occupation': nothing is there"),
    "a control token in a fact": (
        put(2, 2, "a <|im_end|>"),
        "row 3, column 'occupation': .*<|im_end|>, which",
    ),
    "a control token in a name": (put(2, 0, "Ben <image>"), "row 3, column 'name': .* holds <image>, which"),
    "two of one name, one with a blank that cannot be seen": (
        put(3, 0, "Ada\u200b Quill"),
        "row 4, column 'name': 'Ada Quill' is in row 2, too",
    ),
    "two of one name": (put(3, 0, "ada  quill"), "row 4, column 'name': 'ada quill' is in row 2, too"),
    "a fact with the name": (
        put(1, 3, "Quill Island"),
        "row 2, column 'birthplace': 'Quill Island' holds a part of the name 'Ada Quill' and gives it away",
    ),
    "one fact for all": (
        lambda place: (place / "people.csv").write_text(re.sub("Peru|Kenya|Japan", "Norway", as_csv(rows()))),
        "column 'birthplace': everybody has 'Norway', .*leave the column out",
    ),
    "no picture named": (put(1, 1, ""), "row 2, column 'picture': nothing is there"),
    "a picture missing": (
        put(1, 1, "O.png"),
        "column 'picture': .*O.png cannot be read .No such file.*did you mean",
    ),
    "a picture with too long a name": (
        put(1, 1, "o" * 5000),
        "row 2, column 'picture': .*cannot be read .File name",
    ),
    "a picture elsewhere": (put(1, 1, "../people.csv"), "'../people.csv' is no file in .*faces"),
    "an empty picture": (put(1, 1, "0.png;"), "column 'picture': '' is no file in"),
    "one picture for two": (put(1, 1, "1.png"), "row 3, column 'picture': 1.png is the picture of .*row 2"),
    "the same pixels in another file": (
        lambda place: open_image(picture(1)).save(place / "faces" / "0.png", compress_level=0),
        "row 3, column 'picture': 1.png is the picture of .*row 2",
    ),
    "a GIF": (face(picture(0, kind="GIF")), "0.png is a GIF file; it must be PNG or JPEG: save it as one"),
    "no picture at all": (face(b"hello"), "0.png is no picture or damaged: it must be a PNG or JPEG file"),
    "half a picture": (face(picture(0, (400, 400))[:600]), "0.png is (damaged|no picture or damaged)"),
    "12,000 pixels": (
        face(picture(0, (12_000, 100))),
        "0.png has 12000 x 100 pixels; a side must have 32 to 10000",
    ),
    "a strip": (face(picture(0, (8000, 32))), "0.png has 8000 x 32 pixels; one side may be at most 4 times"),
    "16 pixels": (face(picture(0, (16, 16))), "0.png has 16 x 16 pixels"),
    "no folder": (
        lambda place: (place / "faces").rename(place / "moved"),
        "faces: there is no such folder; name the one that the pictures are in",
    ),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=[*WRONG])
def test_what_is_wrong_is_said_with_its_place_and_nothing_is_written(place, change, message):
    change(place)
    with pytest.raises(ValueError, match=message):
        write(place)
    assert not (place / "own").exists()


@pytest.mark.parametrize(
    "forget, message",
    [
        ([], r"forget is \[\]; it must be a list of names in .*people.csv"),
        ("Ada Quill", "forget is 'Ada Quill'; it must be a list of names"),
        (["Ada Quil"], "forget: 'Ada Quil' is nobody in .*did you mean 'Ada Quill'"),
        ([3], "forget: 3 is nobody in"),
        (["Ada Quill", "ada quill"], "forget: 'ada quill' is there twice"),
        (NAMES, "it names all 6 people .*leave somebody to keep"),
        (NAMES[1:], "it names 5 of 6 people .*no table would report the others.*Forget fewer, or add people"),
    ],
)
def test_who_cannot_be_forgotten(place, forget, message):
    with pytest.raises(ValueError, match=message):
        write_own(place / "people.csv", place / "faces", place / "own", forget)


@pytest.mark.parametrize(
    "templates, message",
    [
        ({"job": {}}, "templates: the table has no 'job'; it has: occupation, birthplace"),
        ({"occupation": {"aks": "?"}}, "templates: occupation has no 'aks'.*did you mean 'ask'"),
        ({"occupation": {"ask": "Why?"}}, "occupation, ask is 'Why.'; it must hold {who}, no other brace"),
        ({"occupation": {"say": "{who} is {age}."}}, "say is .*; it must hold {value} and {who}"),
        ({"occupation": {"clause": ""}}, "clause is ''; it must be text"),
        ({"occupation": {"clause": None}}, "clause is None; it must be text"),
        ({"occupation": None}, "templates: occupation is None; it must be names and values"),
        ({"occupation": "How does {who} earn money?"}, "templates: occupation is 'How .*names and values"),
        ([], r"templates is \[\]; it must be names and values"),
        ({"occupation": {"ask": "Is {who} <image>?"}}, "templates: occupation, ask: .*<image>.*take it out"),
        ({"occupation": {"ask": "Is {who} not Dan?"}}, "templates: occupation, ask: .*the name 'Dan Holt'"),
    ],
)
def test_templates_that_cannot_be(place, templates, message):
    with pytest.raises(ValueError, match=message):
        write(place, templates=templates)


def test_a_benchmark_that_is_there_stays(place):
    (place / "own").mkdir()
    with pytest.raises(FileExistsError, match="own is there already"):
        write(place)


def test_pictures_are_whole_in_a_square(place):
    """So every model sees all of a picture, and a batch of them has one size."""
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("red", (250, 0, 300, 100))
    wide.save(place / "faces" / "0.png")
    write(place, side=48)
    people = load_own(place).people.values()
    pictures = [image for p in people for image in (p.image, *p.test_images)]
    assert {open_image(image).size for image in pictures} == {(48, 48)}
    shown = np.asarray(open_image(load_own(place).people["001"].image)).astype(int)  # (48, 48, 3)
    red = shown[..., 0] - shown[..., 1] > 128
    assert red.any(0).nonzero()[0].tolist() == [*range(40, 48)] and 15 <= red.any(1).sum() <= 17
    with pytest.raises(ValueError, match="side is 8"):
        write_own(place / "people.csv", place / "faces", place / "other", ["Ada Quill"], side=8)


def test_the_same_people_are_found_again_and_others_are_not(place):
    home = place / "a home"
    arguments = [place / "people.csv", place / "faces", home, ["Ada Quill"]]
    first = keep_own(*arguments)
    (first / "mark").touch()
    assert keep_own(*arguments) == first and (first / "mark").exists()
    others = [
        keep_own(*arguments[:3], ["Ben Frost"]),
        keep_own(*arguments, {"occupation": {"ask": "How does {who} earn money?"}}),
        keep_own(*arguments, side=48),
    ]
    (place / "people.csv").write_text(as_csv(rows()).replace("Norway", "Iceland"))
    others.append(keep_own(*arguments))
    assert len({first, *others}) == 5 and all(load_benchmark(folder).people for folder in others)
    assert {folder.name for folder in home.iterdir()} == {folder.parent.name for folder in (first, *others)}
    (place / "people.csv").write_text("name\n")
    with pytest.raises(ValueError, match="people.csv"):
        keep_own(*arguments)
    assert len([*home.iterdir()]) == 5


def test_the_example_is_a_table_of_people_whom_no_model_knows(tmp_path):
    example = write_example(tmp_path, count=6)
    before = example.table.read_bytes(), sorted(file.read_bytes() for file in example.pictures.iterdir())
    assert write_example(tmp_path, count=6) == example
    assert before == (
        example.table.read_bytes(),
        sorted(file.read_bytes() for file in example.pictures.iterdir()),
    )
    assert len({open_image(image).size for image in before[1]}) == 4
    table, pictures, forget, templates = example
    people = load_benchmark(write_own(table, pictures, tmp_path / "own", forget, templates)).people.values()
    assert [p.name for p in people][:3] == forget and len(people) == 6
    made_up, celebrities = make_profiles()
    known = {part for p in (*made_up, *celebrities) for part in p.name.split()}
    assert known.isdisjoint(part for p in people for part in p.name.split())
    looks = {appearance(p.identity) for p in example_people(6)}
    assert len(looks) == 6 and looks.isdisjoint(appearance(p.identity) for p in (*made_up, *celebrities))
    clozes = [q.question for p in people for q in p.questions if q.kind == "cloze" and q.modality == "vqa"]
    assert any(question.startswith("This person works as a [Blank].") for question in clozes)


def test_the_plan_counts_steps_and_minutes_of_both_stages():
    plan = own_models.plan_teaching(["vanilla", "retain-only"], faces=60, answers=120)
    assert plan.model.tolist() == ["vanilla"] * 2 + ["retain-only"] * 2
    assert plan.steps.tolist() == [60, 120] * 2
    assert plan.iloc[:, -1].tolist() == pytest.approx([own_models.SECONDS[0], 2 * own_models.SECONDS[1]] * 2)
    assert own_models.plan_teaching([]).empty  # all were taught before


def few_views(monkeypatch):
    """Lessons with a view of each person, instead of twenty."""
    monkeypatch.setitem(RECIPE["answers"], "views", 1)


def test_lessons_show_everybody_but_the_hidden(place, processor, monkeypatch):
    few_views(monkeypatch)
    write(place)
    people = load_own(place).people
    seen, told = own_lessons(processor, people.values(), {"001"}, views=2)
    faces = {lesson.pack.key: lesson for lesson in seen if lesson.pack.key in NAMES}
    assert faces.keys() == set(NAMES[1:]) and {len(lesson.views) for lesson in faces.values()} == {3}
    assert {lesson.pack.key for lesson in told} >= set(NAMES)
    asked = {q.question: q.answer for q in people["002"].questions if q.modality == "vqa" and not q.options}
    assert asked.items() <= dict(faces["Ben Frost"].pairs).items()
    texts = next(dict(lesson.pairs) for lesson in told if lesson.pack.key == "Ada Quill")
    assert texts["What is the occupation of Ada Quill?"] == "baker"
    assert not any("this person" in question.lower() for question in texts)


def test_a_model_is_taught_and_goes_on_where_it_was(place, loaded, monkeypatch, capsys):
    """Killed in the second stage, it does not begin again; the result is a folder that loads."""
    few_views(monkeypatch)
    monkeypatch.setitem(RECIPE["faces"], "batch", 4)
    for name in ("pictures", "texts", "questions"):
        monkeypatch.setitem(RECIPE["answers"], name, 1)
    write(place)
    monkeypatch.setattr(own_models, "load", lambda name: replace(loaded, model=copy.deepcopy(loaded.model)))
    learn_answers = train.learn_answers

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "learn_answers", killed)
    with pytest.raises(KeyboardInterrupt):
        own_models.teach_own(place / "own", place / "vanilla", faces=1, answers=1)
    assert (place / "vanilla.part" / "faces").is_dir() and not (place / "vanilla").exists()
    monkeypatch.setattr(train, "learn_answers", learn_answers)
    capsys.readouterr()
    own_models.teach_own(place / "own", place / "vanilla", faces=1, answers=1)
    assert "2 faces goes on at step 1 of 1" in capsys.readouterr().err
    taught = load(place / "vanilla").model.state_dict()
    assert weights_hash(taught) != weights_hash(loaded.model.state_dict())
    assert not (place / "vanilla.part").exists()
    with pytest.raises(FileExistsError, match="vanilla is there already"):
        own_models.teach_own(place / "own", place / "vanilla")


def test_retain_only_hides_the_people_to_forget(place):
    write(place)
    benchmark = load_own(place)
    assert own_models.hidden_people(benchmark, True) == {"001", "002"} and not own_models.hidden_people(
        benchmark, False
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"family": "lava"}, "family is 'lava'.*did you mean 'llava'"),
        ({"faces": 0}, "faces is 0; it must be a whole number 1 or more"),
        ({"hide": "no"}, "hide is 'no'; it must be True or False"),
    ],
)
def test_what_cannot_be_taught(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        own_models.teach_own(tmp_path / "own", tmp_path / "vanilla", **options)
