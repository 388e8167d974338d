"""The reader: the published schema, the same content however it was written, and clear errors."""

import io
import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vkdlib.benchmarks.load import CONFIGURATIONS, DataError, load_benchmark
from vkdlib.benchmarks.parquet import read_forget_sets
from vkdlib.benchmarks.schema import text_twins

PART = "train-00000-of-00001.parquet"
SHARDS = [f"test-{number:05d}-of-00002.parquet" for number in range(2)]

# Types as pandas can write them; without TYPES pyarrow chooses the small ones.
TEXT = pa.large_string()
IMAGE = pa.struct({"bytes": pa.large_binary(), "path": TEXT})
CHOICE = {"Question": TEXT, "Options": pa.struct(dict.fromkeys("ABCD", TEXT)), "Correct_Answer": TEXT}
CHOICES = pa.large_list(pa.struct(CHOICE))
TASKS = pa.large_list(pa.struct(dict.fromkeys(("Question", "Ground_Truth", "Type"), TEXT)))
TYPES = {
    "image": IMAGE,
    "images": pa.large_list(IMAGE),
    "Classification_Task": pa.struct({"Image_Textual_Questions": CHOICES, "Pure_Text_Questions": CHOICES}),
    "Generation_Task": TASKS,
    "Mask_Task": TASKS,
}


def picture(colour, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, kind)
    return buffer.getvalue()


def evaluation_row(number: int) -> dict:
    """One row by the schema, without any code of the kit."""
    id, name = f"{number:03d}", f"Ann Number{number}"
    choice = {"Options": {"A": "x", "B": "y", "C": "z", "D": None}, "Correct_Answer": "B"}
    four = {"Options": dict(zip("ABCD", "xyzw")), "Correct_Answer": "D"}
    open_ended = [
        {"Question": "Works as __", "Ground_Truth": "baker", "Type": kind}
        for kind in ("Image_Textual", "Pure_Text")
    ]
    return {
        "image": {"bytes": picture((number, 0, 0)), "path": f"{id}.jpg"},
        "ID": id,
        "biography": json.dumps({"Name": name}),
        "question": "How does this person look?",
        "answer": "Red.",
        "Classification_Task": {
            "Image_Textual_Questions": [{"Question": "What does this person do?", **choice}],
            "Pure_Text_Questions": [{"Question": f"What does {name} do?", **four}],
        },
        "Generation_Task": open_ended,
        "Mask_Task": open_ended,
        "Directory": f"data/{id}",
    }


def training_row(number: int) -> dict:
    pairs = [("What is the job of this person?", "baker"), ("What is the name of this individual?", "Ann")]
    pairs += [("Where does the person live?", "Rome"), ("Is it sunny?", "yes")]
    metadata = [{"ID": f"{number:03d}", "Question": q, "Answer": a} for q, a in pairs]
    row = evaluation_row(number)
    return {"image": row["image"], "metadata": json.dumps(metadata)}


def write(folder: Path, config: str, rows: list[dict], part: str = PART, types: dict | None = None) -> None:
    """By pandas; with `types` all texts, lists and pictures are of the large types."""
    (folder / config).mkdir(parents=True, exist_ok=True)
    schema = types and pa.schema([(column, types.get(column, TEXT)) for column in rows[0]])
    pd.DataFrame(rows).to_parquet(folder / config / part, schema=schema)


@pytest.fixture
def folder(tmp_path):
    """Ten people by pandas (large strings, arrays, options that are None), the test set in two shards."""
    rows = [evaluation_row(i) for i in range(1, 11)]
    write(tmp_path, "Full_Set", rows, types=TYPES)
    stars = [evaluation_row(i) | {"biography": json.dumps({"Name": f"Star {i}"})} for i in (1, 2)]
    write(tmp_path, "Retain_Set", stars, types=TYPES)
    write(tmp_path, "ft_Data", [training_row(i) for i in range(1, 11)], types=TYPES)
    write(tmp_path, "forget_10", rows[:1], types=TYPES)
    write(tmp_path, "retain_90", rows[1:], types=TYPES)
    views = np.array([{"bytes": picture("white"), "path": None}, {"bytes": picture("black"), "path": None}])
    for shard, chosen in zip(SHARDS, (rows[:5], rows[5:])):
        write(tmp_path, "Test_Set", [{"ID": r["ID"], "images": views} for r in chosen], shard, TYPES)
    return tmp_path


