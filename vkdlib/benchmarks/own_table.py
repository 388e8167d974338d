"""What is read of your own people: a table of names, pictures and facts (CSV), and the files of the pictures.

    name,picture,occupation,birthplace
    Ada Quill,ada.jpg,baker,Norway
    Ben Frost,ben-1.png; ben-2.png,pilot,Peru

Every column but `name` and `picture` (or `pictures`) is a fact. The first picture of a person is trained on;
the others are for the test.

Every message begins with the place, "<file>, row <number>, column <name>"; rows count as in a spreadsheet,
where the titles are row 1.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vkdlib.benchmarks.made_up.people import MadeUp
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.pictures import open_image, picture_size, to_png
from vkdlib.benchmarks.wording import comparison_key, one_form
from vkdlib.system.checks import did_you_mean

NAME, PICTURE = "name", "picture"
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "pipes"}  # which a table may not have
CONTROL = re.compile(r"<\S+?>")  # what a control token looks like: <image>, <|im_end|>, </s>
JOINERS = "\u200c\u200d"  # invisible, but they change the letters beside them
FORMATS = ("PNG", "JPEG", "MPO")  # MPO is a JPEG with more behind it, as many cameras write .jpg
SMALLEST, LARGEST = 32, 10_000  # pixels of a side
LONGEST = 4  # sides: a picture may be so many times as long as it is wide, or the other way round
KEPT = 1024  # pixels of the longer side, to which larger pictures are shrunk
# Of the parts of a name, these are no secret.
PARTICLES = frozenset("von van der den dem del della dos das des les los ibn bin bint and the".split())


@dataclass(frozen=True)
class OwnPerson:
    """A row of the table; `pictures` are PNG files, the portrait first."""

    person: MadeUp
    pictures: tuple[bytes, ...]


def table_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a table: title -> cell, with single blanks between words. A fact is always spelt as it is
    the first time: "Baker" and "baker" are one answer.

    Raises:
        DataError: it cannot be read as such a table.
    """
    lines = _lines(file)
    titles = _titles(file, lines[0])
    if len(lines) < 3:
        raise DataError(
            f"{file} has {len(lines) - 1} people; it must have two or more: somebody to forget, and somebody "
            "to keep"
        )
    rows = [_row(f"{file}, row {number}", titles, line) for number, line in enumerate(lines[1:], 2)]
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        for fact in fact_titles(row):
            row[fact] = first.setdefault((fact, comparison_key(row[fact])), row[fact])
    return rows


def fact_titles(row: Mapping[str, str]) -> list[str]:
    """The titles of the columns that are facts."""
    return [title for title in row if title not in (NAME, PICTURE)]


def _lines(file: Path) -> list[list[str]]:
    """The cells of each row, without blank rows at the end and the line `sep=,` that Excel may put first."""
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise DataError(
            f"{file}, line {reader.line_num}: {error}: look there and above for a quote that is not "
            "closed, or save the table as CSV again"
        ) from error
    while lines and not any(map(str.strip, lines[-1])):
        lines.pop()
    if lines and lines[0] and lines[0][0].lower().startswith("sep="):
        lines.pop(0)
    if not lines:
        raise DataError(f"{file} is empty; it must have a row of titles, then one row a person")
    return lines


def _text(file: Path) -> str:
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


def _titles(file: Path, line: Sequence[str]) -> list[str]:
    """The titles, which must be name, picture and one fact or more, each once."""
    place = f"{file}, row 1"
    for mark, separators in SEPARATORS.items():
        if len(line) == 1 and mark in line[0]:
            raise DataError(
                f"{place}: one column {line[0]!r}; its cells are separated by {separators}: save the table "
                "with commas"
            )
    titles = [_visible(title).lower() for title in line]
    titles = [PICTURE if title == "pictures" else title for title in titles]
    for title in titles:
        if not title:
            raise DataError(f"{place}: a column has no title: name it, or take it out")
        if titles.count(title) > 1:
            raise DataError(f"{place}: {titles.count(title)} columns are called {title!r}: rename one")
        if not re.fullmatch(r"[^{}]+", title):
            raise DataError(f"{place}: {title!r} holds a brace; name the fact in plain words")
        check_control(place, title)
    for column in (NAME, PICTURE):
        if column not in titles:
            raise DataError(
                f"{place}: there is no column {column!r}; found {', '.join(titles)}: rename the one that has "
                f"the {column}s"
            )
    if len(titles) < 3:
        raise DataError(f"{place}: there is no fact beside name and picture: add a column for one")
    return titles


def _row(place: str, titles: Sequence[str], line: Sequence[str]) -> dict[str, str]:
    """Title -> cell of a row, which must have them all."""
    cells = [*map(_visible, line)]
    if not any(cells):
        raise DataError(f"{place}: a blank row: take it out")
    if len(cells) != len(titles):
        raise DataError(
            f"{place}: {len(cells)} cells, the titles are {len(titles)}: put a cell that holds a comma "
            'between quotes ("a, b"), and leave no cell out'
        )
    for title, cell in zip(titles, cells):
        at = f"{place}, column {title!r}"
        if not cell.strip(JOINERS):
            raise DataError(
                f"{at}: nothing is there, and everybody needs something there: fill it in, or leave the "
                "person or the column out"
            )
        check_control(at, cell)
    return dict(zip(titles, cells))


