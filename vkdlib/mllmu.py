"""MLLMU-Bench by its published schema.

Ten configurations, each a folder of parquet files: Full_Set, Test_Set (other pictures of the same
people), Retain_Set (real celebrities), ft_Data (training pairs), forget_5/10/15, retain_95/90/85.
The evaluation rows carry no training pairs; these come from ft_Data, joined by ID.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vkdlib import prompts
from vkdlib.benchmark import Benchmark, Person, Picture, Question, text_twins
from vkdlib.parquet import DataError, image, items, rows

EVALUATION = ("ID", "image", "biography", "Classification_Task", "Generation_Task", "Mask_Task")
WORDING = {"cloze": prompts.cloze, "generation": prompts.sentence}


def read_mllmu(folder: Path, name: str) -> Benchmark:
    """Read all ten configurations of a folder, check them, and join training pairs by ID.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    pairs: dict[str, list] = {}
    for where, row in rows(folder, "ft_Data", ["metadata"]):
        person, found = _pairs(where, row)
        pairs.setdefault(person, []).extend(found)
    tests = {
        row["ID"]: tuple(image(where, i) for i in items(row["images"]))
        for where, row in rows(folder, "Test_Set", ["ID", "images"])
    }
    people = {}
    for person in sorted((_person(*row) for row in rows(folder, "Full_Set", EVALUATION)), key=lambda p: p.id):
        if person.id in people:
            raise DataError(f"{folder / 'Full_Set'}: person {person.id} is there twice")
        for config, known in (("ft_Data", pairs), ("Test_Set", tests)):
            if person.id not in known:
                raise DataError(f"{folder / config}: no row for person {person.id} of Full_Set")
        learnt = tuple(pairs[person.id])
        people[person.id] = replace(
            person,
            pictures=(Picture(person.image, learnt),),
            text_pairs=text_twins(person.name, learnt),
            test_images=tests[person.id],
        )
    real = [_person(where, row, "real-") for where, row in rows(folder, "Retain_Set", EVALUATION)]
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
    forget = [row["ID"] for _, row in rows(folder, config, ["ID"])]
    retain_config = config.replace("forget", "retain").replace(str(ratio), str(100 - ratio))
    retain = [row["ID"] for _, row in rows(folder, retain_config, ["ID"])]
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


def _person(where: str, row: dict, prefix: str = "") -> Person:
    try:
        name = json.loads(row["biography"])["Name"]
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{where}, column 'biography': no JSON with a Name") from error
    person = prefix + row["ID"]
    portrait = Picture(image(where, row["image"]))
    return Person(person, name, (portrait,), questions=_questions(where, row, person))


def _questions(where: str, row: dict, person: str) -> tuple[Question, ...]:
    """All evaluation questions of a row, in the order of the file."""
    found: list[Question] = []

    def add(kind: str, modality: str, question, answer, options=None) -> None:
        for column, value in (("Question", question), ("answer", answer)):
            if not isinstance(value, str) or not value:
                raise DataError(f"{where}, {kind} task: {column} is {value!r}, not text")
        number = sum(q.kind == kind and q.modality == modality for q in found)
        id = f"{person}/{kind}/{modality}/{number}"
        asked = WORDING.get(kind, str)(question)
        found.append(Question(id, kind, modality, asked, answer, options or {}))

    try:
        tasks = row["Classification_Task"]
        for modality, key in (("vqa", "Image_Textual_Questions"), ("qa", "Pure_Text_Questions")):
            for item in items(tasks[key]):
                # An option that is None is one that the question does not have.
                options = {k: v for k, v in item["Options"].items() if v is not None}
                if item["Correct_Answer"] not in options:
                    raise DataError(
                        f"{where}, column 'Classification_Task': the correct answer "
                        f"{item['Correct_Answer']!r} is not among the options {sorted(options)}"
                    )
                add("classification", modality, item["Question"], item["Correct_Answer"], options)
        for column, kind in (("Mask_Task", "cloze"), ("Generation_Task", "generation")):
            for item in items(row[column]):
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
