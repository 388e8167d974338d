"""CLEAR by its published schema: authors of TOFU with pictures, captions and questions in text.

Configurations, each a folder of parquet files: full (image, caption, name), full+tofu (the same, then
questions in text), forgetNN and retainNN (the same columns for 1, 5 and 10 % of the authors and for the
others), forgetNN_perturbed and retain_perturbed (wrong names to choose from), real_faces and real_world.
The forgetNN+tofu and retainNN+tofu are parts of full+tofu and are not read.

Asked in the likeness of MLLMU-Bench's kinds: a picture's name is a classification, its caption and
TOFU's questions are generations. The data hold no question about a picture; ours are below.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmarks.parquet import DataError, all_in, cell, image, is_image, rows, text, texts, to_forget
from vkdlib.benchmarks.schema import Benchmark, Person, Picture, Question
from vkdlib.benchmarks.tofu import told

NAME_QUESTION = "What is the name of the person in the picture?"
CAPTION_QUESTION = "What does the picture show?"
LETTERS = "ABCDEFGHIJ"


def read_clear(folder: Path, name: str) -> Benchmark:
    """Read all configurations of a folder and check them. A person's id is the name.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    pictures, everybody = _pictures(folder)
    text_pairs = told(folder, sorted(pictures))
    forget = _forget(folder, everybody)
    gone, kept = _asked_of(folder, forget, pictures, text_pairs)
    # What one is asked when forgotten is that of the largest forget set, and where a smaller one has other
    # rows (forget10_perturbed has one row less than forget10), at its ratio these.
    asked = kept | {n: q for found in gone.values() for n, q in found.items()}
    own = {ratio: {n: q for n, q in found.items() if q != asked[n]} for ratio, found in gone.items()}
    faces = _faces(folder)
    return Benchmark(
        name,
        "clear",
        {n: Person(n, n, tuple(pictures[n]), text_pairs[n], asked.get(n, ())) for n in sorted(pictures)},
        faces,
        {ratio: tuple(sorted(names)) for ratio, names in forget.items()},
        _world(folder, faces),
        retain_ids=frozenset(kept),
        forget_questions={ratio: found for ratio, found in own.items() if found},
    )


def _pictures(folder: Path) -> tuple[dict[str, list[Picture]], dict[str, str]]:
    """Name -> pictures with training pairs; name -> where it is first."""
    pictures: dict[str, list[Picture]] = {}
    everybody: dict[str, str] = {}
    for where, row in rows(folder, "full", ["image", "caption", "name"]):
        author = text(where, row, "name")
        pairs = (CAPTION_QUESTION, text(where, row, "caption")), (NAME_QUESTION, author)
        pictures.setdefault(author, []).append(Picture(image(where, row), pairs))
        everybody.setdefault(author, cell(where, "name"))
    return pictures, everybody