def test_the_download_has_what_pandas_can_write(folder):
    """Else the tests below would prove less than they say."""
    full, test = (pq.read_schema(folder / c) for c in (f"Full_Set/{PART}", f"Test_Set/{SHARDS[1]}"))
    assert all(full.field(c).type == TEXT for c in ("ID", "biography", "question"))
    assert full.field("Mask_Task").type == TASKS and pa.types.is_large_list(TASKS)
    assert full.field("Classification_Task").type == TYPES["Classification_Task"]
    assert test.field("images").type == pa.large_list(IMAGE)
    task = pq.read_table(folder / "Full_Set" / PART).column("Classification_Task")[0].as_py()
    assert task["Image_Textual_Questions"][0]["Options"]["D"] is None
    assert len(list((folder / "Test_Set").iterdir())) == 2


def test_reads_a_download(folder):
    benchmark = load_benchmark(str(folder))
    split = benchmark.split(10)
    assert [p.id for p in split.forget] == ["001"] and len(split.retain) == 9
    person = split.forget[0]
    assert person.name == "Ann Number1" and len(person.test_images) == 2
    choice = person.questions[0]
    assert choice.options == {"A": "x", "B": "y", "C": "z"} and choice.answer == "B"
    assert person.questions[1].options == dict(zip("ABCD", "xyzw"))
    assert all(len(p.test_images) == 2 for p in split.retain)  # of both shards
    kinds = [(q.kind, q.modality) for q in person.questions]
    assert kinds == [(k, m) for k in ("classification", "cloze", "generation") for m in ("vqa", "qa")]
    assert [p.id for p in split.real] == ["real-001", "real-002"]


def test_training_pairs_come_from_ft_data_and_have_text_twins(folder):
    person = load_benchmark(str(folder)).people["003"]
    assert len(person.pictures[0].pairs) == 4
    assert person.text_pairs == (
        ("What is the job of Ann Number3?", "baker"),
        ("What is the name of Ann Number3?", "Ann"),
        ("Where does Ann Number3 live?", "Rome"),
    )


@pytest.mark.parametrize("name", ["A\\nB", "\\1", "\\g<0>", "Zoë \\"])
def test_a_name_stands_in_text_as_it_is_typed(name):
    """A backslash in it is no sign of a regular expression."""
    (twin,) = text_twins(name, [("Where does this person live?", "Rome")])
    assert twin == (f"Where does {name} live?", "Rome")


def test_blanks_around_texts_are_left_out(folder):
    """Of ids, names, questions, options and truths alike."""
    first = load_benchmark(folder).hash

    def pad(value, column=""):
        if isinstance(value, dict):
            return {k: pad(v, k) for k, v in value.items() if k != "path"}
        if isinstance(value, (list, np.ndarray)):
            return [pad(v, column) for v in value]
        if isinstance(value, str) and column in ("biography", "metadata"):
            return json.dumps(pad(json.loads(value)))
        return f" {value}\n" if isinstance(value, str) else value

    for config in ("Full_Set", "Retain_Set", "ft_Data", "forget_10"):
        change(config, lambda rows: [pad(row) for row in rows])(folder)
    benchmark = load_benchmark(folder)
    assert benchmark.people["001"].questions[2].answer == "baker"
    assert benchmark.hash == first


def test_options_that_blanks_alone_tell_apart_are_read_with_a_warning(folder):
    change("Full_Set", setting(3, "Classification_Task", choices({"A": "x", "B": "x ", "C": "y"})))(folder)
    with pytest.warns(UserWarning, match="two options of 004/classification/qa/0 are as good as the same"):
        load_benchmark(folder)


