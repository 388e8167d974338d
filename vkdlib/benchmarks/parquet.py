"""Read a benchmark's parquet files, checking what is read.

Every message begins with the place, "<file>: row <number>, column <name>"; rows count from 0.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path


class DataError(ValueError):
    """The data on disk are not what the benchmark's schema promises."""


def rows(folder: Path, config: str, columns: Sequence[str], optional: Sequence[str] = ()):
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
                only_once(ids, text(where, row, "ID"), cell(where, "ID"))
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


def cell(where: str, column: str) -> str:
    """The place of a row's column, for messages."""
    return f"{where}, column {column!r}"


def only_once(places: dict[str, str], value: str, at: str) -> None:
    """Note where a value is, unless it was elsewhere before."""
    if value in places:
        raise DataError(f"{at}: {value} is there twice, before at {places[value]}")
    places[value] = at


def image(where: str, row: dict, column: str = "image") -> bytes:
    """A column that must hold an image (a struct with `bytes`, or the bytes), shown to decode."""
    return _decoded(cell(where, column), row[column])


def images(where: str, row: dict, column: str) -> tuple[bytes, ...]:
    """A column that must hold a list of images, at least one."""
    found = tuple(_decoded(at, value) for at, value in items(cell(where, column), row[column]))
    if not found:
        raise DataError(f"{cell(where, column)}: there is no image")
    return found


def _decoded(at: str, value) -> bytes:
    from PIL import Image

    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not content:
        raise DataError(f"{at}: there is no image")
    try:
        Image.open(io.BytesIO(content)).load()
    except Exception as error:
        raise DataError(f"{at}: cannot be decoded ({error})") from error
    return bytes(content)


def is_image(value) -> bool:
    """Whether a row has an image: None and a struct without bytes are none."""
    return bool(value.get("bytes") if isinstance(value, Mapping) else value)


def text(where: str, row: dict, column: str) -> str:
    """A column that must hold text."""
    if not _is_text(row[column]):
        raise DataError(f"{cell(where, column)}: {row[column]!r} is not text")
    return row[column]


def texts(where: str, row: dict, column: str) -> list[str]:
    """A column that must hold a list of texts, at least one."""
    value = row[column]
    if not value or not isinstance(value, list) or not all(_is_text(v) for v in value):
        raise DataError(f"{cell(where, column)}: {value!r} is not a list of texts")
    return value


def field(at: str, item, name: str) -> str:
    """A field that must hold text, of something nested in a column."""
    value = item.get(name) if isinstance(item, Mapping) else None
    if not _is_text(value):
        raise DataError(f"{at}: {name} is {value!r}, not text")
    return value


def struct(at: str, value) -> Mapping:
    """Something nested that must have fields."""
    if not isinstance(value, Mapping):
        raise DataError(f"{at}: not fields but {type(value).__name__}")
    return value


def items(at: str, value) -> list[tuple[str, object]]:
    """(place, item) of all items of something that must be a list."""
    if not isinstance(value, list):
        raise DataError(f"{at}: not a list but {type(value).__name__}")
    return [(f"{at}, item {number}", item) for number, item in enumerate(value)]


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def all_in(config: str, people: Collection[str], others: Mapping[str, str]) -> None:
    """Check that `others` (-> where they are) are all among `people`, those of a configuration."""
    if unknown := others.keys() - set(people):
        raise DataError(f"{others[min(unknown)]}: {min(unknown)} is not in {config}")


def to_forget(
    folder: Path, forget: str, retain: str, column: str, whole: str, everybody: Mapping[str, str]
) -> dict[str, str]:
    """People of the configuration `forget` -> where they are first.

    With those of the configuration `retain` they must be `everybody`, which is all people of the
    configuration `whole`; nobody may be in both.
    """
    gone, kept = {}, {}
    for config, places in ((forget, gone), (retain, kept)):
        for where, row in rows(folder, config, [column]):
            places.setdefault(text(where, row, column), cell(where, column))
    if both := gone.keys() & kept.keys():
        raise DataError(f"{kept[min(both)]}: {min(both)} is in {forget}, too, at {gone[min(both)]}")
    all_in(whole, everybody, gone | kept)
    all_in(f"{forget} or {retain}", gone | kept, everybody)
    return gone
