"""MLLMU-Bench by its published schema.

Ten configurations, each a folder of parquet files: Full_Set, Test_Set (other pictures of the same
people), Retain_Set (real celebrities), ft_Data (training pairs), forget_5/10/15, retain_95/90/85.
The evaluation rows carry no training pairs; these come from ft_Data, joined by ID.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmarks import parquet, wording
from vkdlib.benchmarks.parquet import Cell, DataError, read_rows
from vkdlib.benchmarks.schema import LETTERS, Benchmark, Person, Picture, Question, text_twins

EVALUATION = ("ID", "image", "biography", "Classification_Task", "Generation_Task", "Mask_Task")
CHOICE_FIELDS = {"vqa": "Image_Textual_Questions", "qa": "Pure_Text_Questions"}
TASK_TYPES = {"Image_Textual": "vqa", "Pure_Text": "qa"}


def read_mllmu(folder: Path, name: str) -> Benchmark:
    """Read all ten configurations of a folder, check them, and join training pairs by ID.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    rows = {row["ID"].text(): row for row in read_rows(folder, "Full_Set", EVALUATION)}
    places = {id: row["ID"].at for id, row in rows.items()}
    pairs, views = _training_pairs(folder, places), _test_images(folder, places)
    people = {}
    for id, row in sorted(rows.items()):
        person = _person(row)
        portrait, twins = Picture(person.image, pairs[id]), text_twins(person.name, pairs[id])
        people[id] = replace(person, pictures=(portrait,), text_pairs=twins, test_images=views[id])
    real = [_person(row, "real-") for row in read_rows(folder, "Retain_Set", EVALUATION)]
    real.sort(key=lambda person: person.id)
    forget = parquet.read_forget_sets(folder, "ID", "Full_Set", places)
    forget_ids = {ratio: tuple(sorted(ids)) for ratio, ids in forget.items()}
    return Benchmark(name, "mllmu", people, tuple(real), forget_ids)


def _training_pairs(folder: Path, everybody: Mapping[str, str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """ID -> (question, answer) pairs, from the JSON text in `metadata` of ft_Data."""
    pairs, places = {}, {}
    for row in read_rows(folder, "ft_Data", ["metadata"]):
        cell = row["metadata"].json()
        ids = sorted({item["ID"].text() for item in cell.items()})
        if len(ids) != 1:
            raise DataError(f"{cell.at}: it is about {len(ids)} people {ids}; a row must be about one")
        parquet.add_once(places, Cell(cell.at, ids[0]))
        cell = replace(cell, at=f"{cell.at} (person {ids[0]})")
        pairs[ids[0]] = tuple((item["Question"].text(), item["Answer"].text()) for item in cell.items())
    parquet.check_same("Full_Set", everybody, "ft_Data", places)
    return pairs


def _test_images(folder: Path, everybody: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """ID -> pictures of Test_Set."""
    views, places = {}, {}
    for row in read_rows(folder, "Test_Set", ["ID", "images"]):
        id, images = row["ID"].text(), row["images"]
        places[id], views[id] = row["ID"].at, tuple(image.image() for image in images.items())
        if not views[id]:
            raise DataError(f"{images.at}: there is no image")
    parquet.check_same("Full_Set", everybody, "Test_Set", places)
    return views


def _person(row: Mapping[str, Cell], prefix: str = "") -> Person:
    id, name = prefix + row["ID"].text(), row["biography"].json()["Name"].text()
    return Person(id, name, (Picture(row["image"].image()),), questions=_questions(row, id))


Task = tuple[str, str, str, str, dict[str, str]]  # kind, modality, question, answer, options


def _questions(row: Mapping[str, Cell], person: str) -> tuple[Question, ...]:
    """All evaluation questions of a row, in the order of the file."""
    tasks = [*_choices(row["Classification_Task"]), *_open_ended(row["Mask_Task"], "cloze")]
    tasks += _open_ended(row["Generation_Task"], "generation")
    if not tasks:
        at = row["Classification_Task"].at
        raise DataError(f"{at}: there is no question, and none in Mask_Task and Generation_Task")
    questions, numbers = [], Counter()
    for kind, modality, *task in tasks:
        number = numbers[kind, modality]
        questions.append(Question(f"{person}/{kind}/{modality}/{number}", kind, modality, *task))
        numbers[kind, modality] += 1
    return tuple(questions)


def _choices(tasks: Cell) -> Iterator[Task]:
    """Multiple choice. A question that has fewer options than the columns holds None for the others."""
    for modality, name in CHOICE_FIELDS.items():
        for item in tasks[name].items():
            at, question, right = item.at, item["Question"].text(), item["Correct_Answer"].text()
            fields = {o: cell for o, cell in item["Options"].fields().items() if cell.value is not None}
            options = {letter: cell.text() for letter, cell in fields.items()}
            if right not in options:
                raise DataError(f"{at}: Correct_Answer {right!r} is not among the options {sorted(options)}")
            if unknown := options.keys() - set(LETTERS):
                raise DataError(f"{at}: an option is called {min(unknown)!r}; it must be one of {LETTERS}")
            if len(options) < 2 or len({cell.value for cell in fields.values()}) < len(options):
                raise DataError(f"{at}: the options {options} must be two or more, all different")
            yield "classification", modality, question, right, options


def _open_ended(tasks: Cell, kind: str) -> Iterator[Task]:
    """Questions to be answered in words."""
    for item in tasks.items():
        type, question = item["Type"].text(), item["Question"].text()
        if type not in TASK_TYPES:
            raise DataError(f"{item.at}: Type is {type!r}; it must be one of {', '.join(TASK_TYPES)}")
        if kind == "cloze" and not wording.has_gap(question):
            raise DataError(f"{item.at}: Question {question!r} has no gap; it must have two underscores, __")
        words = wording.cloze(question) if kind == "cloze" else wording.one_sentence(question)
        yield kind, TASK_TYPES[type], words, item["Ground_Truth"].text(), {}
