"""A point of a sweep: one notebook with its parameters, executed in a process of its own.

Light to import: this is all that a worker on another machine needs.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import nbformat
from filelock import FileLock

import vkdlib
from vkdlib.system.files import make_folder, whole


@dataclass(frozen=True)
class Point:
    """One notebook to execute: `notebook` with `parameters`; what came of it is in `executed`.

    Attributes:
        preset: what the parameter of that name stands for: with other settings it is another point.
        cwd: where the notebook believes to be; None: in its folder.
    """

    notebook: Path
    parameters: dict
    folder: Path
    preset: dict = field(default_factory=dict)
    cwd: Path | None = None

    @functools.cached_property
    def executed(self) -> Path:
        """Named by what the point is: parameters, preset, code of the notebook, version of the library."""
        what = [self.parameters, self.preset, code(self.notebook), vkdlib.__version__]
        identity = json.dumps(what, sort_keys=True)
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:12]}.ipynb"

    @property
    def name(self) -> str:
        """Tells the point from all others; the executed notebook's name."""
        return self.executed.stem

    @property
    def tried(self) -> bool:
        """Whether it was begun."""
        return self.log.exists()

    @property
    def content(self) -> nbformat.NotebookNode:
        """The executed notebook; an empty one if there is none, or it is damaged."""
        try:
            return nbformat.read(self.executed, 4)
        except (FileNotFoundError, ValueError):
            return nbformat.v4.new_notebook()

    @property
    def log(self) -> Path:
        """What the notebook's process said."""
        return self.executed.with_suffix(".log")

    def execute(self, environment: dict[str, str], alive: int) -> None:
        """Run the notebook by papermill; leave what it got to in `executed`.

        Args:
            environment: variables that the notebook gets beside those of this process.
            alive: from `lifeline`.
        """
        task = {"notebook": str(self.notebook), "executed": str(self.executed)}
        task |= {"cwd": str(self.cwd or self.notebook.parent), "parameters": self.parameters}
        command = [sys.executable, "-m", "vkdlib.sweep.child", json.dumps(task)]
        environment = os.environ | environment | {"VKDLIB_PROGRESS": "0"}
        with open(self.log, "w") as log:
            subprocess.run(command, env=environment, stdin=alive, stdout=log, stderr=log)

    @property
    def run_hash(self) -> str | None:
        """The hash that the executed notebook printed as "run <hash>"; None if it did not."""
        text = "".join(o.text for c in self.content.cells for o in c.get("outputs", []) if "text" in o)
        found = re.search(r"^run ([0-9a-f]{12})\b", text, re.MULTILINE)
        return found and found[1]

    @property
    def began(self) -> float | None:
        """When the executed notebook began, in seconds since 1970; None if it did not come to a good end."""
        made = self.content.metadata.get("papermill", {})
        if made.get("exception", True) or not made.get("end_time"):
            return None
        return datetime.fromisoformat(made["start_time"]).timestamp()

    @property
    def cell_error(self) -> str | None:
        """The cell that failed, by its number in Jupyter, and its error; None if none did."""
        for number, cell in enumerate((c for c in self.content.cells if c.cell_type == "code"), 1):
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return f"cell {number}: {output.ename}: {output.evalue}"
        return None

    @property
    def error(self) -> str:
        """What went wrong."""
        said = self.log.read_text().strip().splitlines() if self.log.exists() else []
        if not self.tried:
            return "not begun"
        if self.began and not self.run_hash:
            return 'the notebook ended, but printed no line "run <hash>": a sweep finds its run by it'
        if self.began:
            return f"run {self.run_hash} is not whole, or not of today's data, weights and version of vkdlib"
        early = f"the notebook's process ended early; the last it said: {said[-1] if said else 'nothing'}"
        return self.cell_error or early


def code(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    return [c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]


def snapshot(notebook: Path, folder: Path) -> Path:
    """A copy of a notebook in folder/sources, named by its code: who edits the notebook while a sweep runs
    changes no point of it."""
    digest = hashlib.sha256(json.dumps(code(notebook)).encode()).hexdigest()[:12]
    copy = folder / "sources" / f"{notebook.stem}-{digest}.ipynb"
    make_folder(copy.parent)
    with FileLock(folder / ".lock"):  # another sweep may begin now, too
        if not copy.exists():
            with whole(copy) as temporary:
                temporary.write_bytes(notebook.read_bytes())
    return copy


@contextlib.contextmanager
def lifeline() -> Iterator[int]:
    """Within: a stdin for points' processes. They end when this is left, and when this process dies."""
    ours, kept = os.pipe()
    try:
        yield ours
    finally:
        os.close(kept)
        os.close(ours)
