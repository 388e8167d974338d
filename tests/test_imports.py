"""Imports are light and go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vkdlib

PACKAGE = Path(vkdlib.__file__).parent
# Rooms, and the modules of the core, in floors: each may import from its own floor and from those before it.
FLOORS = [
    ["losses", "system"],
    ["benchmarks"],
    ["packs"],
    ["models"],
    ["pruning", "masking", "tasks", "training", "evaluation"],
    ["methods", "unlearn", "runs", "vanilla"],
    ["experiments", "plan", "testbed"],
    ["sweep", "reports"],
]
CORE = {"losses", "pruning", "masking", "tasks", "training", "unlearn"}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(file: Path) -> str:
    """The room that a file is in; a module of the core is one by itself."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vkdlib":
            inside = node.module.split(".")[1:]
            found |= {inside[0]} if inside else {name.name for name in node.names}
    return found


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if room(file) != "__init__"]


def test_every_room_has_its_floor():
    assert {room(file) for file in FILES} == set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file):
    for other in imports(file):
        assert FLOOR[other] <= FLOOR[room(file)], f"{room(file)} imports {other}"


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_does_not_know_how_it_is_used(name):
    assert not {r for r in imports(PACKAGE / f"{name}.py") if FLOOR[r] >= FLOOR["evaluation"]} - CORE


def test_importing_vkdlib_is_light():
    program = (
        "import sys, vkdlib\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'ipywidgets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_runs_are_read_and_kept_without_torch(tmp_path):
    program = f"""
import sys
from pathlib import Path
import pandas as pd
import vkdlib.runs.run
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration

vkdlib.runs.run.environment = dict  # it asks torch for its threads
row = {{"set": "forget", "kind": "classification", "modality": "vqa", "person": "1", "question": "q",
       "answer": "A", "gold": "A", "score": 1.0, "bleu": None, "options": None}}
with store.open_run("x", Configuration(model="m", benchmark="b"), Path({str(tmp_path)!r})) as run:
    run.finish(pd.DataFrame([row]), history=[{{"loss": 1.0}}])
assert len(run.records()) and len(run.predictions) == len(run.history) == 1
heavy = {{"torch", "transformers", "matplotlib", "ipywidgets"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_evaluating_needs_no_widgets_and_no_figures():
    program = "import sys, vkdlib.experiments\nassert not {'matplotlib', 'ipywidgets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
