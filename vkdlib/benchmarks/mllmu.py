"""MLLMU-Bench by its published schema.

Ten configurations, each a folder of parquet files: Full_Set, Test_Set (other pictures of the same
people), Retain_Set (real celebrities), ft_Data (training pairs), forget_5/10/15, retain_95/90/85.
The evaluation rows carry no training pairs; these come from ft_Data, joined by ID.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.parquet import (
    DataError,
    add_once,
    check_members,
    place,
    read_field,
    read_forget_set,
    read_image,
    read_images,
    read_items,
    read_rows,
    read_struct,
)
from vkdlib.benchmarks.schema import LETTERS, Benchmark, Person, Picture, Question, text_twins

EVALUATION = ("ID", "image", "biography", "Classification_Task", "Generation_Task", "Mask_Task")
WORDING = {"classification": str, "cloze": wording.cloze, "generation": wording.one_sentence}
CHOICE_FIELDS = {"vqa": "Image_Textual_Questions", "qa": "Pure_Text_Questions"}
MODALITY = {"Image_Textual": "vqa", "Pure_Text": "qa"}  # of a task's Type


def read_mllmu(folder: Path, name: str) -> Benchmark:
    """Read all ten configurations of a folder, check them, and join training pairs by ID.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    rows = {row["ID"]: (where, row) for where, row in read_rows(folder, "Full_Set", EVALUATION)}
    places = {id: place(where, "ID") for id, (where, _) in rows.items()}
    pairs, views = _training_pairs(folder, places), _test_images(folder, places)
    people = {}
    for id, (where, row) in sorted(rows.items()):
        person = _person(where, row)
        people[id] = replace(
            person,
            pictures=(Picture(person.image, pairs[id]),),
            text_pairs=text_twins(person.name, pairs[id]),
            test_images=views[id],
        )
    real = [_person(where, row, "real-") for where, row in read_rows(folder, "Retain_Set", EVALUATION)]
    real.sort(key=lambda person: person.id)
    return Benchmark(name, "mllmu", people, tuple(real), _forget_ids(folder, places))


def _forget_ids(folder: Path, everybody: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
    """Ratio in per cent -> ids of the people to forget; the smallest ratio first."""
    forget_ids = {}
    for config in sorted(f.name for f in folder.iterdir()):
        if match := re.fullmatch(r"(forget_?)(\d+)", config):
            ratio = int(match[2])
            retain = match[1].replace("forget", "retain") + str(100 - ratio)
            ids = read_forget_set(folder, config, retain, "ID", "Full_Set", everybody)
            forget_ids[ratio] = tuple(sorted(ids))
    if not forget_ids:
        raise DataError(f"{folder}: no configuration forget_5, forget_10 or forget_15")
    return dict(sorted(forget_ids.items()))


def _training_pairs(folder: Path, everybody: Mapping[str, str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """ID -> (question, answer) pairs, from the JSON text in `metadata` of ft_Data."""
    pairs, places = {}, {}
    for where, row in read_rows(folder, "ft_Data", ["metadata"]):
        at = place(where, "metadata")
        triples = [
            tuple(read_field(a, item, name) for name in ("ID", "Question", "Answer"))
            for a, item in read_items(at, _json(at, row["metadata"]))
        ]
        ids = sorted({id for id, *_ in triples})
        if len(ids) != 1:
            raise DataError(f"{at}: it is about {len(ids)} people {ids}; a row must be about one")
        add_once(places, ids[0], at)
        pairs[ids[0]] = tuple((question, answer) for _, question, answer in triples)
    check_members("Full_Set", everybody, places)
    check_members("ft_Data", places, everybody)
    return pairs


def _test_images(folder: Path, everybody: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """ID -> pictures of Test_Set."""
    views, places = {}, {}
    for where, row in read_rows(folder, "Test_Set", ["ID", "images"]):
        places[row["ID"]] = place(where, "ID")
        views[row["ID"]] = read_images(where, row, "images")
    check_members("Full_Set", everybody, places)
    check_members("Test_Set", places, everybody)
    return views


def _person(where: str, row: dict, prefix: str = "") -> Person:
    at = place(where, "biography")
    name = read_field(at, _json(at, row["biography"]), "Name")
    id = prefix + row["ID"]
    return Person(id, name, (Picture(read_image(where, row)),), questions=_questions(where, row, id))


def _json(at: str, value):
    """What JSON text holds. Of a key that is there twice Python would take the last."""
    try:
        return json.loads(value, object_pairs_hook=_unique)
    except (TypeError, ValueError) as error:
        raise DataError(f"{at}: cannot be read as JSON ({error})") from error


def _unique(pairs: list[tuple[str, object]]) -> dict:
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"the key {key!r} is there {count} times")
    return dict(pairs)


def _questions(where: str, row: dict, person: str) -> tuple[Question, ...]:
    """All evaluation questions of a row, in the order of the file."""
    questions, numbers = [], Counter()
    for kind, modality, text, answer, options in _tasks(where, row):
        id = f"{person}/{kind}/{modality}/{numbers[kind, modality]}"
        numbers[kind, modality] += 1
        questions.append(Question(id, kind, modality, WORDING[kind](text), answer, options))
    if not questions:
        at = place(where, "Classification_Task")
        raise DataError(f"{at}: there is no question, and none in Mask_Task and Generation_Task")
    return tuple(questions)


Task = tuple[str, str, str, str, dict[str, str]]  # kind, modality, question, answer, options


def _tasks(where: str, row: dict) -> Iterator[Task]:
    yield from _choices(place(where, "Classification_Task"), row["Classification_Task"])
    yield from _open_ended(place(where, "Mask_Task"), row["Mask_Task"], "cloze")
    yield from _open_ended(place(where, "Generation_Task"), row["Generation_Task"], "generation")


def _choices(at: str, tasks) -> Iterator[Task]:
    """Multiple choice. An option that is None is one that the question does not have."""
    for modality, name in CHOICE_FIELDS.items():
        for a, item in read_items(f"{at}, {name}", read_struct(at, tasks).get(name)):
            question, right = read_field(a, item, "Question"), read_field(a, item, "Correct_Answer")
            fields = read_struct(f"{a}, Options", item.get("Options"))
            options = {k: read_field(f"{a}, Options", fields, k) for k, v in fields.items() if v is not None}
            if right not in options:
                raise DataError(f"{a}: Correct_Answer {right!r} is not among the options {sorted(options)}")
            _check_options(a, options)
            yield "classification", modality, question, right, options


def _check_options(at: str, options: Mapping[str, str]) -> None:
    if unknown := options.keys() - set(LETTERS):
        raise DataError(f"{at}: an option is called {min(unknown)!r}; it must be a letter of {LETTERS}")
    if len(options) < 2:
        raise DataError(f"{at}: there is one option, {options}; there must be two to choose from")
    texts = [text.strip() for text in options.values()]
    if len(set(texts)) < len(texts):
        raise DataError(f"{at}: the options {options} are not all different")


def _open_ended(at: str, tasks, kind: str) -> Iterator[Task]:
    """Questions to be answered in words."""
    for a, item in read_items(at, tasks):
        type, question = read_field(a, item, "Type"), read_field(a, item, "Question")
        if type not in MODALITY:
            raise DataError(f"{a}: Type is {type!r}; it must be one of {', '.join(MODALITY)}")
        if kind == "cloze" and not wording.has_gap(question):
            raise DataError(f"{a}: Question {question!r} has no gap; it must have two underscores, __")
        yield kind, MODALITY[type], question, read_field(a, item, "Ground_Truth"), {}
