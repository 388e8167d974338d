"""Read a benchmark's parquet files, checking what is read.

Every message begins with the place, "<file>: row <number>, column <name>"; rows count from 0.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vkdlib.benchmarks.pictures import open_image

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class DataError(ValueError):
    """The data on disk are not what the benchmark's schema promises."""


@dataclass(frozen=True)
class Cell:
    """A value of a table, or one nested in it. A method that says what it must be raises DataError otherwise.

    Attributes:
        at: its place, for messages.
    """

    at: str
    value: object

    def text(self) -> str:
        """It must be text; blanks around it are left out."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise DataError(f"{self.at}: {self.value!r} is not text")
        if LONE_SURROGATE.search(self.value):  # as JSON can write it; no tokenizer takes it
            raise DataError(f"{self.at}: {self.value!r} is not text: half of a character (a lone surrogate)")
        return self.value.strip()

    def json(self) -> "Cell":
        """What its JSON text holds. Python alone would take the last of two equal keys."""
        try:
            return Cell(self.at, json.loads(self.value, object_pairs_hook=_unique))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.at}: cannot be read as JSON ({error})") from error

    def fields(self) -> dict[str, "Cell"]:
        """It must have fields: name -> what is there."""
        if not isinstance(self.value, Mapping):
            raise DataError(f"{self.at}: not fields but {type(self.value).__name__}")
        return {name: Cell(f"{self.at}, {name}", value) for name, value in self.value.items()}

    def __getitem__(self, name: str) -> "Cell":
        """A field; one that is not there holds None."""
        return self.fields().get(name, Cell(f"{self.at}, {name}", None))

    def items(self) -> list["Cell"]:
        """It must be a list."""
        if not isinstance(self.value, list):
            raise DataError(f"{self.at}: not a list but {type(self.value).__name__}")
        return [Cell(f"{self.at}, item {number}", value) for number, value in enumerate(self.value)]

    def content(self) -> bytes | None:
        """The file of an image (a struct with `bytes`, or the bytes); None if there is none."""
        return (self.value.get("bytes") if isinstance(self.value, Mapping) else self.value) or None

    def image(self) -> bytes:
        """It must be an image that can be decoded."""
        if self.content() is None:
            raise DataError(f"{self.at}: there is no image")
        try:
            open_image(self.content())
        except Exception as error:
            raise DataError(f"{self.at}: cannot be decoded ({error})") from error
        return self.content()


def _unique(pairs: list[tuple[str, object]]) -> dict:
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"the key {key!r} is there {count} times")
    return dict(pairs)


def read_rows(
    folder: Path, config: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[dict[str, Cell]]:
    """Yield the rows of a configuration, all shards in order, with only the columns that are used.

    Args:
        columns: those that must be there. An ID must be text, and no two rows may have the same.
        optional: those that may be missing; their cells hold None then.
    Raises:
        DataError: no file, a file that cannot be read, a missing column, no row, an ID that is no text or
            is there twice.
    """
    files = sorted(Path(folder, config).glob("*.parquet"))
    if not files:
        raise DataError(f"{Path(folder, config)}: no parquet file; is the download complete?")
    where, places = None, {}
    for file in files:
        for number, row in enumerate(_table(file, columns, optional)):
            where = f"{file}: row {number}"
            if "ID" in row:
                add_once(places, Cell(f"{where}, column 'ID'", row["ID"]))
                where += f" (person {row['ID']})"
            yield {name: Cell(f"{where}, column {name!r}", row.get(name)) for name in (*columns, *optional)}
    if where is None:
        raise DataError(f"{Path(folder, config)}, column {columns[0]!r}: there is no row")


def _table(file: Path, columns: Sequence[str], optional: Sequence[str]) -> list[dict]:
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(file).names
        table = pq.read_table(file, columns=[c for c in (*columns, *optional) if c in present])
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); download it again") from error
    if missing := [c for c in columns if c not in present]:
        raise DataError(f"{file}: column {missing[0]!r} is missing (found {present})")
    return table.to_pylist()


def add_once(places: dict[str, str], cell: Cell) -> None:
    """Remember where a text is; raise if it was somewhere else before."""
    text = cell.text()
    if text in places:
        raise DataError(f"{cell.at}: {text} is there twice, before at {places[text]}")
    places[text] = cell.at


def read_forget_sets(
    folder: Path, column: str, whole: str, everybody: Mapping[str, str]
) -> dict[int, dict[str, str]]:
    """Ratio in per cent -> people to forget -> where they are first; the smallest ratio first.

    The people of forget_5 and retain_95 (or forget05 and retain95), and so on, are known by a column. Nobody
    may be in both; together they must be `everybody` (-> where), all people of the configuration `whole`; and
    those to forget must be as many as the name says.
    """
    sets, configs = {}, {}
    for config in sorted(f.name for f in folder.iterdir()):
        if match := re.fullmatch(r"forget(_?)(\d+)", config):
            ratio = int(match[2])
            if ratio in configs:
                both = f"{configs[ratio]} and {config} are both for {ratio} per cent"
                raise DataError(f"{folder}: {both}: leave one out")
            configs[ratio] = config
            retain_config = f"retain{match[1]}{100 - ratio:02d}"
            forget, retain = (_people(folder, name, column) for name in (config, retain_config))
            check_apart(config, forget, retain)
            check_same(whole, everybody, f"{config} or {retain_config}", forget | retain)
            if abs(len(forget) - len(everybody) * ratio / 100) >= 1:
                size = f"{len(forget)} of {len(everybody)} people, not {ratio} per cent"
                raise DataError(f"{folder / config}: it holds {size}: correct it or its name")
            sets[ratio] = forget
    if not sets:
        raise DataError(f"{folder}: no configuration forget_5, forget05 or of another ratio")
    return dict(sorted(sets.items()))


def _people(folder: Path, config: str, column: str) -> dict[str, str]:
    """Who is in a configuration -> where they are first."""
    places: dict[str, str] = {}
    for row in read_rows(folder, config, [column]):
        places.setdefault(row[column].text(), row[column].at)
    return places


def check_same(one: str, people: Mapping[str, str], other: str, others: Mapping[str, str]) -> None:
    """Raise DataError unless two configurations are about the same people (-> where they are)."""
    for config, members, places in ((one, people, others), (other, others, people)):
        if unknown := places.keys() - members.keys():
            raise DataError(f"{places[min(unknown)]}: {min(unknown)} is not in {config}")


def check_apart(config: str, people: Mapping[str, str], others: Mapping[str, str]) -> None:
    """Raise DataError if somebody of a configuration (-> where they are) is among others, too."""
    if shared := people.keys() & others.keys():
        name = min(shared)
        raise DataError(f"{others[name]}: {name} is in {config}, too, at {people[name]}")
