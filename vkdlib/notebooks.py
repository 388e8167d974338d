"""vkdlib notebooks FOLDER: copy the notebooks and sweeps to a folder of your own."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from vkdlib.system import paths
from vkdlib.system.command import exit_status
from vkdlib.system.files import make_folder

CHECKOUT = paths.PACKAGE.parent / "notebooks"
INSTALLED = "share/vkdlib/notebooks/"  # below it a wheel puts them


def copy_notebooks(folder: str | Path) -> list[Path]:
    """Copy all notebooks, and the sweeps' files to a folder `sweeps` beside them. Where vkdlib was installed
    from a wheel, also the tables that notebooks show, to figures/data below the folder.

    Args:
        folder: it may be there, but none of the files may.
    Returns:
        the copies.
    Raises:
        FileExistsError: one of them is there already; nothing was copied.
        FileNotFoundError: this installation has none.
        OSError: they cannot be written.
    """
    copies = {file: Path(folder, place) for file, place in notebook_files()}
    if not copies:
        raise FileNotFoundError(
            f"{paths.PACKAGE.parent} has no notebooks: install vkdlib again, from a wheel"
        )
    for copy in copies.values():
        if copy.exists():
            raise FileExistsError(f"{copy} is there already: remove it, or choose another folder")
    for file, copy in copies.items():
        make_folder(copy.parent)
        shutil.copy(file, copy)
    return list(copies.values())


def notebook_files() -> Iterator[tuple[Path, str]]:
    """(file, its place among the copies): notebooks and sweeps of the checkout, whose tables notebooks find
    where they are; else all that the wheel brought."""
    if CHECKOUT.is_dir():
        for file in sorted([*CHECKOUT.glob("*.ipynb"), *CHECKOUT.glob("sweeps/*.yaml")]):
            yield file, file.relative_to(CHECKOUT).as_posix()
        return
    try:
        files = distribution("vkdlib").files or []
    except PackageNotFoundError:
        return
    for file in files:
        _, below, place = file.as_posix().partition(INSTALLED)
        if below:
            yield Path(file.locate()).resolve(), place


def main(arguments: list[str]) -> int:
    """Copy them; returns the exit status, see `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="vkdlib notebooks", description="Copy the notebooks and sweeps to a folder."
    )
    parser.add_argument("folder", type=Path, help="where to; made if it is not there")
    return exit_status(copy_and_say, parser.parse_args(arguments).folder)


def copy_and_say(folder: Path) -> int:
    """Copy them, and print what to do next."""
    copies = copy_notebooks(folder)
    print(f"{len(copies)} files in {folder}; open them: jupyter lab {folder}/00_quickstart.ipynb")
    place = paths.root() if CHECKOUT.is_dir() or "VKDLIB_ROOT" in os.environ else folder
    print(f"their results go to runs/ and figures/ in {place.absolute()}; VKDLIB_ROOT names another place")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
