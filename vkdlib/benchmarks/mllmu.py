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
    all_in,
    cell,
    field,
    image,
    images,
    items,
    only_once,
    rows,
    struct,
    to_forget,
)
from vkdlib.benchmarks.schema import Benchmark, Person, Picture, Question, text_twins

EVALUATION = ("ID", "image", "biography", "Classification_Task", "Generation_Task", "Mask_Task")
WORDING = {"cloze": wording.cloze, "generation": wording.sentence}
CHOICES = {"vqa": "Image_Textual_Questions", "qa": "Pure_Text_Questions"}
TYPES = {"Image_Textual": "vqa", "Pure_Text": "qa"}


def read_mllmu(folder: Path, name: str) -> Benchmark:
    """Read all ten configurations of a folder, check them, and join training pairs by ID.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    found, everybody = {}, {}
    for where, row in rows(folder, "Full_Set", EVALUATION):
        everybody[row["ID"]] = cell(where, "ID")
        found[row["ID"]] = _person(where, row)
    learnt, tests = _training_pairs(folder, everybody), _test_images(folder, everybody)
    people = {
        id: replace(
            found[id],
            pictures=(Picture(found[id].image, learnt[id]),),
            text_pairs=text_twins(found[id].name, learnt[id]),
            test_images=tests[id],
        )
        for id in sorted(found)
    }
    real = [_person(where, row, "real-") for where, row in rows(folder, "Retain_Set", EVALUATION)]
    forget_ids = {}
    for config in sorted(f.name for f in folder.iterdir()):
        if match := re.fullmatch(r"(forget_?)(\d+)", config):
            ratio = int(match[2])
            retain = match[1].replace("forget", "retain") + str(100 - ratio)
            forget_ids[ratio] = tuple(sorted(to_forget(folder, config, retain, "ID", "Full_Set", everybody)))
    if not forget_ids:
        raise DataError(f"{folder}: no configuration forget_5, forget_10 or forget_15")
    real.sort(key=lambda p: p.id)
    return Benchmark(name, "mllmu", people, tuple(real), dict(sorted(forget_ids.items())))


def _training_pairs(folder: Path, everybody: Mapping[str, str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """ID -> (question, answer) pairs, from the JSON text in `metadata` of ft_Data."""
    pairs, places = {}, {}
    for where, row in rows(folder, "ft_Data", ["metadata"]):
        at = cell(where, "metadata")
        listed = items(at, _json(at, row["metadata"]))
        found = [tuple(field(a, item, key) for key in ("ID", "Question", "Answer")) for a, item in listed]
        ids = sorted({id for id, *_ in found})
        if len(ids) != 1:
            raise DataError(f"{at}: it is about {len(ids)} people {ids}; a row must be about one")
        only_once(places, ids[0], at)
        pairs[ids[0]] = tuple((question, answer) for _, question, answer in found)
    all_in("Full_Set", everybody, places)
    all_in("ft_Data", places, everybody)
    return pairs


def _test_images(folder: Path, everybody: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """ID -> pictures of Test_Set."""
    found, places = {}, {}
    for where, row in rows(folder, "Test_Set", ["ID", "images"]):
        places[row["ID"]] = cell(where, "ID")
        found[row["ID"]] = images(where, row, "images")
    all_in("Full_Set", everybody, places)
    all_in("Test_Set", places, everybody)
    return found


def _person(where: str, row: dict, prefix: str = "") -> Person:
    at = cell(where, "biography")
    name = field(at, _json(at, row["biography"]), "Name")
    person = prefix + row["ID"]
    return Person(person, name, (Picture(image(where, row)),), questions=_questions(where, row, person))


def _json(at: str, value):
    try:
        return json.loads(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{at}: no JSON ({error})") from error


def _questions(where: str, row: dict, person: str) -> tuple[Question, ...]:
    """All evaluation questions of a row, in the order of the file."""
    found, numbers = [], Counter()
    asked = [*_choices(cell(where, "Classification_Task"), row["Classification_Task"])]
    for column, kind in (("Mask_Task", "cloze"), ("Generation_Task", "generation")):
        asked += _open_ended(cell(where, column), row[column], kind)
    for kind, modality, question, answer, options in asked:
        id = f"{person}/{kind}/{modality}/{numbers[kind, modality]}"
        numbers[kind, modality] += 1
        found.append(Question(id, kind, modality, WORDING.get(kind, str)(question), answer, options))
    return tuple(found)


Asked = Iterator[tuple[str, str, str, str, dict[str, str]]]  # kind, modality, question, answer, options


def _choices(at: str, tasks) -> Asked:
    """Multiple choice. An option that is None is one that the question does not have."""
    for modality, key in CHOICES.items():
        for a, item in items(f"{at}, {key}", struct(at, tasks).get(key)):
            question, right = field(a, item, "Question"), field(a, item, "Correct_Answer")
            given = struct(f"{a}, Options", item.get("Options"))
            options = {k: field(f"{a}, Options", given, k) for k in given if given[k] is not None}
            if right not in options:
                raise DataError(f"{a}: Correct_Answer {right!r} is not among the options {sorted(options)}")
            yield "classification", modality, question, right, options


def _open_ended(at: str, tasks, kind: str) -> Asked:
    """Questions to be answered in words."""
    for a, item in items(at, tasks):
        type = field(a, item, "Type")
        if type not in TYPES:
            raise DataError(f"{a}: Type is {type!r}; it must be one of {', '.join(TYPES)}")
        yield kind, TYPES[type], field(a, item, "Question"), field(a, item, "Ground_Truth"), {}
