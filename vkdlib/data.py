"""MLLMU-Bench by its published schema: one reader for the Hub's files, a download and the testbed.

Ten configurations, each a folder of parquet files: Full_Set, Test_Set (other pictures of the same
people), Retain_Set (real celebrities), ft_Data (training pairs), forget_5/10/15, retain_95/90/85.
The evaluation rows carry no training pairs; these come from ft_Data, joined by ID.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmark import Benchmark, Person, Question

REQUIRED = {
    "ft_Data": ("metadata",),
    "Test_Set": ("ID", "images"),
    None: ("ID", "image", "biography", "Classification_Task", "Generation_Task", "Mask_Task"),
}


class DataError(ValueError):
    """The data on disk are not what the benchmark's schema promises."""


def load_benchmark(source: str = "testbed/mllmu", revision: str | None = None) -> Benchmark:
    """Read a benchmark.

    Args:
        source: "testbed/mllmu" (made on first use, cached), a folder laid out as
            `<configuration>/*.parquet`, or a dataset id of the Hugging Face Hub.
        revision: commit of the Hub's dataset; None takes the newest.
    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    if source == "testbed/mllmu":
        from vkdlib.testbed.cache import mllmu_folder

        return read_mllmu(mllmu_folder(), name=source)
    if Path(source).is_dir():
        return read_mllmu(Path(source), name=Path(source).name)
    if source.count("/") != 1 or source.startswith((".", "/", "testbed/")):
        raise DataError(f'{source}: no such folder, and neither "testbed/mllmu" nor a Hub id')
    from huggingface_hub import snapshot_download

    folder = snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns="*.parquet")
    return read_mllmu(Path(folder), name=source)


def read_mllmu(folder: Path, name: str) -> Benchmark:
    """Read all ten configurations of a folder, check them, and join training pairs by ID."""
    pairs: dict[str, list] = {}
    for where, row in _rows(folder, "ft_Data"):
        person, found = _pairs(where, row)
        pairs.setdefault(person, []).extend(found)
    tests = {row["ID"]: _images(where, row) for where, row in _rows(folder, "Test_Set")}
    people = {}
    for person in sorted((_person(*row) for row in _rows(folder, "Full_Set")), key=lambda p: p.id):
        if person.id in people:
            raise DataError(f"{folder / 'Full_Set'}: person {person.id} is there twice")
        for config, known in (("ft_Data", pairs), ("Test_Set", tests)):
            if person.id not in known:
                raise DataError(f"{folder / config}: no row for person {person.id} of Full_Set")
        people[person.id] = replace(person, pairs=tuple(pairs[person.id]), test_images=tests[person.id])
    real = [_person(where, row, "real-") for where, row in _rows(folder, "Retain_Set")]
    real.sort(key=lambda p: p.id)
    forget_ids = {}
    for config in sorted(folder.iterdir()):
        match = re.fullmatch(r"forget_?(\d+)", config.name)
        if match:
            ratio = int(match[1])
            forget_ids[ratio] = _checked_split(folder, config.name, ratio, people)
    if not forget_ids:
        raise DataError(f"{folder}: no configuration forget_5, forget_10 or forget_15")
    return Benchmark(name, people, tuple(real), dict(sorted(forget_ids.items())))


def _checked_split(folder: Path, config: str, ratio: int, people: Mapping) -> tuple[str, ...]:
    """Ids to forget; with those to retain they must be everybody, once."""
    forget = [row["ID"] for _, row in _rows(folder, config, ("ID",))]
    retain_config = config.replace("forget", "retain").replace(str(ratio), str(100 - ratio))
    retain = [row["ID"] for _, row in _rows(folder, retain_config, ("ID",))]
    if not forget:
        raise DataError(f"{folder / config}: the forget set is empty")
    both = sorted(set(forget) & set(retain))
    if both:
        raise DataError(f"{folder}: person {both[0]} is in {config} and in {retain_config}")
    unknown = sorted(set(forget + retain) - set(people))
    if unknown:
        raise DataError(f"{folder / config}: person {unknown[0]} is not in Full_Set")
    missing = sorted(set(people) - set(forget + retain))
    if missing:
        raise DataError(f"{folder}: person {missing[0]} is neither in {config} nor in {retain_config}")
    return tuple(sorted(set(forget)))


def _rows(folder: Path, config: str, columns: tuple[str, ...] | None = None):
    """Yield (where, row) of a configuration, all shards, with only the columns that are used."""
    import pyarrow.parquet as pq

    files = sorted(Path(folder, config).glob("*.parquet"))
    if not files:
        raise DataError(f"{Path(folder, config)}: no parquet file; is the download complete?")
    columns = columns or REQUIRED.get(config, REQUIRED[None])
    for file in files:
        try:
            present = pq.read_schema(file).names
            missing = [c for c in columns if c not in present]
            if missing:
                raise DataError(f"{file}: column {missing[0]!r} is missing (found {present})")
            rows = pq.read_table(file, columns=list(columns)).to_pylist()
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file}: cannot be read ({error}); download it again") from error
        for number, row in enumerate(rows):
            where = f"{file}: row {number}"
            if "ID" in row:
                if not isinstance(row["ID"], str):
                    raise DataError(f"{where}, column 'ID': {row['ID']!r} is not a string")
                where += f" (person {row['ID']})"
            yield where, row


def _person(where: str, row: dict, prefix: str = "") -> Person:
    try:
        name = json.loads(row["biography"])["Name"]
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{where}, column 'biography': no JSON with a Name") from error
    person = prefix + row["ID"]
    return Person(person, name, _image(where, row["image"]), questions=_questions(where, row, person))


def _questions(where: str, row: dict, person: str) -> tuple[Question, ...]:
    """All evaluation questions of a row, in the order of the file."""
    found: list[Question] = []

    def add(kind: str, modality: str, question, answer, options=None) -> None:
        for column, value in (("Question", question), ("answer", answer)):
            if not isinstance(value, str) or not value:
                raise DataError(f"{where}, {kind} task: {column} is {value!r}, not text")
        number = sum(q.kind == kind and q.modality == modality for q in found)
        id = f"{person}/{kind}/{modality}/{number}"
        found.append(Question(id, kind, modality, question, answer, options or {}))

    try:
        tasks = row["Classification_Task"]
        for modality, key in (("vqa", "Image_Textual_Questions"), ("qa", "Pure_Text_Questions")):
            for item in _list(tasks[key]):
                # An option that is None is one that the question does not have.
                options = {k: v for k, v in item["Options"].items() if v is not None}
                if item["Correct_Answer"] not in options:
                    raise DataError(
                        f"{where}, column 'Classification_Task': the correct answer "
                        f"{item['Correct_Answer']!r} is not among the options {sorted(options)}"
                    )
                add("classification", modality, item["Question"], item["Correct_Answer"], options)
        for column, kind in (("Mask_Task", "cloze"), ("Generation_Task", "generation")):
            for item in _list(row[column]):
                modality = {"Image_Textual": "vqa", "Pure_Text": "qa"}[item["Type"]]
                add(kind, modality, item["Question"], item["Ground_Truth"])
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: a task is not as published ({error!r})") from error
    return tuple(found)


def _pairs(where: str, row: dict) -> tuple[str, list[tuple[str, str]]]:
    """Whose training pairs a row of ft_Data holds, and the pairs, from the JSON text in `metadata`."""
    try:
        items = json.loads(row["metadata"])
        person, pairs = items[0]["ID"], [(item["Question"], item["Answer"]) for item in items]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{where}, column 'metadata': no JSON list of ID, Question, Answer") from error
    for text in (person, *(t for pair in pairs for t in pair)):
        if not isinstance(text, str) or not text:
            raise DataError(f"{where}, column 'metadata': {text!r} is not text")
    return person, pairs


def _images(where: str, row: dict) -> tuple[bytes, ...]:
    return tuple(_image(where, image) for image in _list(row["images"]))


def _image(where: str, value) -> bytes:
    """The bytes of an image, once they have been shown to decode."""
    from PIL import Image

    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not content:
        raise DataError(f"{where}, column 'image': there is no image")
    try:
        Image.open(io.BytesIO(content)).load()
    except Exception as error:
        raise DataError(f"{where}, column 'image': cannot be decoded ({error})") from error
    return bytes(content)


def _list(value) -> list:
    """Nested lists come as lists from pyarrow and as arrays from pandas; None is an empty one."""
    return [] if value is None else list(value)
