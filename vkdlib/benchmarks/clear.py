"""CLEAR by its published schema: authors of TOFU with pictures, captions and questions in text.

Configurations, each a folder of parquet files: full (image, caption, name), full+tofu (the same, then
questions in text), forgetNN and retainNN (the same columns for 1, 5 and 10 % of the authors and for the
others), forgetNN_perturbed and retain_perturbed (wrong names to choose from), real_faces and real_world.
The forgetNN+tofu and retainNN+tofu are parts of full+tofu and are not read.

Asked in the likeness of MLLMU-Bench's kinds: a picture's name is a classification, its caption and
TOFU's questions are generations. The data hold no question about a picture; ours are in `wording`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmarks.parquet import Cell, DataError, check_apart, check_same, read_forget_sets, read_rows
from vkdlib.benchmarks.schema import LETTERS, Benchmark, Person, Picture, Question
from vkdlib.benchmarks.tofu import author_pairs
from vkdlib.benchmarks.wording import CAPTION_QUESTION, NAME_QUESTION

Questions = dict[str, tuple[Question, ...]]  # name -> questions


def read_clear(folder: Path, name: str) -> Benchmark:
    """Read all configurations of a folder and check them. A person's id is the name.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    pictures, places = _pictures(folder)
    text_pairs = author_pairs(folder, sorted(pictures))
    forget = read_forget_sets(folder, "name", "full", places)
    by_ratio, retain = _all_questions(folder, forget, pictures, text_pairs)
    # Questions about a person to forget are those of the largest forget set. Where a smaller one has other
    # rows (forget10_perturbed has one row less than forget10), its ratio has questions of its own.
    questions = retain | {n: q for of_ratio in by_ratio.values() for n, q in of_ratio.items()}
    own = {r: {n: q for n, q in of_ratio.items() if q != questions[n]} for r, of_ratio in by_ratio.items()}
    faces = _faces(folder)
    return Benchmark(
        name,
        "clear",
        {n: Person(n, n, tuple(pictures[n]), text_pairs[n], questions.get(n, ())) for n in sorted(pictures)},
        faces,
        {ratio: tuple(sorted(names)) for ratio, names in forget.items()},
        _world(folder, faces),
        retain_ids=frozenset(retain),
        forget_questions={ratio: of_ratio for ratio, of_ratio in own.items() if of_ratio},
    )


def _pictures(folder: Path) -> tuple[dict[str, list[Picture]], dict[str, str]]:
    """Name -> pictures with training pairs; name -> where it is first."""
    pictures: dict[str, list[Picture]] = {}
    places: dict[str, str] = {}
    for row in read_rows(folder, "full", ["image", "caption", "name"]):
        author = row["name"].text()
        pairs = (CAPTION_QUESTION, row["caption"].text()), (NAME_QUESTION, author)
        pictures.setdefault(author, []).append(Picture(row["image"].image(), pairs))
        places.setdefault(author, row["name"].at)
    return pictures, places


def _all_questions(
    folder: Path, forget: Mapping[int, Mapping[str, str]], pictures: Mapping[str, list], text_pairs: Mapping
) -> tuple[dict[int, Questions], Questions]:
    """Questions about people to forget, by ratio, and about people to retain."""
    by_ratio = {}
    for ratio, names in forget.items():
        config = f"forget{ratio:02d}"
        by_ratio[ratio], places = _questions(folder, f"{config}_perturbed", pictures, text_pairs)
        check_same(config, names, f"{config}_perturbed", places)
    retain, places = _questions(folder, "retain_perturbed", pictures, text_pairs)
    for ratio, names in forget.items():
        check_apart(f"forget{ratio:02d}", names, places)
    return by_ratio, retain