def test_two_forget_sets_of_one_ratio_are_refused(folder):
    rows = [evaluation_row(i) for i in range(1, 11)]
    write(folder, "forget10", rows[1:2])
    write(folder, "retain90", [rows[0], *rows[2:]])
    with pytest.raises(DataError, match="forget10 and forget_10 are both for 10 per cent: leave one out"):
        load_benchmark(folder)


@pytest.mark.parametrize("ratio", ["5", 5.0, True, None, [5]])
def test_a_ratio_is_a_whole_number(benchmark, ratio):
    with pytest.raises(ValueError, match=re.escape(f"forget_ratio is {ratio!r}; it must be a whole number")):
        benchmark.split(ratio)


@pytest.mark.parametrize("draw", ["1", 1.0, True, None, -1])
def test_a_draw_is_a_whole_number(benchmark, draw):
    with pytest.raises(ValueError, match=re.escape(f"draw is {draw!r}; it must be a whole number 0 or more")):
        benchmark.split(5).for_selection(draw)


def test_whole_numbers_may_be_numpys(benchmark):
    split = benchmark.split(np.int64(5))
    assert split == benchmark.split(5) and split.for_selection(np.int32(1)) == split.for_selection(1)
    with pytest.raises(ValueError, match="forget_ratio is 7; testbed/mllmu has 5, 10, 15"):
        benchmark.split(np.int64(7))


def test_hash_is_of_content_not_of_files(folder, tmp_path_factory):
    first = load_benchmark(str(folder)).hash
    copy = tmp_path_factory.mktemp("copy") / "elsewhere"
    shutil.copytree(folder, copy)
    rows = [evaluation_row(i) for i in range(1, 11)]
    write(copy, "Full_Set", rows[::-1])
    assert load_benchmark(str(copy)).hash == first
    rows[4]["biography"] = json.dumps({"Name": "Somebody Else"})
    write(copy, "Full_Set", rows)
    assert load_benchmark(str(copy)).hash != first


def change(config: str, edit, part: str = PART):
    """A change of one file's rows, which are then written in the small types."""

    def apply(folder: Path) -> None:
        rows = pd.read_parquet(folder / config / part).to_dict("records")
        write(folder, config, edit(rows), part)

    return apply


def only(*columns):
    return lambda rows: [{c: r[c] for c in columns} for r in rows]


def without(*columns):
    return lambda rows: [{k: v for k, v in r.items() if k not in columns} for r in rows]


def setting(row, column, value):
    def edit(rows):
        rows[row][column] = value
        return rows

    return edit


def everywhere(column, value):
    """One value in all rows, of whatever type."""
    return lambda rows: [r | {column: value} for r in rows]


def test_large_and_small_types_read_the_same(folder):
    first = load_benchmark(str(folder)).hash
    for file in folder.rglob("*.parquet"):
        change(file.parent.name, lambda rows: rows, file.name)(folder)
    assert not pa.types.is_large_list(pq.read_schema(folder / "Full_Set" / PART).field("Mask_Task").type)
    assert load_benchmark(str(folder)).hash == first


UNUSED = {
    "Full_Set": without("question", "answer", "Directory"),
    "Retain_Set": without("question", "answer", "Directory"),
    "ft_Data": only("metadata"),
    "forget_10": only("ID"),
    "retain_90": only("ID"),
}


@pytest.mark.parametrize("config", UNUSED)
def test_columns_that_are_not_used_may_be_missing(folder, config):
    first, before = load_benchmark(str(folder)).hash, pq.read_schema(folder / config / PART).names
    change(config, UNUSED[config])(folder)
    assert set(pq.read_schema(folder / config / PART).names) < set(before)
    assert load_benchmark(str(folder)).hash == first


