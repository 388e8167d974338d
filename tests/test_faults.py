"""Faults of faults.py once each: the same command afterwards ends as if nothing had been.

Of the signals to a sweep and its processes the hardest one. The others come to small notebooks in test_sweep,
and all of them, at ten random moments each, to this one in `make faults`.
"""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import faults
import nbformat
import nbformat.v4 as v4
import pytest
import torch
from conftest import full_disk

from vkdlib.benchmarks.made_up.cache import benchmark_folder
from vkdlib.system import paths


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # what it sets in the environment is taken back
        for name in ("VKDLIB_RUNS", "VKDLIB_ROOT"):
            patch.setenv(name, "")
        threads = torch.get_num_threads()
        yield faults.Place(tmp_path_factory.mktemp("faults"))
        torch.set_num_threads(threads)


def test_a_full_disk_leaves_no_byte_code(tmp_path, monkeypatch):
    """Cut off, it would be in .venv for ever."""
    for name in ("here", "child"):
        (tmp_path / f"{name}_on_a_full_disk.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    with full_disk(50):
        importlib.import_module("here_on_a_full_disk")
        subprocess.run([sys.executable, "-c", "import child_on_a_full_disk"], cwd=tmp_path, check=True)
    assert not (tmp_path / "__pycache__").exists()


STUB = """#!/bin/sh
printf '%s\\n' "runs=$VKDLIB_RUNS" "$@" >> "$LOG"
"""


def test_make_in_a_folder_whose_path_has_blanks(tmp_path, monkeypatch):
    """Every target, with programs that only write down what they were given."""
    home = tmp_path / "a folder with blanks"
    programs = home / ".venv" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setenv("LOG", str(home / "log"))
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(paths.root() / name, home)
    for name in ("python", "ruff", "papermill", "jupyter"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    (home / ".venv" / "ready").touch()
    targets = [
        "test",
        "test-all",
        "quickstart",
        "figures",
        "reproduce-tables",
        "families",
        "faults",
        "execute",
    ]
    made = subprocess.run(["make", *targets], cwd=home, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    words = (home / "log").read_text().splitlines()
    assert f"runs={home}/runs/.tested" in words and not {"folder", "with"} & set(words)


def test_make_test_in_a_folder_whose_path_has_blanks(tmp_path, monkeypatch):
    """`make test` itself, on one test and one notebook: its shell, pytest, nbval and papermill are real."""
    home = tmp_path / "a folder with blanks"
    for folder in (home / ".venv" / "bin", home / "notebooks", home / "tests"):
        folder.mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "notebooks/nbval.cfg"):
        shutil.copy(paths.root() / name, home / name)
    for name in ("python", "ruff", "papermill"):
        program = home / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name(name)}" "$@"\n')
        program.chmod(0o755)
    (home / ".venv" / "ready").touch()
    test = "import os\n\n\ndef test_place():\n    assert os.getcwd().endswith('a folder with blanks')\n"
    (home / "tests" / "test_place.py").write_text(test)
    parameters = v4.new_code_cell("epochs: int = 50", metadata={"tags": ["parameters"]})
    place = 'import os\n\nassert os.environ["VKDLIB_RUNS"].endswith("a folder with blanks/runs/.tested")'
    notebook = v4.new_notebook(cells=[parameters, v4.new_code_cell(place), v4.new_code_cell("assert epochs")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, home / "notebooks" / "tiny.ipynb")
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "1")
    lists = [f"{name}=notebooks/tiny.ipynb" for name in ("REPORTS", "LEARN")]
    made = subprocess.run(["make", "test", *lists], cwd=home, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert re.findall(r"\d+ passed", made.stdout) == ["1 passed", "3 passed", "4 passed"]  # one injected cell
    short = nbformat.read(home / "runs" / "short" / "tiny.ipynb", 4)
    assert any("epochs = 2" in cell.source for cell in short.cells)


@pytest.mark.parametrize("home", ["a file", None])
def test_a_cache_that_cannot_be_written_says_what_to_set(home, tmp_path, monkeypatch):
    """HOME is a file, or nobody knows where it is; with VKDLIB_CACHE nobody asks for it."""
    (tmp_path / "a file").write_text("")
    monkeypatch.delenv("VKDLIB_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "a file"))
    if home is None:
        monkeypatch.setattr(Path, "home", mock.Mock(side_effect=RuntimeError("no home.")))
    with pytest.raises(OSError, match="VKDLIB_CACHE") as said:
        benchmark_folder("mllmu")
    assert "\n" not in str(said.value)
    monkeypatch.setenv("VKDLIB_CACHE", str(tmp_path))
    assert paths.cache_folder() == tmp_path


HERE = ("SIGKILL of the sweep", "kernel that dies in a step", "full disk, sweep")


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in HERE), *faults.FROM_INSIDE]
)
def test_what_comes_of_it(place, name):
    expected = (faults.FROM_OUTSIDE | faults.FROM_INSIDE)[name][1]
    row = faults.tried(place, name, 1)
    assert row == {
        "fault": name,
        "times": 1,
        "recovered": 1,
        "clean_errors": int(expected is not None),
        "deleted": int(expected == faults.DELETE),
        "equal": 1,
    }
