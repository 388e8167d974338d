"""Imports are light and go one way."""

import ast
import graphlib
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
    ["methods", "unlearning", "runs", "vanilla"],
    ["attacks"],
    ["experiments", "plan", "testbed"],
    ["sweep", "reports", "notebooks", "public"],
    ["explorer"],
    ["__main__"],
]
CORE = {"losses", "pruning", "masking", "tasks", "training", "unlearning"}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module(file: Path) -> str:
    """The name of a file's module: vkdlib.runs.store; of a room's own file: vkdlib.runs."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = {module(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """The room that a module is in; a module of the core is one by itself."""
    return module.split(".")[1]


def imports(file: Path) -> set[str]:
    """The modules of vkdlib that a file imports from, wherever in it."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules |= {name if name in FILES else node.module for name in names} & FILES.keys()
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names} & FILES.keys()
    return modules - {"vkdlib"}


MODULES = {name: imports(file) - {name} for name, file in FILES.items() if name != "vkdlib"}
ROOMS = {r: {room(other) for m in MODULES if room(m) == r for other in MODULES[m]} - {r} for r in FLOOR}


def test_every_room_has_its_floor():
    assert {room(name) for name in MODULES} == set(FLOOR)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    for other in MODULES[name]:
        assert FLOOR[room(other)] <= FLOOR[room(name)], f"{name} imports {other}"


@pytest.mark.parametrize("graph", [MODULES, ROOMS], ids=["files", "rooms"])
def test_imports_never_go_in_a_circle(graph):
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_does_not_know_how_it_is_used(name):
    assert not {r for r in ROOMS[name] if FLOOR[r] >= FLOOR["evaluation"]} - CORE


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
import vkdlib.runs.run_folder
from vkdlib.runs import store
from vkdlib.runs.configuration import Configuration

vkdlib.runs.run_folder.environment = dict  # it asks torch for its threads
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