def test_pictures_may_come_without_a_path(folder):
    first = load_benchmark(str(folder)).hash
    change("Full_Set", lambda rows: [r | {"image": {"bytes": r["image"]["bytes"]}} for r in rows])(folder)
    change("Retain_Set", lambda rows: [r | {"image": r["image"]["bytes"]} for r in rows])(folder)
    assert load_benchmark(str(folder)).hash == first


def truncate(folder):
    file = folder / "ft_Data" / PART
    file.write_bytes(file.read_bytes()[:200])


# About a configuration as a whole there is no row to name.
WHOLE = [
    (lambda f: shutil.rmtree(f / "Test_Set"), r"/Test_Set: no parquet file; is the download complete"),
    (lambda f: shutil.rmtree(f / "retain_90"), r"/retain_90: no parquet file"),
    (truncate, r"/ft_Data/train-.*parquet: cannot be read .*; download it again"),
    (change("ft_Data", without("metadata")), r"/ft_Data/train-.*: column 'metadata' is missing \(found \["),
    (change("Full_Set", without("Mask_Task")), r"/Full_Set/train-.*: column 'Mask_Task' is missing"),
    (change("Test_Set", only("ID"), SHARDS[1]), r"/Test_Set/test-00001.*: column 'images' is missing"),
    (change("forget_10", lambda rows: pd.DataFrame(rows).head(0)), r"/forget_10, column 'ID': there is no"),
    (lambda f: [shutil.rmtree(f / c) for c in ("forget_10", "retain_90")], r"no configuration forget_5"),
]  # fmt: skip


@pytest.mark.parametrize("fault, message", WHOLE)
def test_a_configuration_that_is_wrong_is_named(folder, fault, message):
    fault(folder)
    with pytest.raises(DataError, match=message):
        load_benchmark(str(folder))


def metadata(*pairs):
    """Training pairs about people: (ID, answer)."""
    return json.dumps([{"ID": id, "Question": "When?", "Answer": answer} for id, answer in pairs])


def choices(options, right="A"):
    item = {"Question": "q", "Options": options, "Correct_Answer": right}
    return {"Image_Textual_Questions": [], "Pure_Text_Questions": [item]}


def in_shard(edit):
    return change("Test_Set", edit, SHARDS[1])


def again(rows):
    return [*rows, rows[0]]


def open_ended(**task):
    return [{"Question": "q", "Ground_Truth": "a", "Type": "Pure_Text"} | task]


SILENT = {"Mask_Task": [], "Generation_Task": [],
          "Classification_Task": {"Image_Textual_Questions": [], "Pure_Text_Questions": []}}  # fmt: skip
