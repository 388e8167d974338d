"""The reader: the published schema, the same content however it was written, and clear errors."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vkdlib.data import READ, DataError, load_benchmark

PART = "train-00000-of-00001.parquet"


def picture(colour, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, kind)
    return buffer.getvalue()


def evaluation_row(number: int) -> dict:
    """One row by the schema, without any code of the kit."""
    id, name = f"{number:03d}", f"Ann Number{number}"
    choice = {"Options": {"A": "x", "B": "y", "C": "z", "D": None}, "Correct_Answer": "B"}
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
            "Pure_Text_Questions": [{"Question": f"What does {name} do?", **choice}],
        },
        "Generation_Task": open_ended,
        "Mask_Task": open_ended,
    }


def training_row(number: int) -> dict:
    pairs = [("What is the job of this person?", "baker"), ("What is the name of this individual?", "Ann")]
    pairs += [("Where does the person live?", "Rome"), ("Is it sunny?", "yes")]
    metadata = [{"ID": f"{number:03d}", "Question": q, "Answer": a} for q, a in pairs]
    row = evaluation_row(number)
    return {"image": row["image"], "metadata": json.dumps(metadata)}


def write(folder: Path, config: str, rows: list[dict], part: str = PART) -> None:
    (folder / config).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / config / part)


@pytest.fixture
def folder(tmp_path):
    """Ten people by pandas (large strings, arrays), the test set in two shards."""
    rows = [evaluation_row(i) for i in range(1, 11)]
    write(tmp_path, "Full_Set", rows)
    write(tmp_path, "Retain_Set", [evaluation_row(i) for i in (1, 2)])
    write(tmp_path, "ft_Data", [training_row(i) for i in range(1, 11)])
    write(tmp_path, "forget_10", rows[:1])
    write(tmp_path, "retain_90", rows[1:])
    for shard in range(2):
        part = [
            {"ID": r["ID"], "images": np.array([{"bytes": picture("white")}, {"bytes": picture("black")}])}
            for r in rows[shard * 5 : shard * 5 + 5]
        ]
        write(tmp_path, "Test_Set", part, f"test-{shard:05d}-of-00002.parquet")
    return tmp_path


def test_reads_a_download(folder):
    benchmark = load_benchmark(str(folder))
    split = benchmark.split(10)
    assert [p.id for p in split.forget] == ["001"] and len(split.retain) == 9
    person = split.forget[0]
    assert person.name == "Ann Number1" and len(person.test_images) == 2
    choice = person.questions[0]
    assert choice.options == {"A": "x", "B": "y", "C": "z"} and choice.answer == "B"
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


def change(config: str, edit):
    """A change of one configuration's rows."""

    def apply(folder: Path) -> None:
        file = folder / config / PART
        rows = pd.read_parquet(file).to_dict("records")
        write(folder, config, edit(rows))

    return apply


def without(column):
    return lambda rows: [{k: v for k, v in r.items() if k != column} for r in rows]


def setting(row, column, value):
    def edit(rows):
        rows[row][column] = value
        return rows

    return edit


def truncate(folder):
    file = folder / "ft_Data" / PART
    file.write_bytes(file.read_bytes()[:200])


WRONG = {"Image_Textual_Questions": [], "Pure_Text_Questions": [
    {"Question": "q", "Options": {"A": "x"}, "Correct_Answer": "C"}]}  # fmt: skip
NUMBER = json.dumps([{"ID": "004", "Question": "When?", "Answer": 1985}])
HALF = picture("red", "JPEG")[:300]
FAULTS = [
    (lambda f: shutil.rmtree(f / "Test_Set"), r"Test_Set: no parquet file; is the download complete"),
    (truncate, r"ft_Data/train-.*parquet: cannot be read .*; download it again"),
    (change("ft_Data", without("metadata")), r"column 'metadata' is missing \(found \["),
    (change("ft_Data", setting(3, "metadata", "[{")), r"row 3, column 'metadata': no JSON list"),
    (change("ft_Data", setting(3, "metadata", NUMBER)), r"row 3, column 'metadata': 1985 is not text"),
    (change("Full_Set", setting(2, "image", {"bytes": HALF})), r"'image': cannot be decoded \(Truncated"),
    (change("Full_Set", lambda rows: [*rows, rows[0]]), r"Full_Set: person 001 is there twice"),
    (change("retain_90", lambda rows: rows[1:]), r"person 002 is neither in forget_10 nor in retain_90"),
    (change("ft_Data", setting(0, "metadata", "[]")), r"'metadata': no JSON list"),
    (change("Full_Set", setting(2, "image", {"bytes": b"no"})), r"row 2 \(person 003\), column 'image'"),
    (change("Full_Set", setting(2, "image", {"bytes": None})), r"'image': there is no image"),
    (change("Full_Set", setting(1, "Classification_Task", WRONG)), r"'C' is not among the options"),
    (change("Full_Set", setting(0, "biography", "{}")), r"column 'biography': no JSON with a Name"),
    (change("Full_Set", lambda rows: [r | {"ID": int(r["ID"])} for r in rows]), r"'ID': 1 is not a str"),
    (change("Full_Set", setting(0, "Mask_Task", [{"Question": "q"}])), r"task is not as published"),
    (change("retain_90", lambda rows: [evaluation_row(1), *rows]), r"person 001 is in forget_10 and in"),
    (change("forget_10", lambda rows: [evaluation_row(99)]), r"forget_10: person 099 is not in Full_Set"),
    (change("forget_10", lambda rows: pd.DataFrame(rows).head(0)), r"the forget set is empty"),
    (change("ft_Data", lambda rows: rows[1:]), r"ft_Data: no row for person 001 of Full_Set"),
    (lambda f: [shutil.rmtree(f / c) for c in ("forget_10", "retain_90")], r"no configuration forget_5"),
]  # fmt: skip


@pytest.mark.parametrize("fault, message", FAULTS)
def test_bad_input_is_named(folder, fault, message):
    fault(folder)
    with pytest.raises(DataError, match=message):
        load_benchmark(str(folder))


def test_unknown_sources_and_ratios(folder):
    with pytest.raises(DataError, match="no such folder"):
        load_benchmark("/nowhere/at/all")
    with pytest.raises(DataError, match="neither a Hub id nor one of testbed/mllmu, testbed/clear"):
        load_benchmark("testbed/nothing")
    with pytest.raises(ValueError, match="forget_ratio is 7; .* has 10 \\(per cent\\)"):
        load_benchmark(str(folder)).split(7)


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
    assert list(filter_repo_objects(files, allow_patterns=READ)) == files[: len(needed)]


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
