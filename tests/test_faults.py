"""Faults of faults.py once each: the same command afterwards ends as if nothing had been.

Of the signals to a sweep and its processes the hardest one. The others come to small notebooks in test_sweep,
and all of them, at ten random moments each, to this one in `make faults`.
"""

import importlib
import subprocess
import sys

import faults
import pytest
import torch
from conftest import full_disk


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


HERE = ("SIGKILL of the sweep", "kernel that dies in a step", "full disk, sweep")


@pytest.mark.parametrize("name", [*HERE, *faults.FROM_INSIDE])
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