def _visible(text: str) -> str:
    """A text in one form, without what cannot be seen (control characters, blanks of no width)."""
    letters = (c for c in text if c.isspace() or c in JOINERS or unicodedata.category(c) not in ("Cc", "Cf"))
    return one_form("".join(letters))


def check_control(place: str, text: str) -> None:
    """Raise DataError for a text in which a model could find a control token of its own."""
    if token := CONTROL.search(text):
        raise DataError(
            f"{place}: {text!r} holds {token[0]}, which a model could take for a control token: take it out"
        )


def read_people(file: Path, rows: Sequence[Mapping[str, str]], folder: Path) -> list[OwnPerson]:
    """The people of a table with their pictures.

    Raises:
        DataError: two have one name or picture, a fact or its title gives a name away, or a picture cannot be
            used.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name the one that the pictures are in")
    names: dict[str, int] = {}
    pixels: dict[bytes, str] = {}
    people = []
    for number, row in enumerate(rows, 2):
        place = f"{file}, row {number}"
        first = names.setdefault(comparison_key(row[NAME]), number)
        if first != number:
            raise DataError(
                f"{place}, column 'name': {row[NAME]!r} is in row {first}, too, and a question by name would "
                "mean either: tell them apart"
            )
        facts = {title: row[title] for title in fact_titles(row)}
        for fact, value in facts.items():
            check_secret(f"{file}, row 1", fact, row[NAME])
            check_secret(f"{place}, column {fact!r}", value, row[NAME])
        pictures = _read_pictures(f"{place}, column 'picture'", row[PICTURE], folder, pixels)
        people.append(OwnPerson(MadeUp(f"{number - 1:03d}", row[NAME], {}, facts), pictures))
    return people


def check_secret(place: str, text: str, name: str) -> None:
    """Raise DataError if a text gives away a name, which is a question of its own."""
    if gives_away(text, name):
        raise DataError(
            f"{place}: {text!r} holds a part of the name {name!r} and gives it away: put it in other words"
        )


def gives_away(text: str, name: str) -> bool:
    """Whether a text holds a name or a part of it, whatever the case and the accents.

    The name counts as a whole. A part counts as a word if it has three letters or more and is no particle,
    and at the beginning of a word if it has five: "Quillington" gives Ada Quill away, Benin does not give Ben
    away. In scripts that are written without blanks a part counts as a word, and within one if it has two
    letters.
    """
    words, parts = _plain_words(text), _plain_words(name)
    if parts and f" {' '.join(parts)} " in f" {' '.join(words)} ":
        return True
    return any(_holds_part(words, part) for part in {*parts, "".join(parts)} - PARTICLES - {""})


def _holds_part(words: Sequence[str], part: str) -> bool:
    if unicodedata.east_asian_width(part[0]) in "WF":
        return part in words or len(part) >= 2 and any(part in word for word in words)
    return len(part) >= 3 and part in words or len(part) >= 5 and any(w.startswith(part) for w in words)


def _plain_words(text: str) -> list[str]:
    """Words in small letters, without accents and signs."""
    bare = (c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) != "Mn")
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", "".join(bare)).casefold())


def _read_pictures(place: str, cell: str, folder: Path, pixels: dict[bytes, str]) -> tuple[bytes, ...]:
    """The pictures that a cell names, separated by semicolons, as PNG files.

    Args:
        pixels: of a picture, as PNG -> where it was named before; it is added to.
    """
    pictures = []
    for name in (part.strip() for part in cell.split(";")):
        file = folder / name
        if not name or not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"{place}: {name!r} is no file in {folder}: name files there, separated by semicolons"
            )
        try:
            content = file.read_bytes()
        except OSError as error:
            hint = did_you_mean(name, [other.name for other in folder.iterdir()])
            raise DataError(
                f"{place}: {file} cannot be read ({error.strerror}): correct the name{hint}"
            ) from error
        picture = _usable(f"{place}: {file}", content)
        if picture in pixels:
            raise DataError(
                f"{place}: {name} is the picture of {pixels[picture]}, too: every picture must be another one"
            )
        pixels[picture] = place
        pictures.append(picture)
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
    size = " x ".join(map(str, sides))
    if not all(SMALLEST <= side <= LARGEST for side in sides):
        raise DataError(
            f"{place} has {size} pixels; a side must have {SMALLEST} to {LARGEST}: save it in another size"
        )
    if max(sides) > LONGEST * min(sides):
        raise DataError(
            f"{place} has {size} pixels; one side may be at most {LONGEST} times as long as the other: cut "
            "out the face"
        )
    try:
        image = open_image(content)
    except Exception as error:
        raise DataError(f"{place} is damaged ({error}): save it again") from error
    image.thumbnail((KEPT, KEPT))
    return to_png(image)