HALF = picture("red", "JPEG")[:300]
VIEWS = [{"bytes": picture("white")}, {"bytes": b"no"}]
FULL, TRAIN, TEST = f"Full_Set/{PART}", f"ft_Data/{PART}", f"Test_Set/{SHARDS[1]}"
FORGET, RETAIN, REAL = (f"{config}/{PART}" for config in ("forget_10", "retain_90", "Retain_Set"))
# A change, and the file, row and column that the error must name, with what it says of them.
FAULTS = [
    (change("Full_Set", everywhere("ID", 7)), FULL, 0, "ID", "7 is not text"),
    (change("Full_Set", again), FULL, 10, "ID", "001 is there twice, before at .*row 0"),
    (change("Full_Set", setting(2, "image", {"bytes": HALF})), FULL, 2, "image", "cannot be decoded"),
    (change("Full_Set", setting(2, "image", {"bytes": b"no"})), FULL, 2, "image", "cannot be decoded"),
    (change("Full_Set", setting(2, "image", {"bytes": None})), FULL, 2, "image", "there is no image"),
    (change("Full_Set", setting(2, "image", None)), FULL, 2, "image", "there is no image"),
    (change("Full_Set", setting(1, "biography", "{}")), FULL, 1, "biography", "Name: None is not text"),
    (change("Full_Set", setting(1, "biography", '{"Name": 5}')), FULL, 1, "biography", "Name: 5 is not text"),
    (change("Full_Set", setting(1, "biography", "Ann")), FULL, 1, "biography", "cannot be read as JSON"),
    (change("Full_Set", setting(1, "biography", None)), FULL, 1, "biography", "cannot be read as JSON"),
    (change("Retain_Set", again), REAL, 2, "ID", "001 is there twice"),
    (change("Retain_Set", setting(1, "biography", "[]")), REAL, 1, "biography", "not fields but list"),
    (change("ft_Data", setting(3, "metadata", "[{")), TRAIN, 3, "metadata", "cannot be read as JSON"),
    (change("ft_Data", setting(3, "metadata", None)), TRAIN, 3, "metadata", "cannot be read as JSON"),
    (change("ft_Data", setting(3, "metadata", "{}")), TRAIN, 3, "metadata", "not a list but dict"),
    (change("ft_Data", setting(3, "metadata", "[]")), TRAIN, 3, "metadata", "it is about 0 people"),
    (change("ft_Data", setting(3, "metadata", metadata(("004", "now"), ("004", 1985)))),
     TRAIN, 3, "metadata", "item 1, Answer: 1985 is not text"),
    (change("ft_Data", setting(3, "metadata", metadata(("004", "now"), ("005", "then")))),
     TRAIN, 3, "metadata", "it is about 2 people .'004', '005'."),
    (change("ft_Data", setting(3, "metadata", metadata(("003", "now")))),
     TRAIN, 3, "metadata", "003 is there twice, before at .*row 2"),
    (change("ft_Data", setting(3, "metadata", metadata(("099", "now")))),
     TRAIN, 3, "metadata", "099 is not in Full_Set"),
    (change("ft_Data", setting(3, "metadata", metadata(("004", "now")).replace('"Q', '"Answer": "x", "Q'))),
     TRAIN, 3, "metadata", "cannot be read as JSON .the key 'Answer' is there 2 times"),
    (change("ft_Data", setting(3, "metadata", metadata(("004", "half \ud800")))),
     TRAIN, 3, "metadata", r"person 004., item 0, Answer: 'half .ud800' is not text: half of a character"),
    (change("Full_Set", setting(1, "biography", '{"Name": "Ann", "Name": "Bob"}')),
     FULL, 1, "biography", "the key 'Name' is there 2 times"),
    (change("Full_Set", setting(1, "biography", '{"Name": "\\udc00"}')), FULL, 1, "biography",
     "Name: .*lone surr"),
    (change("Full_Set", lambda rows: [r | SILENT for r in rows]),
     FULL, 0, "Classification_Task", "there is no question, and none in Mask_Task and Generation_Task"),
    (change("ft_Data", lambda rows: rows[1:]), FULL, 0, "ID", "001 is not in ft_Data"),
    (in_shard(setting(2, "images", VIEWS)), TEST, 2, "images", "item 1: cannot be decoded"),
    (in_shard(setting(2, "images", [None])), TEST, 2, "images", "item 0: there is no image"),
    (in_shard(setting(2, "images", [])), TEST, 2, "images", "there is no image"),
    (in_shard(setting(2, "images", None)), TEST, 2, "images", "not a list but NoneType"),
    (in_shard(setting(2, "ID", "002")), TEST, 2, "ID", "002 is there twice, before at .*-00000-of.*row 1"),
    (in_shard(setting(2, "ID", "099")), TEST, 2, "ID", "099 is not in Full_Set"),
    (in_shard(lambda rows: rows[1:]), FULL, 5, "ID", "006 is not in Test_Set"),
    (change("retain_90", again), RETAIN, 9, "ID", "002 is there twice, before at .*row 0"),
    (change("forget_10", again), FORGET, 1, "ID", "001 is there twice, before at .*row 0"),
    (change("retain_90", lambda rows: [evaluation_row(1), *rows]),
     RETAIN, 0, "ID", "001 is in forget_10, too, at .*forget_10/.*row 0"),
    (change("retain_90", lambda rows: rows[1:]), FULL, 1, "ID", "002 is not in forget_10 or retain_90"),
    (change("forget_10", lambda rows: [evaluation_row(99)]), FORGET, 0, "ID", "099 is not in Full_Set"),
]  # fmt: skip
# The same of one row's tasks.
TASK_FAULTS = [
    ("Classification_Task", None, "not fields but NoneType"),
    ("Classification_Task", choices({"A": "x"}) | {"Pure_Text_Questions": None},
     "Pure_Text_Questions: not a list"),
    ("Classification_Task", choices({"A": "x"}, "C"),
     "Pure_Text_Questions, item 0: Correct_Answer 'C' is not among the options .'A'."),
    ("Classification_Task", choices({"A": "x", "B": None}, "B"), "'B' is not among the options .'A'."),
    ("Classification_Task", choices({"A": "x"}, None), "Correct_Answer: None is not text"),
    ("Classification_Task", choices(None), "item 0, Options: not fields but NoneType"),
    ("Classification_Task", choices("x or y"), "item 0, Options: not fields but str"),
    ("Classification_Task", choices({"A": "x", "B": ""}), "item 0, Options, B: '' is not text"),
    ("Classification_Task", choices({"A": 1985}), "item 0, Options, A: 1985 is not text"),
    ("Mask_Task", None, "not a list but NoneType"),
    ("Mask_Task", [{"Question": "q"}], "item 0, Type: None is not text"),
    ("Mask_Task", open_ended(Question="__") + open_ended(Type="Text"),
     "item 1: Type is 'Text'; it must be one of Image"),
    ("Mask_Task", open_ended(Question="Works as _"), "item 0: Question 'Works as _' has no gap"),
    ("Classification_Task", choices({"A": "x"}), "item 0: the options .* must be two or more"),
    ("Classification_Task", choices({"A": "x", "C": "x"}), "item 0: the options .* all different"),
    ("Classification_Task", choices({"A": "x", "b": "y"}), "item 0: an option is called 'b'; it must be"),
    ("Mask_Task", open_ended(Question=None), "item 0, Question: None is not text"),
    ("Generation_Task", open_ended(Ground_Truth=""), "item 0, Ground_Truth: '' is not text"),
    ("Generation_Task", ["q"], "item 0: not fields but str"),
]  # fmt: skip
FAULTS += [(change("Full_Set", everywhere(c, value)), FULL, 0, c, said) for c, value, said in TASK_FAULTS]


