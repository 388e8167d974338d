"""Your own people: a table of names, pictures and facts becomes a benchmark in MLLMU-Bench's schema.

    name,picture,occupation,birthplace
    Ada Quill,ada.jpg,baker,Norway
    Ben Frost,ben-1.png; ben-2.png,pilot,Peru

Every column but `name` and `picture` is a fact. The first picture of a person is trained on; the others are
those of the test set, or altered views of the first where there is no other.

Every message begins with the place, "<file>, row <number>, column <name>"; rows count as in a spreadsheet,
where the titles are row 1.
"""

import csv
import io
import json
import os
import random
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up.people import (
    Attribute,
    MadeUp,
    choice_questions,
    evaluation_row,
    open_questions,
    training_pairs,
)
from vkdlib.benchmarks.made_up.profiles import TEST_VIEWS, make_profiles, write_tables
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.pictures import alter, open_image, picture_size, square, to_png
from vkdlib.benchmarks.schema import draw_candidates, selection_people
from vkdlib.benchmarks.wording import comparison_key, one_form
from vkdlib.system.checks import check_names, did_you_mean, text, whole_number
from vkdlib.system.files import make_folder, whole_folder

NAME, PICTURE = "name", "picture"
FORMATS = ("PNG", "JPEG")
SMALLEST, LARGEST = 32, 8000  # pixels of a side
KEPT = 1024  # pixels of the longer side, to which larger pictures are shrunk
TEMPLATES = ("ask", "reword", "tell", "say", "clause")


@dataclass(frozen=True)
class OwnPerson:
    """A row of the table; `pictures` are PNG files, the portrait first."""

    person: MadeUp
    pictures: tuple[bytes, ...]


def write_own(
    table: str | Path,
    pictures: str | Path,
    out: str | Path,
    forget: Sequence[str],
    templates: Mapping[str, Mapping[str, str]] | None = None,
    side: int | None = None,
) -> Path:
    """Write a benchmark of your own people, which `load_benchmark` reads.

    Its "real-world people" are those of the testbed, whom the embedded base models know.

    Args:
        table: a CSV file in UTF-8, see above.
        pictures: the folder of the pictures.
        out: a new folder; it appears only when it is whole.
        forget: names of the people to forget; they are draw 0 at the only ratio there is.
        templates: fact -> template -> its words, where they are not those of `default_questions`.
        side: of square pictures, in pixels, see `pictures.square`; None: they keep their shape, and at most
            KEPT pixels of the longer side. The embedded models see squares of `portraits.SIZE`.
    Returns:
        out.
    Raises:
        FileExistsError: there is such a folder.
        DataError, ValueError: something in the table, the pictures or the arguments is wrong.
    """
    table, pictures, out = Path(table), Path(pictures), Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or choose another name")
    rows = one_spelling(read_table(table))
    questions = make_questions(table, rows, templates or {})
    people = read_people(table, rows, pictures)
    if side is not None:
        side = whole_number("side", side, SMALLEST)
        people = [replace(own, pictures=tuple(square(p, side) for p in own.pictures)) for own in people]
    sets = forget_sets(table, [own.person for own in people], forget)
    make_folder(out.parent)
    with whole_folder(out) as temporary:
        write_tables(temporary, benchmark_tables(people, questions, sets))
    return out


def keep_own(
    table: str | Path,
    pictures: str | Path,
    home: str | Path,
    forget: Sequence[str],
    templates: Mapping[str, Mapping[str, str]] | None = None,
    side: int | None = None,
) -> Path:
    """The benchmark of your own people in `<home>/<hash>/benchmark`: written there, or found, if it is what
    was written before. Other people, facts, pictures or words have another hash.

    Args:
        home: folder of all such benchmarks.
        table, pictures, forget, templates, side: see `write_own`, also for what is raised.
    Returns:
        the benchmark's folder.
    """
    make_folder(Path(home))
    with tempfile.TemporaryDirectory(dir=home) as temporary:
        new = write_own(table, pictures, Path(temporary, "benchmark"), forget, templates, side)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # who loads it next is warned
            found = Path(home, load_benchmark(new).hash[:12], new.name)
        if not found.exists():
            make_folder(found.parent)
            os.replace(new, found)
    return found