def _forget(folder: Path, everybody: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Ratio -> names to forget -> where they are first; the smallest ratio first."""
    found = {}
    for config in sorted(f.name for f in folder.iterdir()):
        if match := re.fullmatch(r"forget(\d+)", config):
            retain = f"retain{100 - int(match[1]):02d}"
            found[int(match[1])] = to_forget(folder, config, retain, "name", "full", everybody)
    if not found:
        raise DataError(f"{folder}: no configuration forget01, forget05 or forget10")
    return dict(sorted(found.items()))


Asked = dict[str, tuple[Question, ...]]  # name -> questions


def _asked_of(
    folder: Path, forget: Mapping[int, Mapping[str, str]], pictures: Mapping[str, list], text_pairs: Mapping
) -> tuple[dict[int, Asked], Asked]:
    """What is asked of people to forget, by ratio, and of people to retain."""
    gone = {}
    for ratio, whom in forget.items():
        config = f"forget{ratio:02d}"
        gone[ratio], places = _ask(folder, f"{config}_perturbed", pictures, text_pairs)
        all_in(config, whom, places)
        all_in(f"{config}_perturbed", places, whom)
    kept, places = _ask(folder, "retain_perturbed", pictures, text_pairs)
    for ratio, whom in forget.items():
        if both := places.keys() & whom.keys():
            raise DataError(f"{places[min(both)]}: {min(both)} is in forget{ratio:02d}, too")
    return gone, kept


def _ask(
    folder: Path, config: str, pictures: Mapping[str, list], text_pairs: Mapping
) -> tuple[Asked, dict[str, str]]:
    """Evaluation questions from the rows of a perturbed configuration, and who is asked.

    Args:
        pictures: name -> pictures; one that is only asked about is added.
    Returns:
        name -> questions; name -> where it is first.
    """
    asked: dict[str, list[Question]] = {}
    places: dict[str, str] = {}
    for where, row in rows(folder, config, ["image", "caption", "name", "perturbed_names"]):
        name = text(where, row, "name")
        all_in("full", pictures, {name: cell(where, "name")})
        places.setdefault(name, cell(where, "name"))
        number = _number(pictures[name], image(where, row))
        found = asked.setdefault(name, [])
        at, letters = len(found) // 2, _options(where, row, "perturbed_names", name)
        found.append(Question(f"{name}/classification/vqa/{at}", "classification", "vqa", NAME_QUESTION,
                              *letters, number))  # fmt: skip
        found.append(Question(f"{name}/generation/vqa/{at}", "generation", "vqa", CAPTION_QUESTION,
                              text(where, row, "caption"), picture=number))  # fmt: skip
    for name, found in asked.items():
        for at, (question, answer) in enumerate(text_pairs[name]):
            found.append(Question(f"{name}/generation/qa/{at}", "generation", "qa", question, answer))
    return {name: tuple(found) for name, found in asked.items()}, places


def _number(pictures: list[Picture], content: bytes) -> int:
    """Which of someone's pictures it is; one that is only asked about becomes the last."""
    known = [p.image for p in pictures]
    if content not in known:
        pictures.append(Picture(content))
    return known.index(content) if content in known else len(known)


def _faces(folder: Path) -> tuple[Person, ...]:
    """Real faces, each to be named from a list of names; one person a name."""
    found: dict[str, Person] = {}
    for where, row in rows(folder, "real_faces", ["image", "answer", "options"]):
        name, content = text(where, row, "answer"), image(where, row)
        letters = _options(where, row, "options", name)
        person = found.get(name, Person(f"real-{name}", name))
        found[name] = _asked(person, "real_faces", NAME_QUESTION, letters, content)
    return tuple(found.values())


def _world(folder: Path, faces: Sequence[Person]) -> tuple[Person, ...]:
    """Questions about the real world, with a picture where the data have one.

    Those with the same picture are one "person", and of the person among `faces` whose picture it is: they
    stand and fall together, in intervals and in the choice of selection people.
    """
    known = {p.image: person.id for person in faces for p in person.pictures}
    found: dict[str, Person] = {}
    columns = ["question", "answer", "options"]
    for number, (where, row) in enumerate(rows(folder, "real_world", columns, ["image"])):
        content = image(where, row) if is_image(row["image"]) else None
        letters = _options(where, row, "options", text(where, row, "answer"))
        id = f"world-{number:03d}"
        if content:
            id = known.get(content, f"world-{hashlib.sha256(content).hexdigest()[:12]}")
        found[id] = _asked(
            found.get(id, Person(id, "")), "real_world", text(where, row, "question"), letters, content
        )
    return tuple(found.values())


def _asked(person: Person, where: str, question: str, letters: tuple, content: bytes | None) -> Person:
    """The person with one more multiple choice, about a picture (`content`) or in text."""
    known = [p.image for p in person.pictures]
    if content and content not in known:
        known.append(content)
    modality = "vqa" if content else "qa"
    id = f"{person.id}/{where}/{modality}/{len(person.questions)}"
    asked = Question(
        id, "classification", modality, question, *letters, known.index(content) if content else 0
    )
    pictures = tuple(Picture(content) for content in known)
    return replace(person, pictures=pictures, questions=(*person.questions, asked))


def _options(where: str, row: dict, column: str, right: str) -> tuple[str, dict[str, str]]:
    """(right letter, letter -> option), in an order that follows from the options alone.

    The data list only wrong options, in `column`. An order drawn from a stream of random numbers, as is
    usual, would depend on what was asked before.
    """
    wrong = texts(where, row, column)
    if right in wrong or len(set(wrong)) < len(wrong) or len(wrong) >= len(LETTERS):
        found = f"{cell(where, column)}: the answer {right!r} and the other options {wrong}"
        raise DataError(f"{found} are not all different, and at most {len(LETTERS)}")
    order = sorted([right, *wrong], key=lambda o: hashlib.sha256(f"{right} {wrong} {o}".encode()).digest())
    options = dict(zip(LETTERS, order))
    return next(k for k, v in options.items() if v == right), options