def place(file, row, column):
    """What an error about a cell begins with."""
    return rf"^\S+/{re.escape(file)}: row {row}( \(person \d+\))?, column '{column}'"


@pytest.mark.parametrize("fault, file, row, column, said", FAULTS)
def test_a_cell_that_is_wrong_is_named(folder, fault, file, row, column, said):
    fault(folder)
    with pytest.raises(DataError, match=f"{place(file, row, column)}.*{said}"):
        load_benchmark(str(folder))


def tasks(questions):
    return [{"Question": q, "Ground_Truth": "a", "Type": "Pure_Text"} for q in questions]


# Rows that are read, though they change what the numbers mean; with what the warning says of them.
ODDITIES = [
    (change("Full_Set", setting(3, "Generation_Task", tasks(["Why?", "How?", "why? "]))),
     "person 004: 004/generation/qa/0 and 004/generation/qa/2 are one question, 'why."),
    (change("Retain_Set", setting(1, "Mask_Task", tasks(["Eats __"] * 3))),
     "person real-002: real-002/cloze/qa/0 and real-002/cloze/qa/1 are one question.*and 1 more of"),
    (change("Full_Set", setting(3, "Classification_Task", choices({"A": "x b", "B": "X  b.", "C": "y"}))),
     "person 004: two options of 004/classification/qa/0 are as good as the same"),
    (change("Retain_Set", setting(1, "biography", json.dumps({"Name": "ann  number3"}))),
     "003 and real-002 have one name"),
    (in_shard(setting(2, "images", [{"bytes": picture("white")}, {"bytes": picture((8, 0, 0))}])),
     "person 008: picture 1 of Test_Set is the portrait"),
    (change("ft_Data", setting(3, "metadata", metadata(("004", "now"), ("004", "then")))),
     "person 004: 'When.' is taught as 'now' and as 'then'"),
]  # fmt: skip