def _questions(
    folder: Path, config: str, pictures: Mapping[str, list], text_pairs: Mapping
) -> tuple[Questions, dict[str, str]]:
    """Evaluation questions from the rows of a perturbed configuration.

    Args:
        pictures: name -> pictures; one that is only in questions is added.
    Returns:
        name -> questions; name -> where it is first.
    """
    questions: dict[str, list[Question]] = {}
    places: dict[str, str] = {}
    for row in read_rows(folder, config, ["image", "caption", "name", "perturbed_names"]):
        name = row["name"].text()
        if name not in pictures:
            raise DataError(f"{row['name'].at}: {name} is not in full")
        places.setdefault(name, row["name"].at)
        picture = _picture_number(pictures[name], row["image"].image())
        about = questions.setdefault(name, [])
        number, (right, options) = len(about) // 2, _options(row["perturbed_names"], name)
        about += [
            Question(f"{name}/classification/vqa/{number}", "classification", "vqa", NAME_QUESTION, right,
                     options, picture),
            Question(f"{name}/generation/vqa/{number}", "generation", "vqa", CAPTION_QUESTION,
                     row["caption"].text(), picture=picture),
        ]  # fmt: skip
    for name, about in questions.items():
        for number, (question, answer) in enumerate(text_pairs[name]):
            about.append(Question(f"{name}/generation/qa/{number}", "generation", "qa", question, answer))
    return {name: tuple(about) for name, about in questions.items()}, places


def _picture_number(pictures: list[Picture], content: bytes) -> int:
    """Which of a person's pictures it is; one that is only in questions becomes the last."""
    known = [p.image for p in pictures]
    if content not in known:
        pictures.append(Picture(content))
    return known.index(content) if content in known else len(known)


def _faces(folder: Path) -> tuple[Person, ...]:
    """Real faces, each to be named from a list of names; one person a name."""
    faces: dict[str, Person] = {}
    for row in read_rows(folder, "real_faces", ["image", "answer", "options"]):
        name, content = row["answer"].text(), row["image"].image()
        choice = _options(row["options"], name)
        person = faces.get(name, Person(f"real-{name}", name))
        faces[name] = _with_choice(person, "real_faces", NAME_QUESTION, choice, content)
    return tuple(faces.values())


def _world(folder: Path, faces: Sequence[Person]) -> tuple[Person, ...]:
    """Questions about the real world, with a picture where the data have one.

    Those with the same picture are one "person", and of the person among `faces` whose picture it is: they
    stand and fall together, in intervals and in the choice of selection people.
    """
    ids = {picture.image: person.id for person in faces for picture in person.pictures}
    world: dict[str, Person] = {}
    columns = ["question", "answer", "options"]
    for number, row in enumerate(read_rows(folder, "real_world", columns, ["image"])):
        content = row["image"].image() if row["image"].has_image() else None
        choice = _options(row["options"], row["answer"].text())
        id = f"world-{number:03d}"
        if content:
            id = ids.get(content, f"world-{hashlib.sha256(content).hexdigest()[:12]}")
        person, question = world.get(id, Person(id, "")), row["question"].text()
        world[id] = _with_choice(person, "real_world", question, choice, content)
    return tuple(world.values())


def _with_choice(
    person: Person, config: str, text: str, choice: tuple[str, dict[str, str]], content: bytes | None
) -> Person:
    """The person with one more multiple choice, about a picture (`content`) or in text.

    Args:
        choice: from `_options`.
    """
    images = [p.image for p in person.pictures]
    if content and content not in images:
        images.append(content)
    modality = "vqa" if content else "qa"
    id = f"{person.id}/{config}/{modality}/{len(person.questions)}"
    picture = images.index(content) if content else 0
    question = Question(id, "classification", modality, text, *choice, picture)
    pictures = tuple(Picture(image) for image in images)
    return replace(person, pictures=pictures, questions=(*person.questions, question))


def _options(options: Cell, right: str) -> tuple[str, dict[str, str]]:
    """(right letter, letter -> option), in an order that follows from the options alone.

    The data list only wrong options. An order drawn from a stream of random numbers, as is usual, would
    depend on what was drawn before.
    """
    wrong = [option.text() for option in options.items()]
    if not wrong or right in wrong or len(set(wrong)) < len(wrong) or len(wrong) >= len(LETTERS):
        raise DataError(
            f"{options.at}: the answer {right!r} and the other options {wrong} must be 2 to {len(LETTERS)}, "
            "all different"
        )
    order = sorted([right, *wrong], key=lambda o: hashlib.sha256(f"{right} {wrong} {o}".encode()).digest())
    return LETTERS[order.index(right)], dict(zip(LETTERS, order))