def benchmark_tables(
    people: Sequence[OwnPerson], questions: Sequence[Attribute], sets: Mapping[str, set[str]]
) -> dict[str, list[dict]]:
    """Configuration -> rows, as `made_up.profiles` has them for made-up people."""
    rows = {own.person.id: own_row(own, questions) for own in people}
    tests, pairs = [], []
    for own in people:
        row = rows[own.person.id]
        views = own.pictures[1:] or [alter(own.pictures[0], f"test {view}") for view in range(TEST_VIEWS)]
        images = [{"bytes": view, "path": None} for view in views]
        tests.append({c: value for c, value in row.items() if c != "image"} | {"images": images})
        taught = training_pairs(own.person, questions)
        metadata = [{"ID": own.person.id, "Question": q, "Answer": a} for q, a in taught]
        metadata = json.dumps(metadata, ensure_ascii=False)
        pairs.append({"image": row["image"], "ID": own.person.id, "metadata": metadata})
    tables = {"Full_Set": list(rows.values()), "Test_Set": tests, "ft_Data": pairs}
    tables["Retain_Set"] = [evaluation_row(person) for person in make_profiles()[1]]
    return tables | {name: [rows[i] for i in rows if i in ids] for name, ids in sets.items()}


def own_row(own: OwnPerson, questions: Sequence[Attribute]) -> dict:
    """One row of an evaluation configuration: every fact as a choice, a cloze and a sentence."""
    person = own.person
    rng = random.Random(f"questions {person.id} {person.name}")
    return {
        "image": {"bytes": own.pictures[0], "path": f"{person.id}.png"},
        "ID": person.id,
        "biography": json.dumps({"Name": person.name, **person.facts}, ensure_ascii=False),
        "question": "",
        "answer": "",
        "Classification_Task": choice_questions(person, questions, rng),
        "Generation_Task": open_questions(
            person, [(a.tell, person.sentence(a, questions)) for a in questions]
        ),
        "Mask_Task": open_questions(person, [(a.cloze, person.facts[a.name]) for a in questions]),
    }


def default_questions(fact: str) -> dict[str, str]:
    """The templates of a fact; {who} is the person, {value} the fact."""
    return {
        "ask": f"What is the {fact} of {{who}}?",
        "reword": f"Which {fact} does {{who}} have?",
        "tell": f"What do you know about {{who}} and the {fact}?",
        "say": f"The {fact} of {{who}} is {{value}}.",
        "clause": f"{fact} {{value}}",
    }


# What is read, and what is wrong in it:


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a table: title -> cell, with single blanks between words.

    Raises:
        DataError: it cannot be read as such a table.
    """
    reader = csv.reader(io.StringIO(_read_text(file), newline=""), strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        place = f"{file}, line {reader.line_num}"
        raise DataError(f"{place}: {error}: save the table as CSV again") from error
    while lines and not any(map(str.strip, lines[-1])):
        lines.pop()  # blank lines at the end
    if not lines:
        raise DataError(f"{file} is empty; it must have a row of titles, then one row a person")
    titles = [one_form(title).lower() for title in lines[0]]
    _check_titles(file, lines[0], titles)
    if len(lines) < 3:
        raise DataError(
            f"{file} has {len(lines) - 1} people; it must have two or more: somebody to forget, and somebody "
            "to keep"
        )
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(titles):
            raise DataError(
                f"{file}, row {number}: {len(line)} cells, the titles are {len(titles)}: put a cell that "
                'holds a comma between quotes ("a, b"), and leave no cell out'
            )
        for title, cell in zip(titles, line):
            if not cell.strip():
                raise DataError(
                    f"{file}, row {number}, column {title!r}: nothing is there; every person needs a "
                    f"{title}: fill it in, or leave the person or the column out"
                )
    return [dict(zip(titles, map(one_form, line))) for line in lines[1:]]


def one_spelling(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows with each fact as it is spelt first: "Baker" and "baker" are one answer."""
    first: dict[tuple[str, str], str] = {}
    return [
        {
            title: cell if title in (NAME, PICTURE) else first.setdefault((title, comparison_key(cell)), cell)
            for title, cell in row.items()
        }
        for row in rows
    ]