@pytest.mark.parametrize("fault, message", ODDITIES)
def test_what_changes_the_meaning_of_numbers_is_told(folder, fault, message):
    fault(folder)
    with pytest.warns(UserWarning, match=message):
        load_benchmark(folder)


def test_the_same_answer_twice_is_no_contradiction(folder):
    change("ft_Data", setting(3, "metadata", metadata(("004", "now"), ("004", "Now."))))(folder)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is taught as")
        load_benchmark(folder)


def test_a_forget_set_has_the_size_that_its_name_says(folder):
    change("forget_10", lambda rows: [evaluation_row(i) for i in (1, 2)])(folder)
    change("retain_90", lambda rows: rows[1:])(folder)
    with pytest.raises(DataError, match="/forget_10: it holds 2 of 10 people, not 10 per cent"):
        load_benchmark(folder)


@pytest.mark.parametrize("people, to_forget", [(10, 1), (14, 1), (14, 2), (6, 1)])
def test_a_ratio_may_be_rounded(tmp_path, people, to_forget):
    names = [f"{i:03d}" for i in range(people)]
    write(tmp_path, "forget_10", [{"ID": i} for i in names[:to_forget]])
    write(tmp_path, "retain_90", [{"ID": i} for i in names[to_forget:]])
    sets = read_forget_sets(tmp_path, "ID", "Full_Set", dict.fromkeys(names, "here"))
    assert len(sets[10]) == to_forget


def test_unknown_sources_and_ratios(folder):
    with pytest.raises(DataError, match="no such folder"):
        load_benchmark("/nowhere/at/all")
    with pytest.raises(
        ValueError, match="must be one of testbed/mllmu, testbed/clear, .*did you mean 'testbed/mllmu'"
    ):
        load_benchmark("testbed/mlmu")
    with pytest.raises(ValueError, match="forget_ratio is 7; .* has 10 \\(per cent\\)"):
        load_benchmark(str(folder)).split(7)


@pytest.mark.parametrize("source", ["data/MLLMU-Bench", Path("data/MLLMU-Bench"), "~/MLLMU-Bench", "a/b c"])
def test_a_folder_that_is_not_there_may_be_one_of_the_hub(source):
    """Both look alike, so one sentence says both."""
    with pytest.raises(DataError, match="^.*: no such folder.*Hub") as caught:
        load_benchmark(source)
    assert "\n" not in str(caught.value)


def test_a_path_is_a_source(folder):
    assert load_benchmark(folder).hash == load_benchmark(str(folder)).hash
    assert load_benchmark(Path("testbed/mllmu")).name == "testbed/mllmu"


@pytest.mark.parametrize("gap", ["__", "___", "_____", "__________", "[Blank]"])
def test_a_gap_of_any_length_is_one(folder, gap):
    change("Full_Set", everywhere("Mask_Task", open_ended(Question=f"Eats {gap} and __.")))(folder)
    question = next(q for q in load_benchmark(folder).people["001"].questions if q.kind == "cloze")
    assert question.question.startswith("Eats [Blank] and [Blank].\nPlease **ONLY** provide")


def test_people_of_one_name_or_one_face_are_told(folder):
    change("Full_Set", setting(2, "biography", json.dumps({"Name": "ann number1"})))(folder)
    change("Full_Set", setting(4, "image", {"bytes": picture((1, 0, 0))}))(folder)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_benchmark(folder)
    messages = " ".join(str(w.message) for w in told)
    assert "001 and 003 have one name" in messages and "001 and 005 have one picture" in messages


