"""A point of a sweep: one notebook with its parameters; and the process that executes points.

Light to import: this is all that a worker on another machine needs.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from filelock import FileLock

import vkdlib
from vkdlib.system.files import make_folder, short_hash, whole_file

# By default glibc returns the memory of large tensors after each step and takes it again page by page.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


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

    @property
    def task(self) -> dict:
        """What the process that executes the point is told, see `child`."""
        files = {name: str(getattr(self, name)) for name in ("notebook", "executed", "cwd", "log")}
        return files | {"parameters": self.parameters}


class Worker:
    """A process that executes points, one at a time; there is a new one after a point that failed.

    It ends when the worker is closed, and when this process dies.

    Args:
        environment: variables that it gets beside those of this process.
    """

    def __init__(self, environment: dict[str, str]):
        self.environment = KEEP_MEMORY | os.environ | environment | {"VKDLIB_PROGRESS": "0"}
        self.process: subprocess.Popen | None = None
        self.closed = False
        self.lock = threading.Lock()  # one thread may close it while another executes

    def execute(self, point: Point) -> None:
        """Run a point's notebook by papermill; keep what it came to in `point.executed`."""
        with self.lock, open(point.log, "w") as log:
            if self.closed:
                return
            if self.process is None:
                command = [sys.executable, "-m", "vkdlib.sweep.child"]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
                self.process = subprocess.Popen(command, env=self.environment, stderr=log, **pipes)
            process = self.process
            with contextlib.suppress(BrokenPipeError):  # it died meanwhile
                process.stdin.write(f"{json.dumps(point.task)}\n".encode())
        if not process.stdout.readline():
            process.wait()
            with self.lock:
                process.stdin.close()
                process.stdout.close()
                self.process = None

    def close(self) -> None:
        """End the process, and what it executes."""
        with self.lock:
            self.closed, process = True, self.process
            if process:
                process.stdin.close()
        if process:
            process.wait()


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