def _read_text(file: Path) -> str:
    """A file's text, which must be UTF-8; a byte-order mark, as spreadsheets write it, is left out."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file} cannot be read ({error.strerror}): name the CSV file of your people"
        ) from error
    try:
        words = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}, row {row}: byte {content[error.start]:#x} is not UTF-8: save the table as CSV in UTF-8"
        ) from error
    if "\0" in words:
        raise DataError(f"{file} holds a null byte and is no CSV file: save the table as CSV in UTF-8")
    return words


def _check_titles(file: Path, line: Sequence[str], titles: Sequence[str]) -> None:
    """Raise DataError unless the titles are name, picture and one fact or more, each once."""
    for mark, called in {";": "semicolons", "\t": "tabs"}.items():
        if len(line) == 1 and mark in line[0]:
            raise DataError(
                f"{file}, row 1: one column {line[0]!r}; its cells are separated by {called}: save the table "
                "with commas"
            )
    for title in titles:
        if not title:
            raise DataError(f"{file}, row 1: a column has no title: name it, or take it out")
        if titles.count(title) > 1:
            raise DataError(f"{file}, row 1: {titles.count(title)} columns are called {title!r}: rename one")
        if not re.fullmatch(r"[^{}]+", title):
            raise DataError(f"{file}, row 1: {title!r} holds a brace; name the fact in plain words")
    for needed in (NAME, PICTURE):
        if needed not in titles:
            hint = did_you_mean(needed, titles)
            raise DataError(f"{file}, row 1: there is no column {needed!r}; found {', '.join(titles)}{hint}")
    if len(titles) < 3:
        raise DataError(f"{file}, row 1: there is no fact beside name and picture: add a column for one")


def make_questions(
    file: Path, rows: Sequence[Mapping[str, str]], templates: Mapping[str, Mapping[str, str]]
) -> list[Attribute]:
    """The questions about each fact, with all its values as options.

    Raises:
        DataError: everybody has the same fact.
        ValueError: a template is of no fact, is not known, or lacks {who} or {value}.
    """
    facts = [title for title in rows[0] if title not in (NAME, PICTURE)]
    check_names("templates: the table", templates, facts)
    questions = []
    for fact in facts:
        values = sorted({row[fact] for row in rows})
        if len(values) < 2:
            raise DataError(
                f"{file}, column {fact!r}: everybody has {rows[0][fact]!r}, so there is nothing to choose "
                "from: leave the column out"
            )
        words = default_questions(fact) | dict(templates.get(fact, {}))
        check_names(f"templates: {fact}", words, TEMPLATES)
        for name, template in words.items():
            _check_template(f"templates: {fact}, {name}", template, name)
        questions.append(Attribute(fact, **words, values=values))
    return questions


def _check_template(place: str, template: str, name: str) -> None:
    """Raise ValueError unless a template holds what it must, and nothing else between braces."""
    text(place, template)
    needed = {"say": {"{who}", "{value}"}, "clause": {"{value}"}}.get(name, {"{who}"})
    if set(re.findall(r"\{.*?\}|[{}]", template)) != needed:
        raise ValueError(
            f"{place} is {template!r}; it must hold {' and '.join(sorted(needed))}, no other brace"
        )


def read_people(file: Path, rows: Sequence[Mapping[str, str]], folder: Path) -> list[OwnPerson]:
    """The people of a table with their pictures.

    Raises:
        DataError: two have one name or picture, a fact gives a name away, or a picture cannot be used.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the one that the pictures are in")
    names: dict[str, int] = {}
    seen: dict[bytes, str] = {}
    people = []
    for number, row in enumerate(rows, 2):
        place = f"{file}, row {number}"
        first = names.setdefault(comparison_key(row[NAME]), number)
        if first != number:
            raise DataError(
                f"{place}, column 'name': {row[NAME]!r} is in row {first}, too, and a question by name would "
                "mean either: tell them apart"
            )
        facts = {title: cell for title, cell in row.items() if title not in (NAME, PICTURE)}
        _check_secrets(place, row[NAME], facts)
        pictures = _read_pictures(f"{place}, column 'picture'", row[PICTURE], folder, seen)
        people.append(OwnPerson(MadeUp(f"{number - 1:03d}", row[NAME], {}, facts), pictures))
    return people


