"""Read a benchmark's parquet files, checking what is read."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path


class DataError(ValueError):
    """The data on disk are not what the benchmark's schema promises."""


def rows(folder: Path, config: str, columns: Sequence[str], optional: Sequence[str] = ()):
    """Yield (where, row) of a configuration, all shards in order, with only the columns that are used.

    Args:
        columns: must be there.
        optional: may be missing; their value is None then.
    Raises:
        DataError: no file, a file that cannot be read, a missing column, an ID that is no text.
    """
    import pyarrow.parquet as pq

    files = sorted(Path(folder, config).glob("*.parquet"))
    if not files:
        raise DataError(f"{Path(folder, config)}: no parquet file; is the download complete?")
    for file in files:
        try:
            present = pq.read_schema(file).names
            missing = [c for c in columns if c not in present]
            if missing:
                raise DataError(f"{file}: column {missing[0]!r} is missing (found {present})")
            there = [c for c in (*columns, *optional) if c in present]
            found = pq.read_table(file, columns=there).to_pylist()
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file}: cannot be read ({error}); download it again") from error
        for number, row in enumerate(found):
            where = f"{file}: row {number}"
            if "ID" in row:
                if not isinstance(row["ID"], str):
                    raise DataError(f"{where}, column 'ID': {row['ID']!r} is not a string")
                where += f" (person {row['ID']})"
            yield where, dict.fromkeys(optional) | row


def image(where: str, value) -> bytes:
    """The bytes of an image, once they have been shown to decode.

    Args:
        where: file and row, for messages.
        value: a struct with `bytes`, or the bytes.
    """
    from PIL import Image

    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not content:
        raise DataError(f"{where}, column 'image': there is no image")
    try:
        Image.open(io.BytesIO(content)).load()
    except Exception as error:
        raise DataError(f"{where}, column 'image': cannot be decoded ({error})") from error
    return bytes(content)


def is_image(value) -> bool:
    """Whether a row has an image: None and a struct without bytes are none."""
    return bool(value.get("bytes") if isinstance(value, Mapping) else value)


def text(where: str, row: dict, column: str) -> str:
    """A column that must hold text."""
    if not isinstance(row[column], str) or not row[column].strip():
        raise DataError(f"{where}, column {column!r}: {row[column]!r} is not text")
    return row[column]


def texts(where: str, row: dict, column: str) -> list[str]:
    """A column that must hold a list of texts, at least one."""
    value = items(row[column])
    if not value or not all(isinstance(v, str) and v for v in value):
        raise DataError(f"{where}, column {column!r}: {value!r} is not a list of texts")
    return value


def items(value) -> list:
    """Nested lists come as lists from pyarrow and as arrays from pandas; None is an empty one."""
    return [] if value is None else list(value)
