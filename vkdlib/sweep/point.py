"""A point of a sweep: one notebook with its parameters, executed in a process of its own.

Light to import: this is all that a worker on another machine needs.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from filelock import FileLock

import vkdlib
from vkdlib.system.files import make_folder, short_hash, whole_file


@dataclass(frozen=True)
class Point:
    """One notebook to execute: `notebook` with `parameters`; what it came to is in `executed`.

    Attributes:
        folder: of the executed notebook.
        identity: of the run that the parameters and their preset make: with another it is another point.
        cwd: the folder that the notebook works in.
    """

    notebook: Path
    parameters: dict
    folder: Path
    cwd: Path
    identity: dict = field(default_factory=dict)

    @functools.cached_property
    def executed(self) -> Path:
        """Named by what the point is: parameters, run, code of the notebook, version of the library."""
        facts = [self.parameters, self.identity, notebook_code(self.notebook), vkdlib.__version__]
        return self.folder / f"{short_hash(facts)}.ipynb"

    @property
    def name(self) -> str:
        """Tells the point from all others; the executed notebook's name."""
        return self.executed.stem

    @property
    def log(self) -> Path:
        """What the notebook's process printed; there from its start on."""
        return self.executed.with_suffix(".log")

    def execute(self, environment: dict[str, str], stdin: int) -> None:
        """Run the notebook by papermill; keep what it came to in `executed`.

        Args:
            environment: variables that the notebook gets beside those of this process.
            stdin: from `lifeline`.
        """
        task = {"notebook": str(self.notebook), "executed": str(self.executed)}
        task |= {"cwd": str(self.cwd), "parameters": self.parameters}
        command = [sys.executable, "-m", "vkdlib.sweep.child", json.dumps(task)]
        environment = os.environ | environment | {"VKDLIB_PROGRESS": "0"}
        with open(self.log, "w") as log:
            subprocess.run(command, env=environment, stdin=stdin, stdout=log, stderr=log)


def notebook_code(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    return [c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]


def notebook_copy(notebook: Path, folder: Path) -> Path:
    """A copy of a notebook in folder/sources, named by its code: whoever edits the notebook while a sweep
    runs changes no point of it."""
    copy = folder / "sources" / f"{notebook.stem}-{short_hash(notebook_code(notebook))}.ipynb"
    make_folder(copy.parent)
    with FileLock(folder / ".lock"):  # another sweep may begin at the same time
        if not copy.exists():
            with whole_file(copy) as temporary:
                temporary.write_bytes(notebook.read_bytes())
    return copy


def read_notebook(file: Path | str) -> nbformat.NotebookNode:
    """An executed notebook; an empty one if there is none, or it is damaged."""
    try:
        return nbformat.read(file, 4)
    except (FileNotFoundError, ValueError, nbformat.ValidationError):
        return nbformat.v4.new_notebook()


def is_complete(notebook: nbformat.NotebookNode) -> bool:
    """Whether an executed notebook came to its end, without an error."""
    made = notebook.metadata.get("papermill", {})
    return not made.get("exception", True) and bool(made.get("end_time"))


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """Within: a stdin for points' processes. They end when this block ends, and when this process dies."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)