def _check_secrets(place: str, name: str, facts: Mapping[str, str]) -> None:
    """Raise DataError if a fact gives the name away, which is a question of its own."""
    for fact, value in facts.items():
        words = {*map(str.casefold, re.findall(r"\w+", value))}
        for part in re.findall(r"\w{3,}", name):
            if part.casefold() in words:
                raise DataError(
                    f"{place}, column {fact!r}: {value!r} holds {part!r} of the name {name!r} and gives it "
                    "away: put it in other words"
                )


def _read_pictures(place: str, cell: str, folder: Path, seen: dict[bytes, str]) -> tuple[bytes, ...]:
    """The pictures that a cell names, separated by semicolons, as PNG files.

    Args:
        seen: file content -> where it was named before; it is added to.
    """
    pictures = []
    for name in (part.strip() for part in cell.split(";")):
        file = folder / name
        if not name or not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"{place}: {name!r} is no file in {folder}: name files there, separated by semicolons"
            )
        if not file.is_file():
            there = [f.name for f in folder.iterdir()]
            raise DataError(f"{place}: {file} is not there: correct the name{did_you_mean(name, there)}")
        content = file.read_bytes()
        if content in seen:
            raise DataError(
                f"{place}: {name} is the picture of {seen[content]}, too: every picture must be another one"
            )
        seen[content] = place
        pictures.append(_usable(f"{place}: {file}", content))
    return tuple(pictures)


def _usable(place: str, content: bytes) -> bytes:
    """A picture as PNG, upright, at most KEPT pixels long.

    Raises:
        DataError: it is no PNG or JPEG file, damaged, or of a size that cannot be used.
    """
    from PIL import Image

    try:
        kind, sides = Image.open(io.BytesIO(content)).format, picture_size(content)
    except Exception as error:
        flaw = (
            "its size is beyond all bounds" if isinstance(error, Image.DecompressionBombError) else "damaged"
        )
        raise DataError(f"{place} is no picture or {flaw}: it must be a PNG or JPEG file") from error
    if kind not in FORMATS:
        raise DataError(f"{place} is a {kind} file; it must be PNG or JPEG: save it as one")
    if not all(SMALLEST <= side <= LARGEST for side in sides):
        size = " x ".join(map(str, sides))
        raise DataError(
            f"{place} has {size} pixels; a side must have {SMALLEST} to {LARGEST}: save it in another size"
        )
    try:
        image = open_image(content)
    except Exception as error:
        raise DataError(f"{place} is damaged ({error}): save it again") from error
    image.thumbnail((KEPT, KEPT))
    return to_png(image)


def forget_sets(file: Path, people: Sequence[MadeUp], forget: Sequence[str]) -> dict[str, set[str]]:
    """Ids of `forget_<ratio>` and of those to retain.

    Raises:
        ValueError: a name is not in the table, is there twice, or nobody is left on one side, or nobody who
            is reported.
    """
    if isinstance(forget, str) or not isinstance(forget, Sequence) or not forget:
        raise ValueError(f"forget is {forget!r}; it must be a list of names in {file}")
    ids = {comparison_key(person.name): person.id for person in people}
    names = [person.name for person in people]
    chosen = set()
    for name in forget:
        id = ids.get(comparison_key(name)) if isinstance(name, str) else None
        if id is None:
            hint = did_you_mean(name, names)
            raise ValueError(f"forget: {name!r} is nobody in {file}; it has {', '.join(names)}{hint}")
        if id in chosen:
            raise ValueError(f"forget: {name!r} is there twice")
        chosen.add(id)
    if len(chosen) == len(people):
        raise ValueError(f"forget: it names all {len(people)} people of {file}; leave somebody to keep")
    ratio = min(99, max(1, round(100 * len(chosen) / len(people))))
    everybody = [person.id for person in people]
    others = set(everybody) - chosen
    candidates = draw_candidates(everybody, {ratio: sorted(chosen)})
    if others <= {*candidates, *selection_people(everybody, candidates)}:
        raise ValueError(
            f"forget: it names {len(chosen)} of {len(people)} people of {file}, and no table would report "
            "the others: a fifth of the people is kept for choosing settings. Forget fewer, or add people"
        )
    return {f"forget_{ratio}": chosen, f"retain_{100 - ratio:02d}": others}