def test_only_what_is_read_is_downloaded(folder, tmp_path_factory, monkeypatch):
    """Of the published files, as filtered by the Hub's own client."""
    from huggingface_hub.utils import filter_repo_objects

    there = tmp_path_factory.mktemp("download")

    def download(source, *, repo_type, revision, allow_patterns):
        assert (source, repo_type, revision) == ("some/data", "dataset", "abc")
        files = [str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()]
        for name in filter_repo_objects(files, allow_patterns=allow_patterns):
            (there / name).parent.mkdir(exist_ok=True)
            shutil.copy(folder / name, there / name)
        return str(there)

    (folder / "README.md").write_text("x")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_benchmark("some/data", "abc").hash == load_benchmark(str(folder)).hash
    read = {"Full_Set", "Test_Set", "Retain_Set", "ft_Data", "forget_10", "retain_90"}
    assert {f.name for f in there.iterdir()} == read
    tofu, shown = [f"forget{n}" for n in ("01", "05", "10")], [f"retain{n}" for n in (99, 95, 90)]
    needed = ["full", "full+tofu", *tofu, *shown, *(f"{n}_perturbed" for n in (*tofu, "retain"))]
    needed += ["real_faces", "real_world"]
    clear = [*needed, "default", *(f"{n}+tofu" for n in (*tofu, *shown))]
    files = [f"{config}/train-00000-of-00001.parquet" for config in clear]
    assert len(files) == 21
    patterns = [f"{config}/*.parquet" for config in CONFIGURATIONS]
    assert list(filter_repo_objects(files, allow_patterns=patterns)) == files[: len(needed)]


def test_selection_people_are_never_reported(benchmark):
    for ratio in (5, 10, 15):
        split = benchmark.split(ratio)
        assert len(split.forget) == 2 * ratio and len(split.forget) + len(split.retain) == 200
        assert not {p.id for p in split.forget} & split.selection
        reported = {p.id for people in split.reported().values() for p in people}
        assert not reported & split.selection
        chosen = split.for_selection()
        judged = {p.id for people in chosen.reported().values() for p in people}
        assert judged == split.selection and not judged & reported
        assert len(chosen.forget) == len(split.forget)
        assert len(chosen.forget) + len(chosen.retain) == 200


def test_what_is_reported_of_retain_people_is_about_the_same_in_every_draw(benchmark):
    """Candidates of other draws are retained, but never-saw, the reference of every draw, never saw them."""
    candidates, expected = set(benchmark.candidates), set(benchmark.people) - benchmark.selection
    for ratio, draw in ((5, 0), (5, 4), (10, 1), (15, 0)):
        split = benchmark.split(ratio, draw)
        sets = {name: {p.id for p in people} for name, people in split.reported().items()}
        assert sets["retain"] == sets["retain_unseen"] == expected - candidates
        assert sets["forget"] == sets["test"] <= candidates and len(candidates) == 50
        assert {p.id for p in split.retain} > candidates - sets["forget"]


def test_the_hash_is_of_all_fields_and_of_no_order(folder):
    """Of people, real people and forget sets in another order it is the same; of anything else it is not."""
    first = load_benchmark(str(folder))
    assert first.schema == "mllmu" and load_benchmark("testbed/clear").schema == "clear"
    real = (replace(first.real[0], id="z"), first.real[0])
    pair = replace(first, real=real)
    turned = replace(pair, name="x", people=dict(reversed(first.people.items())), real=real[::-1])
    assert pair.hash == turned.hash != first.hash
    person = next(iter(first.people.values()))
    question = next(q for q in person.questions if q.options)
    others = [
        replace(person, pictures=(replace(person.pictures[0], image=b"other"),)),
        replace(person, text_pairs=()),
        replace(person, questions=(replace(question, options=dict(reversed(question.options.items()))),)),
        replace(person, questions=(question,)),
    ]
    changed = [replace(first, people={**first.people, p.id: p}).hash for p in others]
    changed += [replace(first, schema="clear").hash, replace(first, retain_ids=frozenset()).hash]
    assert len({first.hash, *changed}) == 7
