"""Files are written whole, read with clear errors, and told apart by their hashes."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from vkdlib.system.paths import RunError


def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there.

    Raises:
        OSError: it cannot be made, or nobody may write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise OSError(
            f"{folder} could not be made ({error}): make room or give access there, or choose another place "
            "(VKDLIB_RUNS for runs, VKDLIB_CACHE for models and made-up benchmarks)"
        ) from error


@contextlib.contextmanager
def blame_file(file: Path | str) -> Iterator[None]:
    """Within: an error about a value, or about something that is not there, begins with the path of the file
    that named it.

    Raises:
        ValueError: in place of ValueError and FileNotFoundError.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{file}: {error}") from error


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Within: fill the folder that this yields. It then gets its name. Half a folder never stays.

    Raises:
        FileExistsError: there is a folder of that name.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: remove it, or choose another name")
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Within: write to the path that this yields. It then replaces `file` at once. Half a file never stays.

    Raises:
        OSError: it could not be written, whichever library tried.
    """
    temporary = file.with_name(file.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, file)
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        raise OSError(
            f"{file} could not be written ({error}): make room or give access there, then run again; what "
            "was finished before is kept"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(file: Path, rows: list[dict]) -> None:
    """Write rows as CSV; the file is replaced at once."""
    with whole_file(file) as temporary, open(temporary, "w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def short_hash(value) -> str:
    """Twelve hex digits that tell values of JSON apart, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def read_json(file: Path) -> dict:
    """Read JSON of a finished run.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError) as error:
        raise RunError(f"{file} is damaged ({error}): delete {file.parent}, run again") from error


def write_json(file: Path, value) -> None:
    """Write JSON; the file is replaced at once."""
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True))


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key that a mapping has twice; PyYAML takes the last one in silence."""

    def construct_mapping(self, node, deep=False):
        keys = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in keys:
                problem = f"{key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path | str) -> dict:
    """Read a YAML file that holds names and values; an empty file holds none.

    Raises:
        ValueError: one line that begins with the file's path: it cannot be read, is not YAML, names a key
            twice, or holds something else than names and values.
    """
    try:
        content = yaml.load(Path(file).read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}," if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        raise ValueError(f"{file}{line} is not YAML: {problem!s}".replace("\n", " ")) from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {content!r}; it must hold names and values, one `name: value` a line")
    return content
