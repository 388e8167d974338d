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
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmark import Benchmark, Person, Picture, Question
from vkdlib.parquet import DataError, image, is_image, rows, text, texts

NAME_QUESTION = "What is the name of the person in the picture?"
CAPTION_QUESTION = "What does the picture show?"
LETTERS = "ABCDEFGHIJ"


def read_clear(folder: Path, name: str) -> Benchmark:
    """Read all configurations of a folder and check them. A person's id is the name.

    Raises:
        DataError: naming file, column and row, if the data are not as published.
    """
    pictures: dict[str, list[Picture]] = {}
    for where, row in rows(folder, "full", ["image", "caption", "name"]):
        author = text(where, row, "name")
        pairs = (CAPTION_QUESTION, text(where, row, "caption")), (NAME_QUESTION, author)
        pictures.setdefault(author, []).append(Picture(image(where, row["image"]), pairs))
    told = _told(folder, sorted(pictures))
    people = {n: Person(n, n, tuple(pictures[n]), tuple(told[n])) for n in sorted(pictures)}
    forget_ids = {}
    for config in sorted(f.name for f in folder.iterdir()):
        if match := re.fullmatch(r"forget(\d+)", config):
            forget_ids[int(match[1])] = _checked_split(folder, config, people)
    if not forget_ids:
        raise DataError(f"{folder}: no configuration forget01, forget05 or forget10")
    # Forget sets are nested (the last authors of TOFU), so the largest has the questions of all.
    largest = f"forget{max(forget_ids):02d}_perturbed"
    asked = {n for config in (largest, "retain_perturbed") for n in _ask(folder, config, people)}
    missing = sorted(set().union(*forget_ids.values()) - asked)
    if missing:
        raise DataError(f"{folder / largest}: no row for {missing[0]}, who is to be forgotten")
    retain = frozenset(asked - set().union(*forget_ids.values()))
    faces = _faces(folder)
    return Benchmark(name, people, faces, forget_ids, _world(folder, faces), retain)


def _told(folder: Path, authors: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """The questions in text of full+tofu by author.

    The rows do not say whose they are. TOFU asks equally many about every author, one author after the
    other; a block belongs to whom most of its rows name.
    """
    pairs = []
    for where, row in rows(folder, "full+tofu", ["question", "answer"], ["image"]):
        if not is_image(row["image"]):
            pairs.append((text(where, row, "question"), text(where, row, "answer")))
    size, rest = divmod(len(pairs), len(authors))
    if rest or not size:
        raise DataError(
            f"{folder / 'full+tofu'}: {len(pairs)} questions in text about {len(authors)} authors; there "
            "must be equally many about each"
        )
    told: dict[str, list] = {}
    for start in range(0, len(pairs), size):
        block = pairs[start : start + size]
        named = Counter(name for pair in block for name in authors if _plain(name) in _plain(" ".join(pair)))
        author = named.most_common(1)[0][0] if named else None
        if author is None or author in told:
            whom = f"{author}, as were others before" if author else "nobody of full"
            raise DataError(
                f"{folder / 'full+tofu'}: questions in text {start} to {start + size - 1} are about {whom}; "
                "each author's must stand together"
            )
        told[author] = block
    return told


def _plain(words: str) -> str:
    """Without accents and capitals."""
    return unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().casefold()


def _checked_split(folder: Path, config: str, people: Mapping) -> tuple[str, ...]:
    """Names to forget; with those to retain they must be everybody."""
    retain_config = f"retain{100 - int(config.removeprefix('forget')):02d}"
    forget, retain = (
        {text(where, row, "name") for where, row in rows(folder, part, ["name"])}
        for part in (config, retain_config)
    )
    if not forget:
        raise DataError(f"{folder / config}: the forget set is empty")
    for names, found in (
        (forget & retain, f"is in {config} and in {retain_config}"),
        ((forget | retain) - set(people), "is not in full"),
        (set(people) - forget - retain, f"is neither in {config} nor in {retain_config}"),
    ):
        if names:
            raise DataError(f"{folder / config}: {min(names)} {found}")
    return tuple(sorted(forget))


def _ask(folder: Path, config: str, people: dict[str, Person]) -> set[str]:
    """Give people their evaluation questions from the rows of a perturbed configuration.

    Returns:
        the names of those who were asked.
    """
    asked: dict[str, list[Question]] = {}
    columns = ["image", "caption", "name", "perturbed_names"]
    for where, row in rows(folder, config, columns):
        name = text(where, row, "name")
        if name not in people:
            raise DataError(f"{where}, column 'name': {name} is not in {folder / 'full'}")
        content, known = image(where, row["image"]), people[name].pictures
        number = next((i for i, p in enumerate(known) if p.image == content), len(known))
        if number == len(known):  # a picture that is only asked about
            people[name] = replace(people[name], pictures=(*known, Picture(content)))
        found = asked.setdefault(name, [])
        at, letters = len(found) // 2, _options(where, name, texts(where, row, "perturbed_names"))
        found.append(Question(f"{name}/classification/vqa/{at}", "classification", "vqa", NAME_QUESTION,
                              *letters, number))  # fmt: skip
        found.append(Question(f"{name}/generation/vqa/{at}", "generation", "vqa", CAPTION_QUESTION,
                              text(where, row, "caption"), picture=number))  # fmt: skip
    for name, found in asked.items():
        for at, (question, answer) in enumerate(people[name].text_pairs):
            found.append(Question(f"{name}/generation/qa/{at}", "generation", "qa", question, answer))
        people[name] = replace(people[name], questions=tuple(found))
    return set(asked)


def _faces(folder: Path) -> tuple[Person, ...]:
    """Real faces, each to be named from a list of names; one person a name."""
    found: dict[str, Person] = {}
    for where, row in rows(folder, "real_faces", ["image", "answer", "options"]):
        name, content = text(where, row, "answer"), image(where, row["image"])
        letters = _options(where, name, texts(where, row, "options"))
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
        content = image(where, row["image"]) if is_image(row["image"]) else None
        letters = _options(where, text(where, row, "answer"), texts(where, row, "options"))
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


def _options(where: str, right: str, wrong: list[str]) -> tuple[str, dict[str, str]]:
    """(right letter, letter -> option), in an order that follows from the options alone.

    The data list only wrong options. An order drawn from a stream of random numbers, as is usual, would
    depend on what was asked before.
    """
    if right in wrong or len(set(wrong)) < len(wrong) or len(wrong) >= len(LETTERS):
        found = f"{where}: the answer {right!r} and the other options {wrong}"
        raise DataError(f"{found} are not all different, and at most {len(LETTERS)}")
    order = sorted([right, *wrong], key=lambda o: hashlib.sha256(f"{right} {wrong} {o}".encode()).digest())
    options = dict(zip(LETTERS, order))
    return next(k for k, v in options.items() if v == right), options
