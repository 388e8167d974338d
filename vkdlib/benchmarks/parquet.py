"""Read a benchmark's parquet files, checking what is read.

Every message begins with the place, "<file>: row <number>, column <name>"; rows count from 0.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from vkdlib.benchmarks.pictures import open_image

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class DataError(ValueError):
    """The data on disk are not what the benchmark's schema promises."""


def read_rows(
    folder: Path, config: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict]]:
    """Yield (where, row) of a configuration, all shards in order, with only the columns that are used.

    Args:
        columns: must be there. An ID must be text, and stand in one row only.
        optional: may be missing; their value is None then.
    Raises:
        DataError: no file, a file that cannot be read, a missing column, no row, an ID that is no text or
            is there twice.
    """
    files = sorted(Path(folder, config).glob("*.parquet"))
    if not files:
        raise DataError(f"{Path(folder, config)}: no parquet file; is the download complete?")
    where, ids = None, {}
    for file in files:
        for number, row in enumerate(_table(file, columns, optional)):
            where = f"{file}: row {number}"
            if "ID" in row:
                add_once(ids, read_text(where, row, "ID"), place(where, "ID"))
                where += f" (person {row['ID']})"
            yield where, dict.fromkeys(optional) | row
    if where is None:
        raise DataError(f"{Path(folder, config)}, column {columns[0]!r}: there is no row")


def _table(file: Path, columns: Sequence[str], optional: Sequence[str]) -> list[dict]:
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(file).names
        missing = [c for c in columns if c not in present]
        if missing:
            raise DataError(f"{file}: column {missing[0]!r} is missing (found {present})")
        return pq.read_table(file, columns=[c for c in (*columns, *optional) if c in present]).to_pylist()
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: cannot be read ({error}); download it again") from error


def place(where: str, column: str) -> str:
    """The place of a row's column, for messages."""
    return f"{where}, column {column!r}"


def add_once(places: dict[str, str], value: str, at: str) -> None:
    """Remember where a value is; raise if it was somewhere else before."""
    if value in places:
        raise DataError(f"{at}: {value} is there twice, before at {places[value]}")
    places[value] = at


def read_image(where: str, row: dict, column: str = "image") -> bytes:
    """A column that must hold an image (a struct with `bytes`, or the bytes) that can be decoded."""
    return _decodable(place(where, column), row[column])


def read_images(where: str, row: dict, column: str) -> tuple[bytes, ...]:
    """A column that must hold a list of images, at least one."""
    images = tuple(_decodable(at, value) for at, value in read_items(place(where, column), row[column]))
    if not images:
        raise DataError(f"{place(where, column)}: there is no image")
    return images


def _decodable(at: str, value) -> bytes:
    if not has_image(value):
        raise DataError(f"{at}: there is no image")
    content = bytes(value["bytes"] if isinstance(value, Mapping) else value)
    try:
        open_image(content)
    except Exception as error:
        raise DataError(f"{at}: cannot be decoded ({error})") from error
    return content


def has_image(value) -> bool:
    """Whether a row has an image: None and a struct without bytes are none."""
    return bool(value.get("bytes") if isinstance(value, Mapping) else value)


def read_text(where: str, row: dict, column: str) -> str:
    """A column that must hold text."""
    if problem := _problem(row[column]):
        raise DataError(f"{place(where, column)}: {row[column]!r} is {problem}")
    return row[column]


def read_texts(where: str, row: dict, column: str) -> list[str]:
    """A column that must hold a list of texts, at least one."""
    value = row[column]
    if not value or not isinstance(value, list) or any(map(_problem, value)):
        raise DataError(f"{place(where, column)}: {value!r} is not a list of texts")
    return value


def read_field(at: str, item, name: str) -> str:
    """A field that must hold text, of something nested in a column."""
    value = item.get(name) if isinstance(item, Mapping) else None
    if problem := _problem(value):
        raise DataError(f"{at}: {name} is {value!r}, {problem}")
    return value


def read_struct(at: str, value) -> Mapping:
    """Something nested that must have fields."""
    if not isinstance(value, Mapping):
        raise DataError(f"{at}: not fields but {type(value).__name__}")
    return value


def read_items(at: str, value) -> list[tuple[str, object]]:
    """(place, item) of all items of something that must be a list."""
    if not isinstance(value, list):
        raise DataError(f"{at}: not a list but {type(value).__name__}")
    return [(f"{at}, item {number}", item) for number, item in enumerate(value)]


def _problem(value) -> str | None:
    """Why a value is not text; None: it is."""
    if not isinstance(value, str) or not value.strip():
        return "not text"
    if LONE_SURROGATE.search(value):  # as JSON can write it; no tokenizer takes it
        return "not text: half of a character (a lone surrogate)"
    return None


def check_members(config: str, people: Collection[str], others: Mapping[str, str]) -> None:
    """Raise DataError unless `others` (-> where they are) are all among a configuration's `people`."""
    if unknown := others.keys() - set(people):
        raise DataError(f"{others[min(unknown)]}: {min(unknown)} is not in {config}")


def read_forget_set(
    folder: Path, forget: str, retain: str, column: str, whole: str, everybody: Mapping[str, str]
) -> dict[str, str]:
    """People of the configuration `forget` -> where they are first.

    With those of the configuration `retain` they must be `everybody`, which is all people of the
    configuration `whole`; nobody may be in both.
    """
    forget_places, retain_places = {}, {}
    for config, places in ((forget, forget_places), (retain, retain_places)):
        for where, row in read_rows(folder, config, [column]):
            places.setdefault(read_text(where, row, column), place(where, column))
    if shared := forget_places.keys() & retain_places.keys():
        name = min(shared)
        raise DataError(f"{retain_places[name]}: {name} is in {forget}, too, at {forget_places[name]}")
    check_members(whole, everybody, forget_places | retain_places)
    check_members(f"{forget} or {retain}", forget_places | retain_places, everybody)
    return forget_places
