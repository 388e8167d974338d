"""CLEAR by its published schema: authors of TOFU with pictures, captions and questions in text.

Configurations, each a folder of parquet files: full (image, caption, name), full+tofu (the same, then
questions in text), forgetNN and retainNN (the same columns for 1, 5 and 10 % of the authors and for the
others), forgetNN_perturbed and retain_perturbed (wrong names to choose from), real_faces and real_world.
The forgetNN+tofu and retainNN+tofu are parts of full+tofu and are not read.

We give CLEAR's questions the kinds of MLLMU-Bench. To name the person in a picture is classification. To
describe a picture and to answer TOFU's questions is generation. The data hold no question about a picture;
`wording` has ours.
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
    # A person to forget has the questions of the largest forget set. Where a smaller set has other rows
    # (forget10_perturbed has one row less than forget10), its ratio has questions of its own.
    questions = retain | {n: q for of_ratio in by_ratio.values() for n, q in of_ratio.items()}
    own = {r: {n: q for n, q in of_ratio.items() if q != questions[n]} for r, of_ratio in by_ratio.items()}
    own = {ratio: of_ratio for ratio, of_ratio in own.items() if of_ratio}
    tests = _test_images(folder, pictures)
    people = {
        n: Person(n, n, tuple(pictures[n]), text_pairs[n], questions.get(n, ()), tuple(tests[n]))
        for n in sorted(pictures)
    }
    faces = _faces(folder)
    forget_ids = {ratio: tuple(sorted(names)) for ratio, names in forget.items()}
    world = _world(folder, faces)
    return Benchmark(name, "clear", people, faces, forget_ids, world, frozenset(retain), own)


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


def _test_images(folder: Path, pictures: Mapping[str, list]) -> dict[str, list[bytes]]:
    """Name -> other pictures, where the data have any (the published ones have none)."""
    images: dict[str, list[bytes]] = {name: [] for name in pictures}
    if (folder / "Test_Set").exists():
        for row in read_rows(folder, "Test_Set", ["image", "name"]):
            name = row["name"].text()
            if name not in pictures:
                raise DataError(f"{row['name'].at}: {name} is not in full")
            images[name].append(row["image"].image())
    return images


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
        pictures: name -> pictures. A picture that only the questions have is added here.
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
                     row["caption"].text(), picture=picture, scene=True),
        ]  # fmt: skip
    for name, about in questions.items():
        for number, (question, answer) in enumerate(text_pairs[name]):
            about.append(Question(f"{name}/generation/qa/{number}", "generation", "qa", question, answer))
    return {name: tuple(about) for name, about in questions.items()}, places


def _picture_number(pictures: list[Picture], content: bytes) -> int:
    """The place of a picture among a person's; a new one becomes the last."""
    images = [p.image for p in pictures]
    if content not in images:
        pictures.append(Picture(content))
    return [*images, content].index(content)


def _faces(folder: Path) -> tuple[Person, ...]:
    """Real faces, each to be named from a list of names; one person a name."""
    faces: dict[str, Person] = {}
    for row in read_rows(folder, "real_faces", ["image", "answer", "options"]):
        name = row["answer"].text()
        person = faces.get(name, Person(f"real-{name}", name))
        faces[name] = _with_choice(person, "real_faces", row, NAME_QUESTION, row["image"].image())
    return tuple(faces.values())


def _world(folder: Path, faces: Sequence[Person]) -> tuple[Person, ...]:
    """Questions about the real world, with a picture where the data have one.

    All questions about one picture belong to one "person", who is the person of `faces` with this picture, if
    there is one. So intervals and the choice of selection people never separate them.
    """
    ids = {picture.image: person.id for person in faces for picture in person.pictures}
    world: dict[str, Person] = {}
    columns = ["question", "answer", "options"]
    for number, row in enumerate(read_rows(folder, "real_world", columns, ["image"])):
        id, content = f"world-{number:03d}", row["image"].image() if row["image"].content() else None
        if content:
            id = ids.get(content, f"world-{hashlib.sha256(content).hexdigest()[:12]}")
        person = world.get(id, Person(id, ""))
        world[id] = _with_choice(person, "real_world", row, row["question"].text(), content)
    return tuple(world.values())


def _with_choice(
    person: Person, config: str, row: Mapping[str, Cell], text: str, content: bytes | None
) -> Person:
    """Add the multiple choice of a row to a person: about a picture (`content`), or in text (None)."""
    pictures, modality = list(person.pictures), "vqa" if content else "qa"
    picture = _picture_number(pictures, content) if content else 0
    choice = _options(row["options"], row["answer"].text())
    id = f"{person.id}/{config}/{modality}/{len(person.questions)}"
    question = Question(id, "classification", modality, text, *choice, picture)
    return replace(person, pictures=tuple(pictures), questions=(*person.questions, question))


def _options(options: Cell, right: str) -> tuple[str, dict[str, str]]:
    """(right letter, letter -> option). The data list only wrong options.

    The order follows from the options alone. A shuffle by a random number generator would depend on all
    shuffles before it.
    """
    wrong = [option.text() for option in options.items()]
    distinct = {right, *(option.value for option in options.items())}
    if not 2 <= len(wrong) + 1 <= len(LETTERS) or len(distinct) <= len(wrong):
        raise DataError(f"{options.at}: {right!r} and {wrong} must be 2 to {len(LETTERS)}, all different")
    order = sorted([right, *wrong], key=lambda o: hashlib.sha256(f"{right} {wrong} {o}".encode()).digest())
    return LETTERS[order.index(right)], dict(zip(LETTERS, order))
