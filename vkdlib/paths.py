"""Where things are: repository, cache, what is shipped; how a file is written whole and known again."""

import contextlib
import csv
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKPOINTS = PACKAGE / "checkpoints"  # shipped weights of the embedded models


class RunError(RuntimeError):
    """A run's folder is not what its DONE file says."""


def root() -> Path:
    """The folder that holds notebooks/ and figures/: VKDLIB_ROOT, the checkout, or where you are."""
    if "VKDLIB_ROOT" in os.environ:
        return Path(os.environ["VKDLIB_ROOT"])
    checkout = PACKAGE.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def runs() -> Path:
    """Where run folders are kept: VKDLIB_RUNS, or runs/ beside notebooks/."""
    return Path(os.environ.get("VKDLIB_RUNS", root() / "runs"))


def figures() -> Path:
    """Where figures and tables go; their data go to `figures()/data`."""
    return root() / "figures"


def cache() -> Path:
    """Where what can be made again is kept: VKDLIB_CACHE, or ~/.cache/vkdlib."""
    return Path(os.environ.get("VKDLIB_CACHE", Path.home() / ".cache" / "vkdlib"))


def places() -> dict[str, str]:
    """The environment in which a process that starts elsewhere finds the same folders."""
    found = {"VKDLIB_ROOT": root(), "VKDLIB_RUNS": runs(), "VKDLIB_CACHE": cache()}
    return {name: str(folder.absolute()) for name, folder in found.items()}


def cached_models() -> Path:
    """Where embedded models that are not shipped are kept; another folder for another way to make them."""
    digest = hashlib.sha256()
    for file in sorted((PACKAGE / "testbed").glob("*.py")):
        digest.update(file.read_bytes())
    return cache() / "models" / digest.hexdigest()[:12]


def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there.

    Raises:
        OSError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder} could not be made ({error}): make room or give access there, or choose another place "
            "(VKDLIB_RUNS for runs, VKDLIB_CACHE for models)"
        ) from error


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Within: fill the folder this yields; then it gets its name. Half a folder never stays.

    Raises:
        FileExistsError: there is a folder of that name.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: remove it, or choose another name")
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Within: write to the path this yields; then `file` is replaced at once. Half a file never stays.

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
    """Write rows as CSV under another name, then put the whole file in place at once."""
    with whole(file) as temporary, open(temporary, "w", newline="") as f:
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
